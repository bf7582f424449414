"""TCP against real servers and a real kernel: each way in which a port can disappoint."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service_precheck import target
from service_precheck.dns import Names
from service_precheck.dns.resolver import Resolver
from service_precheck.errors import OperatorError
from service_precheck.model import Verdict
from tests.bed.fixtures import Enter
from tests.bed.names import ScriptedDNS
from tests.bed.ports import free_port
from tests.bed.sockets import (
    Behaviour,
    Connection,
    Full,
    Server,
    answer,
    babble,
    close,
    echo,
    hang,
    reset,
    say,
    trickle,
)
from tests.bed.world import HOST, NET, PORT, PROHIBITED, RESET, World
from tests.dns.simulated import Set
from tests.probes.conftest import Ask, probe

FOUR, SIX = "10.53.0.2", "fd00:53::2"


def at(text: str, world: World, timeout: float = 5.0) -> Verdict:
    """The verdict of one attempt made inside a world."""
    return world.inside(lambda: probe(text, Names(), timeout))


def test_a_port_that_accepts(ask: Ask) -> None:
    """An accepted connection that stays open is ready, and says where it was accepted."""
    with Server(hang) as server:
        assert ask(server.address) == Verdict(None, f"{server.address} accepts connections")
        server.wait_connections(1)
        assert server.connections[0].ended.wait(30)
        assert not server.connections[0].received


def test_ipv6(ask: Ask) -> None:
    """An IPv6 address is shown in brackets (fault 34)."""
    with Server(hang, host="::1") as server:
        assert ask(f"[::1]:{server.port}").seen == f"[::1]:{server.port} accepts connections"


def test_refused(ask: Ask) -> None:
    """Nothing listens: `refused`, at once (fault 1)."""
    with Server(hang, opened=False) as server:
        verdict = ask(server.address)
        assert (verdict.cause, verdict.seen) == (
            "refused",
            f"{server.address} refused the connection",
        )
        server.open()
        assert ask(server.address).ready


@pytest.mark.parametrize(
    ("behaviour", "said"), [(close, "then closed it"), (reset(), "then reset it")]
)
def test_accepted_and_dropped(ask: Ask, behaviour: Behaviour, said: str) -> None:
    """Accepted, then closed or reset within 10 ms: a proxy with nothing behind it (fault 2)."""
    with Server(behaviour) as server:
        verdict = ask(f"{server.address}#settle=5s")
        assert verdict.cause == "closed-early"
        assert said in verdict.seen
        assert "proxy" in verdict.hint


def later(seconds: float, then: Behaviour) -> Behaviour:
    def behave(connection: Connection) -> None:
        connection.wait(seconds)
        then(connection)

    return behave


def test_the_look_is_longer_while_others_are_awaited(ask: Ask) -> None:
    """A close some way after the accept is met by the second look and by `settle`; the first look of a
    gate that waits for nothing else is over by then."""
    with Server(later(0.06, close)) as server:
        assert ask(server.address, alone=False).cause == "closed-early"
    with Server(later(1.0, close)) as server:
        assert ask(server.address, alone=True).ready
        assert ask(server.address, alone=False).ready
        assert ask(f"{server.address}#settle=30s", timeout=40).cause == "closed-early"


def test_a_server_that_speaks_is_there(ask: Ask) -> None:
    """A greeting ends the look at once: whoever speaks is no empty proxy."""
    with Server(say(b"hello", then=close)) as server:
        begun = time.monotonic()
        assert ask(f"{server.address}#settle=30s", timeout=40).ready
        assert time.monotonic() - begun < 20


def test_a_banner(ask: Ask) -> None:
    """`expect` is met by a greeting that holds it, also in pieces."""
    with Server(say(b"220 mail.example ESMTP\r\n")) as server:
        assert ask(f"tcp://{server.address}#expect=ESMTP").seen == (
            f'{server.address} greets with "ESMTP"'
        )
    with Server(trickle(b"220 mail", every=0.02)) as server:
        assert ask(f"{server.address}#expect=mail").ready


def test_another_banner(ask: Ask) -> None:
    """Another greeting is `unexpected-body` and shown, escaped (faults 2, 67)."""
    with Server(say(b"\x1b[31mHTTP/1.1 400\r\n", then=close)) as server:
        verdict = ask(f"{server.address}#expect=SSH-")
        assert verdict.cause == "unexpected-body"
        assert verdict.seen == (
            f'{server.address} sent "\\x1b[31mHTTP/1.1 400\\x0d\\x0a", without "SSH-" in all it sent'
        )


def test_a_hang(ask: Ask) -> None:
    """Accepted, then silent: `no-reply` where a greeting is expected (fault 3)."""
    with Server(hang) as server:
        verdict = ask(f"{server.address}#expect=220", timeout=0.3)
        assert verdict.cause == "no-reply"
        assert server.address in verdict.seen


def test_a_close_in_place_of_a_greeting(ask: Ask) -> None:
    """Closed before the greeting is `closed-early` with `expect` too (fault 2)."""
    with Server(close) as server:
        assert ask(f"{server.address}#expect=220").cause == "closed-early"
    with Server(reset()) as server:
        assert ask(f"{server.address}#expect=220").cause == "closed-early"


def test_a_slow_greeting_has_one_deadline(ask: Ask) -> None:
    """A byte now and then does not lengthen the attempt: one total deadline (fault 4)."""
    with Server(trickle(b"x" * 1000, every=0.1)) as server:
        begun = time.monotonic()
        verdict = ask(f"{server.address}#expect=220", timeout=0.6)
        assert 0.5 < time.monotonic() - begun < 20
        assert verdict.cause == "unexpected-body"
        assert 'without "220" in 0.6 s' in verdict.seen


def test_an_endless_greeting_is_bounded(ask: Ask) -> None:
    """4 KiB are read of a greeting that never ends, and a little of it is shown (fault 5)."""
    with Server(babble()) as server:
        verdict = ask(f"{server.address}#expect=220")
        assert verdict.cause == "unexpected-body"
        assert "the first 4096 bytes" in verdict.seen
        assert len(verdict.seen) < 250


def test_a_conversation(ask: Ask) -> None:
    """`send` goes out first, escapes as in C, and `expect` waits for the reply."""
    with Server(answer(b"PING\r\n", b"+PONG\r\n")) as server:
        assert ask(f"{server.address}#send=PING\\r\\n#expect=+PONG").ready
        assert (
            ask(f"{server.address}#send=PI\\tNG\\0\\\\n#expect=+PONG", timeout=0.3).cause
            == "no-reply"
        )
        assert bytes(server.connections[0].received) == b"PING\r\n"
        server.wait_connections(2)
        assert server.connections[1].ended.wait(30)
        assert bytes(server.connections[1].received) == b"PI\tNG\0\\n"


def test_send_alone(ask: Ask) -> None:
    """Without `expect` the connection is watched after something was sent."""
    with Server(echo) as server:
        assert ask(f"{server.address}#send=hello").ready

    def hang_up_when_spoken_to(connection: Connection) -> None:
        connection.read()

    with Server(hang_up_when_spoken_to) as server:
        assert ask(f"{server.address}#send=hello#settle=20s", timeout=30).cause == "closed-early"


def test_wrong_escapes() -> None:
    """An escape that is none is the operator's mistake, and what was to be sent is not shown (fault 68)."""
    with pytest.raises(OperatorError) as raised:
        target.parse("a:1#send=s3cr3t\\x")
    assert "s3cr3t" not in str(raised.value)


