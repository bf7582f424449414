"""MongoDB's messages: a command and its answer over a stream, and what a server's error means.

MongoDB Wire Protocol, OP_MSG, which all servers since MongoDB 3.6 speak; the codes are those of
`error_codes.yml`. An answer is at most 64 KiB: what is asked here fits into a few.
"""

from __future__ import annotations

from ...errors import NotReady, blocked
from ...model import printable
from . import bson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...stream import Stream

MOST = 65_536
_OP_MSG = 2013
_CHECKSUM = 1
# Header, flags, one section's kind, and the emptiest document.
_LEAST = 16 + 4 + 1 + 5
_REQUEST = 1

COMMAND_NOT_FOUND = 59
_UNAUTHORIZED = 13
_BAD_VALUE = 2
# 8000 is Atlas's own.
_CAUSES = {
    1: "not-ready",
    11: "auth-refused",
    18: "auth-refused",
    8000: "auth-refused",
    334: "unsupported",
    # A server with requireApiVersion.
    498870: "unsupported",
    91: "not-ready",
    94: "not-ready",
    11600: "not-ready",
    11602: "starting",
    13436: "starting",
    189: "no-leader",
    10107: "no-leader",
    13435: "no-leader",
    462: "overloaded",
}


def exchange(stream: Stream, command: Mapping[str, object], database: str) -> dict[str, object]:
    """The answer to a command on a database, whatever it says. Raises `protocol` where it is none."""
    document = bson.encode({**command, "$db": database})
    numbers = (_LEAST - 5 + len(document), _REQUEST, 0, _OP_MSG, 0)
    stream.write(b"".join(one.to_bytes(4, "little") for one in numbers) + b"\0" + document)
    start = stream.read_exactly(4, "an answer")
    length = int.from_bytes(start, "little")
    if not _LEAST <= length <= MOST:
        from .. import another_protocol

        raise another_protocol.explain(stream, start, "MongoDB", "#tls asks in TLS")
    rest = stream.read_exactly(length - 4, "the whole answer")
    _, answered, opcode, flags = (
        int.from_bytes(rest[at : at + 4], "little") for at in (0, 4, 8, 12)
    )
    if opcode != _OP_MSG or answered != _REQUEST or rest[16]:
        raise blocked("protocol", f"{stream.peer} sent what is no answer of MongoDB (OP_MSG)")
    try:
        return bson.decode(rest[17 : len(rest) - 4 if flags & _CHECKSUM else len(rest)])
    except ValueError as error:
        why = f"is no BSON: {error}"
        raise blocked("protocol", f"{stream.peer} sent an answer that {why}") from error


def ask(
    stream: Stream, command: Mapping[str, object], database: str, login: bool = False
) -> dict[str, object]:
    """The answer to a command that was carried out. Raises the cause that a server's error stands for.

    `login` says that the command is a part of one.
    """
    answer = exchange(stream, command, database)
    if answer.get("ok") != 1:
        raise refusal(stream.peer, next(iter(command)), answer, database if login else "")
    return answer


def refusal(peer: str, command: str, answer: Mapping[str, object], source: str = "") -> NotReady:
    """What an answer means that is not `ok`; `source` is the database that a login looks for its user in,
    empty where it is no answer to one."""
    code, name, words = (answer.get(key) for key in ("code", "codeName", "errmsg"))
    number = code if isinstance(code, int) else 0
    said = f"error {number}" if number else "an error"
    if isinstance(name, str):
        said += f" {printable(name, 60)}"
    if isinstance(words, str):
        said += f": {printable(words, 200)}"
    if number == _UNAUTHORIZED:
        return blocked("forbidden" if source else "auth-required", f"{peer} answers {said}")
    if source and number == _BAD_VALUE:
        return blocked("unsupported", f"{peer} answers the login with {said}")
    cause = _CAUSES.get(number, "protocol")
    if cause == "auth-refused":
        hint = ""
        # Of LDAP there is no other.
        if source not in ("", "$external"):
            other = "DATABASE" if source == "admin" else "admin"
            hint = f"the user was looked for in the database {printable(source, 60)}; "
            hint += f"one that is in another: ?authSource={other}"
        return blocked(cause, f"{peer} refused the login: {said}", hint)
    return blocked(cause, f"{peer} answers {command} with {said}")
