"""`mongodb:` and the states of replica sets that no server to be had here can be in; pymongo is the oracle.

Members that play their part (`Member`) stand in for MongoDB's own server: this shows that what they say
is understood as the driver understands it, and not that a server says it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from pymongo import read_preferences
from pymongo.errors import PyMongoError

from service_precheck.model import Verdict
from tests.bed.fixtures import Enter
from tests.bed.process import Gate
from tests.bed.services.mongodb import (
    Client,
    Document,
    Member,
    client,
    error,
    member,
    primary,
    router,
    secondary,
    standalone,
    unconfigured,
)
from tests.bed.sockets import hang
from tests.probes.conftest import Ask

pytestmark = [pytest.mark.xdist_group("mongodb"), pytest.mark.timeout(120)]


class Three:
    """Three members of a set; `places` are where they listen, as their set's configuration has them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.a, self.b, self.c = self.members = tuple(members)
        self.places = [one.address for one in members]
        self.url = f"mongodb://{','.join(self.places)}/"

    def elect(self, number: int | None) -> None:
        """Make one of them the primary, and the others secondaries that know it; none without one."""
        leader = "" if number is None else self.places[number]
        for place, one in zip(self.places, self.members, strict=True):
            say = primary if place == leader else secondary
            more = {} if place == leader else {"of": leader}
            one.says = say(place, self.places, **more)


@pytest.fixture
def three(enter: Enter) -> Three:
    """Return three members, the first of which is the primary."""
    made = Three([enter(Member()) for _ in range(3)])
    made.elect(0)
    return made


def reads(asking: Client, preference: str = "primary") -> bool:
    """What the driver experiences, of a read with a read preference."""
    mode = read_preferences.make_read_preference(
        read_preferences.read_pref_mode_from_name(preference), None
    )
    try:
        with asking:
            asking.get_database("shop", read_preference=mode).t.find_one()
            return True
    except PyMongoError:
        return False


def writes(asking: Client) -> bool:
    """What the driver experiences, of a write."""
    try:
        with asking:
            asking.shop.t.insert_one({})
            return True
    except PyMongoError:
        return False


# -- one server


HOSTS = ["a.example:27017", "b.example:27017"]


@pytest.mark.parametrize(
    ("says", "cause", "seen"),
    [
        (standalone(), None, "answers as a standalone server"),
        (router(), None, "answers as a router (mongos)"),
        (primary(HOSTS[0], HOSTS), None, "answers as the primary of rs0"),
        (secondary(HOSTS[0], HOSTS), None, "answers as a secondary of rs0"),
        (
            unconfigured(),
            "not-ready",
            "without the set's configuration: Does not have a valid replica set config",
        ),
        (member(HOSTS[0], HOSTS), "starting", "a member of rs0 that starts, recovers or rolls"),
        (
            member(HOSTS[0], HOSTS, arbiterOnly=True),
            "not-ready",
            "is an arbiter of rs0, which holds no data",
        ),
    ],
)
def test_one_server(ask: Ask, enter: Enter, says: Document, cause: str | None, seen: str) -> None:
    """Each kind of server serves or does not, as a driver finds that is connected to it alone."""
    server = enter(Member(says))
    verdict = ask(f"mongodb://{server.address}")
    assert verdict.cause == cause
    assert seen in verdict.seen
    direct = client(f"mongodb://{server.address}/?directConnection=true")
    assert reads(direct, "secondaryPreferred") == verdict.ready


def test_hidden_member(ask: Ask, enter: Enter) -> None:
    """A hidden member is none that clients read from: the driver of a set does not see it."""
    server = enter(Member())
    server.says = secondary(server.address, [server.address], hidden=True, passive=True)
    verdict = ask(f"mongodb://{server.address}/?replicaSet=rs0")
    assert verdict.cause == "not-ready"
    assert "a hidden member of rs0, which no client reads from" in verdict.seen
    asking = client(f"mongodb://{server.address}/?replicaSet=rs0")
    assert not reads(asking, "secondaryPreferred")


