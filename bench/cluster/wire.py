"""What goes over the wire to CoreDNS: who asks what, at the kernel's own time."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from bench.launch import Failed
from tests.bed.world import inside

if TYPE_CHECKING:
    from types import TracebackType

# linux/if_ether.h, linux/if_packet.h, asm-generic/socket.h; Python has no names for them.
ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
BUFFER = 64 << 20
UDP, PORT = 17, 53


def question(frame: bytes, server: bytes) -> str:
    """The name that an Ethernet frame asks this server (an address of four bytes) for, by DNS over UDP.

    Lower-case and without the final dot; empty if the frame is anything else.
    """
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != UDP or frame[30:34] != server:
        return ""
    at = 14 + 4 * (frame[14] & 15)
    port, answer = int.from_bytes(frame[at + 2 : at + 4]), frame[at + 10] & 0x80
    if port != PORT or answer:
        return ""
    at += 8 + 12
    labels = []
    while at < len(frame) and frame[at]:
        labels.append(frame[at + 1 : at + 1 + frame[at]].decode("ascii", "replace").lower())
        at += 1 + frame[at]
    return ".".join(labels)


def most_within(times: Iterable[float], seconds: float) -> int:
    """The most of these moments, in their order, that lie within so many seconds of each other."""
    ordered = list(times)
    most = first = 0
    for last, time in enumerate(ordered):
        while time - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Capture:
    """The questions that reach a server over an interface, from entering on to leaving.

    `times` has, for the first label of the name, when each went (`time.time()`): gates that wait for a
    name of their own each are told apart by it, whatever the search list appends.
    """

    def __init__(self, network: str, interface: str, server: str) -> None:
        self._network = network
        self._interface = interface
        self._server = socket.inet_aton(server)
        self._stop = threading.Event()
        self.times: dict[str, array[float]] = {}

    def __enter__(self) -> Self:
        self._socket = inside(
            self._network,
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)),
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind((self._interface, ETH_P_ALL))
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def lost(self) -> int:
        """How many packets the kernel could not hand over since this was last asked."""
        _, dropped = struct.unpack(
            "II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, struct.calcsize("II"))
        )
        return int(dropped)

    def _read(self) -> None:
        room = socket.CMSG_SPACE(struct.calcsize("ll"))
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                frame, said, _, (_, _, way, *_) = self._socket.recvmsg(512, room)
                if way != socket.PACKET_OUTGOING:
                    continue
                if name := question(frame, self._server):
                    seconds, nanoseconds = struct.unpack("ll", said[0][2])
                    label = name.partition(".")[0]
                    if label not in self.times:
                        self.times[label] = array("d")
                    self.times[label].append(seconds + nanoseconds / 1e9)


def route(network: str, server: str) -> str:
    """The interface by which a server is reached from a network."""

    def look() -> str:
        with open("/proc/thread-self/net/route") as file:
            wanted = int.from_bytes(socket.inet_aton(server), "little")
            routes = [line.split() for line in file.readlines()[1:]]
        known = [
            (int(mask, 16), name)
            for name, where, _, _, _, _, _, mask, *_ in routes
            if wanted & int(mask, 16) == int(where, 16)
        ]
        if not known:
            raise Failed(f"no route to {server}")
        return max(known, key=lambda route: route[0].bit_count())[1]

    return inside(network, look)
