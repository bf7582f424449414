"""The DNS servers of the field, each started for a test.

All stand on 127.0.0.1 and a free port, or where `host`, `port` and `place` (a `World`) say.

| server                              | what it is                                                  |
|-------------------------------------|-------------------------------------------------------------|
| `Bind(zone)`, `Knot(zone)`          | authoritative for a zone (`zone="example"`)                 |
| `CoreDNS(zone, cache=None)`         | the same, as in clusters; `cache=30` caches up to 30 s      |
| `Dnsmasq(zone)`                     | A and AAAA from a hosts file; its denials carry no SOA      |
| `Unbound(upstream=address)`         | a caching forwarder to `(host, port)`                       |
| `Dnsmasq(zone, upstream=address)`   | forwards what is not in the zone, and caches                |

| on each              | |
|----------------------|--------------------------------------------------------------------------|
| `address`            | `(host, port)`                                                           |
| `add(name, type, *values)`, `remove(name, type)` | holds when it returns (not on Unbound)       |
| `negative_ttl=30`    | the SOA's minimum (an argument); on Unbound a ceiling of its own         |
| `ask(name, type)`    | dnspython's own query                                                    |
| `count(name, type)`  | queries that the server logged; Knot counts types, not names             |
| `daemon`             | its `daemon.Daemon`: `daemon.pause()`, `daemon.stop()`, `daemon.log`    |
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.update
import pytest

from tests.bed.daemon import Daemon
from tests.bed.names import absolute
from tests.bed.ports import free_port
from tests.bed.process import need

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.world import World

# A name and a type of nobody's, so that the question for life is in no test's count.
ALIVE = "alive.bed.invalid."


class NameServer:
    """What all of them share: start, wait until it answers, count, stop."""

    query_line = ""  # a pattern of the log with the groups `name` and `type`

    def __init__(
        self, *, host: str = "127.0.0.1", port: int | None = None, place: World | None = None
    ) -> None:
        self.host = host
        self.port = free_port(host, place) if port is None else port
        self.place = place
        self._exit = contextlib.ExitStack()

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers."""
        return self.host, self.port

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="bed-dns-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            inside = [] if self.place is None else [self.place]
            self.daemon = stack.enter_context(Daemon(*self._command(), inside=inside))
            self.daemon.wait_until(self._answers)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        try:
            self.ask(ALIVE, "HINFO", timeout=0.3)
        except (dns.exception.DNSException, OSError):
            return False
        return True

    def _send(self, message: dns.message.Message, timeout: float) -> dns.message.Message:
        def send() -> dns.message.Message:
            # An update goes over TCP, which cannot lose it.
            exchange = dns.query.tcp if isinstance(message, dns.update.Update) else dns.query.udp
            return exchange(message, self.host, timeout, self.port)

        return send() if self.place is None else self.place.inside(send)

    def ask(self, name: str, rdtype: str = "A", timeout: float = 30.0) -> dns.message.Message:
        """Return its answer to one question over UDP."""
        return self._send(dns.message.make_query(name, rdtype, use_edns=0), timeout)

    def values(self, name: str, rdtype: str = "A") -> list[str]:
        """Return the data of all answers, sorted."""
        answer = self.ask(name, rdtype).answer
        return sorted(rdata.to_text() for rrset in answer for rdata in rrset)

    def count(self, name: str, rdtype: str | None = None) -> int:
        """Return how many queries for this name, and type, it has logged."""
        wanted = absolute(name)
        found = re.finditer(self.query_line, self.daemon.log)
        return sum(
            absolute(line["name"]) == wanted and rdtype in (None, line["type"]) for line in found
        )


