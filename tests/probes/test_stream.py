"""One connection under one deadline, against servers that misbehave."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from service_precheck import net, stream, tls
from service_precheck.dns import Names
from service_precheck.errors import NotReady
from service_precheck.model import Verdict
from service_precheck.stream import CHUNK, MOST_BUFFERED, Attempt, Stream
from tests.bed.fixtures import Enter
from tests.bed.sockets import (
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
from tests.bed.tls import TLS, Authority
from tests.bed.world import World

Connect = Callable[..., Stream]


def attempt(timeout: float = 10.0) -> Attempt:
    return Attempt(net.monotonic() + timeout, Names())


@pytest.fixture
def connect(enter: Enter) -> Connect:
    """Return a function that connects to a server within an attempt of `timeout` seconds."""

    def one(server: Server, timeout: float = 10.0) -> Stream:
        bounds = attempt(timeout)
        if server.path is not None:
            return enter(stream.connect_unix(server.path, bounds))
        return enter(stream.connect(server.host, server.port, bounds))

    return one


def verdict(call: Callable[[], object]) -> Verdict:
    with pytest.raises(NotReady) as raised:
        call()
    return raised.value.verdict


def wait_for_reset(here: Stream) -> None:
    poll = select.poll()
    poll.register(here._sock.fileno(), 0)
    assert poll.poll(10_000)


def test_reads_what_is_asked_for_and_keeps_the_rest(enter: Enter, connect: Connect) -> None:
    """Exact counts, marks and whatever came, in any mix, lose no byte."""
    here = connect(enter(Server(say(b"abcdef\r\nrest and more", then=close))))
    assert here.read_exactly(2) == b"ab"
    assert here.read_until(b"\r\n") == b"cdef\r\n"
    assert here.read_some(4) == b"rest"
    assert here.read_exactly(1) + here.read_some(100) == b" and more"
    assert not here.ended
    assert here.read_some() == b""
    assert here.ended


def test_a_mark_may_come_in_pieces(enter: Enter, connect: Connect) -> None:
    """A mark that is cut by the network is found all the same."""
    here = connect(enter(Server(trickle(b"line\r\n\r\nx", every=0.001))))
    assert here.read_until(b"\r\n\r\n") == b"line\r\n\r\n"


def test_writes_more_than_the_kernel_takes_at_once(enter: Enter, connect: Connect) -> None:
    """A megabyte is sent whole to a server that is slow to read it."""
    got = bytearray()

    def slow(connection: Connection) -> None:
        connection.wait(0.05)
        while len(got) < 4 << 20 and (data := connection.read()):
            got.extend(data)
        connection.write(b"done")

    here = connect(enter(Server(slow)))
    here.write(b"x" * (4 << 20))
    assert here.read_exactly(4) == b"done"
    assert len(got) == 4 << 20


def test_a_question_that_is_never_read_ends_at_the_deadline(enter: Enter, connect: Connect) -> None:
    """Fault 3: writing waits no longer than the attempt may take."""

    def ignore(connection: Connection) -> None:
        connection.wait(30)

    here = connect(enter(Server(ignore)), timeout=0.3)
    seen = verdict(lambda: here.write(b"x" * (32 << 20)))
    assert (seen.cause, seen.seen) == (
        "no-reply",
        f"{here.peer} took no more of the question for 0.3 s",
    )


def test_fault_3_a_server_that_hangs(enter: Enter, connect: Connect) -> None:
    """Accepted, then nothing: `no-reply` at the deadline, whichever way it is read."""
    server = enter(Server(hang))
    reads: tuple[Callable[[Stream], bytes], ...] = (
        Stream.read_some,
        lambda here: here.read_exactly(1),
        lambda here: here.read_until(b"\n"),
    )
    for read in reads:
        here = connect(server, timeout=0.2)
        seen = verdict(partial(read, here))
        assert seen.cause == "no-reply"
        assert seen.seen == f"{here.peer} accepted the connection, then said nothing for 0.2 s"


def test_fault_4_a_byte_now_and_then_does_not_extend_the_deadline(
    enter: Enter, connect: Connect
) -> None:
    """The deadline is for the sum of all reads, not for each."""
    here = connect(enter(Server(trickle(b"x" * 1000, every=0.05))), timeout=0.5)
    began = time.monotonic()
    seen = verdict(lambda: here.read_exactly(1000))
    assert time.monotonic() - began < 10
    assert seen.cause == "no-reply"
    assert seen.seen == f"{here.peer} did not finish its answer within 0.5 s"


def test_fault_5_an_endless_greeting_is_bounded(enter: Enter, connect: Connect) -> None:
    """A line that never ends is `protocol`, and little more than its bound was kept."""
    here = connect(enter(Server(babble())))
    seen = verdict(lambda: here.read_until(b"\n", what="its greeting"))
    assert seen.cause == "protocol"
    assert seen.seen == f"{here.peer} sent {MOST_BUFFERED} bytes without the end of its greeting"
    assert len(here._buffer) <= MOST_BUFFERED + CHUNK


def test_an_endless_talker_is_left_at_the_deadline(enter: Enter, connect: Connect) -> None:
    """Fault 5: bytes that never stop coming do not hold the reader beyond its deadline."""
    here = connect(enter(Server(babble())), timeout=0.3)

    def drain() -> None:
        while here.read_some():
            pass

    assert verdict(drain).cause == "no-reply"


def test_a_mark_beyond_the_bound_is_not_found(enter: Enter, connect: Connect) -> None:
    """What comes in one piece with the mark behind the bound is too long all the same."""
    here = connect(enter(Server(say(b"x" * 100 + b"\n"))))
    assert verdict(lambda: here.read_until(b"\n", 50)).cause == "protocol"


def test_what_is_passed_over_is_not_kept(enter: Enter, connect: Connect) -> None:
    """However much it is, it takes the room of a piece; what comes behind it is read as ever."""
    size = 4 << 20
    here = connect(enter(Server(say(b"x" * size + b"rest", then=close))))
    tracemalloc.start()
    try:
        here.pass_over(size, "a row")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size // 4
    here.pass_over(0, "nothing")
    assert here.read_exactly(4) == b"rest"
    assert verdict(lambda: here.pass_over(9, "a row")).seen.endswith("before it sent a row")


def test_ends_before_their_time_are_named(enter: Enter, connect: Connect) -> None:
    """A close says how far the other end came; a reset that it was one."""
    here = connect(enter(Server(say(b"abc", then=close))))
    seen = verdict(lambda: here.read_exactly(9, "its greeting"))
    assert (seen.cause, seen.seen) == (
        "closed-early",
        f"{here.peer} closed the connection after 3 bytes, before it sent its greeting",
    )
    here = connect(enter(Server(reset(after=0.05))))
    assert verdict(lambda: here.read_until(b"\n")).seen == f"{here.peer} reset the connection"
    here = connect(enter(Server(close)))
    assert verdict(lambda: here.read_until(b"\n")).cause == "closed-early"


def test_what_was_said_before_a_hang_up_is_heard(enter: Enter, connect: Connect) -> None:
    """A refusal that came while the question was on its way is read, not lost to a broken pipe."""
    server = enter(Server(say(b"too busy\n", then=close)))
    here = connect(server)
    server.wait_connections(1)
    assert server.connections[0].ended.wait(10)
    # The first question meets a closed socket and is answered by a reset, the second one fails.
    here._send(b"question")
    wait_for_reset(here)
    here.write(b"question")
    assert here.read_until(b"\n") == b"too busy\n"


def test_writing_to_one_that_left_is_closed_early(enter: Enter, connect: Connect) -> None:
    """A broken pipe is the other end's doing and has a cause."""
    server = enter(Server(close))
    here = connect(server)
    server.wait_connections(1)
    assert server.connections[0].ended.wait(10)
    here.write(b"question")
    wait_for_reset(here)
    assert verdict(lambda: here.write(b"question")).cause == "closed-early"


