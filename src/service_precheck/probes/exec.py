"""Commands: does a program end with exit status 0.

Each `arg` is one argument, without a shell. The command gets our environment and working directory, and
an empty standard input. It runs in a process group of its own, and of that group nothing is left when
the probe ends, at the deadline or before.
"""

from __future__ import annotations

import _signal

from ..codecs.command import Command
from ..errors import blocked
from ..model import Verdict, printable, ready
from ..net import environment
from ..options import TEXT, Option, Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

LONGEST_LINE = 300

_OPTIONS = (Option("arg", TEXT, "an argument; nothing in it is split or expanded", many=True),)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the command ends with exit status 0 before the deadline."""
    path = target.path
    hint = "nothing is split: each argument is an #arg= of its own" if " " in path else ""
    command = Command(path, target.texts("arg"), environment(), hint)
    try:
        ended = command.listen(attempt.deadline)
    finally:
        status = command.end()
    line = _last_line(command.said)
    if not ended:
        told = f"; its last words: {line}" if line else ""
        raise blocked("no-reply", f"{path} did not end within {attempt.limit()}{told}")
    told = f": {line}" if line else ""
    if status is None:
        raise blocked("local", f"the exit status of {path} was taken by somebody else")
    if status < 0:
        name = _signal.strsignal(-status) or "unknown"
        raise blocked("not-ready", f"{path} was killed by signal {-status} ({name}){told}")
    if status:
        raise blocked("not-ready", f"{path} ended with exit status {status}{told}")
    return ready(f"{path} ended with exit status 0{told}")


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").rstrip().splitlines()
    return printable(lines[-1].strip(), LONGEST_LINE) if lines else ""


SCHEMES = (
    Scheme(
        "exec",
        "path",
        probe,
        proves="the command ends with exit status 0",
        not_proves="more than the command itself looks at",
        example="exec:///usr/bin/pg_isready#arg=-h#arg=db.shop",
        options=_OPTIONS,
        floor=0.25,
    ),
)
