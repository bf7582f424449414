"""TCP: does a port accept connections, and if asked for, greet as expected.

RFC 9293; addresses as in RFC 8305. Opens a connection, sends nothing unless `send` says so, and
closes it. Costs the server one accepted connection.
"""

from __future__ import annotations

from .. import stream
from ..errors import NotReady, blocked
from ..model import Verdict, keep_secret, printable, ready
from ..options import DURATION, FLAG, TEXT, Kind, Option, Scheme, Target, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

MOST_BANNER = 4096
# With `each`, an answer for AAAA is worth waiting for, but not for ever.
HOLD = 0.5


_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def _unescaped(text: str) -> bytes:
    r"""The bytes of `text`, with `\r`, `\n`, `\t`, `\0` and `\\` as in C. Raises Wrong."""
    out = b""
    at = 0
    while at < len(text):
        if text[at] == "\\":
            escape = _ESCAPES.get(text[at + 1 : at + 2])
            if escape is None:
                raise Wrong(f"{text[at : at + 2]!r} is no escape; \\r \\n \\t \\0 \\\\ are")
            out += escape
            at += 2
        else:
            out += text[at].encode()
            at += 1
    return out


def _read_send(text: str) -> str:
    # A server may give back what it was sent.
    for word in _unescaped(text).decode("utf-8", "replace").split():
        if len(word) > 5:
            keep_secret(word)
    return text


_OPTIONS = (
    Option("each", FLAG, "every address must accept, not just one", False),
    Option("expect", TEXT, "text that must come within the first 4 KiB"),
    Option(
        "send", Kind("TEXT", _read_send), "what to send first; \\r and \\n as in C", secret=True
    ),
    Option("settle", DURATION, "how long to look whether an accepted connection is closed again"),
)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when a connection is accepted, stays open, and greets with `expect` if that is asked for."""
    port = target.port
    assert port is not None
    if not target.flag("each"):
        with stream.connect(target.host, port, attempt) as connection:
            return _talk(target, connection, attempt)
    addresses = attempt.addresses(target.host, HOLD)
    proven = [_talk_to(address, port, target, attempt) for address in addresses]
    return (
        proven[0] if len(proven) == 1 else ready(f"all {len(proven)} addresses accept connections")
    )


def _talk_to(address: str, port: int, target: Target, attempt: Attempt) -> Verdict:
    with stream.connect_any(target.host, (address,), port, attempt) as connection:
        return _talk(target, connection, attempt)


def _talk(target: Target, connection: stream.Stream, attempt: Attempt) -> Verdict:
    wanted = target.text("expect")
    send = target.text("send")
    if send:
        connection.write(_unescaped(send))
    if not wanted:
        connection.linger(target.number("settle"))
        return ready(f"{connection.peer} accepts connections")
    expected = wanted.encode()
    banner = b""
    while expected not in banner:
        if len(banner) >= MOST_BANNER:
            raise _other(connection.peer, banner, wanted, f"the first {MOST_BANNER} bytes")
        try:
            got = connection.read_some(MOST_BANNER - len(banner))
        except NotReady as error:
            if banner and error.verdict.cause == "no-reply":
                raise _other(connection.peer, banner, wanted, f"{attempt.limit()}") from error
            raise
        if not got and banner:
            raise _other(connection.peer, banner, wanted, "all it sent")
        if not got:
            raise blocked(
                "closed-early", f"{connection.peer} accepted the connection, then closed it"
            )
        banner += got
    return ready(f'{connection.peer} greets with "{printable(wanted)}"')


def _other(peer: str, banner: bytes, wanted: str, where: str) -> NotReady:
    start = printable(banner[:80].decode("utf-8", "replace"))
    return blocked(
        "unexpected-body", f'{peer} sent "{start}", without "{printable(wanted)}" in {where}'
    )


SCHEMES = (
    Scheme(
        "tcp",
        "host:port",
        probe,
        proves="a connection is accepted and stays open",
        not_proves="that the service behind it can do any work: many accept long before they serve",
        example="tcp://mysql-read.shop:3306",
        options=_OPTIONS,
        attempt_timeout=3.0,
    ),
)