@pytest.mark.parametrize(
    ("behaviour", "how"), [(close, "closed"), (reset(), "reset"), (reset(after=0.02), "reset")]
)
def test_settle_sees_who_leaves_at_once(
    behaviour: Callable[[Connection], None], how: str, enter: Enter, connect: Connect
) -> None:
    """Fault 2: accepted, then closed or reset within the look, or before there was one."""
    server = enter(Server(behaviour))
    seen = verdict(lambda: connect(server).settle(5.0))
    assert seen.cause == "closed-early"
    assert seen.seen == f"{server.address} accepted the connection, then {how} it"


def test_settle_keeps_a_greeting_and_is_content_with_silence(
    enter: Enter, connect: Connect
) -> None:
    """What is sent during the look is not lost, and a quiet server is none that left."""
    here = connect(enter(Server(say(b"hello"))))
    here.settle(5.0)
    here.settle(5.0)
    assert here.read_exactly(5) == b"hello"
    connect(enter(Server(hang))).settle(0.01)


def test_one_dead_address_does_not_hold_up_the_others(enter: Enter) -> None:
    """RFC 8305: a refused address is passed at once, a silent one after a quarter second."""
    good = enter(Server(echo, host="127.0.0.3"))
    with stream.connect_any("here", ("127.0.0.2", "127.0.0.3"), good.port, attempt()) as here:
        assert here.peer == f"127.0.0.3:{good.port}"


