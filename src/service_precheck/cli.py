"""The gate's command line: options, targets from all sources, and what comes after.

Everything an operator got wrong is found before the first probe and told at once; exit 2.
"""

from __future__ import annotations

import errno

from . import net, report, schemes, signals
from .errors import Mistake, OperatorError
from .gate import Gate, Settings
from .model import Frozen
from .net import os
from .options import DURATION, FLAG, PATH, Option, Wrong, choice
from .report.termination import DEFAULT as TERMINATION_LOG
from .report.termination import write_bounded
from .state import MISTAKE, OPEN
from .target import Group, lines, parse_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "0.1.0"
NOT_FOUND, NOT_EXECUTABLE = 127, 126
# What execvp(3) searches without PATH.
DEFAULT_PATH = b"/bin:/usr/bin"
LARGEST = 4 * 1024 * 1024

OPTIONS = (
    Option(
        "timeout", DURATION, "give up after this long; none by default, and in a pod best left so"
    ),
    Option(
        "interval",
        DURATION,
        "the longest wait between two attempts; without it 1 s, more after five minutes",
    ),
    Option(
        "output",
        choice(*report.FORMATS),
        "what is shown: a live table on a terminal, else plain lines",
        "auto",
    ),
    Option("verbose", FLAG, "show every attempt", False),
    Option("quiet", FLAG, "show nothing but failures", False),
    Option("from", PATH, "read targets from a file, one a line; - is standard input", many=True),
    Option("allow-empty", FLAG, "open when no target is given at all", False),
    Option("keep-waiting", FLAG, "wait even for what can never come", False),
    Option("termination-log", PATH, "the file that always says what blocks", TERMINATION_LOG),
)
SHORT = {"-v": "verbose", "-q": "quiet", "-h": "help"}
TARGETS_VARIABLE = "PRECHECK_TARGETS"


def variable(option: Option) -> str:
    """The environment variable of an option."""
    return "PRECHECK_" + option.name.upper().replace("-", "_")


class Command(Frozen):
    """A command line that was understood."""

    __slots__ = ("command", "options", "root")
    options: dict[str, object]
    root: Group
    command: tuple[str, ...]

    def __init__(self, options: dict[str, object], root: Group, command: tuple[str, ...]) -> None:
        self._set(options=options, root=root, command=command)


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run the gate and give its exit status; with `-- COMMAND` it only returns if that cannot be run."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--help" in before or "-h" in before:
        report.write(report.STDOUT, help_text())
        return OPEN
    if "--version" in before:
        report.write(report.STDOUT, f"service-precheck {VERSION}\n")
        return OPEN
    try:
        command = understand(arguments, environment, variables=environment)
    except OperatorError as error:
        count = len(error.mistakes)
        text = f"service-precheck: {count} mistake{'s' * (count > 1)}; nothing was asked\n"
        text += "".join(f"  {mistake}\n" for mistake in error.mistakes)
        report.write(report.STDERR, text)
        write_bounded(_termination_log(before, environment), text)
        return MISTAKE
    options = command.options
    net.brisk()
    timeout, interval = options["timeout"], options["interval"]
    log = options["termination-log"]
    assert timeout is None or isinstance(timeout, float)
    assert interval is None or isinstance(interval, float)
    shown = report.choose(
        str(options["output"]), options["verbose"] is True, options["quiet"] is True, str(log)
    )
    settings = Settings(timeout, interval, options["keep-waiting"] is True)
    outcome = Gate(command.root, settings, shown).run()
    if outcome.ready and command.command:
        return become(command.command)
    return outcome.status


def _termination_log(words: list[str], environment: Mapping[str, str]) -> str:
    """Where mistakes are told, whatever else is wrong."""
    given, _ = _words(words, {option.name: option for option in OPTIONS}, "", [])
    path = given.get("termination-log") or environment.get("PRECHECK_TERMINATION_LOG")
    return str(path or TERMINATION_LOG)


