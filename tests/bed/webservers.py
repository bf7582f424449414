"""The web servers of the field, each started for a test.

    with Nginx("location = /ok { return 200 fine; }", certificate=authority.issue()) as nginx:
        nginx.url, nginx.https_url, nginx.socket     # one server behind all three

`locations` is what stands inside its `server` block; files given by `files=` or `write()` lie in
its folder, which is also its document root:

| `locations`                                                          | gives                |
|----------------------------------------------------------------------|----------------------|
| `location = /x { return 204; }`                                      | any status           |
| `location = /x { return 302 http://other.example/; }`                | a redirect           |
| `location = /x { try_files /up =503; }`                              | 503 until `write("up", ..)`|
| `location /in { auth_basic x; auth_basic_user_file users; root .; }` | 401; `files={"users": "u:{PLAIN}p"}`|
| `location /gone { proxy_pass http://127.0.0.1:PORT; }`               | 502 (PORT refuses)   |
| `location /slow { proxy_pass ...; proxy_read_timeout 300ms; }`       | 504 (PORT hangs)     |

`nginx.requests()` are the lines of its access log: `GET /ok 200`.

`Asgi(app)` runs an ASGI application under uvicorn; `Health()` is one: `health.ready = True` turns its
503 `{"status": "DOWN"}` into a 200 `{"status": "UP"}`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need
from tests.bed.sockets import Place, make_socket

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.tls import Certificate
    from tests.bed.world import World

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Nginx:
    """nginx; see the module's docstring."""

    def __init__(
        self,
        locations: str,
        *,
        certificate: Certificate | None = None,
        files: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        place: World | None = None,
    ) -> None:
        self.locations = locations
        self.certificate = certificate
        self.host = f"[{host}]" if ":" in host else host
        self.port = free_port(host, place)
        self.https_port = free_port(host, place)
        self._bare_host = host
        self._files = dict(files or {})
        self._place = place
        self._exit = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """Its origin without TLS."""
        return f"http://{self.host}:{self.port}"

    @property
    def https_url(self) -> str:
        """Its origin with TLS, when it was given a certificate."""
        return f"https://{self.host}:{self.https_port}"

    def __enter__(self) -> Self:
        program = need("nginx", "nginx-light")
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="bed-nginx-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)
            self.socket = self.folder / "s"
            for name, text in self._files.items():
                self.write(name, text)
            (self.folder / "nginx.conf").write_text(self._configuration())
            inside = [] if self._place is None else [self._place]
            words = (program, "-e", "stderr", "-p", str(self.folder), "-c", "nginx.conf")
            self.daemon = stack.enter_context(Daemon(*words, inside=inside))
            self.daemon.wait_until(self._listens)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _configuration(self) -> str:
        secure = ""
        if self.certificate is not None:
            secure = f"""
                listen {self.host}:{self.https_port} ssl;
                ssl_certificate {self.certificate.chain};
                ssl_certificate_key {self.certificate.key};
            """
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = " ".join(f"{kind}_temp_path {kind};" for kind in kinds)
        return f"""
            daemon off;
            master_process off;
            pid pid;
            events {{ }}
            http {{
                {folders}
                log_format short "$request_method $request_uri $status";
                access_log access.log short;
                server {{
                    listen {self.host}:{self.port};
                    listen unix:{self.socket};
                    {secure}
                    root {self.folder};
                    {self.locations}
                }}
            }}
        """

    def _listens(self) -> bool:
        with make_socket(
            self._place,
            socket.AF_INET6 if ":" in self._bare_host else socket.AF_INET,
            socket.SOCK_STREAM,
        ) as client:
            # The last one that it opens.
            port = self.port if self.certificate is None else self.https_port
            return client.connect_ex((self._bare_host, port)) == 0

    def write(self, name: str, text: str) -> None:
        """Put a file into its folder."""
        (self.folder / name).write_text(text)

    def requests(self) -> list[str]:
        """Return its access log: method, target and status, a line each."""
        return (self.folder / "access.log").read_text().splitlines()


class Health:
    """An ASGI application that is down until told otherwise."""

    def __init__(self) -> None:
        self.ready = False

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer any request by its state."""
        assert scope["type"] == "http"
        body = json.dumps({"status": "UP" if self.ready else "DOWN"}).encode()
        headers = [(b"content-type", b"application/json")]
        status = 200 if self.ready else 503
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Asgi:
    """An ASGI application under uvicorn, in a thread; a unix socket when given a `path`."""

    def __init__(
        self,
        application: Application,
        *,
        host: str = "127.0.0.1",
        path: Path | str | None = None,
        place: Place | None = None,
    ) -> None:
        configuration = uvicorn.Config(application, log_config=None, lifespan="off", ws="none")
        self._server = uvicorn.Server(configuration)
        self.host = host
        self.path = None if path is None else str(path)
        self.port = 0
        self._place = place

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __enter__(self) -> Self:
        if self.path is None:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            self._listener = make_socket(self._place, family, socket.SOCK_STREAM)
            self._listener.bind((self.host, 0))
            self.port = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.path)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )
        self._thread.start()
        end = time.monotonic() + 30
        while not self._server.started:
            assert self._thread.is_alive(), "uvicorn ended"
            assert time.monotonic() < end, "uvicorn did not start"
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self._listener.close()
        if self.path is not None:
            Path(self.path).unlink(missing_ok=True)
