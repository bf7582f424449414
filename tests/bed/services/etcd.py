"""etcd, one of it or a cluster, of Debian's version or the newest.

    with EtcdCluster(3) as cluster:
        cluster.members[0].stop()
        cluster.ctl("get", "health")            # etcdctl, etcd's own client: the oracle

`OLD` and `NEW` are the programs. `Etcd(options=(...))` takes any of etcd's own, `certificate=` and
`demand=` make it speak TLS to clients, the latter asking for a certificate of that authority.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need
from tools.servers import cache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.bed.tls import Authority, Certificate

OLD, NEW = "Debian's", "the newest"


def program(which: str) -> str:
    """The path of an etcd."""
    if which == OLD:
        return need("etcd", "etcd-server")
    path = cache() / "bin" / "etcd"
    if not path.exists():
        pytest.skip("needs etcd 3.6 (python -m tools.servers services)")
    return str(path)


class Etcd(Daemon):
    """A member, by itself the only one of its cluster; `place` is where clients find it."""

    def __init__(
        self,
        which: str = OLD,
        *,
        name: str = "one",
        options: Sequence[str] = (),
        certificate: Certificate | None = None,
        demand: Authority | None = None,
    ) -> None:
        self.name = name
        self.port, self._peer_port = free_port(), free_port()
        self.place = f"127.0.0.1:{self.port}"
        self.peer = f"{name}=http://127.0.0.1:{self._peer_port}"
        self.folder = Path(tempfile.mkdtemp(prefix="bed-etcd-"))
        self._secure = certificate is not None
        client = f"{'https' if self._secure else 'http'}://{self.place}"
        url = self.peer.partition("=")[2]
        words = [program(which), "--name", name, "--data-dir", str(self.folder / "data")]
        words += ["--listen-client-urls", client, "--advertise-client-urls", client]
        words += ["--listen-peer-urls", url, "--initial-advertise-peer-urls", url]
        words += ["--heartbeat-interval", "50", "--election-timeout", "500"]
        words += ["--logger", "zap", "--log-outputs", "stderr", "--bcrypt-cost", "4"]
        if which == NEW:
            words += ["--unsafe-no-fsync"]
        if certificate is not None:
            words += ["--cert-file", str(certificate.chain), "--key-file", str(certificate.key)]
        if demand is not None:
            words += ["--trusted-ca-file", str(demand.file), "--client-cert-auth"]
        self._words = [*words, *options]
        super().__init__(*self._words, "--initial-cluster", self.peer)

    def join(self, peers: str, state: str = "new") -> None:
        """Have it begin as a member of that cluster, instead of its own."""
        cluster = ["--initial-cluster", peers, "--initial-cluster-state", state]
        self.argv = (*self._words, *cluster)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)

    def ctl(self, *words: str, timeout: float = 5.0) -> subprocess.CompletedProcess[str]:
        """What etcdctl says of this member."""
        return ctl([self.place], *words, timeout=timeout)

    def wait_serving(self) -> Self:
        """Wait until etcd's own client is served."""
        self.wait_until(lambda: self.ctl("get", "x").returncode == 0)
        return self

    @property
    def complaints(self) -> list[str]:
        """The lines of its log that are more than information."""
        quiet = ('"level":"info"', '"level":"debug"')
        return [line for line in self.log.splitlines() if not any(mark in line for mark in quiet)]


class EtcdCluster:
    """Several members of one cluster, all started unless `start=False`."""

    def __init__(self, count: int = 3, which: str = OLD, *, start: bool = True) -> None:
        names = ("one", "two", "three", "four", "five")[:count]
        self.members = [Etcd(which, name=name) for name in names]
        self._start = start
        self._stack = contextlib.ExitStack()

    @property
    def peers(self) -> str:
        """The members as `--initial-cluster` takes them."""
        return ",".join(member.peer for member in self.members)

    @property
    def places(self) -> str:
        """Where clients find the members, with commas between."""
        return ",".join(member.place for member in self.members)

    def __enter__(self) -> Self:
        for member in self.members:
            member.join(self.peers)
            self._stack.enter_context(member)
            if not self._start:
                member.stop()
        if self._start:
            self.members[0].wait_serving()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def ctl(self, *words: str, timeout: float = 5.0) -> subprocess.CompletedProcess[str]:
        """What etcdctl says, with every member to turn to."""
        return ctl([member.place for member in self.members], *words, timeout=timeout)

    def leader(self) -> Etcd:
        """The member that leads, as the members say."""
        for member in self.members:
            told = member.ctl("endpoint", "status", "-w", "simple").stdout.split(", ")
            if len(told) > 4 and told[4] == "true":
                return member
        raise AssertionError("no member leads")


def ctl(
    places: Sequence[str], *words: str, timeout: float = 5.0
) -> subprocess.CompletedProcess[str]:
    """Run etcdctl."""
    timeouts = [f"--command-timeout={timeout}s", f"--dial-timeout={timeout}s"]
    return subprocess.run(
        [need("etcdctl", "etcd-client"), f"--endpoints={','.join(places)}", *timeouts, *words],
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=timeout + 20,
    )
