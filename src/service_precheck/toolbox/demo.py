"""`precheck demo`: the real gate, as a child process, in front of a small world that comes up.

The world is four real servers on loopback: DNS, TCP, TLS, HTTP. Nothing is played: the port refuses
until something listens, the certificate is wrong until it is replaced, the page is 503 until it is 200.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ..model import seconds
from ..options import DURATION, Wrong
from . import MISTAKE
from .demo_certificates import AUTHORITY, KEY, RIGHT, WRONG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

LASTS = 14.0
PURPOSE = f"""\
usage: precheck demo [--duration TIME]

Starts four servers on 127.0.0.1 that come up one after another, and the gate in front of them.
Needs no root and leaves nothing behind.

  --duration TIME
          until the last of them is up; {LASTS:.0f}s without it
"""
# Each connection of the world's own is given up after this long.
PATIENCE = 5.0
# RFC 1035, sections 4.1.1 and 4.1.3: a header with its flags and counts, an A record of 5 seconds
# whose name is the question's.
_HEADER = 12
_FOUND, _NOTHING, _UNKNOWN = b"\x85\x80", b"\x85\x80", b"\x85\x83"
_RECORD = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + socket.inet_aton("127.0.0.1")
_A = b"\x00\x01"

# What `service-precheck` is, without depending on where it was installed or on PATH.
GATE = (
    "import sys; sys.path.append(sys.argv.pop(1)); sys.argv[0] = 'service-precheck'; "
    "from service_precheck.start import main; main()"
)


class World:
    """Four servers, none of them of use yet; once entered, `grow` brings them up one by one.

    `folder` holds their certificates. `complete` is when the last one came up, on the monotonic
    clock, 0 before.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ended = threading.Event()
        self._known = False
        self._names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Bound without listening, the port is ours and refuses.
        self._port = socket.socket()
        self._vault = socket.socket()
        for each in (self._names, self._port, self._vault):
            each.bind(("127.0.0.1", 0))
        self._web = Web(("127.0.0.1", 0), Page)
        for name, text in (("ca", AUTHORITY), ("wrong", WRONG + KEY), ("right", RIGHT + KEY)):
            (folder / f"{name}.pem").write_text(text)
        self._certificate = self._certified("wrong")
        self.complete = 0.0

    def __enter__(self) -> Self:
        self._vault.listen()
        for serve in (self._answer, self._shake_hands, self._web.serve_forever):
            threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._web.shutdown()
        self._web.server_close()
        for each in (self._names, self._port, self._vault):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def targets(self) -> list[str]:
        """One target for each server."""
        names, port, vault, web = (
            f"127.0.0.1:{each.getsockname()[1]}"
            for each in (self._names, self._port, self._vault, self._web.socket)
        )
        return [
            f"dns://db.demo.test#server={names}#name=db.demo.test",
            f"tcp://{port}#name=cache",
            f"tls://{vault}#server-name=vault.demo.test#ca={self.folder}/ca.pem#name=vault",
            f"http://{web}/healthz#name=shop",
        ]

    def grow(self, duration: float) -> None:
        """Bring one server up after each quarter of the duration."""
        for step in (self._learn, self._port.listen, self._recertify, self._web.recover):
            if self._ended.wait(duration / 4):
                return
            step()
        self.complete = time.monotonic()

    def _learn(self) -> None:
        self._known = True

    def _recertify(self) -> None:
        self._certificate = self._certified("right")

    def _certified(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem")
        return context

    def _answer(self) -> None:
        """Answer questions for addresses: there is no such name, until there is."""
        while not self._ended.is_set():
            try:
                query, client = self._names.recvfrom(512)
                end = query.index(0, _HEADER) + 5
                records = _RECORD if self._known and query[end - 4 : end - 2] == _A else b""
                flags = _FOUND if self._known else _UNKNOWN
                counts = bytes((0, 1, 0, bool(records), 0, 0, 0, 0))
                answer = query[:2] + flags + counts + query[_HEADER:end] + records
                self._names.sendto(answer, client)
            except (OSError, ValueError):
                continue

    def _shake_hands(self) -> None:
        while True:
            try:
                connection, _ = self._vault.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        # Who does not trust us leaves in the middle.
        with connection, contextlib.suppress(OSError):
            with self._certificate.wrap_socket(connection, server_side=True) as session:
                session.recv(1)


class Web(ThreadingHTTPServer):
    """A web server whose one page is not there yet."""

    daemon_threads = True
    status = 503

    def recover(self) -> None:
        """From now on the page is there."""
        self.status = 200


class Page(BaseHTTPRequestHandler):
    """Answers GET with the status of the day."""

    server: Web
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the gate does."""


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Show it, and give the gate's exit status; 2 at a mistake, 128 + N when ended by signal N."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(PURPOSE)
        return 0
    duration = LASTS
    word, _, text = " ".join(arguments).replace("=", " ", 1).partition(" ")
    if arguments:
        try:
            value = DURATION.read(text) if word == "--duration" else None
        except Wrong as error:
            sys.stderr.write(f"precheck demo: --duration: {error}\n")
            return MISTAKE
        if not isinstance(value, float):
            sys.stderr.write(f"precheck demo: {word!r} is not for a demo; --duration TIME is\n")
            return MISTAKE
        duration = value
    # Noted, and heeded between two looks at the gate: in the middle of its start it would be left behind.
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    with (
        tempfile.TemporaryDirectory(prefix="demo-") as folder,
        World(Path(folder)) as world,
    ):
        return show(world, duration, environment, signals)


def show(
    world: World, duration: float, environment: Mapping[str, str], signals: Sequence[int]
) -> int:
    """Let the world grow and the gate wait for it, until one of `signals` came; give the gate's exit status."""
    targets = world.targets()
    # The time limit is for a demo that was killed and cannot end its gate.
    words = ["--timeout", f"{duration + 60:g}s", *targets]
    print(
        f"Four servers on 127.0.0.1 come up within {seconds(duration)}: a name, a port, a\n"
        "certificate, a page. In front of them the gate, as you would start it:\n"
    )
    command = ["  service-precheck --timeout " + words[1], *map(shlex.quote, targets)]
    print(" \\\n    ".join(command), end="\n\n", flush=True)
    package = str(Path(__file__).parents[2])
    # That log is a pod's own.
    none = str(world.folder / "no-termination-log")
    # Settings for the user's own gates are not for this one.
    clean = {key: value for key, value in environment.items() if not key.startswith("PRECHECK_")}
    gate = subprocess.Popen(
        [sys.executable, "-IS", "-c", GATE, package, *words, "--termination-log", none], env=clean
    )
    threading.Thread(target=world.grow, args=(duration,), daemon=True).start()
    # In slices: a signal just before a wait is heard only after it.
    while gate.poll() is None and not signals:
        time.sleep(0.05)
    if signals:
        _stop(gate, signals[0])
        return 128 + signals[0]
    status = gate.returncode
    late = time.monotonic() - world.complete
    if status == 0 and world.complete:
        print(
            "\nYou saw a gate that said what blocked and why (no such name, a port that refused, a\n"
            "wrong certificate, a page that was 503), and that opened "
            f"{late * 1000:.0f} ms after the last\nof them came up: exit status 0."
        )
    return status


def _stop(gate: subprocess.Popen[bytes], number: int) -> None:
    """End the gate, which at Ctrl-C is ending by itself already."""
    if gate.poll() is None:
        gate.send_signal(number)
        try:
            gate.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            gate.kill()
            gate.wait()
