"""Exit statuses, options and their variables, and where targets come from: the process as started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_precheck.cli import OPTIONS, VERSION, variable
from service_precheck.kinds import FLAG
from tests.bed.fixtures import Enter
from tests.bed.process import SOURCE, TOOLBOX, Finished, Gate, run
from tests.bed.sockets import Server, hang, say

HOLDS = "localhost"


@pytest.fixture
def closed() -> Iterator[str]:
    """A port that refuses for as long as the test runs."""
    with Server(hang, opened=False) as server:
        yield f"127.0.0.1:{server.port}"


def test_open_is_0() -> None:
    """What holds is exit 0, with one sentence of what was seen."""
    done = run(HOLDS)
    assert done.status == 0
    assert "127.0.0.1" in done.stderr
    assert done.stdout == ""


def test_time_limit_is_124(closed: str) -> None:
    """Time that runs out is exit 124, and names what blocked and why."""
    done = run(closed, "--timeout", "300ms")
    assert done.status == 124
    assert closed in done.stderr
    assert "[refused]" in done.stderr


@pytest.mark.parametrize("limit", ["--timeout=1s", "#timeout=1s"])
def test_time_limit_shorter_than_an_attempt(limit: str) -> None:
    """fault 3: when time runs out within the first attempt, it is told how far that had come."""
    with Server(hang) as server:
        target = f"http://{server.address}/"
        done = run(*((target, limit) if limit.startswith("--") else (target + limit,)))
    assert done.status == 124
    said = f"{re.escape(server.address)} accepted the connection, then said nothing for (1|0[.][0-9]) s"
    assert re.search(said, done.stderr), done.stderr
    assert "[no-reply]" in done.stderr


def test_mistakes_are_2_all_at_once() -> None:
    """Options, targets, values and files: every mistake is told in one go, with its place, nothing asked."""
    done = run(
        "--timeot=5s",
        "--interval",
        "soon",
        "htp://web",
        "db:99999",
        "$(DB_HOST)",
        "a#succeses=3",
        "--from",
        "/nonexistent/list",
        "--output=xml",
    )
    assert done.status == 2
    for told in (
        *("--timeot", "did you mean --timeout?", "argument 1", "'soon'", "argument 2"),
        *("did you mean http://?", "argument 4", "'99999' is no port", "argument 5"),
        *("$(DB_HOST) was not replaced", "did you mean #successes=...?"),
        *("/nonexistent/list", "No such file", "'xml' is none of plain, json, live, auto"),
    ):
        assert told in done.stderr, told
    assert "8 mistakes" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("--",), ("--timeout",), ("--timeout=0", HOLDS), ("-x", HOLDS)]
)
def test_each_of_these_is_a_mistake(arguments: tuple[str, ...]) -> None:
    """A command that is missing, a value that is missing, no time at all, an unknown letter."""
    assert run(*arguments).status == 2


@pytest.mark.parametrize(
    ("value", "why"),
    [(None, "is not set, or empty"), ("", "is not set, or empty"), ("\udcff", "holds no text")],
)
@pytest.mark.parametrize("words", [(), ("check",)], ids=["gate", "check"])
def test_variable_that_is_not_set_is_a_mistake(
    words: tuple[str, ...], value: str | None, why: str
) -> None:
    """Nothing can set a variable of a running process, so it is told at once, before anything is asked;
    other mistakes with it. Who explains a target need not have its variables."""
    env = {} if value is None else {"DB_WORD": value}
    with Server(hang) as server:
        target = f"mysql://app@{server.address}#password-env=DB_WORD"
        start = {"command": TOOLBOX} if words else {}
        done = run(*words, target, "a:0", env=env, **start)  # type: ignore[arg-type]
        assert done.status == 2
        assert f"'#password-env=DB_WORD': the environment variable DB_WORD {why}" in done.stderr
        assert "'0' is no port" in done.stderr
        again = run(*words, "mysql://h#password-env=DB_WORD", env=env, **start)  # type: ignore[arg-type]
        assert "#password-env= without a user" in again.stderr
        assert f"DB_WORD {why}" in again.stderr
        assert not server.connections
        assert run("explain", target, env=env, command=TOOLBOX).status == 0


def test_nothing_given_names_the_sources(tmp_path: Path) -> None:
    """No target from any source is exit 2, naming each source that was empty."""
    done = run()
    assert (done.status, "the command line names none" in done.stderr) == (2, True)
    empty = tmp_path / "targets"
    empty.write_text("# nothing yet\n\n")
    done = run("--from", str(empty), "--from", "-", env={"PRECHECK_TARGETS": " "})
    assert done.status == 2
    for source in ("the command line", str(empty), "standard input", "PRECHECK_TARGETS"):
        assert source in done.stderr


def test_allow_empty_opens() -> None:
    """`--allow-empty` opens when a template renders an empty list."""
    assert run("--allow-empty").status == 0
    assert run(env={"PRECHECK_ALLOW_EMPTY": "true"}).status == 0


def test_thousands_of_mistakes_are_not_all_told() -> None:
    """A long group whose every member is wrong is told of by its first hundred mistakes, soon."""
    done = run(f"all({','.join(f'h{number}:xy' for number in range(3000))})")
    assert done.status == 2
    assert "101 mistakes" in done.stderr
    assert "'xy' is no port" in done.stderr


# The gate with a scheme of its own, whose probe is given as a function body.
SCHEME = """
import sys
sys.path.insert(0, {source!r})
from service_precheck import start, schemes
from service_precheck.model import Verdict
from service_precheck.options import Scheme
def probe(target, attempt):
    {body}
