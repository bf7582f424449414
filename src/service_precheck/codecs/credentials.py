"""Secrets that stand in a file or a variable, read anew each time: they rotate.

What was read is masked from then on in whatever is shown. Raises NotReady (`local`) where there is
none: it may still be put there.
"""

from __future__ import annotations

from .. import net
from ..errors import blocked
from ..model import keep_secret
from ..net import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Target

# The most that a file may hold. A token of a big directory has a few KiB.
MOST = 65_536


def from_file(path: str) -> str:
    """The text of a file, without the line break at its end."""
    return keep_secret(plain(path))


def plain(path: str) -> str:
    """As `from_file`, of what is no secret."""
    text = read(path, MOST).rstrip("\r\n")
    if not text:
        raise blocked("local", f"{path} is empty")
    return text


def read(path: str, most: int) -> str:
    """The whole text of a file of at most so many bytes."""
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would hold the probe for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Room for what is there alone; a pipe tells no size.
            room = max(MOST, os.fstat(descriptor).st_size)
            raw = os.read(descriptor, min(room, most) + 1)
        finally:
            os.close(descriptor)
        text = raw.decode()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise blocked("local", f"{path} cannot be read: {why}") from error
    except UnicodeDecodeError as error:
        raise blocked("local", f"{path} holds no text") from error
    if len(raw) > most:
        raise blocked("local", f"{path} is longer than {most >> 10} KiB")
    return text


def from_environment(name: str) -> str:
    """The value of an environment variable."""
    secret = net.environment().get(name, "")
    if wrong := net.unusable(secret):
        raise blocked("local", f"the environment variable {name} {wrong}")
    return keep_secret(secret)


def password(target: Target) -> str:
    """The password of a target: from `password-file`, `password-env` or its user info; empty if none."""
    if path := target.text("password-file"):
        return from_file(path)
    if name := target.text("password-env"):
        return from_environment(name)
    return target.password


def basic(user: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617)."""
    from binascii import b2a_base64

    encoded = b2a_base64(f"{user}:{password}".encode(), newline=False).decode("ascii")
    return f"Basic {keep_secret(encoded)}"