def test_not_initiated(ask: Ask, gate: Callable[..., Gate], enter: Enter) -> None:
    """A set that waits for `rs.initiate()` says so, with what to do; the gate opens once it is done and
    a primary was elected."""
    server = enter(Member(unconfigured()))
    target = f"mongodb://{server.address}/?replicaSet=rs0#role=primary"
    verdict = ask(target)
    assert verdict.cause == "not-ready"
    assert "rs.initiate()" in verdict.hint
    assert not writes(client(f"mongodb://{server.address}/?replicaSet=rs0"))
    started = gate("-v", target)
    started.wait_output("not-ready")
    server.says = member(server.address, [server.address])
    started.wait_output("starting")
    server.says = secondary(server.address, [server.address])
    started.wait_output("no-leader")
    server.says = primary(server.address, [server.address])
    assert started.wait().status == 0
    assert writes(client(f"mongodb://{server.address}/?replicaSet=rs0"))


def test_read_only_server(ask: Ask, enter: Enter) -> None:
    """A server in read-only mode (`readOnly`) serves reads, and is no primary that takes writes."""
    server = enter(Member(standalone(readOnly=True)))
    assert ask(f"mongodb://{server.address}").ready
    assert ask(f"mongodb://{server.address}#role=primary").cause == "read-only"


def test_router(ask: Ask, enter: Enter) -> None:
    """A router takes writes as far as it can say, as for the driver, and is no secondary."""
    server = enter(Member(router()))
    verdict = ask(f"mongodb://{server.address}#role=primary")
    assert verdict.seen.startswith(f"{server.address} takes writes as a router (mongos)")
    assert writes(client(f"mongodb://{server.address}/"))
    assert ask(f"mongodb://{server.address}#role=secondary").cause == "not-ready"


def test_before_hello(ask: Ask, enter: Enter) -> None:
    """A server of before `hello` is asked by `isMaster`."""
    server = enter(Member())
    server.answers["hello"] = error(59, "CommandNotFound", "no such command: 'hello'")
    assert ask(f"mongodb://{server.address}#role=primary").ready
    assert server.asked == ["hello", "isMaster", "ping"]
    assert writes(client(f"mongodb://{server.address}/"))


# -- a set


@pytest.mark.parametrize("leader", [0, 1, 2])
@pytest.mark.parametrize("named", [[0], [1], [0, 1, 2], [2, 1]])
def test_primary_is_found(three: Three, ask: Ask, leader: int, named: list[int]) -> None:
    """The primary is found by way of any member, whichever of them is named."""
    three.elect(leader)
    hosts = ",".join(three.places[number] for number in named)
    verdict = ask(f"mongodb://{hosts}/?replicaSet=rs0#role=primary")
    assert verdict.ready, verdict.seen
    assert verdict.seen.startswith(f"{three.places[leader]} takes writes as the primary of rs0")
    assert writes(client(f"mongodb://{hosts}/?replicaSet=rs0"))


def test_as_few_as_possible_are_asked(three: Three, ask: Ask) -> None:
    """One that is named is asked, and the primary that it names, once each; the third is left alone."""
    three.elect(2)
    assert ask(f"mongodb://{three.places[0]}/#role=primary").ready
    assert [len(one.connections) for one in three.members] == [1, 0, 1]
    assert three.c.asked == ["hello", "ping"]


def test_secondary(three: Three, ask: Ask) -> None:
    """A secondary is found by way of the primary; without one it is not ready."""
    verdict = ask(f"mongodb://{three.places[0]}/#role=secondary")
    assert verdict.seen.startswith(f"{three.places[1]} serves reads as a secondary of rs0")
    assert reads(client(f"mongodb://{three.places[0]}/"), "secondary")
    three.b.says = member(three.places[1], three.places)
    three.c.says = member(three.places[2], three.places)
    verdict = ask(f"mongodb://{three.places[0]}/#role=secondary")
    assert verdict.cause == "starting"
    assert not reads(client(f"mongodb://{three.places[0]}/"), "secondary")


def test_no_primary(three: Three, ask: Ask) -> None:
    """Members without a primary are `no-leader`, and good for reads from a secondary, as for the driver."""
    three.elect(None)
    verdict = ask(f"{three.url}?replicaSet=rs0#role=primary")
    assert verdict.cause == "no-leader"
    assert f"{three.places[0]} is a secondary of rs0, which has no primary" in verdict.seen
    assert not writes(client(f"{three.url}?replicaSet=rs0"))
    assert ask(f"{three.url}?replicaSet=rs0#role=secondary").ready
    assert reads(client(f"{three.url}?replicaSet=rs0"), "secondary")


def test_election(three: Three, gate: Callable[..., Gate]) -> None:
    """The gate waits through an election, and opens when the new primary says that it is one."""
    three.elect(None)
    started = gate("-v", f"{three.url}?replicaSet=rs0#role=primary")
    started.wait_output("no-leader")
    three.elect(2)
    elected = time.monotonic()
    done = started.wait()
    assert done.status == 0
    assert f"{three.places[2]} takes writes" in done.stderr
    print(f"late by {(started.started_at + done.seconds - elected) * 1000:.0f} ms")


@pytest.mark.parametrize("how", ["refused", "name"])
def test_primary_out_of_reach(three: Three, ask: Ask, how: str) -> None:
    """A primary that the members name and that is not reached is named, with the classic reason."""
    lost = "mongo-9.nowhere.invalid:27017" if how == "name" else three.places[0]
    hosts = [lost, *three.places[1:]]
    three.b.says = secondary(three.places[1], hosts, of=lost)
    three.c.says = secondary(three.places[2], hosts, of=lost)
    three.a.shut()
    verdict = ask(f"mongodb://{three.places[1]}/?replicaSet=rs0#role=primary")
    assert verdict.cause == ("name-not-found" if how == "name" else "refused")
    assert verdict.seen.startswith(f"rs0 has {lost} as its primary: ")
    assert "rs.conf()" in verdict.hint
    asking = client(f"mongodb://{three.places[1]}/?replicaSet=rs0")
    assert not writes(asking)


def test_primary_that_is_named_and_gone(three: Three, ask: Ask) -> None:
    """A primary that the target names itself and that died is the reason, and its name is not."""
    three.a.shut()
    verdict = ask(f"{three.url}?replicaSet=rs0#role=primary")
    assert verdict.cause == "refused"
    assert verdict.seen.startswith(f"rs0 has {three.places[0]} as its primary: ")
    assert not verdict.hint


def test_primary_that_shuts_down(three: Three, ask: Ask) -> None:
    """What the primary says of itself tells more than what the others say of it."""
    three.a.answers["hello"] = error(91, "ShutdownInProgress", "The server is in quiesce mode")
    verdict = ask(f"{three.url}?replicaSet=rs0#role=primary")
    assert verdict.cause == "not-ready"
    assert "error 91 ShutdownInProgress: The server is in quiesce mode" in verdict.seen


def test_one_member_only(three: Three, ask: Ask) -> None:
    """With directConnection=true the one that is named is asked and no other."""
    target = f"mongodb://{three.places[1]}/?directConnection=true"
    verdict = ask(f"{target}#role=primary")
    assert verdict.cause == "read-only"
    assert verdict.seen.endswith(f"a secondary of rs0, whose primary is {three.places[0]}")
    assert not writes(client(target))
    assert ask(f"{target}#role=secondary").ready
    assert reads(client(target), "secondary")
    assert not three.a.asked


def test_another_set(three: Three, ask: Ask, enter: Enter) -> None:
    """One that is named and belongs to another set holds all up, wherever it stands."""
    other = enter(Member())
    other.says = primary(other.address, [other.address], name="rs1")
    for hosts in ([*three.places, other.address], [other.address, *three.places]):
        verdict = ask(f"mongodb://{','.join(hosts)}/?replicaSet=rs0")
        assert verdict.cause == "missing-object"
        assert verdict.seen == f"{other.address} is the primary of rs1, not of rs0"
    assert not writes(client(f"mongodb://{other.address}/?replicaSet=rs0"))


def test_another_set_behind_a_listed_primary(three: Three, ask: Ask, enter: Enter) -> None:
    """One that is named and of another set is found also when the primary is none of the named."""
    other = enter(Member())
    other.says = primary(other.address, [other.address], name="rs1")
    hosts = ",".join((*three.places[1:], other.address))
    assert ask(f"mongodb://{hosts}/?replicaSet=rs0#role=primary").cause == "missing-object"


def counted(verdict: Verdict) -> bool:
    return verdict.ready and verdict.seen.endswith("3 members serve")


@pytest.mark.parametrize("named", [[0], [2], [0, 1, 2]])
def test_members_are_counted(three: Three, ask: Ask, named: list[int]) -> None:
    """`min-members` counts primaries and secondaries, those that are only listed included."""
    hosts = ",".join(three.places[number] for number in named)
    assert counted(ask(f"mongodb://{hosts}/#min-members=3"))
    assert counted(ask(f"mongodb://{hosts}/?replicaSet=rs0#min-members=3#role=primary"))
    three.b.says = member(three.places[1], three.places)
    verdict = ask(f"mongodb://{hosts}/#min-members=3")
    assert verdict.cause == "too-few"
    assert verdict.seen.startswith("2 of 3 members serve: ")
    assert f"{three.places[1]} is a member of rs0 that starts" in verdict.seen
    three.b.shut()
    verdict = ask(f"mongodb://{hosts}/#min-members=3")
    assert verdict.cause == "too-few"
    assert f"{three.places[1]} refused" in verdict.seen
    assert ask(f"mongodb://{hosts}/#min-members=2").ready


def test_arbiters_and_hidden_members_do_not_count(three: Three, ask: Ask) -> None:
    """Of a primary, an arbiter and a hidden member one serves; the driver sees the same."""
    hosts = three.places[:1]
    three.a.says = primary(three.places[0], hosts, arbiters=[three.places[1]])
    three.b.says = member(three.places[1], hosts, arbiterOnly=True, primary=three.places[0])
    three.c.says = secondary(three.places[2], hosts, of=three.places[0], hidden=True)
    verdict = ask(f"{three.url}#min-members=2")
    assert verdict.cause == "too-few"
    assert verdict.seen.startswith("1 of 2 members serve: ")
    assert not reads(client(f"{three.url}?replicaSet=rs0"), "secondary")
    assert ask(f"{three.url}?replicaSet=rs0#role=primary").ready
    assert writes(client(f"{three.url}?replicaSet=rs0"))


def test_names_are_compared_without_case(three: Three, ask: Ask) -> None:
    """A member counts by its name however that is written."""
    port = three.a.port
    three.a.says = primary(f"LocalHost:{port}", [f"LocalHost:{port}"])
    verdict = ask(f"mongodb://localhost:{port}/?replicaSet=rs0#role=primary")
    assert verdict.ready
    assert len(three.a.connections) == 1
    assert writes(client(f"mongodb://localhost:{port}/?replicaSet=rs0"))


def test_a_silent_member_takes_its_share_of_the_time_only(three: Three, ask: Ask) -> None:
    """A member that hangs does not keep the attempt from those that answer, nor hold up what is proven."""
    three.elect(2)
    three.a.behaviour = hang
    assert ask(f"{three.url}?replicaSet=rs0#role=primary", timeout=3).ready
    assert [len(one.connections) for one in three.members] == [1, 1, 1]
    assert [one.asked for one in three.members] == [[], ["hello"], ["hello", "ping"]]
    three.elect(0)
    verdict = ask(f"{three.url}?replicaSet=rs0#role=primary", timeout=1)
    assert verdict.cause == "no-reply"
    assert verdict.seen.startswith(f"rs0 has {three.places[0]} as its primary: ")


# -- errors


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (
            error(91, "ShutdownInProgress", "The server is in quiesce mode and will shut down"),
            "not-ready",
        ),
        (error(11600, "InterruptedAtShutdown", "interrupted at shutdown"), "not-ready"),
        (error(94, "NotYetInitialized", "no replset config has been received"), "not-ready"),
        (error(13436, "NotPrimaryOrSecondary", "node is recovering"), "starting"),
        (error(11602, "InterruptedDueToReplStateChange", "operation was interrupted"), "starting"),
        (error(10107, "NotWritablePrimary", "not primary"), "no-leader"),
        (error(189, "PrimarySteppedDown", "primary stepped down"), "no-leader"),
        (error(13, "Unauthorized", "command hello requires authentication"), "auth-required"),
        (error(462, "IngressRequestRateLimitExceeded", "rate limit"), "overloaded"),
        (error(498870, "Location498870", "The apiVersion parameter is required"), "unsupported"),
        (error(123, "SomethingNew", "never seen before"), "protocol"),
        ({"ok": 0.0}, "protocol"),
    ],
)
@pytest.mark.parametrize("command", ["hello", "ping"])
def test_errors(ask: Ask, enter: Enter, answer: Document, cause: str, command: str) -> None:
    """The server's codes become causes, and its code and words are kept, whichever command meets them."""
    server = enter(Member())
    server.answers = {command: answer}
    verdict = ask(f"mongodb://{server.address}")
    assert verdict.cause == cause
    assert str(answer.get("code", "")) in verdict.seen
    assert str(answer.get("errmsg", "")) in verdict.seen


@pytest.fixture
def doorkeeper(enter: Enter) -> Member:
    """Return a server that lets nobody in."""
    server = enter(Member())
    server.says = standalone(saslSupportedMechs=["SCRAM-SHA-1", "SCRAM-SHA-256"])
    return server


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (error(18, "AuthenticationFailed", "Authentication failed."), "auth-refused"),
        (error(11, "UserNotFound", "Could not find user"), "auth-refused"),
        (error(8000, "AtlasError", "bad auth : authentication failed"), "auth-refused"),
        (error(13, "Unauthorized", "not authorized on admin"), "forbidden"),
        (error(2, "BadValue", "Unsupported mechanism SCRAM-SHA-256"), "unsupported"),
        (error(91, "ShutdownInProgress", "shutting down"), "not-ready"),
    ],
)
def test_login_errors(doorkeeper: Member, ask: Ask, answer: Document, cause: str) -> None:
    """What a server says against a login, and that the driver fails as well."""
    doorkeeper.answers["saslStart"] = answer
    url = f"mongodb://app:app-secret@{doorkeeper.address}/"
    verdict = ask(url)
    assert verdict.cause == cause
    assert str(answer["errmsg"]) in verdict.seen
    assert not writes(client(url))


def test_a_refused_login_is_sent_to_one_member_only(three: Three, ask: Ask) -> None:
    """Accounts get locked: a login that one member refused is not shown to the others."""
    for one in three.members:
        one.answers["saslStart"] = error(18, "AuthenticationFailed", "Authentication failed.")
    assert ask(f"mongodb://app:app-secret@{','.join(three.places)}/").cause == "auth-refused"
    assert sum(one.asked.count("saslStart") for one in three.members) == 1


@pytest.mark.parametrize("offered", [["MONGODB-X509"], ["GSSAPI", "PLAIN"], []])
def test_logins_that_are_not_spoken(doorkeeper: Member, ask: Ask, offered: list[str]) -> None:
    """A server that offers a user nothing that is spoken here is `unsupported`, and is sent nothing."""
    doorkeeper.says = standalone(saslSupportedMechs=offered)
    verdict = ask(f"mongodb://app:app-secret@{doorkeeper.address}/")
    assert verdict.cause == "unsupported"
    assert all(name in verdict.seen for name in offered)
    assert doorkeeper.asked == ["hello"]