scheme = Scheme("odd", "name", probe, proves="", not_proves="", example="")
load = schemes.load
schemes.load = lambda name: scheme if name == "odd" else load(name)
start.main()
"""


def with_probe(body: str, *arguments: str) -> Finished:
    script = SCHEME.format(source=str(SOURCE), body=body)
    return run(*arguments, command=[sys.executable, "-IS", "-c", script])


def test_failed_for_good_is_1(closed: str) -> None:
    """A dependency that can never come is exit 1 at once, though others are awaited."""
    body = "return Verdict('failed', 'the job has failed', 'look at its log', final=True)"
    done = with_probe(body, "odd://x", closed)
    assert done.status == 1
    assert "the job has failed [failed]" in done.stderr
    assert "look at its log" in done.stderr
    assert with_probe(body, "--keep-waiting", "--timeout=300ms", "odd://x").status == 124


def test_defect_is_70() -> None:
    """An exception of our own is exit 70 with a traceback."""
    done = with_probe("1 / 0", "odd://x")
    assert done.status == 70
    assert "ZeroDivisionError" in done.stderr


def test_driver_that_is_not_there_is_local() -> None:
    """A scheme of somebody else's whose probe lacks a module says so and is asked again."""
    done = with_probe("import no_such_driver", "odd://x", "--timeout", "1s")
    assert done.status == 124
    assert "odd:// needs a module that is not here: No module named 'no_such_driver'" in done.stderr
    assert "[local]" in done.stderr


def test_lean_start_looks_for_no_packages() -> None:
    """Where no installed package can be seen, an unknown scheme does not load what looks for them."""
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from service_precheck import schemes; "
        "assert schemes.load('nosuch') is None; assert 'http' in schemes.names(); "
        "sys.exit('importlib.metadata' in sys.modules)"
    )
    assert run(command=[sys.executable, "-IS", "-c", script]).status == 0


@pytest.mark.parametrize("page", ['{"status": "U', '{"status" "UP"}', '{"status": "\\x"}'])
def test_broken_json_is_the_dependency_s(enter: Enter, page: str) -> None:
    """A page of broken JSON is no defect of ours, in a process that never loaded `json` either."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\n\r\n"
    server = enter(Server(say((head + page).encode())))
    done = run(f"http://{server.address}/#json=status:UP", "--timeout", "1s")
    assert done.status == 124, done.stderr
    assert "not with JSON" in done.stderr


def test_command_that_is_not_there_is_127() -> None:
    """As shells do: 127 when there is no such program, 126 when it cannot be run."""
    done = run(HOLDS, "--", "no-such-program-here")
    assert (done.status, "no-such-program-here: No such file" in done.stderr) == (127, True)
    assert run(HOLDS, "--", "/nonexistent/program").status == 127
    assert run(HOLDS, "--", "/etc/passwd").status == 126
    assert run(HOLDS, "--", "/etc").status == 126
    assert run(HOLDS, "--", "").status == 127


@pytest.mark.parametrize("status", [0, 3, 255])
def test_command_keeps_its_status(status: int) -> None:
    """What the command exits with is what the caller gets."""
    assert run(HOLDS, "--", "sh", "-c", f"exit {status}").status == status


def test_command_gets_its_own_words() -> None:
    """All behind the first -- is the command's, another -- too."""
    done = run(HOLDS, "--", "echo", "--timeout", "--", "-v")
    assert (done.status, done.stdout) == (0, "--timeout -- -v\n")


