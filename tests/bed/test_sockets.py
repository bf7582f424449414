"""The scripted servers really do what they are named for."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.bed.ports import free_port, loopback_address
from tests.bed.sockets import Full, Server, answer, babble, close, echo, reset, say, trickle


def connect(server: Server | Full) -> socket.socket:
    """Return a client's connection to server."""
    return socket.create_connection((server.host, server.port), timeout=30)


def test_close_ends_the_stream() -> None:
    """A client of `close` reads the end of the stream."""
    with Server(close) as server, connect(server) as client:
        assert client.recv(1) == b""


def test_reset_resets() -> None:
    """A client of `reset` gets ECONNRESET, not before the moment asked for (fault 2)."""
    with Server(reset(after=0.05)) as server, connect(server) as client:
        before = time.monotonic()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert time.monotonic() - before >= 0.04


def test_hang_says_nothing_and_stops_with_the_server() -> None:
    """A client of `hang` reads nothing, and the server still stops at once (fault 3)."""
    with Server() as server, connect(server) as client:
        server.wait_connections(1)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert server.connections[0].ended.wait(30)


def test_trickle_sends_one_byte_at_a_time() -> None:
    """A trickled greeting comes whole, but not sooner than its pace allows (fault 4)."""
    with Server(trickle(b"hello", every=0.02, then=close)) as server, connect(server) as client:
        before = time.monotonic()
        got = b""
        while data := client.recv(64):
            got += data
        assert got == b"hello"
        assert time.monotonic() - before >= 0.08


def test_babble_never_ends() -> None:
    """An endless greeting sends more than any client should keep (fault 5)."""
    with Server(babble()) as server, connect(server) as client:
        got = 0
        while got < 4_000_000:
            got += len(client.recv(1 << 20))


def test_say_and_answer_and_echo_talk() -> None:
    """A greeting is sent at once, an answer when it is asked for, an echo gives back."""
    with Server(say(b"220 hello\r\n")) as server:
        with connect(server) as client:
            assert client.recv(64) == b"220 hello\r\n"
        server.behaviour = answer(b"PING\r\n", b"+PONG\r\n")
        with connect(server) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(64) == b"+PONG\r\n"
        assert server.connections[1].received == b"PING\r\n"
        server.behaviour = echo
        with connect(server) as client:
            client.sendall(b"abc")
            assert client.recv(64) == b"abc"


def test_port_refuses_until_opened_and_after_it_shut() -> None:
    """A held port refuses before `open` and after `shut`, and says when it opened (fault 1)."""
    with Server(opened=False) as server:
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        before = time.monotonic()
        server.open()
        connect(server).close()
        assert server.opened_at is not None
        assert before <= server.opened_at <= time.monotonic()
        server.wait_connections(1)
        server.shut()
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        server.open()
        connect(server).close()
        server.wait_connections(2)


def test_open_after_opens_later() -> None:
    """A port can open by itself while the test does something else."""
    with Server(opened=False) as server:
        begun = time.monotonic()
        server.open_after(0.2)
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        while server.opened_at is None:
            time.sleep(0.005)
        connect(server).close()
        assert server.opened_at - begun >= 0.2


def test_server_speaks_ipv6() -> None:
    """The same server listens on ::1, and writes its address as a target does."""
    with Server(say(b"6"), host="::1") as server, connect(server) as client:
        assert client.recv(1) == b"6"
        assert server.address == f"[::1]:{server.port}"


def test_server_speaks_over_a_unix_socket(tmp_path: Path) -> None:
    """A unix socket is absent before `open`, answers, and is removed at the end."""
    path = tmp_path / "s"
    with Server(say(b"u"), path=path, opened=False) as server:
        assert not path.exists()
        server.open()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert client.recv(1) == b"u"
    assert not path.exists()


def test_full_queue_drops_connections() -> None:
    """A connect to a full queue neither succeeds nor is refused (fault 7)."""
    with Full() as server, pytest.raises(TimeoutError):
        socket.create_connection((server.host, server.port), timeout=0.3)


def test_free_ports_differ_and_are_free() -> None:
    """Free ports are never given twice and can be bound."""
    ports = {free_port() for _ in range(20)}
    assert len(ports) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_loopback_addresses_differ() -> None:
    """Two servers that both need port 53 get an address each."""
    first, second = loopback_address(), loopback_address()
    assert first != second
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((first, 53))
