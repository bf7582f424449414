"""What this machine says of names: `/etc/resolv.conf` and `/etc/hosts`, read as glibc reads them.

resolv.conf(5) and hosts(5). Both are read again when they change. A missing or empty resolv.conf
means a resolver on loopback, and is stated.
"""

from __future__ import annotations

from .. import net
from ..model import Frozen
from ..net import is_address, os

DNS_PORT = 53


class Config(Frozen):
    """The resolver's settings. `note` says what was missing, for people; empty when nothing was."""

    __slots__ = ("attempts", "ndots", "note", "search", "servers", "tcp")
    servers: tuple[tuple[str, int], ...]
    search: tuple[str, ...]
    ndots: int
    attempts: int
    tcp: bool
    note: str

    def __init__(
        self,
        servers: tuple[tuple[str, int], ...],
        search: tuple[str, ...] = (),
        ndots: int = 1,
        attempts: int = 2,
        tcp: bool = False,
        note: str = "",
    ) -> None:
        self._set(
            servers=servers, search=search, ndots=ndots, attempts=attempts, tcp=tcp, note=note
        )

    @property
    def zone(self) -> str:
        """The cluster's zone (`cluster.local`) when the search list is a pod's, else empty."""
        for suffix in self.search:
            if suffix.startswith("svc.") and suffix[4:] in self.search:
                return suffix[4:]
        return ""


class Files:
    """`/etc/resolv.conf` and `/etc/hosts`, parsed, and parsed anew when they change."""

    __slots__ = ("_hosts", "_resolv", "hosts_path", "resolv_path")

    def __init__(
        self, resolv_path: str = "/etc/resolv.conf", hosts_path: str = "/etc/hosts"
    ) -> None:
        self.resolv_path = resolv_path
        self.hosts_path = hosts_path
        self._resolv: tuple[object, Config] | None = None
        self._hosts: tuple[object, dict[str, tuple[str, ...]]] | None = None

    def config(self) -> Config:
        """The resolver's settings as they stand."""
        stamp = _stamp(self.resolv_path)
        if self._resolv is None or self._resolv[0] != stamp:
            text = _read(self.resolv_path)
            environment = net.environment()
            parsed = parse_resolv_conf(
                text or "",
                environment.get("LOCALDOMAIN"),
                environment.get("RES_OPTIONS", ""),
                os.uname().nodename,
            )
            if not parsed.servers:
                state = "names no server" if text is not None else "cannot be read"
                note = f"{self.resolv_path} {state}, so 127.0.0.1 was asked"
                parsed = Config(
                    (("127.0.0.1", DNS_PORT),),
                    parsed.search,
                    parsed.ndots,
                    parsed.attempts,
                    parsed.tcp,
                    note,
                )
            self._resolv = (stamp, parsed)
        return self._resolv[1]

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses that `/etc/hosts` gives for a name."""
        stamp = _stamp(self.hosts_path)
        if self._hosts is None or self._hosts[0] != stamp:
            self._hosts = (stamp, parse_hosts(_read(self.hosts_path) or ""))
        return self._hosts[1].get(name.rstrip(".").lower(), ())


def _stamp(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return None


def parse_resolv_conf(
    text: str, localdomain: str | None = None, res_options: str = "", hostname: str = ""
) -> Config:
    """resolv.conf(5): the last `search` or `domain` wins, at most three servers, LOCALDOMAIN and
    RES_OPTIONS from the environment override. Without a search list the domain of `hostname` is one.
    `timeout` has no use here: `exchange` waits for no server. Never raises: unknown lines are passed
    over."""
    servers: list[tuple[str, int]] = []
    domain = hostname.partition(".")[2]
    search: tuple[str, ...] = (domain,) if domain else ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        keyword, values = words[0], words[1:]
        if keyword == "nameserver" and len(servers) < 3 and is_address(values[0]):
            servers.append((values[0], DNS_PORT))
        elif keyword in ("search", "domain"):
            search = tuple(values if keyword == "search" else values[:1])
        elif keyword == "options":
            options += values
    if localdomain is not None:
        search = tuple(localdomain.split())
    options += res_options.split()
    numbers = {"ndots": 1, "attempts": 2}
    for option in options:
        name, _, value = option.partition(":")
        if name in numbers and value.isascii() and value.isdecimal():
            numbers[name] = int(value[:6])
    suffixes = tuple(suffix.strip(".").lower() for suffix in search)
    return Config(
        tuple(servers),
        tuple(s for s in suffixes if s and _can_be_name(s)),
        min(numbers["ndots"], 15),
        max(1, min(numbers["attempts"], 5)),
        "use-vc" in options,
    )


def _can_be_name(name: str) -> bool:
    return name.isascii() and len(name) < 254 and all(0 < len(x) < 64 for x in name.split("."))


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """hosts(5): names to addresses, in the order of the file. `localhost` is there even if the file
    leaves it out (RFC 6761 section 6.3)."""
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and is_address(words[0]):
            for name in words[1:]:
                key = name.rstrip(".").lower()
                if words[0] not in hosts.get(key, ()):
                    hosts[key] = (*hosts.get(key, ()), words[0])
    hosts.setdefault("localhost", ("127.0.0.1", "::1"))
    return hosts