def understand(
    arguments: list[str],
    environment: Mapping[str, str],
    table: tuple[Option, ...] = OPTIONS,
    program: str = "service-precheck",
    variables: Mapping[str, str] | None = None,
) -> Command:
    """Options and targets from the command line and the environment. Raises OperatorError with all mistakes.

    `table` holds the options of `program`; the toolbox has fewer. `variables` are what targets take their
    passwords from, None where nothing will be asked.
    """
    mistakes: list[Mistake] = []
    words: list[str] = arguments
    command: tuple[str, ...] = ()
    if "--" in arguments:
        end = arguments.index("--")
        words, command = arguments[:end], tuple(arguments[end + 1 :])
        if not command:
            mistakes.append(Mistake("--", "no command follows", "-- COMMAND [ARG...]"))
    rows = {option.name: option for option in table}
    given, texts = _words(words, rows, program, mistakes)
    options: dict[str, object] = {}
    for option in table:
        if option.name in given:
            options[option.name] = given[option.name]
            continue
        name = variable(option)
        text = environment.get(name)
        if text:
            value = _value(option, text, name, mistakes)
            options[option.name] = (value,) if option.many and value is not None else value
        else:
            options[option.name] = option.default
    sources = ["the command line"]
    files = options["from"]
    for path in files if isinstance(files, tuple) else ():
        sources.append("standard input" if path == "-" else str(path))
        texts += _read(str(path), mistakes)
    if TARGETS_VARIABLE in environment:
        sources.append(TARGETS_VARIABLE)
        texts += lines(environment[TARGETS_VARIABLE], TARGETS_VARIABLE)
    root = Group("all", 0, ())
    try:
        root = parse_all(texts, variables)
    except OperatorError as error:
        mistakes += error.mistakes
    if not mistakes and not texts and options.get("allow-empty") is not True:
        mistakes.append(
            Mistake(
                "",
                f"no target: {' and '.join(sources)} {'name' if len(sources) > 1 else 'names'} none",
                f"{program} TARGET..."
                + (", or --allow-empty" if "allow-empty" in rows else "")
                + "; --help tells more",
            )
        )
    if mistakes:
        raise OperatorError(tuple(mistakes))
    return Command(options, root, command)


def _words(
    words: list[str], rows: Mapping[str, Option], program: str, mistakes: list[Mistake]
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """The options among the words, and the targets with their places."""
    given: dict[str, object] = {}
    texts: list[tuple[str, str]] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        where = f"argument {place}"
        if not word.startswith("-") or word == "-":
            texts.append((word, where))
            continue
        name, equals, text = word.removeprefix("--").partition("=")
        if word in SHORT:
            name = SHORT[word]
        option = rows.get(name) if word in SHORT or word.startswith("--") else None
        if option is None:
            shown = word.partition("=")[0]
            mistakes.append(
                Mistake(shown, "there is no such option", _near(name, rows, program), where)
            )
            continue
        if option.kind is not FLAG and not equals:
            if place == len(words):
                wrong = f"--{name} {option.kind.shape}"
                mistakes.append(Mistake(word, "its value is missing", wrong, where))
                continue
            text = words[place]
            place += 1
        value = _value(option, text, where, mistakes)
        if value is not None:
            given[name] = (*given.get(name, ()), value) if option.many else value  # type: ignore[misc]
    return given, texts


def _near(name: str, rows: Mapping[str, Option], program: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [*rows, "help", "version"], 1, 0.5)
    return f"did you mean --{near[0]}?" if near else f"{program} --help lists them"


def _value(option: Option, text: str, place: str, mistakes: list[Mistake]) -> object:
    try:
        return option.kind.read(text)
    except Wrong as error:
        mistakes.append(Mistake(text, f"--{option.name}: {error}", "", place))
        return None


def _read(path: str, mistakes: list[Mistake]) -> list[tuple[str, str]]:
    """The targets of a file or of standard input."""
    source = "standard input" if path == "-" else path
    try:
        descriptor = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) <= LARGEST and (piece := os.read(descriptor, 65_536)):
                data += piece
        finally:
            if path != "-":
                os.close(descriptor)
        text = data.decode()
    except OSError as error:
        mistakes.append(
            Mistake(path, f"it cannot be read: {os.strerror(error.errno or 0)}", "", "--from")
        )
        return []
    except UnicodeDecodeError:
        mistakes.append(Mistake(path, "it is not UTF-8 text", "", "--from"))
        return []
    if len(data) > LARGEST:
        mistakes.append(Mistake(path, f"it is larger than {LARGEST} bytes", "", "--from"))
        return []
    return list(lines(text.removeprefix("\ufeff"), source))