def test_a_silent_address_is_overtaken(enter: Enter) -> None:
    """Fault 8: with an address that drops everything, the next one answers long before the deadline."""
    world = enter(World("10.53.0.2", "10.53.0.3"))
    server = enter(Server(echo, host="10.53.0.2", place=world))
    world.drop("10.53.0.3", server.port)

    def reach() -> float:
        bounds = attempt(30)
        with stream.connect_any("here", ("10.53.0.3", "10.53.0.2"), server.port, bounds) as here:
            assert here.peer == f"10.53.0.2:{server.port}"
        return net.monotonic() - bounds.started

    assert 0.25 <= world.inside(reach) < 15


def test_every_address_that_failed_is_told(enter: Enter) -> None:
    """The sentence names each address with its own obstacle; the telling cause goes first."""
    full = enter(Full())
    bounds = attempt(0.5)
    seen = verdict(
        lambda: stream.connect_any("here", ("127.0.0.2", "127.0.0.1"), full.port, bounds)
    )
    assert seen.cause == "refused"
    assert f"127.0.0.2:{full.port} refused the connection" in seen.seen
    assert f"127.0.0.1:{full.port} did not answer within 0.5 s" in seen.seen


def test_of_several_hosts_each_is_told_by_its_name(enter: Enter) -> None:
    """The name as it is written stands before each of its addresses, in whatever is said of them."""
    full = enter(Full())
    bounds = attempt(0.5)
    bounds.several = True
    share = bounds.part(1)
    seen = verdict(lambda: stream.connect_any("db", ("127.0.0.2", "127.0.0.1"), full.port, share))
    assert seen.seen == (
        f"db (127.0.0.2:{full.port}) refused the connection; "
        f"db (127.0.0.1:{full.port}) did not answer within 0.5 s"
    )
    bounds.renew()
    assert bounds.told("db", "fd00::1", 80) == "db ([fd00::1]:80)"
    assert bounds.told("fd00::1", "fd00::1", 80) == "[fd00::1]:80"


def test_an_attempt_without_time_says_so() -> None:
    """Where the look-up took all the time there was, no address is blamed."""
    seen = verdict(lambda: stream.connect_any("here", ("127.0.0.1",), 1, attempt(-1)))
    assert seen.cause == "connect-timeout"
    assert seen.seen.startswith("no time was left to connect")


def test_a_month_is_no_longer_than_poll_can_wait(enter: Enter, connect: Connect) -> None:
    """A deadline beyond what poll(2) takes at once, 24 days, is waited for like any other."""
    server = enter(Server(say(b"hello")))
    with connect(server, timeout=3e6) as stream:
        assert stream.read_exactly(5) == b"hello"


def test_fault_10_no_descriptor_left_is_ours(enter: Enter) -> None:
    """Fault 10: without a descriptor nothing is said about the server, and a working address follows."""
    server = enter(Server(echo))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        while True:
            try:
                held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        seen = verdict(lambda: stream.connect_any("here", ("127.0.0.1",), server.port, attempt()))
        unix = verdict(lambda: stream.connect_unix("/nowhere", attempt()))
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (seen.cause, unix.cause) == ("local", "local")
    assert "Too many open files" in seen.seen
    with stream.connect_any(
        "here", ("fe80::1%nowhere", "127.0.0.1"), server.port, attempt()
    ) as here:
        assert here.peer == server.address


