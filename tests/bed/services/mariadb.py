"""MariaDB of Debian: `with MariaDB() as db`, a server of its own data, tuned to start fast.

    with MariaDB() as db:
        db.sql("CREATE DATABASE shop")              # as root, by its socket
        db.port, db.socket, db.log

`stop()`, `kill()` (SIGKILL) and `start()` take it down and bring it back; `launch()` starts it and waits
for nothing. `replicate(source)` makes it a replica. Options are mariadbd's own; a later one wins. Root
has no password, so far as a test gives it none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pymysql

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import Wrapper, need

if TYPE_CHECKING:
    from types import TracebackType

QUICK = (
    "--skip-log-bin",
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--key-buffer-size=16K",
    "--aria-pagecache-buffer-size=128K",
)
Row = tuple[Any, ...]


def unprivileged() -> list[str]:
    """The words before a server that root should not be."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig", "KILL"]


class MariaDB:
    """A server; see the module's docstring."""

    program, package = "mariadbd", "mariadb-server"

    def __init__(
        self, *options: str, host: str = "127.0.0.1", inside: Sequence[Wrapper] = ()
    ) -> None:
        self.host = host
        self._options = options
        self._inside = inside

    def __enter__(self) -> Self:
        self.port = free_port()
        self.folder = self._make_folder()
        try:
            self._install()
            self._daemon = Daemon(*self._argv(), inside=self._inside).__enter__()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        try:
            self.wait()
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
        # Nothing of it is needed any more.
        self._daemon.stop(signal.SIGKILL)
        self._daemon.__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)

    def _make_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="bed-my-"))

    def _install(self) -> None:
        need(self.program, self.package)
        self.folder.chmod(0o755)
        (self.folder / "data").mkdir()
        (self.folder / "tmp").mkdir()
        if os.geteuid() == 0:
            for each in ("", "data", "tmp"):
                shutil.chown(self.folder / each, "nobody", "nogroup")
        install = need("mariadb-install-db", self.package)
        done = subprocess.run(
            [
                *unprivileged(),
                *(install, "--no-defaults", f"--datadir={self.folder}/data", "--skip-test-db"),
                *("--auth-root-authentication-method=normal", *QUICK[1:4]),
                # What starts removes the temporary tables that it finds, another one's in /tmp too.
                f"--tmpdir={self.folder}/tmp",
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _argv(self) -> list[str]:
        own = str(self.folder)
        return [
            *unprivileged(),
            *(need(self.program, self.package), "--no-defaults", f"--datadir={own}/data"),
            *(f"--tmpdir={own}/tmp", f"--socket={own}/s", f"--pid-file={own}/pid"),
            *(f"--port={self.port}", f"--bind-address={self.host}", *QUICK, *self._options),
        ]

    @property
    def socket(self) -> str:
        """The path of its Unix socket."""
        return f"{self.folder}/s"

    @property
    def place(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._daemon.log

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return self._daemon

    def wait(self) -> None:
        """Return once it takes a login by its socket."""
        self._daemon.wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.MySQLError, OSError):
            self.connect().close()
            return True
        return False

    def launch(self, *options: str) -> None:
        """Start it again, with further options, and wait for nothing."""
        self._daemon.argv = (*self._argv(), *options)
        self._daemon.start()

    def start(self, *options: str) -> None:
        """Start it again, with further options."""
        self.launch(*options)
        self.wait()

    def stop(self) -> None:
        """End it in order."""
        self._daemon.stop()

    def kill(self) -> None:
        """End it by SIGKILL; its process is gone when this returns."""
        self._daemon.stop(signal.SIGKILL)

    def connect(self, **more: Any) -> pymysql.Connection[Any]:  # noqa: ANN401 the driver's own
        """A connection of the driver, as root by the socket unless `more` says otherwise."""
        arguments: dict[str, Any] = {
            "user": "root",
            "ssl_disabled": True,
            "connect_timeout": 10,
            "read_timeout": 30,
        }
        if "host" in more:
            return pymysql.connect(**(arguments | more))
        connection: Any = pymysql.connect(**(arguments | more), defer_connect=True)
        # The driver itself forgets to close a socket that leads nowhere.
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self.socket)
        except OSError:
            sock.close()
            raise
        connection._secure = True
        connection.connect(sock)
        return cast("pymysql.Connection[Any]", connection)

    def sql(self, *statements: str) -> list[Row]:
        """Execute statements as root; the rows of the last."""
        with self.connect(autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def replicate(self, source: MariaDB) -> None:
        """Make it a replica of `source`, both with `--log-bin` and a `--server-id` of their own."""
        source.sql(
            "CREATE USER IF NOT EXISTS copy@'%' IDENTIFIED BY 'copy-17'",
            "GRANT REPLICATION SLAVE ON *.* TO copy@'%'",
        )
        self.sql(
            f"CHANGE MASTER TO MASTER_HOST='{source.host}', MASTER_PORT={source.port}, "
            "MASTER_USER='copy', MASTER_PASSWORD='copy-17', MASTER_CONNECT_RETRY=1",
            "START SLAVE",
        )

    def record(self, statement: str) -> dict[str, Any]:
        """Execute a statement as root; the first row by its names."""
        with self.connect(cursorclass=pymysql.cursors.DictCursor) as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return dict(cursor.fetchone() or {})

    def status(self, *names: str) -> dict[str, str]:
        """Counters of the server by their names."""
        listed = ", ".join(f"'{name}'" for name in names)
        return dict(self.sql(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({listed})"))

    @property
    def version(self) -> str:
        """Product and version, as `tested.toml` has it."""
        return f"MariaDB {self.sql('SELECT @@version')[0][0].partition('-')[0]}"
