"""What a ZooKeeper server says of itself to the four-letter word `srvr`.

ZooKeeper Administrator's Guide, "The Four Letter Words". The server answers in text and closes the
connection. Since 3.5.3 it answers this one whatever `4lw.commands.whitelist` says. `ruok` would prove
nothing: it is answered with `imok` as long as the process runs.
"""

from __future__ import annotations

from ... import net
from ...errors import NotReady, blocked
from ...model import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Stream

SERVING = ("leader", "follower", "observer", "standalone")
# An answer has half a KiB.
MOST = 8_192
# How long the end of the connection is waited for when all is said, in seconds.
CLOSING = 0.1

_NOT_SERVING = b"not currently serving requests"
_NOT_ALLOWED = b"not executed because it is not in the whitelist"


def mode(connection: Stream) -> str:
    """What a server that serves says it is: one of `SERVING`; empty where it may not say.

    Raises NotReady: `no-quorum`, `read-only`, `closed-early`, `protocol`.
    """
    said = _told(connection, b"srvr")
    text = said.decode("utf-8", "replace")
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        if name == "Mode" and value in SERVING:
            return value
        if name == "Mode" and value == "read-only":
            raise read_only(connection.peer)
    if _NOT_ALLOWED in said:
        return ""
    if _NOT_SERVING in said:
        first = printable(text.strip().partition("\n")[0], 80)
        raise blocked(
            "no-quorum",
            f'{connection.peer} is up and does not serve: "{first}"',
            "more than half of the ensemble must be up and see each other",
        )
    from .. import another_protocol

    raise another_protocol.explain(connection, said, "ZooKeeper", "#tls asks in TLS")


def read_only(peer: str) -> NotReady:
    """The exception for a server without a quorum in read-only mode (`readonlymode.enabled`)."""
    return blocked("read-only", f"{peer} has no quorum, and serves only reads until it has one")


def _told(connection: Stream, word: bytes) -> bytes:
    """What the server says to a word, all that matters of it."""
    connection.write(word)
    said = b""
    while not _is_enough(said) and (got := connection.read_some()):
        said += got
        if len(said) > MOST:
            raise blocked(
                "protocol", f"{connection.peer} sent more than {MOST} bytes to {word.decode()}"
            )
    if not said:
        raise blocked(
            "closed-early",
            f"{connection.peer} accepted the connection, then closed it without an answer",
        )
    # The server closes. Only 3.8 while it starts may answer, then fail on that.
    connection.deadline = min(connection.deadline, net.monotonic() + CLOSING)
    try:
        while connection.read_some():
            pass
    except NotReady:
        pass
    return said


def _is_enough(said: bytes) -> bool:
    """Whether what is still to come changes nothing."""
    return b"\n" in said.partition(b"Mode: ")[2] or _NOT_SERVING in said or _NOT_ALLOWED in said
