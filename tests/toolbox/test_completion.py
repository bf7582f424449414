"""Completion, driven for real: a shell on a terminal, words typed, the key pressed, the line read back."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from service_precheck import causes, cli, schemes
from service_precheck.options import COMMON
from service_precheck.toolbox import VERBS, check, explain
from tests.bed.process import TOOLBOX, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMIT = 30.0
SHELLS = ("bash", "zsh")
# Each prints the line as it stands when Control-T is pressed, and empties it.
DUMP = {
    "bash": """
bind 'set bell-style none'
bind 'set enable-bracketed-paste off'
bind -x '"\\C-t": printf "[[%s]]\\n" "$READLINE_LINE"; READLINE_LINE='
""",
    "zsh": """
autoload -U compinit && compinit -u -D
unset zle_bracketed_paste
dump() { printf '[[%s]]\\n' "$BUFFER" >/dev/tty; BUFFER= }
zle -N dump
bindkey '^T' dump
""",
}


def script(shell: str) -> str:
    done = run("completion", shell, command=TOOLBOX)
    assert done.status == 0, done.stderr
    return done.stdout


@contextmanager
def typing(shell: str, folder: Path) -> Iterator[Callable[[str], str]]:
    """A shell with our completion; gives what becomes of a line when Tab is pressed."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    file = folder / f"start.{shell}"
    file.write_text(f"{DUMP[shell]}\n{script(shell)}\nprintf 'rea''dy\\n'\n")
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        plain = ["--norc", "--noprofile"] if shell == "bash" else ["-f"]
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder), "PS1": "$ "}
        os.execve(program, [shell, *plain, "-i"], environment)
    try:

        def until(mark: str) -> str:
            got = b""
            end = time.monotonic() + LIMIT
            while mark.encode() not in got:
                assert time.monotonic() < end, f"no {mark!r} in {got!r}"
                if select.select([terminal], [], [], 1.0)[0]:
                    got += os.read(terminal, 65_536)
            return got.decode()

        def tab(line: str) -> str:
            os.write(terminal, f"{line}\t\x14".encode())
            return until("]]").rpartition("[[")[2].partition("]]")[0]

        os.write(terminal, f". ./{file.name}\n".encode())
        until("ready")
        yield tab
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


COMPLETED = {
    # What both shells make of it, but for the blank or the quote that may follow.
    "service-precheck --outp": "service-precheck --output",
    "service-precheck --output j": "service-precheck --output json",
    "service-precheck --output=li": "service-precheck --output=live",
    "service-precheck --from ./wan": "service-precheck --from ./wanted.txt",
    "service-precheck --timeout ht": "service-precheck --timeout ht",
    "service-precheck https": "service-precheck https://",
    "service-precheck a:1 uni": "service-precheck a:1 unix://",
    "service-precheck db#typ": "service-precheck db#type=",
    "service-precheck db#type=AA": "service-precheck db#type=AAAA",
    "service-precheck db#wildcard=": "service-precheck db#wildcard=ok",
    "service-precheck db:5432#exp": "service-precheck db:5432#expect=",
    "service-precheck db:5432#eac": "service-precheck db:5432#each",
    "service-precheck tls://b#ca=./wan": "service-precheck tls://b#ca=./wanted.txt",
    "service-precheck http://api/x?y=1#stat": "service-precheck http://api/x?y=1#status=",
    "service-precheck http://api#method=GET#redirects=n": (
        "service-precheck http://api#method=GET#redirects=none"
    ),
    "service-precheck 'http://api#con": "service-precheck 'http://api#contains=",
    "service-precheck 'any(a, http://b#con": "service-precheck 'any(a, http://b#contains=",
    "service-precheck 'any(tls://b#insec": "service-precheck 'any(tls://b#insecure",
    "service-precheck 'all(a,tl": "service-precheck 'all(a,tls://",
    "service-precheck http://api#nonsen": "service-precheck http://api#nonsen",
    "precheck expl": "precheck explain",
    "precheck causes tls-na": "precheck causes tls-name",
    "precheck completion z": "precheck completion zsh",
    "precheck check --outp": "precheck check --output",
    "precheck check --output j": "precheck check --output json",
    "precheck check db#succ": "precheck check db#successes=",
    "precheck explain --resolv-conf ./wan": "precheck explain --resolv-conf ./wanted.txt",
    "precheck explain http://a#me": "precheck explain http://a#method=",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_what_was_typed(shell: str, tmp_path: Path) -> None:
    """Options, their values, files, schemes, a scheme's options after # and verbs, quoted and in groups."""
    (tmp_path / "wanted.txt").write_text("")
    with typing(shell, tmp_path) as tab:
        completed = {line: tab(line).rstrip("' ") for line in COMPLETED}
    assert completed == COMPLETED


@pytest.mark.parametrize("shell", SHELLS)
def test_path_behind_a_scheme_is_completed(shell: str, tmp_path: Path) -> None:
    """`file://` and the like go on as a path of this machine."""
    (tmp_path / "wanted.txt").write_text("")
    with typing(shell, tmp_path) as tab:
        line = f"service-precheck file://{tmp_path}/wan"
        assert tab(line).rstrip() == f"service-precheck file://{tmp_path}/wanted.txt"


def bash_choices(*words: str) -> set[str]:
    """What bash would list for the last of the words, asked through its own variables."""
    line = " ".join(words)
    code = (
        f"{script('bash')}\n"
        'COMP_LINE=$1 COMP_POINT=${#1}; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        '_precheck "$1" "${!#}" "${@:$#-1:1}" 2>/dev/null\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", code, "bash", line, *words], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_everything_there_is_is_offered() -> None:
    """All verbs, causes, options and schemes stand in the script, and all options of each scheme."""
    assert bash_choices("precheck", "") == set(VERBS)
    assert bash_choices("precheck", "causes", "") == set(causes.CAUSES)
    for words, table in (
        (("service-precheck",), cli.OPTIONS),
        (("precheck", "check"), check.OPTIONS),
        (("precheck", "explain"), explain.OPTIONS),
    ):
        offered = bash_choices(*words, "--")
        assert {f"--{option.name}" for option in table} <= offered
        assert offered - {f"--{option.name}" for option in table} <= {"--help", "--version"}
    assert bash_choices("service-precheck", "") == {f"{name}://" for name in schemes.names()}
    for name in schemes.names():
        scheme = schemes.load(name)
        assert scheme is not None
        offered = bash_choices("service-precheck", f"{name}://x#")
        names = {choice.rpartition("#")[2].removesuffix("=") for choice in offered}
        assert names == {option.name for option in (*scheme.options, *COMMON)}


@pytest.mark.parametrize("arguments", [(), ("fish",), ("bash", "zsh")])
def test_other_shells_are_a_mistake(arguments: tuple[str, ...]) -> None:
    """A shell we have no script for is told with those we have; nothing is printed to be sourced."""
    done = run("completion", *arguments, command=TOOLBOX)
    assert done.status == 2
    assert done.stdout == ""
    assert "bash, zsh" in done.stderr


def test_help_tells_how_to_install() -> None:
    """`--help` names both shells with the line that each needs."""
    done = run("completion", "--help", command=TOOLBOX)
    assert done.status == 0
    for shell in SHELLS:
        assert f"source <(precheck completion {shell})" in done.stdout
