"""The scripted pages are what they say, seen through Python's own HTTP client."""

from __future__ import annotations

import gzip
import http.client
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.bed.pages import (
    HOLD,
    Proxy,
    ScriptedHTTP,
    bomb,
    chunked,
    giant,
    later,
    long_head,
    page,
    redirect,
    slow,
)


def get(pages: ScriptedHTTP, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Return the status and body of one request."""
    connection = http.client.HTTPConnection(pages.host, pages.port, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def raw(pages: ScriptedHTTP, path: str) -> bytes:
    """Return all bytes that answer one request."""
    with socket.create_connection((pages.host, pages.port), timeout=30) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = b""
        while data := client.recv(1 << 20):
            got += data
        return got


def test_answers_come_in_turn_and_requests_are_kept(pages: ScriptedHTTP) -> None:
    """Answers follow one another and stay; each request is kept with its bytes."""
    pages.on("/a", page(503), page(200, b"ok"))
    assert [get(pages, "/a?x=1", {"Authorization": "Basic eDp5"})[0] for _ in range(3)] == [
        503,
        200,
        200,
    ]
    assert get(pages, "/other")[0] == 404
    assert pages.count("/a?x=1") == 3
    assert pages.requests[0].header("authorization") == "Basic eDp5"
    assert pages.requests[0].raw.startswith(b"GET /a?x=1 HTTP/1.1\r\n")


def test_answers_can_go_round(pages: ScriptedHTTP) -> None:
    """500 and 200 in turn, for ever (fault 16)."""
    pages.on("*", page(500), page(200), cycle=True)
    assert [get(pages, "/")[0] for _ in range(5)] == [500, 200, 500, 200, 500]


def test_bodies_of_requests_are_read(pages: ScriptedHTTP) -> None:
    """A posted body is read to its end before the answer goes out."""
    pages.on("/p", lambda request: page(200, request.body[::-1]))
    request = urllib.request.Request(f"{pages.url}/p", b"abc" * 100_000)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.read() == b"cba" * 100_000


def test_giant_and_bomb_and_long_head_are_as_large_as_said(pages: ScriptedHTTP) -> None:
    """The body, the unpacked body and the header have the size asked for (fault 20, 21, 22)."""
    pages.on("/giant", giant(3_000_000))
    pages.on("/bomb", bomb(5_000_000))
    pages.on("/head", long_head(1 << 20))
    assert len(get(pages, "/giant")[1]) == 3_000_000
    packed = get(pages, "/bomb")[1]
    assert len(packed) < 100_000
    assert len(gzip.decompress(packed)) == 5_000_000
    assert len(raw(pages, "/head")) > 1_000_000


def test_redirects_and_retry_after_and_chunks(pages: ScriptedHTTP) -> None:
    """A redirect is followed, a chunked body is put together, a refusal says when (fault 24)."""
    pages.on("/from", redirect("/to"))
    pages.on("/to", chunked(b"one", b"two"))
    pages.on("/busy", later(7))
    with urllib.request.urlopen(f"{pages.url}/from", timeout=30) as response:
        assert response.read() == b"onetwo"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{pages.url}/busy", timeout=30)
    with caught.value as error:
        assert (error.code, error.headers["Retry-After"]) == (429, "7")


def test_slow_bodies_take_their_time(pages: ScriptedHTTP) -> None:
    """A slow body is not there sooner than its pace allows."""
    pages.on("/", slow(b"12345", every=0.02))
    begun = time.monotonic()
    assert get(pages, "/") == (200, b"12345")
    assert time.monotonic() - begun >= 0.1


def test_held_answers_end_with_the_server() -> None:
    """An answer that never ends is cut off when the server stops."""
    with ScriptedHTTP() as pages:
        pages.on("/", [b"HTTP/1.1 200 OK\r\n", 0.01, b"Content-", HOLD])
        client = socket.create_connection((pages.host, pages.port), timeout=30)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        got = b""
        while not got.endswith(b"Content-"):
            got += client.recv(4096)
    assert client.recv(1) == b""
    client.close()


def test_unix_socket(tmp_path: Path) -> None:
    """The same pages over a unix socket."""
    with ScriptedHTTP(path=tmp_path / "s") as pages, socket.socket(socket.AF_UNIX) as client:
        pages.on("/", page(200, b"unix"))
        client.connect(pages.address)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        got = b""
        while data := client.recv(4096):
            got += data
    assert got.endswith(b"unix")


def test_proxy_passes_on_and_keeps_what_it_was_asked(pages: ScriptedHTTP) -> None:
    """Absolute targets and tunnels reach the origin through the proxy (fault 23)."""
    pages.on("/x", page(200, b"here"))
    with Proxy() as proxy:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy.url}))
        with opener.open(f"{pages.url}/x", timeout=30) as response:
            assert response.read() == b"here"
        tunnel = http.client.HTTPConnection(proxy.host, proxy.port, timeout=30)
        tunnel.set_tunnel(pages.host, pages.port)
        tunnel.request("GET", "/x")
        assert tunnel.getresponse().read() == b"here"
        tunnel.close()
        assert [request.method for request in proxy.requests] == ["GET", "CONNECT"]
    assert [request.target for request in pages.requests] == ["/x", "/x"]
