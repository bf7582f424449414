"""Redis, Valkey, sentinels and clusters of them, as ordinary processes on loopback.

    with Redis("--requirepass", "pw") as redis:
        redis.port, redis.place          # 127.0.0.1:PORT
        redis.client().set("a", "b")     # redis-py, without any retry
        redis.kill(); redis.start()

| server                      | is                                                                  |
|-----------------------------|---------------------------------------------------------------------|
| `Redis(*options)`           | Debian's redis-server; it keeps its data over `stop` and `start`    |
| `Valkey(*options)`          | the chroot's valkey-server                                          |
| `Sentinel(master, quorum)`  | redis-sentinel, watching `master` as `mymaster`                     |
| `cluster(count)`            | nodes that know each other, without any slot yet                    |
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import Wrapper, need, need_root
from tools.servers import chroot

if TYPE_CHECKING:
    from types import TracebackType

NAME = "mymaster"


class Redis:
    """A server with its data in `folder`."""

    def __init__(self, *options: str, port: int = 0, inside: tuple[Wrapper, ...] = ()) -> None:
        self.port = port or free_port()
        self._options = options
        self._inside = inside

    def _root(self) -> Path:
        return Path("/")

    def _argv(self) -> list[str]:
        return [need("redis-server", "redis-server")]

    def __enter__(self) -> Self:
        root = self._root()
        self.folder = Path(tempfile.mkdtemp(prefix="bed-redis-", dir=root / "tmp"))
        own = Path("/") / self.folder.relative_to(root)
        settings = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(own),
            "--save",
            "",
        ]
        self.daemon = Daemon(*self._argv(), *settings, *self._options, inside=self._inside)
        self.daemon.__enter__()
        self._started()
        return self

    def _started(self) -> None:
        self.daemon.wait_until(lambda: "eady to accept connections" in self.daemon.log)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.daemon.stop(signal.SIGKILL)
        self.daemon.__exit__(kind, error, traceback)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.daemon.log

    def client(self, password: str | None = None, user: str | None = None) -> redis.Redis:
        """Return redis-py's client, which asks once and says what came."""
        return redis.Redis(
            "127.0.0.1",
            self.port,
            username=user,
            password=password,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def tell(self, *words: str | int, password: str | None = None) -> object:
        """Run any command as the administrator."""
        with self.client(password) as client:
            said: object = client.execute_command(*words)
        return said

    def start(self) -> None:
        """Start it again, without waiting for it."""
        self.daemon.start()

    def stop(self) -> None:
        """End it as an operator would, its data saved first where it is to save them."""
        self.daemon.stop()

    def kill(self) -> None:
        """End it as the kernel would."""
        self.daemon.stop(signal.SIGKILL)


class Valkey(Redis):
    """As Redis, from the newer Debian in its folder."""

    def _root(self) -> Path:
        need_root("chroot")
        if not (chroot.folder() / "usr/bin/valkey-server").exists():
            pytest.skip("needs valkey-server (python -m tools.servers services)")
        return chroot.folder()

    def _argv(self) -> list[str]:
        return [need("chroot", "coreutils"), str(chroot.folder()), "/usr/bin/valkey-server"]


class Sentinel(Redis):
    """A sentinel that watches one primary by the name `NAME`, and finds it down after half a second."""

    def __init__(self, master: Redis, quorum: int = 1, *settings: str, port: int = 0) -> None:
        super().__init__(port=port)
        self._master = master
        self._quorum = quorum
        self._settings = settings

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bed-sentinel-"))
        conf = self.folder / "sentinel.conf"
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {self._master.port} {self._quorum}",
            f"sentinel down-after-milliseconds {NAME} 500",
            f"sentinel failover-timeout {NAME} 3000",
            *self._settings,
        )
        conf.write_text("\n".join(lines) + "\n")
        self.daemon = Daemon(need("redis-sentinel", "redis-sentinel"), str(conf))
        self.daemon.__enter__()
        self.daemon.wait_until(lambda: "+monitor master" in self.daemon.log)
        return self


@contextlib.contextmanager
def cluster(count: int = 3) -> Iterator[list[Redis]]:
    """Give nodes that know each other, and have no slots yet."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(count):
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            bus = ("--cluster-port", str(free_port()), "--cluster-config-file", "nodes.conf")
            nodes.append(stack.enter_context(Redis(*options, *bus)))
        first, *others = nodes
        for other in others:
            port = other.client().config_get("cluster-port")["cluster-port"]
            first.tell("CLUSTER", "MEET", "127.0.0.1", other.port, str(port))
        for node in nodes:
            node.daemon.wait_until(partial(_knows, node, count))
        yield nodes


def _knows(node: Redis, count: int) -> bool:
    return f"cluster_known_nodes:{count}" in str(node.tell("CLUSTER", "INFO"))
