"""Ports and loopback addresses for programs that cannot take port 0.

`free_port()` is one that no other process of this suite is given; `loopback_address()` is a
127.0.53.N of the test's own, for a server on a well-known port (root only).
"""

from __future__ import annotations

import os
import random
import socket

import pytest

from tests.bed.sockets import Place, make_socket


def _claim(what: str) -> bool:
    """Take a name among all test processes of this machine; the kernel frees it at our end."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0service-precheck-bed-{what}")
    except OSError:
        claim.close()
        return False
    claim.detach()
    return True


def free_port(host: str = "127.0.0.1", place: Place | None = None) -> int:
    """Return a port, free for TCP and UDP, for a program that cannot take port 0.

    It is taken from below the kernel's own range, so that no outgoing connection gets it, and no
    other process of this suite is given the same.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.randrange(20000, 32000)
        if not _claim(f"port-{port}"):
            continue
        with (
            make_socket(place, family, socket.SOCK_STREAM) as stream,
            make_socket(place, family, socket.SOCK_DGRAM) as datagram,
        ):
            try:
                stream.bind((host, port))
                datagram.bind((host, port))
            except OSError:
                continue
        return port


def loopback_address() -> str:
    """Return a 127.0.53.N of our own, for what must stand on a well-known port such as 53."""
    if os.geteuid() != 0:
        pytest.skip("needs root (a port below 1024)")
    numbers = list(range(1, 255))
    random.shuffle(numbers)
    for number in numbers:
        if _claim(f"loopback-{number}"):
            return f"127.0.53.{number}"
    raise AssertionError("no loopback address is left")
