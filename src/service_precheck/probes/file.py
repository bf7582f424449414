"""Files: is there something at a path, old or new enough, with the right text in it.

stat(2), and open(2) only where text is looked for; a pipe is never waited for, a symbolic link is
followed. Costs what reading the file costs, 1 MiB at most.
"""

from __future__ import annotations

import errno
import time

from ..errors import NotReady, blocked
from ..model import Verdict, printable, ready, seconds
from ..net import os
from ..options import DURATION, FLAG, SIZE, TEXT, Option, Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

# As far as text is looked for.
MOST = 1 << 20
_PIECE = 65_536
# From inode(7).
_TYPE, _REGULAR = 0o170000, 0o100000

_OPTIONS = (
    Option("min-size", SIZE, "the least that the file must hold"),
    Option("max-age", DURATION, "how long ago the last change may be, by this host's clock"),
    Option("contains", TEXT, "text that must be in the first 1 MiB", many=True),
    Option("absent", FLAG, "there must be nothing at the path", False),
)


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say."""
    others = [name for name, _ in target.given if name in ("min-size", "max-age", "contains")]
    if target.flag("absent") and others:
        return (f"#absent with #{others[0]}=: what is not there has no such thing",)
    return ()


def probe(target: Target, attempt: Attempt) -> Verdict:  # noqa: ARG001 (it never waits)
    """Ready when something is there and is as it should be, or with `absent` when nothing is there."""
    path = target.path
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise _unusable(path, error) from error
        if target.flag("absent"):
            return ready(f"there is no {path}")
        raise blocked("missing-object", f"there is no {path}") from error
    if target.flag("absent"):
        raise blocked("not-ready", f"{path} is still there")
    proven = [f"{path} is there"]
    least, texts = target.number("min-size"), target.texts("contains")
    if (least is not None or texts) and found.st_mode & _TYPE != _REGULAR:
        raise blocked("not-ready", f"{path} is no regular file")
    if least is not None:
        if found.st_size < least:
            raise blocked("not-ready", f"{path} holds {found.st_size} of {least:.0f} bytes")
        proven.append(f"holds {found.st_size} bytes")
    limit = target.number("max-age")
    if limit is not None:
        age = max(0.0, time.time() - found.st_mtime)
        if age > limit:
            raise blocked(
                "not-ready",
                f"{path} was last changed {seconds(age)} ago, {seconds(limit)} at most is asked for",
            )
        proven.append(f"was changed {seconds(age)} ago")
    for text in texts:
        if not _contains(path, text.encode()):
            where = "its first 1 MiB" if found.st_size > MOST else "it"
            raise blocked(
                "unexpected-body", f"{path} is there, without '{printable(text, 80)}' in {where}"
            )
        proven.append(f"with '{printable(text, 80)}'")
    return ready(", ".join(proven))


def _contains(path: str, wanted: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        tail, left = b"", MOST
        while left and (piece := os.read(descriptor, min(_PIECE, left))):
            left -= len(piece)
            if wanted in tail + piece:
                return True
            tail = (tail + piece)[1 - len(wanted) :] if len(wanted) > 1 else b""
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(descriptor)
    return False


def _unusable(path: str, error: OSError) -> NotReady:
    hint = (
        "the file and its folders must allow this user to read"
        if error.errno == errno.EACCES
        else ""
    )
    return blocked("local", f"{path} cannot be looked at: {os.strerror(error.errno or 0)}", hint)


SCHEMES = (
    Scheme(
        "file",
        "path",
        probe,
        proves="something is at the path, of the size, the age and with the text asked for",
        not_proves="that whoever writes the file has finished, unless it is renamed into place",
        example="file:///shared/schema.sql#min-size=1#contains=COMMIT",
        options=_OPTIONS,
        check=check,
    ),
)