class Authoritative(NameServer):
    """A server with a zone that is changed by dynamic update (RFC 2136)."""

    def __init__(
        self,
        zone: str = "example",
        *,
        negative_ttl: int = 30,
        host: str = "127.0.0.1",
        port: int | None = None,
        place: World | None = None,
    ) -> None:
        super().__init__(host=host, port=port, place=place)
        self.zone = absolute(zone)
        self.negative_ttl = negative_ttl

    def zone_file(self, serial: int = 1, records: str = "") -> Path:
        """Write the zone's file and return its path."""
        path = self.folder / "zone"
        soa = f"ns.invalid. admin.invalid. {serial} 3600 600 86400 {self.negative_ttl}"
        text = f"$ORIGIN {self.zone}\n@ {self.negative_ttl} IN SOA {soa}\n@ 60 IN NS ns.invalid.\n"
        # Renamed into place: a server that reads it meanwhile must not see half of it.
        new = self.folder / "zone.new"
        new.write_text(text + records)
        new.rename(path)
        return path

    def add(self, name: str, rdtype: str, *values: str, ttl: int = 60) -> None:
        """Set the records of a name and type."""
        update = dns.update.Update(self.zone)
        update.replace(absolute(name), ttl, rdtype, *values)
        self._update(update)

    def remove(self, name: str, rdtype: str | None = None) -> None:
        """Drop the records of a name, all or of one type."""
        update = dns.update.Update(self.zone)
        if rdtype is None:
            update.delete(absolute(name))
        else:
            update.delete(absolute(name), rdtype)
        self._update(update)

    def _update(self, update: dns.update.Update) -> None:
        rcode = self._send(update, 30.0).rcode()
        assert rcode == dns.rcode.NOERROR, f"update refused: {dns.rcode.to_text(rcode)}"


class Bind(Authoritative):
    """named of BIND 9."""

    query_line = r"query: (?P<name>\S+) IN (?P<type>\S+)"

    def _command(self) -> list[str]:
        named = need("named", "bind9")
        family = "listen-on-v6" if ":" in self.host else "listen-on"
        other = "listen-on" if ":" in self.host else "listen-on-v6"
        configuration = self.folder / "named.conf"
        configuration.write_text(
            f"""
            options {{
                directory "{self.folder}";
                pid-file none;
                session-keyfile "{self.folder}/session.key";
                {family} port {self.port} {{ {self.host}; }};
                {other} {{ none; }};
                recursion no;
                dnssec-validation no;
                minimal-responses yes;
                querylog yes;
            }};
            controls {{ }};
            zone "{self.zone}" {{
                type primary;
                file "{self.zone_file()}";
                allow-update {{ any; }};
            }};
            """
        )
        return [named, "-g", "-n", "1", "-c", str(configuration)]


