"""A network of a test's own: a namespace with any addresses, any faults, and its own /etc files.

    with World("10.53.0.2", "10.9.0.1") as world, ScriptedDNS(
        host="10.53.0.2", port=53, place=world
    ) as dns, Etc(resolv_conf("10.53.0.2", search=["a.svc.cluster.local"])) as etc:
        run("mysql-0.mysql", inside=[world, etc])

`World(...)` has a loopback interface with these addresses, 127.0.0.1 and ::1, and nothing else: no
route leads out of it. `World("fd00::1", ipv4=False)` knows no IPv4 at all. Servers take it as their
`place`, programs run `inside` it. It needs root.

| fault                                    | what a client in the world meets                     |
|------------------------------------------|------------------------------------------------------|
| `world.drop("10.9.0.1", 80)`             | silence; without a port for all of the address       |
| `world.reject("10.9.0.1", 80, how)`      | ICMP (`HOST`, `NET`, `PORT`, `PROHIBITED`) or `RESET`|
| `world.loss("10.9.0.1", 30)`             | each packet lost with 30%                            |
| `world.unroute("10.8.0.0/16")`           | EHOSTUNREACH at once, by a route                     |
| `world.clear()`                          | none of the above but the routes                     |

A TCP connect that is rejected over IPv6 fails a second late: the kernel gets the ICMP while
`connect` still holds the socket, and acts upon it at the first retransmission.

`protocol="udp"` or `"tcp"` narrows a rule, TCP is meant where a port is given without.
`world.inside(call)` returns what a call gives inside it, in a thread that ends with the call;
`world.connect(host, port)` is a client there.

`Etc(resolv_conf, hosts)` is a mount namespace in which those files are as given; None hides one.
`etc.write("hosts", text)` changes it while programs run. It works without a World too, then
with servers on addresses of `ports.loopback_address()` at port 53.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import pytest

from tests.bed.process import need, need_root

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
Channel = socket.socket  # the class has a method of the module's name
CLONE_NEWNET = 0x40000000
HOST, NET, PORT, PROHIBITED, RESET = "host", "net", "port", "prohibited", "reset"
REJECTIONS = {
    (4, HOST): "icmp host-unreachable",
    (4, NET): "icmp net-unreachable",
    (4, PORT): "icmp port-unreachable",
    (4, PROHIBITED): "icmp admin-prohibited",
    (4, RESET): "tcp reset",
    (6, HOST): "icmpv6 addr-unreachable",
    (6, NET): "icmpv6 no-route",
    (6, PORT): "icmpv6 port-unreachable",
    (6, PROHIBITED): "icmpv6 admin-prohibited",
    (6, RESET): "tcp reset",
}
FILTER = """
add table inet bed
add chain inet bed faults { type filter hook input priority 0; policy accept; }
"""


def resolv_conf(*servers: str, search: Sequence[str] = (), options: str = "") -> str:
    """Return the text of a resolv.conf."""
    lines = [f"nameserver {server}" for server in servers]
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"options {options}"] if options else []
    return "".join(f"{line}\n" for line in lines)


def inside(network: str, call: Callable[[], T]) -> T:
    """Return what `call` returns in the network namespace of this file, in a thread that ends with it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with open(network) as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class World:
    """A network namespace; see the module's docstring."""

    rank = 10
    numbers_anew = False
    _numbers = itertools.count()

    def __init__(self, *addresses: str, ipv4: bool = True) -> None:
        self.addresses = addresses
        self._ipv4 = ipv4
        self.name = f"bed-{os.getpid()}-{next(self._numbers)}"

    def __enter__(self) -> Self:
        need_root("a network namespace")
        self._ip = need("ip", "iproute2")
        nft = need("nft", "nftables")
        self._nsenter = need("nsenter", "util-linux")
        # The first `ip netns add` of a machine mounts /run/netns, which two must not do at once.
        with open(Path(tempfile.gettempdir(), "service-precheck-bed.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._remove_orphans()
            made = subprocess.run(
                [self._ip, "netns", "add", self.name], capture_output=True, text=True
            )
        if made.returncode != 0:
            pytest.skip(f"needs network namespaces ({made.stderr.strip()})")
        try:
            batch = ["link set lo up"]
            batch += [
                f"addr add {address} dev lo{' nodad' if ':' in address else ''}"
                for address in self.addresses
            ]
            batch += [] if self._ipv4 else ["addr del 127.0.0.1/8 dev lo"]
            subprocess.run(
                [self._ip, "-netns", self.name, "-batch", "-"],
                input="\n".join(batch).encode(),
                check=True,
            )
            self._nft = [*self.prefix, nft]
            self._change_filter(FILTER)
        except BaseException:
            self._remove(self.name)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove(self.name)

    def _remove_orphans(self) -> None:
        """Remove what test processes left that were killed."""
        for path in Path("/run/netns").glob("bed-*-*"):
            if not Path("/proc", path.name.split("-")[1]).exists():
                self._remove(path.name)

    def _remove(self, name: str) -> None:
        command = [self._ip, "netns", "pids", name]
        listed = subprocess.run(command, capture_output=True, text=True).stdout
        for pid in listed.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run([self._ip, "netns", "del", name], check=True)

    @property
    def prefix(self) -> list[str]:
        """The words before a program's own: no `ip netns exec`, which would hide the cgroups."""
        return [self._nsenter, f"--net=/run/netns/{self.name}", "--"]

    def inside(self, call: Callable[[], T]) -> T:
        """Return what `call` returns in here; sockets and threads that it makes belong here."""
        return inside(f"/run/netns/{self.name}", call)

    def socket(self, family: int, kind: int) -> Channel:
        """Return a new socket of this world."""
        return self.inside(lambda: socket.socket(family, kind))

    def connect(self, host: str, port: int, timeout: float = 30.0) -> Channel:
        """Return a TCP connection made in here."""
        return self.inside(lambda: socket.create_connection((host, port), timeout))

    def _change_filter(self, rules: str) -> None:
        subprocess.run([*self._nft, "-f", "-"], input=rules.encode(), check=True)

    def _rule(self, host: str, port: int | None, protocol: str | None, verdict: str) -> None:
        match = f"{'ip6' if ':' in host else 'ip'} daddr {host}"
        if port is not None:
            match += f" {protocol or 'tcp'} dport {port}"
        elif protocol is not None:
            match += f" meta l4proto {protocol}"
        self._change_filter(f"add rule inet bed faults {match} {verdict}")

    def drop(self, host: str, port: int | None = None, protocol: str | None = None) -> None:
        """Lose all that goes there."""
        self._rule(host, port, protocol, "drop")

    def reject(
        self, host: str, port: int | None = None, how: str = HOST, protocol: str | None = None
    ) -> None:
        """Answer all that goes there by ICMP, or by a TCP reset."""
        protocol = "tcp" if how == RESET else protocol
        rejection = REJECTIONS[6 if ":" in host else 4, how]
        self._rule(host, port, protocol, f"reject with {rejection}")

    def loss(
        self, host: str, percent: int, port: int | None = None, protocol: str | None = None
    ) -> None:
        """Lose that share of what goes there, at random."""
        self._rule(host, port, protocol, f"numgen random mod 100 < {percent} drop")

    def clear(self) -> None:
        """End all faults but those of routes."""
        self._change_filter("flush chain inet bed faults")

    def unroute(self, network: str) -> None:
        """Make a network unreachable by a route of that kind."""
        subprocess.run(
            [self._ip, "-netns", self.name, "route", "add", "unreachable", network], check=True
        )


class Etc:
    """A mount namespace with files of its own in /etc; see the module's docstring."""

    rank = 15
    numbers_anew = False

    def __init__(
        self,
        resolv_conf: str | None = "",
        hosts: str | None = "127.0.0.1 localhost\n::1 localhost\n",
    ) -> None:
        self._files = {"resolv.conf": resolv_conf, "hosts": hosts}

    def __enter__(self) -> Self:
        self._unshare = need("unshare", "util-linux")
        self._folder = Path(tempfile.mkdtemp(prefix="bed-etc-"))
        self._folder.chmod(0o755)
        for name in ("upper", "work", "files"):
            (self._folder / name).mkdir()
        for name, text in self._files.items():
            if text is None:
                os.mknod(self._folder / "upper" / name, stat.S_IFCHR, os.makedev(0, 0))
            else:
                self.write(name, text)
                # A file that the machine itself has not got needs a place to be mounted on.
                (self._folder / "upper" / name).touch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The kernel leaves a folder of its own there that only root may enter as it is.
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "work" / "work").chmod(0o700)
        shutil.rmtree(self._folder)

    def write(self, name: str, text: str) -> None:
        """Change a file, also for the programs that run already."""
        (self._folder / "files" / name).write_text(text)

    @property
    def prefix(self) -> list[str]:
        """The words before a program's own."""
        folder = shlex.quote(str(self._folder))
        upper = f"lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work"
        steps = [f"mount -t overlay -o {upper} overlay /etc"]
        steps += [
            f"mount --bind {folder}/files/{name} /etc/{name}"
            for name, text in self._files.items()
            if text is not None
        ]
        unshare = [self._unshare, "--mount", "--propagation", "private"]
        unshare += [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return [*unshare, "/bin/sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh"]
