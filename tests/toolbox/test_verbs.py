"""The toolbox's front door: its verbs, its help, and mistakes in a verb."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from service_precheck import toolbox
from service_precheck.cli import VERSION
from tests.bed.process import TOOLBOX, Finished, run


def precheck(*arguments: str) -> Finished:
    return run(*arguments, command=TOOLBOX)


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_verb(word: str) -> None:
    """Help goes to standard output and names each verb with what it does."""
    done = precheck(word)
    assert (done.status, done.stderr) == (0, "")
    for verb, meaning in toolbox.VERBS.items():
        assert f"  {verb:12}{meaning}\n" in done.stdout


def test_version_is_the_package_s() -> None:
    """--version names the command and the version."""
    assert precheck("--version").stdout == f"precheck {VERSION}\n"


@pytest.mark.parametrize("verb", sorted(toolbox.VERBS))
def test_every_verb_is_there_and_has_help(verb: str) -> None:
    """Each verb of the list is a module with `run`, and tells how it is used."""
    assert callable(importlib.import_module(f"service_precheck.toolbox.{verb}").run)
    done = precheck(verb, "--help")
    assert done.status == 0
    assert f"precheck {verb}" in done.stdout


def test_no_verb_is_a_mistake_that_helps() -> None:
    """Without a verb the help goes to standard error, exit 2."""
    done = precheck()
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: precheck VERB")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("chek", "there is no verb 'chek'; did you mean check?"),
        ("causs", "there is no verb 'causs'; did you mean causes?"),
        ("schemes", "there is no verb 'schemes'; precheck --help lists them"),
        ("zzz", "there is no verb 'zzz'; precheck --help lists them"),
        ("a\x1b[31m", "there is no verb 'a\\\\x1b[31m'; precheck --help lists them"),
    ],
)
def test_unknown_verb_names_the_nearest(given: str, said: str) -> None:
    """A verb that is not there is exit 2 and the nearest one."""
    done = precheck(given)
    assert (done.status, done.stderr) == (2, f"precheck: {said}\n")


def test_reader_that_leaves_is_no_error() -> None:
    """`precheck causes | head -1` ends without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*TOOLBOX, "--help"], stdout=writing, stderr=subprocess.PIPE, timeout=50, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("words", "status"),
    [(["--help"], 0), (["causes"], 0), (["check", "localhost"], 0), (["check", "file:///no"], 1)],
)
def test_full_or_closed_output_changes_no_status(words: list[str], status: int) -> None:
    """What cannot be written is left out: the exit status is that of what was found (fault 44)."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*TOOLBOX, *words], stdout=full, stderr=subprocess.PIPE, timeout=50, check=False
        )
    assert (done.returncode, done.stderr) == (status, b"")
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *TOOLBOX, *words],
        stderr=subprocess.PIPE,
        timeout=50,
        check=False,
    )
    assert (closed.returncode, closed.stderr) == (status, b"")


def test_a_verb_loads_no_other() -> None:
    """Verbs are loaded when they are called, so that each starts quickly."""
    code = (
        "import sys; from service_precheck import toolbox; sys.argv = ['precheck', '--version']; "
        "toolbox.main(); print([m for m in sys.modules if '.toolbox.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_verb_that_was_left_out_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image without the demo says so, exit 2; a defect inside a verb is not hidden by it."""
    monkeypatch.setattr(sys, "argv", ["precheck", "absent"])
    monkeypatch.setitem(toolbox.VERBS, "absent", "")
    assert toolbox.main() == 2
    assert capsys.readouterr().err == "precheck: absent is not part of this installation\n"
