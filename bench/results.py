"""What was measured, against what was aimed at: samples, ratios, goals, and the tables of both.

A ratio of paired samples is the median of each pair's own ratio, so that a machine that slows down
for a minute slows both sides of it.
"""

from __future__ import annotations

from statistics import median

MILLI, MEBI = 1000.0, 1.0 / (1 << 20)


class Goal:
    """At most `limit`: the subject's figure divided by that of `against`, or without it as it is."""

    __slots__ = ("against", "figure", "limit", "subject")

    def __init__(
        self, limit: float, against: str = "", *, subject: str = "", figure: str = "median"
    ) -> None:
        self.limit = limit
        self.against = against
        self.subject = subject
        self.figure = figure


class Row:
    """One thing measured of several rivals. Samples of one index were taken in one round if `paired`.

    Samples are in the unit shown. `goals` are only held to a full run where `full` says so.
    """

    __slots__ = ("goals", "key", "note", "paired", "samples", "title", "unit")

    def __init__(
        self,
        key: str,
        title: str,
        unit: str,
        samples: dict[str, list[float]],
        *goals: Goal,
        paired: bool = True,
        note: str = "",
    ) -> None:
        self.key = key
        self.title = title
        self.unit = unit
        # As they are written down, so that a page made anew from its samples is the same.
        self.samples = {
            name: [round(float(value), 5) for value in values]
            for name, values in samples.items()
            if values
        }
        self.goals = goals
        self.paired = paired
        self.note = note

    @property
    def subject(self) -> str:
        """Whose row this is: ours, which stands first."""
        return next(iter(self.samples), "")

    def figure(self, name: str, kind: str = "median") -> float:
        """A rival's figure: `median`, `max` or `p99`."""
        values = sorted(self.samples[name])
        if kind == "max":
            return values[-1]
        if kind == "p99":
            return values[min(len(values) - 1, round(0.99 * (len(values) - 1)))]
        return median(values)

    def ratio(self, subject: str, against: str) -> float | None:
        """The subject's figure by the other's, None where one is missing or nothing."""
        ours, theirs = self.samples.get(subject), self.samples.get(against)
        if not ours or not theirs:
            return None
        if self.paired and len(ours) == len(theirs):
            pairs = [a / b for a, b in zip(ours, theirs, strict=True) if b > 0]
            return median(pairs) if pairs else None
        below = median(theirs)
        return median(ours) / below if below > 0 else None

    def reached(self, goal: Goal) -> tuple[float, bool] | None:
        """The figure that the goal is about and whether it was reached, None if not measured."""
        subject = goal.subject or self.subject
        if goal.against:
            value = self.ratio(subject, goal.against)
        else:
            value = self.figure(subject, goal.figure) if subject in self.samples else None
        return None if value is None else (value, value <= goal.limit)

    def verdicts(self) -> list[str]:
        """A sentence for each goal."""
        told = []
        for goal in self.goals:
            aim = f"at most {goal.limit:g}"
            aim += f" times {goal.against}" if goal.against else f" {self.unit} ({goal.figure})"
            found = self.reached(goal)
            if found is None:
                told.append(f"{aim}: not measured")
                continue
            value, good = found
            shown = f"{value:.3g} times" if goal.against else f"{number(value)} {self.unit}"
            told.append(f"{aim}: {shown}, {'reached' if good else '**missed**'}")
        return told


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """The rows of one section as a Markdown table: median (least to most), and the goals."""
    names = list(dict.fromkeys(name for row in rows for name in row.samples))
    lines = ["| measure | " + " | ".join(names) + " | goal |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for row in rows:
        cells = [f"{row.title} ({row.unit})"]
        for name in names:
            values = row.samples.get(name)
            if values is None:
                cells.append("")
            elif len(values) == 1:
                cells.append(number(values[0]))
            else:
                low, high = number(min(values)), number(max(values))
                cells.append(f"{number(row.figure(name))} ({low} to {high})")
        told = row.verdicts()
        # A share of the machine is no less for being a part of another one.
        if not told and row.unit != "%":
            for against in names:
                ratio = row.ratio(row.subject, against)
                if against != row.subject and against == "wait4x" and ratio is not None:
                    told.append(f"({ratio:.3g} times {against})")
        cells.append("; ".join(told))
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(row.note for row in rows if row.note)
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def from_json(data: dict[str, object]) -> Row:
    """The row that `as_json` wrote."""
    goals = data["goals"]
    samples = data["samples"]
    assert isinstance(goals, list)
    assert isinstance(samples, dict)
    return Row(
        str(data["key"]),
        str(data["title"]),
        str(data["unit"]),
        {str(name): [float(value) for value in values] for name, values in samples.items()},
        *(
            Goal(goal["limit"], goal["against"], subject=goal["subject"], figure=goal["figure"])
            for goal in goals
        ),
        paired=bool(data["paired"]),
        note=str(data["note"]),
    )


def as_json(row: Row) -> dict[str, object]:
    """The row with all of its samples."""
    goals = []
    for goal in row.goals:
        found = row.reached(goal)
        goals.append(
            {
                "limit": goal.limit,
                "against": goal.against,
                "subject": goal.subject,
                "figure": goal.figure,
                "value": found and round(found[0], 4),
                "reached": found and found[1],
            }
        )
    return {
        "key": row.key,
        "title": row.title,
        "unit": row.unit,
        "paired": row.paired,
        "note": row.note,
        "samples": row.samples,
        "goals": goals,
    }