class Knot(Authoritative):
    """knotd of Knot DNS."""

    def _command(self) -> list[str]:
        knotd = need("knotd", "knot")
        self._knotc = need("knotc", "knot")
        self._configuration = self.folder / "knot.conf"
        (self.folder / "db").mkdir()
        self._configuration.write_text(
            f"""
server:
    rundir: "{self.folder}"
    listen: "{self.host}@{self.port}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{self.folder}/db"
acl:
  - id: update
    address: [ "0.0.0.0/0", "::/0" ]
    action: update
mod-stats:
  - id: types
    query-type: on
template:
  - id: default
    global-module: mod-stats/types
zone:
  - domain: "{self.zone}"
    file: "{self.zone_file()}"
    zonefile-sync: -1
    journal-content: all
    acl: update
"""
        )
        return [knotd, "-c", str(self._configuration)]

    def count(self, name: str, rdtype: str | None = None) -> int:
        """Fail: Knot keeps numbers of types only."""
        raise NotImplementedError("Knot counts types, not names: count_type")

    def count_type(self, rdtype: str) -> int:
        """Return how many queries of this type it got."""
        command = [self._knotc, "-c", str(self._configuration), "stats", "mod-stats.query-type"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = re.search(rf"query-type\[{rdtype}\] = (\d+)", told)
        return int(found[1]) if found else 0


class CoreDNS(Authoritative):
    """CoreDNS, built from its Go module into the cache folder, or from the PATH."""

    query_line = r'"(?=\S+ IN )(?P<type>\S+) IN (?P<name>\S+) '

    def __init__(
        self,
        zone: str = "example",
        *,
        cache: int | None = None,
        negative_ttl: int = 30,
        host: str = "127.0.0.1",
        port: int | None = None,
        place: World | None = None,
    ) -> None:
        super().__init__(zone, negative_ttl=negative_ttl, host=host, port=port, place=place)
        self._cache = cache
        self._records: dict[tuple[str, str], tuple[tuple[str, ...], int]] = {}
        self._serial = 1

    def _command(self) -> list[str]:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        built = cache / "service-precheck" / "bin" / "coredns"
        program = str(built) if built.exists() else shutil.which("coredns")
        if program is None:
            pytest.skip("needs coredns (built from its Go module into the cache folder)")
        corefile = self.folder / "Corefile"
        corefile.write_text(
            f"""
            {self.zone}:{self.port} {{
                bind {self.host}
                file {self.zone_file()} {{
                    reload 50ms
                }}
                {f"cache {self._cache}" if self._cache else ""}
                log
                errors
            }}
            """
        )
        return [program, "-conf", str(corefile)]

    def add(self, name: str, rdtype: str, *values: str, ttl: int = 60) -> None:
        """Set the records of a name and type."""
        self._records[absolute(name), rdtype] = (values, ttl)
        self._reload()

    def remove(self, name: str, rdtype: str | None = None) -> None:
        """Drop the records of a name, all or of one type."""
        for key in list(self._records):
            if key[0] == absolute(name) and rdtype in (None, key[1]):
                del self._records[key]
        self._reload()

    def _reload(self) -> None:
        self._serial += 1
        lines = [
            f"{name} {ttl} IN {rdtype} {value}\n"
            for (name, rdtype), (values, ttl) in self._records.items()
            for value in values
        ]
        self.zone_file(self._serial, "".join(lines))
        told = f"with {self._serial} SOA serial"
        self.daemon.wait_until(lambda: told in self.daemon.log)


class Unbound(NameServer):
    """Unbound as a caching forwarder."""

    query_line = r"info: \S+ (?P<name>\S+) (?P<type>\S+) IN"

    def __init__(
        self,
        upstream: tuple[str, int],
        *,
        negative_ttl: int = 3600,
        host: str = "127.0.0.1",
        port: int | None = None,
        place: World | None = None,
    ) -> None:
        super().__init__(host=host, port=port, place=place)
        self._upstream = upstream
        self.negative_ttl = negative_ttl

    def _command(self) -> list[str]:
        unbound = need("unbound", "unbound")
        configuration = self.folder / "unbound.conf"
        upstream_host, upstream_port = self._upstream
        configuration.write_text(
            f"""
server:
    interface: {self.host}
    port: {self.port}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    num-threads: 1
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{self.folder}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    log-queries: yes
    verbosity: 1
    module-config: "iterator"
    do-not-query-localhost: no
    unblock-lan-zones: yes
    qname-minimisation: no
    cache-max-negative-ttl: {self.negative_ttl}
    local-zone: "{ALIVE}" static
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {upstream_host}@{upstream_port}
"""
        )
        return [unbound, "-d", "-c", str(configuration)]


class Dnsmasq(NameServer):
    """dnsmasq with a hosts file, read again at SIGHUP, which empties its cache too."""

    query_line = r"query\[(?P<type>\S+)\] (?P<name>\S+) from"

    def __init__(
        self,
        zone: str = "example",
        *,
        upstream: tuple[str, int] | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        place: World | None = None,
    ) -> None:
        super().__init__(host=host, port=port, place=place)
        self.zone = zone
        self._upstream = upstream
        self._hosts: dict[tuple[str, str], tuple[str, ...]] = {}

    def _command(self) -> list[str]:
        dnsmasq = need("dnsmasq", "dnsmasq-base")
        self._file = self.folder / "hosts"
        self._file.touch()
        # It gives up root's rights, unless told not to, and must still read the file then.
        options = ["--user=root"] if os.geteuid() == 0 else []
        if self._upstream is not None:
            options.append("--server={}#{}".format(*self._upstream))
        return [
            *(dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="),
            *(f"--port={self.port}", f"--listen-address={self.host}", "--bind-interfaces"),
            *("--no-resolv", "--no-hosts", f"--addn-hosts={self._file}", f"--local=/{self.zone}/"),
            *("--log-queries", "--log-facility=-", *options),
        ]

    def add(self, name: str, rdtype: str, *values: str) -> None:
        """Set the addresses (A or AAAA) of a name."""
        self._hosts[absolute(name), rdtype] = values
        self._reload()

    def remove(self, name: str, rdtype: str | None = None) -> None:
        """Drop the addresses of a name, all or of one type."""
        for key in list(self._hosts):
            if key[0] == absolute(name) and rdtype in (None, key[1]):
                del self._hosts[key]
        self._reload()

    def _reload(self) -> None:
        lines = [
            f"{value} {name.rstrip('.')}\n"
            for (name, _rdtype), values in self._hosts.items()
            for value in values
        ]
        self._file.write_text("".join(lines))
        told = f"read {self._file}"
        before = self.daemon.log.count(told)
        self.daemon.signal(signal.SIGHUP)
        self.daemon.wait_until(lambda: self.daemon.log.count(told) > before)