def test_no_descriptor_is_left_after_any_of_it(enter: Enter) -> None:
    """Connections that stood, failed, were refused or timed out leave no descriptor open."""
    good, bad = enter(Server(close)), enter(Server(opened=False))
    full = enter(Full())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(NotReady):
            stream.connect_any("here", ("127.0.0.1", "127.0.0.2"), bad.port, attempt())
        with pytest.raises(NotReady):
            stream.connect_any("here", ("127.0.0.1",), full.port, attempt(0.1))
        stream.connect_any("here", ("127.0.0.2", "127.0.0.1"), good.port, attempt()).close()
    # The server's own are closed soon after.
    end = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > before:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_socket_that_meets_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port that the kernel gives to the asking socket looks open; it is not."""
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    holder.close()

    def from_that_port(address: str, number: int) -> net.Socket:
        here = net.Socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        here.bind((address, number))
        here.connect_ex((address, number))
        return here

    monkeypatch.setattr(net, "start_connecting", from_that_port)
    assert (
        verdict(lambda: stream.connect_any("here", ("127.0.0.1",), port, attempt())).cause
        == "refused"
    )


def test_unix_sockets_carry_the_same_conversation(
    enter: Enter, connect: Connect, folder: Path
) -> None:
    """A stream over a Unix socket reads and writes like any other."""
    here = connect(enter(Server(echo, path=folder / "s")))
    here.write(b"ping\n")
    assert here.read_until(b"\n") == b"ping\n"
    assert here.peer == str(folder / "s")


def test_tls_carries_the_same_conversation(
    enter: Enter, connect: Connect, authority: Authority
) -> None:
    """After the upgrade reads, writes and the end are as before, for more than one record."""
    server = enter(Server(answer(b"!", b"y" * 100_000, then=close), tls=TLS(authority.issue())))
    here = connect(server)
    session = here.upgrade(tls.Settings(ca=str(authority.file)), "localhost")
    assert (session.version, session.name) == ("TLSv1.3", "localhost")
    here.write(b"x" * 70_000 + b"!")
    assert here.read_exactly(100_000) == b"y" * 100_000
    assert here.read_some() == b""
    assert bytes(server.connections[0].received) == b"x" * 70_000 + b"!"


def test_a_tls_connection_ends_with_a_goodbye(
    enter: Enter, connect: Connect, authority: Authority
) -> None:
    """The server meets an orderly end, not one that could be an attack or a crash."""
    ends: list[bytes | OSError] = []

    def wait_for_end(connection: Connection) -> None:
        try:
            ends.append(connection.socket.recv(1))
        except OSError as error:
            ends.append(error)

    server = enter(Server(wait_for_end, tls=TLS(authority.issue())))
    here = connect(server)
    here.upgrade(tls.Settings(ca=str(authority.file)), "localhost")
    here.close()
    assert server.connections[0].ended.wait(10)
    assert ends == [b""]


def test_bytes_before_the_handshake_are_not_taken_for_protected(
    enter: Enter, connect: Connect
) -> None:
    """What somebody slips in before STARTTLS is answered is refused."""
    here = connect(enter(Server(say(b"+OK go ahead\r\nINJECTED"))))
    here.read_until(b"\n")
    seen = verdict(lambda: here.upgrade(tls.Settings(insecure=True), "localhost"))
    assert (seen.cause, seen.seen) == (
        "protocol",
        f"{here.peer} sent 8 bytes before the TLS handshake",
    )


def test_the_server_is_told_why_the_handshake_failed(
    enter: Enter, connect: Connect, authority: Authority
) -> None:
    """A certificate that is not trusted is refused with an alert that shows in the server's log."""
    secured = TLS(authority.issue())
    server = enter(Server(echo, tls=secured))
    here = connect(server)
    with pytest.raises(NotReady):
        here.upgrade(tls.Settings(), "localhost")
    assert server.connections[0].ended.wait(10)
    assert [str(getattr(error, "reason", error)) for error in secured.failures] == [
        "TLSV1_ALERT_UNKNOWN_CA"
    ]


def test_tls_leaves_nothing_behind_in_memory(authority: Authority) -> None:
    """Each attempt's context and keys go with it: a gate may poll for days."""

    def attempts(count: int) -> int:
        for _ in range(count):
            channel = tls.Channel(tls.Settings(ca=str(authority.file)), "localhost", "peer")
            assert not channel.shake_hands()
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = attempts(200)
    assert attempts(400) - before < 4 << 20