def test_what_is_sent_is_never_shown(ask: Ask) -> None:
    """Neither the target nor a server that gives it back shows what was sent (fault 68)."""
    with Server(echo) as server:
        text = f"{server.address}#send=AUTH s3cr3t-c4n4ry\\r\\n#expect=+OK"
        assert "c4n4ry" not in str(target.parse(text))
        verdict = ask(text, timeout=0.3)
        assert verdict.cause == "unexpected-body"
        assert "c4n4ry" not in verdict.seen


def test_a_full_queue_is_silence(ask: Ask) -> None:
    """A server that accepts nothing more is silent: `connect-timeout`, and names the time (fault 7)."""
    with Full() as server:
        verdict = ask(server.address, timeout=0.4)
        assert verdict.cause == "connect-timeout"
        assert verdict.seen == f"{server.address} did not answer within 0.4 s"


@pytest.mark.parametrize("host", [FOUR, SIX])
@pytest.mark.parametrize(
    ("how", "causes"),
    [
        (HOST, {"unreachable"}),
        (NET, {"unreachable"}),
        (PROHIBITED, {"unreachable"}),
        (PORT, {"refused"}),
        (RESET, {"refused"}),
    ],
)
def test_a_firewall_that_says_so(world: World, host: str, how: str, causes: set[str]) -> None:
    """ICMP unreachable is `unreachable`, told from a refusal (fault 6)."""
    with Server(hang, host=host, place=world) as server:
        world.reject(host, server.port, how)
        assert at(server.address, world, 30).cause in causes


@pytest.mark.parametrize("host", [FOUR, SIX])
def test_a_firewall_that_drops(world: World, host: str) -> None:
    """A silent drop is `connect-timeout` (fault 7)."""
    with Server(hang, host=host, place=world) as server:
        world.drop(host, server.port)
        assert at(server.address, world, 0.5).cause == "connect-timeout"
        world.clear()
        assert at(server.address, world).ready


def test_no_route(world: World) -> None:
    """A network without a route is `unreachable`, at once (fault 6)."""
    verdict = at("192.0.2.1:80", world)
    assert verdict.cause == "unreachable"
    assert "no route to its network" in verdict.seen
    world.unroute("192.0.2.0/24")
    assert at("192.0.2.1:80", world).cause == "unreachable"


def named(world: World, *addresses: str) -> Callable[[str], Verdict]:
    """A function that asks inside a world where db.example has these addresses."""
    dns = ScriptedDNS(host=FOUR, place=world)
    four = [one for one in addresses if ":" not in one]
    six = [one for one in addresses if ":" in one]

    def one(text: str) -> Verdict:
        with dns:
            dns.add("db.example", "A", *four)
            if six:
                dns.add("db.example", "AAAA", *six)
            names = Names(Resolver(Set(servers=(dns.address,))))
            return world.inside(lambda: probe(text, names, 5.0))

    return one


def test_one_of_several_addresses_is_dead() -> None:
    """One address that accepts is enough, whether the other is silent or refuses; with `each` all must,
    and the words name the one that did not (fault 8)."""
    with (
        World(FOUR, "10.9.0.1", "10.9.0.2", SIX) as world,
        Server(hang, host="10.9.0.2", place=world) as server,
    ):
        ask = named(world, "10.9.0.1", "10.9.0.2")
        assert ask(f"db.example.:{server.port}").ready
        refused = ask(f"tcp://db.example.:{server.port}#each")
        assert refused.cause == "refused"
        assert f"10.9.0.1:{server.port}" in refused.seen
        world.drop("10.9.0.1")
        begun = time.monotonic()
        assert ask(f"db.example.:{server.port}").ready
        assert time.monotonic() - begun < 4
        silent = ask(f"tcp://db.example.:{server.port}#each")
        assert silent.cause == "connect-timeout"
        assert f"10.9.0.1:{server.port}" in silent.seen
        world.clear()
        with Server(hang, host="10.9.0.1", port=server.port, place=world):
            assert ask(f"tcp://db.example.:{server.port}#each").seen == (
                "all 2 addresses accept connections"
            )


def test_both_families(world: World) -> None:
    """A name with both families is ready by either, and all failures are told (faults 8, 34)."""
    with Server(hang, host=SIX, place=world) as server:
        ask = named(world, FOUR, SIX)
        assert ask(f"db.example.:{server.port}").seen.startswith(f"[{SIX}]")
        refused = ask(f"db.example.:{free_port()}")
        assert refused.cause == "refused"
        assert FOUR in refused.seen
        assert SIX in refused.seen
    with Server(hang, host=FOUR, place=world) as server:
        assert named(world, FOUR, SIX)(f"db.example.:{server.port}").ready


def test_the_names_own_trouble_is_told(names: ScriptedDNS) -> None:
    """Where the name does not resolve, that is the cause (faults 26, 27)."""
    looks = Names(Resolver(Set(servers=(names.address,))))
    assert probe("db.example.:80", looks).cause == "name-not-found"
    names.add("text.example", "TXT", '"x"')
    assert probe("text.example.:80", looks).cause == "no-addresses"


def test_addresses_are_looked_up_anew(names: ScriptedDNS, enter: Enter) -> None:
    """An address that changes between two attempts is followed (fault 35)."""
    looks = Names(Resolver(Set(servers=(names.address,))))
    server = enter(Server(hang, host="127.0.0.3"))
    names.add("db.example", "A", "127.0.0.2", ttl=3600)
    assert probe(f"db.example.:{server.port}", looks).cause == "refused"
    names.add("db.example", "A", "127.0.0.3", ttl=3600)
    assert probe(f"db.example.:{server.port}", looks).ready


def test_a_third_of_the_packets_is_lost(world: World) -> None:
    """With 30% loss most attempts still connect, and the others say that nobody answered (fault 9)."""
    with Server(hang, host=FOUR, place=world) as server:
        world.loss(FOUR, 30)
        with ThreadPoolExecutor(12) as pool:
            asking = [pool.submit(at, server.address, world, 8.0) for _ in range(12)]
            verdicts = [one.result() for one in asking]
    assert {verdict.cause for verdict in verdicts} <= {None, "connect-timeout"}
    assert sum(verdict.ready for verdict in verdicts) >= 4


def test_no_descriptors_are_left(ask: Ask) -> None:
    """Without a free descriptor the verdict is `local`, and the next attempt is none the worse (fault 10)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Server(hang) as server:
        # What an attempt loads is there, and this server's own end is closed before the others are counted.
        assert ask(server.address).ready
    with Server(hang) as server:
        before = len(os.listdir("/proc/self/fd"))
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, hard))
            try:
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            verdict = ask(server.address)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert verdict.cause == "local"
        assert "Too many open files" in verdict.seen
        assert ask(server.address).ready


def test_nothing_is_left_open(ask: Ask) -> None:
    """A hundred attempts of every outcome leave no descriptor behind (fault 10)."""
    with (
        Server(hang) as good,
        Server(close) as bad,
        Server(hang, opened=False) as shut,
        Full() as full,
    ):
        ask(good.address)
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(25):
            ask(good.address)
            ask(bad.address)
            ask(shut.address)
            ask(full.address, timeout=0.005)
        for server in (good, bad):
            server.wait_connections(25)
            for connection in list(server.connections):
                assert connection.ended.wait(30)
        assert set(os.listdir("/proc/self/fd")) <= before
