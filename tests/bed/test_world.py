"""Each fault of a world is met by the kernel's own clients inside it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.limits import PID1, Cgroup
from tests.bed.names import ScriptedDNS
from tests.bed.ports import loopback_address
from tests.bed.process import Gate, Wrapper, need, run
from tests.bed.sockets import Server, say
from tests.bed.world import HOST, NET, PORT, PROHIBITED, RESET, Etc, World, resolv_conf

FOUR, SIX = "10.9.0.1", "fd00:9::1"


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world with an address of each family."""
    with World(FOUR, SIX) as made:
        yield made


def failure(world: World, host: str, port: int) -> int | None:
    """Return the errno a connect ends with."""
    try:
        world.connect(host, port).close()
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("host", [FOUR, SIX])
def test_servers_stand_in_the_world_alone(world: World, host: str) -> None:
    """A server of a world is reached from inside and from nowhere else."""
    with Server(say(b"in"), host=host, place=world) as server:
        with world.connect(host, server.port) as client:
            assert client.recv(2) == b"in"
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as outsider:
            outsider.settimeout(0.2)
            assert outsider.connect_ex((host, server.port)) != 0


@pytest.mark.parametrize("host", [FOUR, SIX])
def test_drop_is_silence(world: World, host: str) -> None:
    """A connect to a dropped port times out, and its neighbour is well (fault 7)."""
    with (
        Server(host=host, place=world) as server,
        Server(host=host, place=world) as neighbour,
    ):
        world.drop(host, server.port)
        with pytest.raises(TimeoutError):
            world.connect(host, server.port, 0.3)
        world.connect(host, neighbour.port).close()
        world.clear()
        world.connect(host, server.port).close()


@pytest.mark.parametrize(
    ("host", "how", "expected"),
    [
        (FOUR, HOST, errno.EHOSTUNREACH),
        (FOUR, NET, errno.ENETUNREACH),
        (FOUR, PORT, errno.ECONNREFUSED),
        (FOUR, PROHIBITED, errno.EHOSTUNREACH),
        (FOUR, RESET, errno.ECONNREFUSED),
        (SIX, HOST, errno.EHOSTUNREACH),
        (SIX, NET, errno.ENETUNREACH),
        (SIX, PORT, errno.ECONNREFUSED),
        (SIX, PROHIBITED, errno.EACCES),
        (SIX, RESET, errno.ECONNREFUSED),
    ],
)
def test_reject_is_told(world: World, host: str, how: str, expected: int) -> None:
    """A rejected connect fails with the error that the ICMP message stands for (fault 6)."""
    with Server(host=host, place=world) as server:
        world.reject(host, server.port, how)
        assert failure(world, host, server.port) == expected


def test_reject_reaches_udp(world: World) -> None:
    """A rejected datagram comes back as an error of its socket."""
    world.reject(FOUR, 53, PORT, protocol="udp")
    with world.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.connect((FOUR, 53))
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


