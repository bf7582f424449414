"""MySQL 9 of Debian's unstable suite, in the folder that `tools.servers` made: `with MySQL() as db`.

As `mariadb.MariaDB`, of which it is one. Making its data takes three seconds, so that they are made
once a process and copied.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.bed.process import need_root
from tests.bed.services.mariadb import MariaDB
from tools.servers import chroot

QUICK = (
    "--mysqlx=OFF",
    "--disable-log-bin",
    "--innodb-buffer-pool-size=16M",
    "--innodb-redo-log-capacity=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--performance-schema-max-table-instances=200",
    "--table-open-cache=64",
)


def _argv(*options: str) -> list[str]:
    return [
        *("chroot", str(chroot.folder()), "setpriv", "--reuid=mysql", "--regid=mysql"),
        *("--clear-groups", "--pdeathsig", "KILL", "/usr/sbin/mysqld", "--no-defaults", *options),
    ]


def _new_folder() -> Path:
    """A folder of the server's user, below the root that it sees."""
    made = Path(tempfile.mkdtemp(prefix="bed-my-", dir=chroot.folder() / "tmp"))
    made.chmod(0o755)
    return made


def _own(folder: Path) -> None:
    owner = (chroot.folder() / "var/lib/mysql").stat()
    for each in (folder, *folder.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)


@cache
def _template() -> Path:
    made = _new_folder()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    _own(made)
    inside = f"/tmp/{made.name}"
    argv = _argv("--initialize-insecure", f"--datadir={inside}/data", *QUICK)
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    # Each server has an identity of its own.
    (made / "data/auto.cnf").unlink()
    return made / "data"


class Hosts:
    """Inside an `Etc`: its /etc/hosts is that of the root which MySQL sees, too."""

    rank = 16
    numbers_anew = False

    @property
    def prefix(self) -> list[str]:
        """The words before the server's own."""
        file = chroot.folder() / "etc/hosts"
        file.touch()
        mount = f'mount --bind /etc/hosts {shlex.quote(str(file))} && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", mount, "sh"]


class MySQL(MariaDB):
    """A server; see the module's docstring."""

    def _make_folder(self) -> Path:
        need_root("changing the root")
        if not chroot.folder().exists():
            pytest.skip("needs MySQL (python -m tools.servers services)")
        return _new_folder()

    def _install(self) -> None:
        shutil.copytree(_template(), self.folder / "data", copy_function=shutil.copy)
        _own(self.folder)

    def _argv(self) -> list[str]:
        own = f"/tmp/{self.folder.name}"
        return _argv(
            *(f"--datadir={own}/data", f"--tmpdir={own}", f"--socket={own}/s"),
            *(f"--pid-file={own}/pid", f"--port={self.port}", f"--bind-address={self.host}"),
            *(*QUICK, *self._options),
        )

    def replicate(self, source: MariaDB) -> None:
        """Make it a replica of `source`, both with `--log-bin` and a `--server-id` of their own."""
        source.sql(
            "CREATE USER IF NOT EXISTS copy@'%' IDENTIFIED BY 'copy-17'",
            "GRANT REPLICATION SLAVE ON *.* TO copy@'%'",
        )
        self.sql(
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{source.host}', SOURCE_PORT={source.port}, "
            "SOURCE_USER='copy', SOURCE_PASSWORD='copy-17', SOURCE_CONNECT_RETRY=1, "
            "GET_SOURCE_PUBLIC_KEY=1",
            "START REPLICA",
        )

    @property
    def version(self) -> str:
        """Product and version, as `tested.toml` has it."""
        return f"MySQL {self.sql('SELECT @@version')[0][0].partition('-')[0]}"
