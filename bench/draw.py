"""Pictures of results: SVG written by hand, readable on light and dark pages alike.

A bar (on a scale by tens its end alone) is a median, a dot a sample. Colours follow the reader's scheme; each line is labelled, so that
nothing rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import ceil, floor, log10

from bench.results import Row, number

WIDTH, LEFT, RIGHT, LINE, HEAD = 860, 200, 70, 18, 26
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.faint { fill: #57606a } line { stroke: #d0d7de }
.ours { fill: #0a6ebd } .theirs { fill: #8c959f }
circle { fill: #24292f; fill-opacity: .45 } .goal { stroke: #cf222e; stroke-dasharray: 3 3 }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #9198a1 } line { stroke: #3d444d }
  .ours { fill: #4aa3ee } .theirs { fill: #656c76 } circle { fill: #f0f6fc }
  .goal { stroke: #ff7b72 } .page { fill: #0d1117 }
}
"""


def pictures(section: str, rows: list[Row]) -> dict[str, str]:
    """The pictures of a section by file name: one for all rows of one unit."""
    units = dict.fromkeys(row.unit for row in rows if len(row.samples) > 1)
    return {
        f"{section}-{unit.lower().replace(' ', '-')}.svg": chart(
            [row for row in rows if row.unit == unit]
        )
        for unit in units
    }


def chart(rows: list[Row]) -> str:
    """One picture: a group of bars for each row, on one scale that suits them all."""
    values = [value for row in rows for samples in row.samples.values() for value in samples]
    place, marks, tens = _scale(values)
    parts: list[str] = []
    y = 8
    for row in rows:
        y += HEAD
        parts.append(_text(12, y - 8, f"{row.title}, {row.unit}", "title"))
        for at in marks:
            x = place(at)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + LINE * len(row.samples)}"/>'
            )
        for name, samples in row.samples.items():
            middle = y + LINE / 2
            kind = "ours" if name.startswith("service-precheck") else "theirs"
            end = place(row.figure(name))
            parts.append(_text(LEFT - 8, middle + 4, name, "faint", "end"))
            # A scale by tens has no zero for a bar to begin at.
            begin = end - 4 if tens else LEFT
            parts.append(
                f'<rect class="{kind}" x="{begin:.1f}" y="{middle - 5}" height="10" '
                f'width="{max(1.0, end + (2 if tens else 0) - begin):.1f}"/>'
            )
            if len(samples) > 1:
                parts += [
                    f'<circle cx="{place(value):.1f}" cy="{middle}" r="1.8"/>' for value in samples
                ]
            furthest = max(place(value) for value in samples)
            parts.append(_text(furthest + 6, middle + 4, number(row.figure(name)), ""))
            y += LINE
        for goal in row.goals:
            if not goal.against and min(marks) <= goal.limit <= max(marks):
                x = place(goal.limit)
                top = y - LINE * len(row.samples)
                parts.append(f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y}"/>')
    y += 18
    parts += [_text(place(at), y, number(at) if at else "0", "faint", "middle") for at in marks]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10}" role="img">\n'
        f"<title>{escape('; '.join(row.title for row in rows))}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="page" width="100%" height="100%"/>\n{body}\n</svg>\n'
    )


def _scale(values: list[float]) -> tuple[Callable[[float], float], list[float], bool]:
    """Where a value stands, which values to mark, and whether it goes by tens, as for a wide span."""
    room = WIDTH - LEFT - RIGHT
    most = max(values) or 1.0
    positive = [value for value in values if value > 0] or [most]
    least = min(positive)
    if most / least > 60:
        low, high = floor(log10(least)), ceil(log10(most))

        def by_tens(value: float) -> float:
            return LEFT + room * (log10(max(value, 10.0**low)) - low) / max(1, high - low)

        return by_tens, [10.0**power for power in range(low, high + 1)], True
    step = 10.0 ** floor(log10(most))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if most / s <= 6)
    top = ceil(most / step) * step
    marks = [step * i for i in range(round(top / step) + 1)]
    return (lambda value: LEFT + room * value / top), marks, False


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )
