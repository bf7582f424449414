"""A target of several hosts: who is asked for how long, and what one verdict says of all of them."""

from __future__ import annotations

import pytest

from service_precheck import net, schemes, target
from service_precheck.codecs import hosts
from service_precheck.dns import Names
from service_precheck.errors import NotReady, blocked
from service_precheck.model import Verdict, ready
from service_precheck.options import Target
from service_precheck.stream import Attempt
from tests.bed.ports import free_port
from tests.probes.conftest import Ask

SEVERAL = [name for name in schemes.BUILT_IN if schemes.load(name).form == "hosts"]  # type: ignore[union-attr]


def three() -> tuple[Target, Attempt]:
    """A target of three hosts, and an attempt that never ends."""
    leaf = target.parse("etcd://a:1,b:2,c:3")
    assert isinstance(leaf, Target)
    return leaf, Attempt(net.monotonic() + 900, Names())


def test_each_has_its_share_of_what_is_left() -> None:
    """A third, then half of the rest, then all of it: what one does not use is the others'."""
    leaf, attempt = three()
    shares = []
    for host, port, share in hosts.in_turn(leaf, attempt):
        left = share.deadline - net.monotonic()
        shares.append((host, port, round(left)))
        if host == "a":
            # It takes as long as if it had used up all of its own.
            attempt.deadline -= left
    assert shares == [("a", 1, 300), ("b", 2, 300), ("c", 3, 600)]


def first(causes: dict[str, str], final: tuple[str, ...] = ()) -> tuple[Verdict, str]:
    """The verdict where some hosts have an obstacle, and who was asked."""
    asked = ""

    def ask(host: str, _: int, __: Attempt) -> Verdict:
        nonlocal asked
        asked += host
        if host in causes:
            raise blocked(causes[host], f"{host} is {causes[host]}")
        return ready(f"{host} serves")

    try:
        return hosts.first(*three(), ask, final=final), asked
    except NotReady as error:
        return error.verdict, asked


def test_the_first_that_serves() -> None:
    """Nobody is asked behind the host that serves; if none does, all are told."""
    assert first({}) == (ready("a serves"), "a")
    assert first({"a": "refused", "b": "no-reply"}) == (ready("c serves"), "abc")
    verdict, asked = first({"a": "refused", "b": "no-reply", "c": "protocol"})
    assert asked == "abc"
    assert verdict == Verdict("refused", "a is refused; b is no-reply; c is protocol")


def test_what_any_other_would_say() -> None:
    """It ends the walk, and is told alone."""
    verdict, asked = first({"a": "refused", "b": "auth-refused"}, ("alarm", "auth-refused"))
    assert asked == "ab"
    assert verdict == Verdict("auth-refused", "b is auth-refused")


@pytest.mark.parametrize(
    ("causes", "telling", "cause"),
    [
        (("refused", "closed-early"), (), "refused"),
        # Of a host that was not seen less is known, and `not(...)` is told by what was.
        (("connect-timeout", "no-reply", "refused"), (), "refused"),
        (("connect-timeout", "no-reply"), (), "connect-timeout"),
        (("refused", "no-reply"), ("no-reply",), "no-reply"),
        (("refused", "starting", "no-leader"), ("no-leader", "starting"), "no-leader"),
    ],
)
def test_what_tells_most(causes: tuple[str, ...], telling: tuple[str, ...], cause: str) -> None:
    """The protocol's own order goes first, then what was seen of a host, then the order of the hosts."""
    obstacles = [Verdict(one, f"{one} it is", hint=f"mend {one}") for one in causes]
    verdict = hosts.together(obstacles, telling).verdict
    assert (verdict.cause, verdict.hint) == (cause, f"mend {cause}")
    others = [one for one in causes if one != cause]
    assert verdict.seen == "; ".join(f"{one} it is" for one in (cause, *others))


def test_each_sentence_once() -> None:
    """What several hosts say alike is told once; what was seen beside has no say in the cause."""
    same = Verdict("refused", "it is gone")
    beside = [Verdict("no-leader", "nobody leads"), same]
    verdict = hosts.together([same, same], ("no-leader",), beside).verdict
    assert verdict == Verdict("refused", "it is gone; nobody leads")


@pytest.mark.parametrize("name", SEVERAL)
def test_each_is_told_by_its_name(name: str, ask: Ask) -> None:
    """Of several hosts the name as it is written stands before the address; an address has none."""
    one, other = free_port(), free_port()
    seen = ask(f"{name}://localhost:{one},127.0.0.2:{other}").seen
    assert f"localhost (127.0.0.1:{one}) refused the connection" in seen
    assert f"127.0.0.2:{other} refused the connection" in seen.split("; ")


@pytest.mark.parametrize("name", SEVERAL)
def test_one_is_told_by_its_address(name: str, ask: Ask) -> None:
    """The name of the one host stands before the sentence already."""
    port = free_port()
    seen = ask(f"{name}://localhost:{port}").seen
    assert f"127.0.0.1:{port} refused the connection" in seen.split("; ")
    assert "localhost" not in seen