def test_command_does_not_run_before_the_gate_opens(closed: str) -> None:
    """Without an open gate there is no command."""
    done = run(closed, "--timeout", "200ms", "--", "echo", "never")
    assert (done.status, done.stdout) == (124, "")


def test_help_and_version() -> None:
    """Both go to standard output and are exit 0, whatever else is wrong."""
    done = run("--help", "--nonsense")
    assert (done.status, done.stderr) == (0, "")
    for option in OPTIONS:
        assert f"--{option.name}" in done.stdout
        assert variable(option) in done.stdout
    assert run("-h").stdout == done.stdout
    assert run("--version").stdout == f"service-precheck {VERSION}\n"


def test_help_behind_the_command_is_the_commands() -> None:
    """`-- CMD --help` is no question to us."""
    assert run(HOLDS, "--", "printf", "%s\n", "--help").stdout == "--help\n"


SAMPLES = {
    "timeout": "200ms",
    "interval": "100ms",
    "output": "json",
    "verbose": "true",
    "quiet": "true",
    "from": "{file}",
    "allow-empty": "true",
    "keep-waiting": "true",
    "termination-log": "{log}",
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize("way", ["argument", "variable"])
def test_each_option_by_argument_and_variable(
    option: object, way: str, closed: str, tmp_path: Path
) -> None:
    """Each option takes effect from the command line and from its variable alike."""
    row = next(one for one in OPTIONS if one is option)
    listed, log = tmp_path / "listed", tmp_path / "log"
    listed.write_text(f"{closed}#name=listed\n")
    log.touch()
    text = SAMPLES[row.name].format(file=listed, log=log)
    words, env = [closed], {}
    if way == "variable":
        env[variable(row)] = text
    elif row.kind is FLAG:
        words.append(f"--{row.name}")
    else:
        words += [f"--{row.name}", text]
    if row.name != "timeout":
        words.append("--timeout=400ms")
    done = run(*words, env=env)
    assert done.status == 124, done.stderr
    shown = {
        "timeout": done.seconds < 5.0,
        "output": done.stdout.startswith("{"),
        "verbose": "attempt" in done.stderr,
        "quiet": "waiting:" not in done.stderr,
        "from": "listed" in done.stderr,
        "termination-log": "refused" in log.read_text(),
    }
    assert shown.get(row.name, True)


def test_command_line_wins_over_variables(closed: str) -> None:
    """What the command line says holds; a variable that is empty is as if it were not there."""
    done = run(
        closed,
        "--timeout",
        "300ms",
        "--output=plain",
        "--verbose=false",
        env={
            "PRECHECK_TIMEOUT": "1h",
            "PRECHECK_OUTPUT": "json",
            "PRECHECK_VERBOSE": "true",
            "PRECHECK_INTERVAL": "",
        },
    )
    assert (done.status, done.stdout) == (124, "")
    assert "attempt" not in done.stderr


def test_wrong_variable_names_the_variable() -> None:
    """A mistake in a variable is told with the variable's name."""
    done = run(HOLDS, env={"PRECHECK_TIMEOUT": "soon", "PRECHECK_QUIET": "perhaps"})
    assert done.status == 2
    assert "PRECHECK_TIMEOUT" in done.stderr
    assert "PRECHECK_QUIET" in done.stderr


@pytest.mark.parametrize("text", ["0.3", "300ms", "0.3s", "0h0m0.3s", "300000us"])
def test_durations(text: str, closed: str) -> None:
    """Durations as Kubernetes and Go write them; a bare number is seconds."""
    done = run(closed, "--timeout", text)
    assert done.status == 124
    assert "0.3 s" in done.stderr


def test_targets_from_all_sources(tmp_path: Path) -> None:
    """Arguments, files, standard input and the variable together, comments left out."""
    with Server(hang) as server:
        port = f"127.0.0.1:{server.port}"
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_text(
            f"# what the shop needs\n{port}#name=one  # the shop\n\n  {port}#name=two\n"
        )
        second.write_bytes(f"\ufeff{port}#name=three\r\n".encode())
        with Gate(
            *("--from", str(first), "--from", str(second), "--from", "-", f"{port}#name=five"),
            stdin=subprocess.PIPE,
            env={"PRECHECK_TARGETS": f"{port}#name=six\n#{port}#name=not"},
        ) as gate:
            gate.stdin.write(f"{port}#name=four\n".encode())
            gate.stdin.close()
            done = gate.wait()
    assert done.status == 0
    told = {
        line.split("ready: ")[1].split(":")[0]
        for line in done.stderr.splitlines()
        if "ready: " in line
    }
    assert told == {"one", "two", "three", "four", "five", "six"}
    assert "all 6" in done.stderr


def test_mistakes_in_sources_have_their_line(tmp_path: Path) -> None:
    """A mistake in a file, on standard input or in the variable is told with its line."""
    listed = tmp_path / "listed"
    listed.write_text("localhost\n# a comment\nhtp://x\n")
    done = run("--from", str(listed), env={"PRECHECK_TARGETS": "\nftp//x"})
    assert done.status == 2
    assert f"{listed}:3: " in done.stderr
    assert "PRECHECK_TARGETS:2: " in done.stderr


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, a file that is no text, and one that is too large: mistakes, no crash."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(10 << 20)
    done = run("--from", str(tmp_path), "--from", str(binary), "--from", str(large))
    assert done.status == 2
    for told in ("Is a directory", "not UTF-8", "larger than"):
        assert told in done.stderr


def test_ten_megabytes_of_targets() -> None:
    """fault 67: 10 MiB of targets on standard input is a clear error within bounded memory."""
    with Gate("--from", "-", stdin=subprocess.PIPE, metered=True) as gate:
        try:
            for _ in range(160):
                gate.stdin.write(b"web.shop:80#name=x\n" * (65536 // 19))
            gate.stdin.close()
        except BrokenPipeError:
            pass
        done = gate.wait()
    assert done.status == 2
    assert "larger than" in done.stderr
    assert done.peak < 64 << 20


@pytest.mark.parametrize(
    "text",
    [
        "a\x1b[31mred.example:80",
        "a\u202eevil.example",
        "a\nb",
        "any(" * 200,
        "a" * 100_000,
        "http://[::1",
        "tcp://x:0",
        "b\u00fccher.example",
    ],
)
def test_strange_targets_are_shown_harmless(text: str) -> None:
    """fault 67: control characters, ANSI, bidirectional marks, depth and length: exit 2, nothing raw shown."""
    done = run(text)
    assert done.status == 2
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert len(done.stderr) < 20_000


def test_undecodable_argument_is_a_mistake() -> None:
    """fault 67: bytes that are no UTF-8 in an argument do not crash it."""
    done = run(
        command=["sh", "-c", 'exec "$0" "$@" "$(printf "\\377\\376")"', *Gate("x").argv[:-1]]
    )
    assert done.status == 2


def test_quiet_says_nothing_but_failures(closed: str) -> None:
    """`-q` is silent when all is well, and still says what failed."""
    assert run("-q", HOLDS).stderr == ""
    assert "[refused]" in run("-q", closed, "--timeout=200ms").stderr


def test_verbose_shows_every_attempt(closed: str) -> None:
    """`-v` shows each attempt with its number."""
    done = run("-v", closed, "--timeout=500ms")
    attempts = [line for line in done.stderr.splitlines() if "(attempt " in line]
    assert len(attempts) >= 5
    assert "(attempt 1)" in attempts[0]


def test_environment_is_left_alone() -> None:
    """What is not ours in the environment, undecodable values too, is no matter."""
    assert run(HOLDS, env={"PRECHECK_NONSENSE": "1", "ODD": os.fsdecode(b"\xff")}).status == 0
