"""`PgBouncer({"shop": server})`: Debian's pgbouncer in front of servers, one a database.

It accepts whoever asks, whether or not there is anybody behind it. A server is a `PostgreSQL`, or a
port of 127.0.0.1 where none need be. `users` go into its user list, with their passwords.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need
from tests.bed.services.postgresql import PostgreSQL, hand_over, unprivileged

if TYPE_CHECKING:
    from types import TracebackType


class PgBouncer:
    """A pooler; see the module's docstring. `settings` are lines of its [pgbouncer] section."""

    def __init__(
        self,
        databases: Mapping[str, PostgreSQL | int],
        users: Mapping[str, str],
        *settings: str,
    ) -> None:
        self._databases = databases
        self._users = users
        self._settings = settings

    def __enter__(self) -> Self:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="bed-pool-"))
        users = self.folder / "users.txt"
        users.write_text("".join(f'"{name}" "{word}"\n' for name, word in self._users.items()))
        ini = self.folder / "pgbouncer.ini"
        ini.write_text(
            "\n".join(
                (
                    "[databases]",
                    *(self._line(name, server) for name, server in self._databases.items()),
                    "[pgbouncer]",
                    "listen_addr = 127.0.0.1",
                    f"listen_port = {self.port}",
                    "unix_socket_dir =",
                    "auth_type = scram-sha-256",
                    f"auth_file = {users}",
                    *self._settings,
                    "",
                )
            )
        )
        hand_over(self.folder, users, ini)
        argv = (*unprivileged(), need("pgbouncer", "pgbouncer"), str(ini))
        self._daemon = Daemon(*argv).__enter__()
        self._daemon.wait_until(self._listens)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._daemon.__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)

    @staticmethod
    def _line(name: str, server: PostgreSQL | int) -> str:
        port = server if isinstance(server, int) else server.port
        return f"{name} = host=127.0.0.1 port={port} dbname=postgres"

    def _listens(self) -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._daemon.log
