"""`python -m bench [--quick] [--only NAME]...`: measure, print, and after a full run write it down.

A full run takes about a quarter of an hour and writes `docs/benchmarks/`: every sample in
`results.json`, the tables in `results.md`, and pictures. It needs root: the rivals are measured in
networks of their own.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import cost, draw, lateness, many, services, signals
from bench.launch import Failed
from bench.results import Row, as_json, from_json, table
from bench.rivals import ALL, Field

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"

Measure = Callable[..., Iterator[Row]]

# Those of the first list want the machine for themselves; the others mostly wait, and do so together.
ALONE: dict[str, Measure] = {
    "cost": cost.cost,
    "limits": cost.limits,
    "many": many.many,
    "blind": signals.blind_window,
    "sigterm": signals.sigterm,
    "services-cost": services.cost,
    "services-late": services.lateness,
    "stack": services.stack,
}
TOGETHER: dict[str, Measure] = {
    "lateness": lateness.lateness,
    "queries": lateness.queries,
    "cached": lateness.negative_cache,
    "dead": lateness.dead_resolver,
}
TITLES = {
    "cost": "CPU and memory to exit with one target that holds",
    "limits": "Start under a cpu limit",
    "many": "A hundred and a thousand targets",
    "blind": "SIGTERM as PID 1",
    "sigterm": "SIGTERM to exit, by phase",
    "lateness": "Lateness: from a target coming up to exit",
    "queries": "Load on others while waiting",
    "cached": "Behind a negative cache",
    "dead": "Behind dead resolvers",
    "services-cost": "Services in their own protocols: cpu and memory to exit",
    "services-late": "Services in their own protocols: lateness after a start",
    "stack": "One gate, six protocols, eight servers in random order",
}


def main() -> int:
    """Measure what is asked for; the exit status tells of failures to measure, never of goals."""
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    names = [*ALONE, *TOGETHER]
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter waits")
    parser.add_argument("--only", action="append", choices=names, help="a measure; repeatable")
    parser.add_argument(
        "--rival", action="append", choices=ALL, help="leave out others; repeatable"
    )
    parser.add_argument(
        "--output", type=Path, help="where to write results, beside older ones (a full run: docs)"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root, for network namespaces and cgroups", file=sys.stderr)
        return 2
    chosen = [name for name in names if not options.only or name in options.only]
    output = options.output or (
        OUTPUT if not (options.quick or options.only or options.rival) else None
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    began = time.monotonic()
    sections: dict[str, Section] = {}
    failures: dict[str, str] = {}
    with Field(options.rival or ()) as field:
        machine = _machine(field)
        print(_header(machine))
        failures |= field.missing

        together = [name for name in chosen if name in TOGETHER]
        standing = threading.Barrier(max(1, len(together)))

        def set_up() -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                standing.wait()

        field.set_up = set_up

        def measure(name: str) -> None:
            rows: list[Row] = []
            before = _jiffies()
            try:
                for row in (ALONE | TOGETHER)[name](field, quick=options.quick):
                    rows.append(row)
                    print(f"  {row.title}: done", file=sys.stderr, flush=True)
            # What skips a test of the bed keeps a measure from being made.
            except (Failed, AssertionError, OSError, pytest.skip.Exception) as error:
                failures[name] = f"{error.__class__.__name__}: {error}"
                if name in TOGETHER:
                    standing.abort()
            sections[name] = Section(name, _noise(before), rows)
            print(sections[name].text(), flush=True)

        for name in chosen:
            if name in ALONE:
                measure(name)
        with concurrent.futures.ThreadPoolExecutor(max(1, len(together))) as pool:
            for future in [pool.submit(measure, name) for name in together]:
                future.result()
    told = f"Took {(time.monotonic() - began) / 60:.1f} minutes.\n"
    told += "".join(f"\nNot measured: {name}: {why}\n" for name, why in failures.items())
    print(told)
    if output is not None:
        _write(output, machine, sections)
    return 1 if failures else 0


class Section:
    """The rows of one measure, and how the machine was meanwhile."""

    def __init__(self, name: str, noise: str, rows: list[Row]) -> None:
        self.name = name
        self.noise = noise
        self.rows = rows

    def text(self) -> str:
        """Its heading and table."""
        shown = table(self.rows) if self.rows else "not measured"
        return f"\n## {TITLES[self.name]}\n\n{shown}\n{self.noise}\n"

    def as_json(self) -> dict[str, object]:
        """As it is written down."""
        return {"noise": self.noise, "rows": [as_json(row) for row in self.rows]}


def _write(folder: Path, machine: dict[str, object], sections: dict[str, Section]) -> None:
    """Write what was measured beside what was measured before and not now."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "results.json"
    kept = json.loads(data.read_text())["sections"] if data.exists() else {}
    known = {
        name: Section(name, section["noise"], [from_json(row) for row in section["rows"]])
        for name, section in kept.items()
    }
    known |= sections
    ordered = [known[name] for name in TITLES if name in known]
    written = {"machine": machine, "sections": {each.name: each.as_json() for each in ordered}}
    data.write_text(json.dumps(written, indent=1) + "\n")
    text = f"# Results\n\n{_header(machine)}"
    for section in ordered:
        text += section.text()
        for file, picture in draw.pictures(section.name, section.rows).items():
            (folder / file).write_text(picture)
            text += f"\n![{TITLES[section.name]}]({file})\n"
    (folder / "results.md").write_text(text)


def _machine(field: Field) -> dict[str, object]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=OUTPUT.parents[1],
            capture_output=True,
            text=True,
        ).stdout.strip(),
        "cpu": f"{os.cpu_count()} cores, {model}",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "?"),
        "rivals": {rival.name: rival.version for rival in field.rivals.values()},
    }


def _header(machine: dict[str, object]) -> str:
    rivals = machine["rivals"]
    assert isinstance(rivals, dict)
    lines = [
        f"{machine['date']}, commit {machine['commit']}, {machine['cpu']}, {machine['memory']}, Linux {machine['kernel']},"
    ]
    lines += [f"{machine['system']}. Each cell: median (least to most).\n"]
    lines += [f"- {name}: {version}" for name, version in rivals.items()]
    return "\n".join(lines) + "\n"


def _jiffies() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _noise(before: list[int]) -> str:
    spent = [after - was for after, was in zip(_jiffies(), before, strict=True)]
    total = sum(spent) or 1
    idle, stolen = (spent[3] + spent[4]) / total, spent[7] / total
    now = datetime.datetime.now(datetime.UTC)
    return (
        f"Until {now:%Y-%m-%d %H:%M} UTC; the machine was {1 - idle:.0%} busy meanwhile, {stolen:.1%} of "
        f"its time stolen, its load {os.getloadavg()[0]:.1f} at the end."
    )


if __name__ == "__main__":
    sys.exit(main())
