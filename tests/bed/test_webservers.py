"""nginx and uvicorn answer as configured, seen through Python's own HTTP client."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

from tests.bed.fixtures import Enter
from tests.bed.sockets import Server, hang
from tests.bed.tls import Authority
from tests.bed.webservers import Asgi, Health, Nginx
from tests.bed.world import World


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *_: object) -> None:
        """Say that there is nowhere to go."""


def get(
    url: str, headers: dict[str, str] | None = None, context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Return the status and body of one request."""
    opener = urllib.request.build_opener(Stay, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(urllib.request.Request(url, headers=headers or {}), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def over_unix(path: Path, target: str) -> tuple[int, bytes]:
    """Return the status and body of one request over a unix socket."""
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(str(path))
    client.request("GET", target)
    answer = client.getresponse()
    found = answer.status, answer.read()
    client.close()
    return found


def test_nginx_gives_what_its_locations_say(enter: Enter) -> None:
    """Statuses, redirects, a page that comes up, a page behind a password (fault 17)."""
    nginx = enter(
        Nginx(
            """
            location = /ok { return 200 fine; }
            location = /moved { return 302 http://other.example/; }
            location = /ready { try_files /up =503; }
            location = /in { auth_basic x; auth_basic_user_file users; try_files /users =500; }
            """,
            files={"users": "me:{PLAIN}secret\n"},
        )
    )
    assert get(f"{nginx.url}/ok") == (200, b"fine")
    assert get(f"{nginx.url}/moved")[0] == 302
    assert get(f"{nginx.url}/ready")[0] == 503
    nginx.write("up", "yes")
    assert get(f"{nginx.url}/ready") == (200, b"yes")
    assert get(f"{nginx.url}/in")[0] == 401
    token = base64.b64encode(b"me:secret").decode()
    assert get(f"{nginx.url}/in", {"Authorization": f"Basic {token}"})[0] == 200
    assert over_unix(nginx.socket, "/ok") == (200, b"fine")
    assert nginx.requests()[0] == "GET /ok 200"


def test_nginx_as_a_proxy_tells_dead_from_slow(enter: Enter) -> None:
    """An upstream that refuses is a 502, one that hangs is a 504."""
    dead, slow = enter(Server(opened=False)), enter(Server(hang))
    nginx = enter(
        Nginx(
            f"""
            location /dead {{ proxy_pass http://{dead.address}; }}
            location /slow {{ proxy_pass http://{slow.address}; proxy_read_timeout 200ms; }}
            """
        )
    )
    assert get(f"{nginx.url}/dead")[0] == 502
    assert get(f"{nginx.url}/slow")[0] == 504


def test_nginx_speaks_tls_and_lives_in_worlds(
    enter: Enter, world: World, authority: Authority
) -> None:
    """The same pages over TLS, and on an address of a world."""
    pages = "location / { return 200 fine; }"
    context = ssl.create_default_context(cafile=authority.file)
    nginx = enter(Nginx(pages, certificate=authority.issue()))
    assert get(nginx.https_url, context=context) == (200, b"fine")
    for host in ("10.53.0.2", "fd00:53::2"):
        inside = enter(Nginx(pages, host=host, place=world))
        assert world.inside(partial(get, inside.url)) == (200, b"fine")


def test_asgi_application_answers(enter: Enter, world: World, folder: Path) -> None:
    """An application under uvicorn answers over TCP, a unix socket, and in a world."""
    health = Health()
    server = enter(Asgi(health))
    assert get(server.url)[0] == 503
    health.ready = True
    status, body = get(server.url)
    assert (status, json.loads(body)) == (200, {"status": "UP"})
    enter(Asgi(health, path=folder / "s"))
    assert over_unix(folder / "s", "/")[0] == 200
    inside = enter(Asgi(health, host="fd00:53::2", place=world))
    assert world.inside(lambda: get(inside.url))[0] == 200
