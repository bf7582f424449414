"""What a run leaves behind: every sample as JSON, the tables as Markdown, and pictures.

The pages are made from the samples alone, so that a test can make them again.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import subprocess
from pathlib import Path

from bench import draw
from bench.results import Row, as_json, from_json, table

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "benchmarks"

Machine = dict[str, object]


class Section:
    """The rows of one measure, and how the machine was meanwhile."""

    def __init__(self, title: str, noise: str, rows: list[Row]) -> None:
        self.title = title
        self.noise = noise
        self.rows = rows

    def text(self) -> str:
        """Its heading and table."""
        shown = table(self.rows) if self.rows else "not measured"
        return f"\n## {self.title}\n\n{shown}\n{self.noise}\n"

    def as_json(self) -> dict[str, object]:
        """As it is written down."""
        return {"noise": self.noise, "rows": [as_json(row) for row in self.rows]}


class Pages:
    """`STEM.json`, `STEM.md` and the pictures of one benchmark, in one folder.

    `titles` has its measures in their order. Where `drawn` names rows, by what follows the measure in
    their keys, there are pictures of those alone.
    """

    def __init__(
        self, stem: str, title: str, titles: dict[str, str], drawn: tuple[str, ...] = ()
    ) -> None:
        self.stem = stem
        self.title = title
        self.titles = titles
        self.drawn = drawn

    def read(self, folder: Path) -> tuple[Machine, dict[str, Section]]:
        """What was written there, nothing if nothing was."""
        file = folder / f"{self.stem}.json"
        if not file.exists():
            return {}, {}
        data = json.loads(file.read_text())
        sections = {
            name: Section(
                self.titles[name], section["noise"], [from_json(row) for row in section["rows"]]
            )
            for name, section in data["sections"].items()
        }
        return data["machine"], sections

    def write(self, folder: Path, machine: Machine, sections: dict[str, Section]) -> None:
        """Write what was measured beside what was measured before and not now."""
        folder.mkdir(parents=True, exist_ok=True)
        _, known = self.read(folder)
        known |= sections
        ordered = {name: known[name] for name in self.titles if name in known}
        written = {
            "machine": machine,
            "sections": {name: section.as_json() for name, section in ordered.items()},
        }
        (folder / f"{self.stem}.json").write_text(json.dumps(written, indent=1) + "\n")
        (folder / f"{self.stem}.md").write_text(self.text(machine, ordered))
        for name, section in ordered.items():
            for file, picture in self._pictures(name, section).items():
                (folder / file).write_text(picture)

    def text(self, machine: Machine, sections: dict[str, Section]) -> str:
        """The page."""
        text = f"# {self.title}\n\n{header(machine)}"
        for name, section in sections.items():
            text += section.text()
            for file in self._pictures(name, section):
                text += f"\n![{section.title}]({file})\n"
        return text

    def _pictures(self, name: str, section: Section) -> dict[str, str]:
        rows = [
            row for row in section.rows if not self.drawn or row.key.partition("/")[2] in self.drawn
        ]
        return draw.pictures(name, rows)


def machine(rivals: dict[str, str]) -> Machine:
    """Where and when it is measured, and in what versions."""
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
        "cpu": f"{os.cpu_count()} cores, {model}",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "?"),
        "rivals": rivals,
    }


@functools.cache
def commit() -> str:
    """What is measured, as it is when first asked for."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def header(machine: Machine) -> str:
    """The lines about the machine that a page opens with."""
    rivals = machine["rivals"]
    assert isinstance(rivals, dict)
    lines = [
        f"{machine['date']}, {machine['cpu']}, {machine['memory']}, Linux {machine['kernel']},"
    ]
    lines += [f"{machine['system']}. Each cell: median (least to most).\n"]
    lines += [f"- {name}: {version}" for name, version in rivals.items()]
    return "\n".join(lines) + "\n"


def jiffies() -> list[int]:
    """What the machine's cpus did so far, for `spent` and `noise`."""
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def spent(before: list[int]) -> tuple[float, float]:
    """Which share of their time the cpus were busy since then, and which was stolen from them."""
    each = [after - was for after, was in zip(jiffies(), before, strict=True)]
    total = sum(each) or 1
    return 1 - (each[3] + each[4]) / total, each[7] / total


def noise(before: list[int]) -> str:
    """What was measured, and how busy the machine was since then, in words."""
    busy, stolen = spent(before)
    now = datetime.datetime.now(datetime.UTC)
    return (
        f"Commit {commit()}, until {now:%Y-%m-%d %H:%M} UTC; the machine was {busy:.0%} busy meanwhile, {stolen:.1%} of "
        f"its time stolen, its load {os.getloadavg()[0]:.1f} at the end."
    )
