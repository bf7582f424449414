"""What a story came to: the figures of its runs as rows, and the short table of all stories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from bench.cluster.ways import WAYS
from bench.results import Goal, Row, number
from bench.rivals import GATE

PATH = "critical path"
# The goal: so many times the critical path, and so many seconds.
SHARE, SPARE = 1.05, 1.0
# Of one run. `writes/kubelet` is a part of `writes`.
Figures = dict[str, float]


def rows(
    story: str, found: list[dict[str, Figures]], failed: list[str], idle: str
) -> Iterator[Row]:
    """The rows of what was found in each round."""
    paired = not failed
    note = "\n\n".join(f"{each.rstrip('.')}." for each in failed)
    order = [GATE, PATH, *(way for way in WAYS if way != GATE)]

    def samples(key: str, ways: Sequence[str] = WAYS) -> dict[str, list[float]]:
        # What a run has no figure of did not happen in it; without gates there is nothing to look at.
        return {
            way: [
                figures[way].get(key, 0.0)
                for figures in found
                if way in figures and (key in figures[way] or not key.startswith("gates"))
            ]
            for way in ways
        }

    yield Row(f"{story}/time", "from apply to all Ready", "s", samples("time", order), note=note)
    beyond = {
        way: [
            figures[way]["time"] - SHARE * figures[PATH]["time"]
            for figures in found
            if way in figures and PATH in figures
        ]
        for way in order
        if way != PATH
    }
    yield Row(
        f"{story}/beyond",
        f"that, less {SHARE} times the critical path",
        "s",
        beyond,
        Goal(SPARE, subject=GATE),
        paired=paired,
    )
    yield Row(
        f"{story}/restarts",
        "restarts",
        "restarts",
        samples("restarts", order),
        Goal(0, subject=GATE, figure="max"),
        paired=paired,
    )
    agents = {
        key.partition("/")[2]: 0.0
        for figures in found
        for one in figures.values()
        for key in one
        if key.startswith("writes/")
    }
    titles = {
        "events": ("events", "events"),
        "writes": ("API writes, all", "writes"),
        **{f"writes/{agent}": (f"API writes by {agent}", "writes") for agent in sorted(agents)},
        "bytes": ("written to the API, all", "KiB"),
        **{f"bytes/{agent}": (f"written to the API by {agent}", "KiB") for agent in sorted(agents)},
        "nodes": ("writes to nodes and their leases", "writes"),
        "containers": ("containers created", "containers"),
        "kubelets": ("cpu of the kubelets", "cpu s"),
        "runtimes": ("cpu of containerd, its shims and runc", "cpu s"),
        "queries": ("DNS queries at CoreDNS", "queries"),
        "gates-cpu": ("cpu of the gates, all together", "ms"),
        "gates-peak": ("peak memory of the largest gate", "MiB"),
        "others": ("of the machine, taken by others", "%"),
    }
    for key, (title, unit) in titles.items():
        yield Row(
            f"{story}/{key}",
            title,
            unit,
            samples(key, order if key == "others" else WAYS),
            paired=paired,
            note=idle if key == "kubelets" else "",
        )


def summary(sections: dict[str, list[Row]]) -> list[list[str]]:
    """A line for each story and way: the story, the way, restarts, time to Ready, API writes."""
    lines = []
    for story, measures in sections.items():
        by_key = {row.key: row for row in measures}
        for way in (PATH, *WAYS):
            cells = []
            for key in ("restarts", "time", "writes"):
                values = by_key[f"{story}/{key}"].samples.get(way, [])
                if not values:
                    cells.append("" if way == PATH else "not measured")
                elif key == "time":
                    cells.append(f"{number(median(values))} s")
                else:
                    cells.append(f"{median(values):.0f}")
            lines.append([story, way, *cells])
    return lines
