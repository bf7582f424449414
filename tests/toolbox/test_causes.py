"""`precheck causes`: what a word in brackets means and what to do."""

from __future__ import annotations

from service_precheck import causes, model
from tests.bed.process import TOOLBOX, run


def test_all_causes_are_listed() -> None:
    """Without a name there is one line for each cause, in the order of the list."""
    done = run("causes", command=TOOLBOX)
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert tuple(line.split()[0] for line in lines) == model.CAUSES
    assert all(len(line) <= 120 for line in lines)


def test_each_cause_says_what_to_do() -> None:
    """Every cause has its page, wrapped for a terminal, without the marks of the documentation."""
    for name in model.CAUSES:
        text = causes.text(name)
        assert text.startswith(f"{name}\n\n")
        assert "\n\nWhat to do: " in text
        assert "`" not in text
        assert all(len(line) <= 78 for line in text.splitlines())
        assert ("stays shut" in text) == (name in model.INDEFINITE)


def test_several_as_copied_from_a_log() -> None:
    """Names may be several, in brackets or in capitals, as a log or a person has them."""
    done = run("causes", "[refused],", "TLS-NAME", command=TOOLBOX)
    assert done.status == 0
    assert done.stdout == f"{causes.text('refused')}\n{causes.text('tls-name')}"


def test_unknown_names_are_told_with_the_nearest() -> None:
    """A word that is no cause is a mistake; the nearest one is named, and nothing is printed."""
    done = run("causes", "refusd", "refused", "zzz", command=TOOLBOX)
    assert done.status == 2
    assert done.stdout == ""
    assert "'refusd'; did you mean refused?" in done.stderr
    assert "'zzz'; precheck causes lists them" in done.stderr


def test_help() -> None:
    """`--help` says how it is used."""
    done = run("causes", "--help", command=TOOLBOX)
    assert done.status == 0
    assert done.stdout.startswith("usage: precheck causes [NAME...]")
