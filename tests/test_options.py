"""The values of options: what reads writes and reads again; what does not says what would be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck import kinds, model, schemes
from service_precheck.kinds import Kind, Wrong, choice, read_duration, write_duration
from service_precheck.options import COMMON, Scheme, Target, quoted


def load(name: str) -> Scheme:
    scheme = schemes.load(name)
    assert scheme is not None
    return scheme


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1500ms", 1.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("90", 90),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        ("1h1m1s1ms", 3661.001),
        (" 3s ", 3),
        ("0", 0),
    ],
)
def test_durations_as_kubernetes_and_go_write_them(text: str, seconds: float) -> None:
    """Units are added up; a bare number is seconds."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "5x",
        "1.2.3s",
        "-5s",
        "+5s",
        "5 s",
        "1e9",
        "٣s",
        "nan",
        "inf",
        "5s3",
        "9" * 400,
        "1d",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused with an example, and so is what no wait could be."""
    with pytest.raises(Wrong, match="500ms"):
        read_duration(text)


@given(st.floats(1e-6, 9e8).map(lambda seconds: round(seconds, 6)))
def test_durations_round_trip(seconds: float) -> None:
    """Every duration of whole microseconds is written so that it reads as itself."""
    assert read_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3600, "1h"), (5400, "90m"), (90, "90s"), (1.5, "1500ms"), (0.00025, "0.00025s"), (60, "1m")],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    """The largest unit that divides it."""
    assert write_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("10", 10),
        ("4Ki", 4096),
        ("4KiB", 4096),
        ("10M", 10_000_000),
        ("1g", 10**9),
        ("5B", 5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Bytes, with decimal and binary prefixes."""
    assert kinds.SIZE.read(text) == size


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (kinds.SIZE, "", "no size"),
        (kinds.SIZE, "4KK", "no size"),
        (kinds.SIZE, "-1", "no size"),
        (kinds.SIZE, "1.5M", "no size"),
        (kinds.NUMBER, "0", "1 to 1000000"),
        (kinds.NUMBER, "x", "no whole number"),
        (kinds.NUMBER, "1.0", "no whole number"),
        (kinds.NUMBER, "٣", "no whole number"),
        (kinds.NUMBER, "9" * 5000, "no whole number"),
        (kinds.COUNT, "-1", "no whole number"),
        (kinds.PORT, "0", "1 to 65535"),
        (kinds.PORT, "65536", "1 to 65535"),
        (kinds.FLAG, "yes", "neither true nor false"),
        (kinds.TEXT, "", "empty"),
        (kinds.DURATION, "0s", "not longer than nothing"),
        (choice("a", "b"), "c", "none of a, b"),
    ],
)
def test_values_that_are_refused(kind: Kind, text: str, said: str) -> None:
    """Each kind says what is wrong with a value."""
    with pytest.raises(Wrong, match=said):
        kind.read(text)


@given(st.sampled_from(["SIZE", "NUMBER", "COUNT", "PORT", "FLAG", "DURATION", "TEXT"]), st.text())
def test_no_value_crashes(name: str, text: str) -> None:
    """Any text is a value that is written and read again, or is refused by `Wrong`."""
    kind: Kind = getattr(kinds, name)
    try:
        value = kind.read(text)
    except Wrong:
        return
    assert kind.read(kind.write(value)) == value


@pytest.mark.parametrize("name", sorted(schemes.BUILT_IN))
def test_each_schemes_table_is_whole(name: str) -> None:
    """Every option has a name of its own and one sentence; every default is written and read."""
    scheme = load(name)
    table = (*scheme.options, *COMMON)
    assert len({option.name for option in table}) == len(table)
    for option in table:
        assert option.name == option.name.lower()
        assert option.meaning
        assert not option.meaning.endswith(".")
        defaults: tuple[object, ...] = ()
        if isinstance(option.default, tuple):
            defaults = option.default
        elif option.default is not None:
            defaults = (option.default,)
        for default in defaults:
            assert option.kind.read(option.kind.write(default)) == default
    assert scheme.proves
    assert scheme.not_proves
    assert scheme.floor >= 0.025


def test_defaults_for_people() -> None:
    """A default is shown as it would be written, and as nothing where there is none."""
    texts = {option.name: option.default_text() for option in load("dns").options}
    assert texts["min"] == "1"
    assert texts["absolute"] == "false"
    assert texts["type"] == texts["expect"] == ""


def test_options_of_a_target() -> None:
    """What was given wins over the default; repeated values come in their order."""
    target = Target(
        load("dns"), host="db", given=(("expect", "10.0.0.1"), ("min", 2), ("expect", "10.0.0.2"))
    )
    assert target.texts("expect") == ("10.0.0.1", "10.0.0.2")
    assert target.number("min") == 2
    assert target.number("timeout") is None
    assert target.text("type") == ""
    assert target.flag("absolute") is False
    assert Target(load("dns"), host="db").values("expect") == ()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_quoting_leaves_what_it_can(text: str) -> None:
    """A quoted value is printable ASCII without # and without spaces at its ends."""
    spelled = quoted(text)
    assert spelled.isascii()
    assert spelled.isprintable()
    assert "#" not in spelled
    assert "$(" not in spelled
    assert spelled == spelled.strip()


def test_a_target_is_immutable() -> None:
    """A target cannot be changed, equals its like and can be a key."""
    one, other = Target(load("dns"), host="db"), Target(load("dns"), host="db")
    assert one == other
    assert len({one, other}) == 1
    with pytest.raises(AttributeError):
        one.host = "x"


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0 s"),
        (0.0002, "1 ms"),
        (0.02, "20 ms"),
        (0.05, "0.1 s"),
        (0.94, "0.9 s"),
        (1, "1 s"),
        (125, "2 min 5 s"),
    ],
)
def test_durations_for_people(duration: float, text: str) -> None:
    """None that has passed is nothing: a limit of milliseconds is told as such."""
    assert model.seconds(duration) == text
