"""`PostgreSQL()`: a server of Debian's, empty, on a port and a Unix socket of its own.

    with PostgreSQL() as primary, primary.standby() as standby:
        primary.sql("CREATE TABLE t AS SELECT 1")
        standby.wait_until(lambda: standby.sql("SELECT count(*) FROM t") == [(1,)])

`sql` asks as the superuser by the socket, whom `HBA` trusts there. `crash` ends it as a power cut does;
`start` brings it back, `log` is what it wrote. It runs as `nobody` where the tests run as root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.process import Wrapper
    from tests.bed.tls import Authority

NOBODY = 65534
HBA = (
    "local all postgres trust",
    "local all all scram-sha-256",
    "local replication all trust",
    "host all all 127.0.0.1/32 scram-sha-256",
)
# Small and quick; nothing here has to survive this machine.
SETTINGS = (
    "fsync = off",
    "shared_buffers = 16MB",
    "max_connections = 20",
    "superuser_reserved_connections = 3",
    "max_wal_senders = 3",
    "log_min_messages = info",
    "timezone = UTC",
    "log_timezone = UTC",
)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, of the newest version that is installed."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*"), key=lambda path: float(path.name), reverse=True
    )
    found = next((path / "bin" / name for path in versions if (path / "bin" / name).exists()), None)
    found = found or (Path(other) if (other := shutil.which(name)) else None)
    if found is None:
        pytest.skip(f"needs {name} (Debian package postgresql)")
    return str(found)


def unprivileged() -> list[str]:
    """The words before a program that refuses to run as root."""
    if os.geteuid() != 0:
        return []
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return ["setpriv", *ids, "--pdeathsig", "KILL"]


def hand_over(*paths: Path) -> None:
    """Give files to the user that the servers run as."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY)


class PostgreSQL:
    """A server; see the module's docstring. `settings` are lines of postgresql.conf, `hba` of pg_hba.conf.

    With an `authority` it has TLS, and clients may show certificates of that authority. Unless it is
    `awaited` it need only listen.
    """

    def __init__(
        self,
        *settings: str,
        hba: Sequence[str] = HBA,
        authority: Authority | None = None,
        origin: PostgreSQL | None = None,
        awaited: bool = True,
        inside: Sequence[Wrapper] = (),
    ) -> None:
        self._settings = settings
        self._hba = hba
        self._authority = authority
        self._origin = origin
        self._awaited = awaited
        self._inside = inside

    def __enter__(self) -> Self:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="bed-pg-"))
        self.data = self.folder / "data"
        try:
            self._install()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        words = (*unprivileged(), program("postgres"), "-D", str(self.data))
        self._daemon = Daemon(*words, inside=self._inside)
        self._daemon.__enter__()
        try:
            self.wait_until(self.answers if self._awaited else self.listens)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._daemon.__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)

    def _install(self) -> None:
        hand_over(self.folder)
        if self._origin is None:
            self._run("initdb", "--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8")
        else:
            place = ("-h", str(self._origin.folder), "-p", str(self._origin.port))
            self._run("pg_basebackup", *place, "-U", "postgres", "-R", "--checkpoint=fast", "-N")
        (self.data / "pg_hba.conf").write_text("\n".join((*self._hba, "")))
        own = (
            f"port = {self.port}",
            "listen_addresses = '127.0.0.1'",
            f"unix_socket_directories = '{self.folder}'",
        )
        self.configure(*SETTINGS, *own, *self._settings)
        if self._authority is not None:
            self._secure(self._authority)

    def _secure(self, authority: Authority) -> None:
        made = authority.issue()
        for source, name in (
            (made.chain, "server.crt"),
            (made.key, "server.key"),
            (authority.file, "root.crt"),
        ):
            copy = Path(shutil.copy(source, self.data / name))
            copy.chmod(0o600)
            hand_over(copy)
        self.configure("ssl = on", "ssl_ca_file = 'root.crt'")

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*unprivileged(), program(name), *arguments, "-D", str(self.data)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def path(self) -> Path:
        """Its Unix socket."""
        return self.folder / f".s.PGSQL.{self.port}"

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._daemon.log

    def logged(self, since: int) -> str:
        """What it wrote since its log was that long, but for what it says of its checkpoints."""
        lines = self.log[since:].splitlines()
        return "\n".join(line for line in lines if "checkpoint" not in line)

    def configure(self, *lines: str) -> None:
        """Add lines to its configuration, for its next start."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join((*lines, "")))

    def connect(self, user: str = "postgres", database: str = "postgres") -> psycopg.Connection:
        """A connection of the driver's by the socket."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user=user, dbname=database, autocommit=True
        )

    def sql(self, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the superuser; the rows of the last."""
        with self.connect(database=database) as connection:
            answer = connection.execute(text)
            return answer.fetchall() if answer.description else []

    def answers(self) -> bool:
        """Whether it serves the superuser, as the driver has it."""
        with contextlib.suppress(psycopg.OperationalError):
            return self.sql("SELECT 1") == [(1,)]
        return False

    def listens(self) -> bool:
        """Whether its port is open."""
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until(self, holds: Callable[[], bool], timeout: float = 30.0) -> None:
        """As `Daemon.wait_until`."""
        self._daemon.wait_until(holds, timeout)

    def stop_accepting(self) -> None:
        """Begin a shutdown that waits for the clients that are there, and takes no more."""
        assert self._daemon._popen is not None
        self._daemon._popen.terminate()

    def start(self) -> None:
        """Start it again; it is not waited for."""
        self._daemon.start()

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it in order; SIGINT ends its clients' connections too, SIGTERM waits for them."""
        self._daemon.stop(number)

    def crash(self) -> None:
        """End it and all of its processes at once."""
        popen = self._daemon._popen
        assert popen is not None
        children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children").read_text().split()
        self._daemon.signal(signal.SIGSTOP)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._daemon.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Make it hang: it accepts, as the kernel does for it, and says nothing."""
        self._daemon.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._daemon.resume()

    def standby(self, *settings: str, awaited: bool = True) -> PostgreSQL:
        """A hot standby that follows it."""
        return PostgreSQL(*settings, hba=self._hba, origin=self, awaited=awaited)


def works(place: str, *statements: str, timeout: int = 5) -> bool:
    """Whether an application with psycopg can log in and execute statements, `SELECT 1` if none."""
    try:
        with psycopg.connect(place, connect_timeout=timeout) as connection:
            for statement in statements or ("SELECT 1",):
                connection.execute(statement)
    except psycopg.Error:
        return False
    return True
