"""What to say of a server that speaks another protocol than the one it is asked in.

Loaded when the first such answer arrives.
"""

from __future__ import annotations

from .. import net
from ..errors import NotReady, blocked
from ..model import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Stream

# How many characters of it are shown, and how long they are waited for, in seconds.
_SHOWN, _PATIENCE = 60, 0.2


def explain(stream: Stream, said: bytes, name: str, tls: str = "") -> NotReady:
    """The exception where a protocol called `name` is expected; `said` is how the answer begins, `tls`
    what to do if that is TLS."""
    stream.deadline = min(stream.deadline, net.monotonic() + _PATIENCE)
    try:
        while len(said) < _SHOWN and b"\n" not in said and (more := stream.read_some(_SHOWN)):
            said += more
    except NotReady:
        pass
    # RFC 8446 section 5.1: an alert or a handshake, and a version that begins with 3.
    if said[:2] in (b"\x15\x03", b"\x16\x03"):
        return blocked("protocol", f"{stream.peer} answers in TLS to a plain request", tls)
    # RFC 9113 section 4.1: the SETTINGS frame that a server begins with.
    if said[:1] == b"\0" and said[3:9] == b"\x04\0\0\0\0\0":
        return blocked("protocol", f"{stream.peer} speaks HTTP/2 and no {name}", "a gRPC server?")
    line = said.lstrip(b"\r\n").partition(b"\n")[0].rstrip() or said
    shown = printable(line.decode("utf-8", "replace"), _SHOWN)
    return blocked("protocol", f"{stream.peer} does not speak {name}, it said '{shown}'")