def test_loss_is_partial(world: World) -> None:
    """Of a thousand datagrams at 30% loss some are lost and more arrive (fault 9)."""
    world.loss(FOUR, 30, protocol="udp")
    with (
        world.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        world.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        server.bind((FOUR, 0))
        client.connect(server.getsockname())
        for _ in range(1000):
            client.send(b"x")
        server.settimeout(0)
        arrived = 0
        with pytest.raises(BlockingIOError):
            while server.recv(1):
                arrived += 1
    assert 500 < arrived < 900


def test_routes_end_or_are_missing(world: World) -> None:
    """A network can be unreachable by a route, and nothing leads out (fault 6)."""
    world.unroute("10.8.0.0/16")
    assert failure(world, "10.8.0.1", 80) == errno.EHOSTUNREACH
    assert failure(world, "192.0.2.1", 80) == errno.ENETUNREACH


def test_world_without_ipv4() -> None:
    """In a world without IPv4 even 127.0.0.1 is unreachable (fault 34)."""
    with World(SIX, ipv4=False) as world, Server(host=SIX, place=world) as server:
        world.connect(SIX, server.port).close()
        assert failure(world, "127.0.0.1", server.port) == errno.ENETUNREACH


def test_programs_see_the_files_of_their_world(world: World) -> None:
    """The system's resolver in a world asks the server that its resolv.conf names (fault 33)."""
    getent = need("getent", "libc-bin")
    with (
        ScriptedDNS(host=FOUR, port=53, place=world) as dns,
        Etc(resolv_conf(FOUR, search=["ns.example"]), "10.7.7.7 known\n") as etc,
    ):
        dns.add("db.ns.example", "A", "192.0.2.7")
        found = run("ahostsv4", "db", command=[getent], inside=[world, etc])
        assert found.stdout.split()[0] == "192.0.2.7"
        assert dns.count("db.ns.example", "A") == 1
        found = run("hosts", "known", command=[getent], inside=[world, etc])
        assert found.stdout.split()[0] == "10.7.7.7"
        script = 'until grep -q "" /etc/hosts && grep late /etc/hosts; do sleep 0.01; done'
        with Gate(command=["/bin/sh", "-c", script], inside=[world, etc]) as waiter:
            etc.write("hosts", "10.7.7.8 late\n")
            assert waiter.wait().stdout == "10.7.7.8 late\n"


def test_files_can_be_missing() -> None:
    """A program can run without resolv.conf, and the machine keeps its own (fault 32)."""
    mine = Path("/etc/resolv.conf").exists()
    with Etc(None) as etc:
        listed = run("-a", "/etc", command=["ls"], inside=[etc]).stdout.split()
    assert "resolv.conf" not in listed
    assert "hosts" in listed
    assert Path("/etc/resolv.conf").exists() == mine


def test_loopback_server_serves_a_whole_process() -> None:
    """Without a world a server on 127.0.53.N at port 53 serves a program's resolver."""
    host = loopback_address()
    with ScriptedDNS(host=host, port=53) as dns, Etc(resolv_conf(host)) as etc:
        dns.add("x.example", "A", "192.0.2.5")
        command = [need("getent", "libc-bin")]
        assert "192.0.2.5" in run("ahostsv4", "x.example", command=command, inside=[etc]).stdout


def test_all_wrappers_work_together(world: World) -> None:
    """A world, files, limits and PID 1 can be had at once, and the cgroups stay visible."""
    script = "cat /etc/hosts; echo $$; ls /sys/fs/cgroup; cat /proc/1/cgroup"
    with Cgroup(memory=64 << 20) as group, Etc(hosts="here\n") as etc:
        inside: list[Wrapper] = [PID1, group, etc, world]
        done = run(script, command=["/bin/sh", "-c"], inside=inside)
        with Gate(command=["sleep", "1000"], inside=inside) as gate:
            assert gate.status_line("NSpid").split()[-1] == "1"
            gate.signal(signal.SIGKILL)
            assert gate.wait().status != 0
    assert done.stdout.startswith("here\n1\n")
    assert "memory" in done.stdout.split()
    assert f"memory:/{group.folders['memory'].name}" in done.stdout


def test_nothing_is_left() -> None:
    """A world takes its programs with it, and what a killed test left is removed by the next."""
    with World() as world, Gate(command=["sleep", "1000"], inside=[world]) as gate:
        orphan = f"bed-{os.getpid() + (1 << 22)}-0"
        assert run("netns", "add", orphan, command=[need("ip", "iproute2")]).status == 0
        while gate.status_line("Name") != "sleep":
            time.sleep(0.001)
        world.__exit__(None, None, None)
        assert gate.wait().status == 137
        with World() as again:
            assert not Path("/run/netns", orphan).exists()
            assert Path("/run/netns", again.name).exists()
        run("netns", "add", world.name, command=[need("ip", "iproute2")])
    assert not Path("/run/netns", world.name).exists()
