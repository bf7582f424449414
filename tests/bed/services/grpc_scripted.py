"""A gRPC server that answers exactly as told, on h2: the states that no real one can be put in.

    scripted = Scripted(answer(message), status(14, "gone"))     # one request after the other
    with Server(scripted) as server: ...
    scripted.requests[0].headers                                 # what came, as h2 understood it

The last answer is given to all requests that follow. An answer is a function of the talk; `Talk.raw`
sends any bytes, so that what h2 would not send can be sent, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.settings import SettingCodes

from tests.bed.sockets import Connection

Headers = Iterable[tuple[str, str]]
OK = (("grpc-status", "0"),)


@dataclass
class Request:
    """What was asked."""

    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return dict(self.headers)[name]


class Talk:
    """One connection: `h2` is the server's side of it, `number` the stream of the last request."""

    def __init__(self, connection: Connection, settings: dict[SettingCodes, int]) -> None:
        self._connection = connection
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8", validate_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        self.number = 0
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to say."""
        self._connection.write(self.h2.data_to_send())

    def raw(self, data: bytes) -> bool:
        """Send it behind what was sent; false when the client is gone."""
        self.flush()
        return self._connection.write(data)

    def wait_for_room(self, size: int) -> None:
        """Wait until the client takes so much more of the answer."""
        while self.h2.local_flow_control_window(self.number) < size and self.read():
            pass

    def read(self) -> list[h2.events.Event]:
        """What the client says next; empty when it is gone, or speaks no HTTP/2."""
        self.flush()
        data = self._connection.read()
        try:
            events = self.h2.receive_data(data) if data else []
        except h2.exceptions.ProtocolError:
            events = []
        self.events += events
        self.flush()
        return events


Answer = Callable[[Talk], None]


class Scripted:
    """A behaviour for `Server`."""

    def __init__(self, *answers: Answer, settings: dict[SettingCodes, int] | None = None) -> None:
        self._answers = answers
        self._settings = settings or {}
        self.requests: list[Request] = []
        self.talks: list[Talk] = []

    def __call__(self, connection: Connection) -> None:
        talk = Talk(connection, self._settings)
        self.talks.append(talk)
        asked = 0
        open_requests: dict[int, Request] = {}
        while events := talk.read():
            for event in events:
                if isinstance(event, h2.events.RequestReceived):
                    assert event.headers is not None
                    headers = [(str(name), str(value)) for name, value in event.headers]
                    open_requests[event.stream_id or 0] = Request(headers, b"")
                elif isinstance(event, h2.events.DataReceived):
                    open_requests[event.stream_id or 0].body += event.data or b""
                elif isinstance(event, h2.events.StreamEnded):
                    talk.number = event.stream_id or 0
                    self.requests.append(open_requests.pop(talk.number))
                    # The client may have let go of the request meanwhile.
                    with contextlib.suppress(h2.exceptions.StreamClosedError):
                        self._answers[min(asked, len(self._answers) - 1)](talk)
                    asked += 1
                    talk.flush()
                elif isinstance(event, h2.events.ConnectionTerminated):
                    return


def answer(
    message: bytes = b"",
    *,
    trailers: Headers = OK,
    pieces: int = 1,
    pad: int | None = None,
    body: bytes | None = None,
    kind: str = "application/grpc",
    http: str = "200",
) -> Answer:
    """A message, in so many frames of DATA, and the trailers."""

    def give(talk: Talk) -> None:
        talk.h2.send_headers(talk.number, [(":status", http), ("content-type", kind)])
        whole = b"\0" + len(message).to_bytes(4, "big") + message if body is None else body
        size = max(1, -(-len(whole) // pieces))
        for at in range(0, len(whole), size):
            talk.wait_for_room(size + 256)
            talk.h2.send_data(talk.number, whole[at : at + size], pad_length=pad)
        talk.h2.send_headers(talk.number, list(trailers), end_stream=True)

    return give


def status(code: int, message: str = "", http: str = "200", more: Headers = ()) -> Answer:
    """A status and nothing else: trailers only."""
    headers = [(":status", http), ("content-type", "application/grpc"), ("grpc-status", str(code))]
    headers += [("grpc-message", message)] if message else []
    return lambda talk: talk.h2.send_headers(talk.number, [*headers, *more], end_stream=True)


def only(*headers: tuple[str, str]) -> Answer:
    """These headers and nothing else."""
    return lambda talk: talk.h2.send_headers(talk.number, list(headers), end_stream=True)


def raw(*pieces: bytes) -> Answer:
    """These bytes, whatever they are."""

    def give(talk: Talk) -> None:
        for piece in pieces:
            talk.raw(piece)

    return give


def silence(_: Talk) -> None:
    """Nothing."""


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """A frame, as RFC 9113 section 4.1 has it."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big")
    return head + payload