def become(command: tuple[str, ...]) -> int:
    """Replace this process by `command`, leaving nothing of us behind; 126 or 127 if it cannot be run, as shells do."""
    signals.end_children()
    signals.release()
    environment = _original_environment()
    program = command[0]
    if "/" in program:
        candidates = [program]
    else:
        path = environment.get(b"PATH", DEFAULT_PATH)
        candidates = [
            f"{folder or '.'}/{program}"
            for folder in path.decode("utf-8", "surrogateescape").split(":")
        ]
    status, reason = NOT_FOUND, errno.ENOENT
    for candidate in candidates:
        try:
            os.execve(candidate, command, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) and status == NOT_FOUND:
                status, reason = NOT_EXECUTABLE, error.errno or 0
        except ValueError:
            status, reason = NOT_FOUND, errno.EINVAL
    report.write(report.STDERR, f"service-precheck: {program}: {os.strerror(reason)}\n")
    return status


def _original_environment() -> dict[bytes, bytes]:
    """The environment we were started with. The interpreter may have added LC_CTYPE to its own (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [pair.partition(b"=") for pair in file.read().split(b"\0") if pair]
    except OSError:
        return dict(os.environ)
    return {name: value for name, equals, value in pairs if equals}


def help_text() -> str:
    """What `--help` prints."""
    rows = []
    for option in OPTIONS:
        short = next((f"{key}, " for key, name in SHORT.items() if name == option.name), "    ")
        shape = "" if option.kind is FLAG else f" {option.kind.shape}"
        rows.append(
            f"  {short}--{option.name}{shape}\n          {option.meaning} [{variable(option)}]\n"
        )
    return (
        "usage: service-precheck [OPTIONS] TARGET... [-- COMMAND [ARG...]]\n\n"
        "Waits until everything that TARGETs name can be used, says which one blocks and why,\n"
        "then exits 0, or becomes COMMAND.\n\n"
        "targets:\n"
        "  mysql-0.mysql.shop              a name that must resolve\n"
        "  mysql-read.shop:3306            a port that must accept connections\n"
        "  http://api.shop/healthz         a page; also https, tls, tcp, dns, unix, file, exec\n"
        "  http://api/healthz#status=204   options follow a #; quote them in a shell\n"
        "  any(a, b)  quorum(a, b, c)      groups; also all, atleast(N, ...), not\n\n"
        f"options (or the variable in brackets; the command line wins):\n{''.join(rows)}"
        "  -h, --help\n      --version\n\n"
        f"More targets, one a line, come from --from and ${TARGETS_VARIABLE}.\n"
        "Durations: 500ms, 30s, 5m, 1h30m; a bare number is seconds.\n"
        f"Schemes: {', '.join(schemes.BUILT_IN)}. `precheck explain TARGET` tells what a target does.\n\n"
        "exit status: 0 open; 1 a dependency failed for good; 2 a mistake in what was given;\n"
        "  124 time ran out; 126, 127 COMMAND could not be run; 128+N ended by signal N;\n"
        "  70 a defect in service-precheck itself\n"
    )
