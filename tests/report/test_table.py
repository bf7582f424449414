"""The table's layout, without a terminal: any states, any width, any height."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service_precheck.report.table import Style, Table, shortened, wrapped
from service_precheck.state import State
from tests.report.states import group, leaf, unasked

STYLE = Style({"LANG": "C.UTF-8", "NO_COLOR": "1"}, False)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
leaves = st.one_of(
    names.map(unasked),
    names.map(leaf),
    st.builds(
        lambda name, seen: leaf(name, "refused", seen, hint=seen), names, st.text(max_size=600)
    ),
)
nodes = st.one_of(
    leaves,
    st.builds(
        lambda name, members: group(name, *members), names, st.lists(leaves, min_size=1, max_size=5)
    ),
)


def text(
    states: tuple[State, ...], columns: int, rows: int = 24, waited: float = 12.0
) -> list[str]:
    table = Table(states, waited, {}, columns, STYLE)
    return [line.rendered(STYLE) for line in table.frame(rows, None)]


@given(st.lists(nodes, max_size=40), st.integers(20, 200), st.integers(4, 50))
def test_frame_fits_any_screen(states: list[State], columns: int, rows: int) -> None:
    """No line is wider than the screen, and there are no more lines than it has."""
    table = Table(tuple(states), 12.0, {}, columns, STYLE)
    lines = table.frame(rows, 60.0)
    assert 1 <= len(lines) <= rows
    assert all(line.width == len(line.rendered(STYLE)) <= columns for line in lines)
    assert all(line.width <= columns for line in table.summary(["what is said of it all " * 5]))


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 50))
def test_wrapped_loses_nothing_but_spaces(said: str, columns: int) -> None:
    """Wrapped lines fit and hold every character that is not a space."""
    lines = wrapped(said, columns)
    assert all(len(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == said.replace(" ", "")


@given(st.text(), st.integers(0, 50))
def test_shortened_fits(said: str, columns: int) -> None:
    """What is cut fits, also where the mark of the cut does not."""
    assert len(shortened(said, columns, "...")) <= columns
    assert shortened(said, len(said), "...") == said


def test_row_has_state_name_wait_next_and_reason() -> None:
    """A wide row says all of it, the cause before the sentence, since the end is what gets cut."""
    head, titles, row = text((leaf("db", "refused", "10.0.0.1:5432 refused the connection"),), 80)
    assert head == "service-precheck: 0 of 1 hold after 12 s"
    assert titles.split() == ["state", "dependency", "wait", "next", "what", "was", "seen"]
    assert row == "• waiting db          12 s  <1 s  refused: 10.0.0.1:5432 refused the connection"


def test_narrow_row_has_its_reason_below() -> None:
    """With 40 columns the reason stands in a line of its own."""
    _, row, reason = text((leaf("db", "refused", "10.0.0.1:5432 refused the connection"),), 40)
    assert row.split() == ["•", "waiting", "db", "12", "s"]
    assert reason.startswith("  next <1 s: refused: 10.0.0.1")
    assert reason.endswith("…")


def test_group_that_holds_hides_its_members() -> None:
    """Members are shown while they say why; a group that holds is one row."""
    waiting = text((group("any", leaf("a", "refused", "no"), leaf("b", "refused", "no")),), 80)
    assert [line.split()[2] for line in waiting[2:]] == ["any", "a", "b"]
    assert waiting[3].startswith("• waiting   a ")
    holding = text((group("any", leaf("a", "refused", "no"), leaf("b")),), 80)
    assert [line.split()[2] for line in holding[2:]] == ["any"]


def test_wait_of_what_holds_is_when_it_came_to_hold() -> None:
    """A fresh look before opening does not make a dependency look late."""
    table = Table((leaf("db"),), 99.0, {("db", "db"): 3.0}, 80, STYLE)
    (row, _) = table.summary(["open"])
    assert "  3 s  " in row.rendered(STYLE)


def test_summary_of_very_many_is_short() -> None:
    """A thousand that block leave the first ones and a count on the screen; those that hold are counted."""
    states = (
        *(leaf(f"up{n}") for n in range(500)),
        *(leaf(f"n{n}", "refused", "no") for n in range(500)),
    )
    table = Table(states, 9.0, {}, 80, STYLE)
    lines = [line.rendered(STYLE) for line in table.summary(["done"])]
    assert len(lines) < 50
    assert lines[0].startswith("• waiting n0 ")
    assert any("and 460 more" in line for line in lines)
    assert any("500" in line for line in lines)
