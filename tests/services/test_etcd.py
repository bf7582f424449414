"""`etcd:` against real members and clusters, of Debian's version and the newest; etcdctl is the oracle."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from service_precheck.codecs import protobuf
from tests.bed.fixtures import Enter
from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.etcd import NEW, OLD, Etcd, EtcdCluster
from tests.bed.services.grpc_server import GrpcServer, call
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("etcd"), pytest.mark.timeout(120)]

StartGate = Callable[..., Gate]
VERSIONS = pytest.mark.parametrize("which", [OLD, NEW], ids=["old", "new"])


@pytest.fixture(scope="module", params=[OLD, NEW], ids=["old", "new"])
def one(request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """A member by itself, with the key /config/app."""
    with Etcd(request.param) as etcd:
        etcd.wait_serving()
        etcd.ctl("put", "/config/app", "1")
        yield etcd


@pytest.fixture(scope="module", params=[OLD, NEW], ids=["old", "new"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """A member with authentication enabled, and the rights that the documentation tells to give."""
    with Etcd(request.param) as etcd:
        etcd.wait_serving()
        etcd.ctl("put", "/config/app", "1")
        for words in (
            "user add root:root-secret",
            "user grant-role root root",
            "role add precheck",
            "role grant-permission precheck read /config/app",
            "user add precheck:precheck-secret",
            "user grant-role precheck precheck",
            "user add nobody:nobody-secret",
            "auth enable",
        ):
            done = etcd.ctl(*words.split())
            assert done.returncode == 0, done.stderr
        yield etcd


def status(etcd: Etcd, *words: str) -> list[str]:
    """What etcdctl tells of a member: place, id, version, size, whether it leads, whether it is a
    learner, the term, the index of the log, what of it was applied, errors."""
    return etcd.ctl("endpoint", "status", "-w", "simple", *words).stdout.strip().split(", ")


def served(etcd: Etcd, timeout: float = 1.0) -> bool:
    """Whether etcd's own client gets a linearizable read from this member."""
    return etcd.ctl("get", "health", timeout=timeout).returncode == 0


# -- one member


def test_versions(one: Etcd, tested: Tested) -> None:
    """The documentation lists the versions that are tested here."""
    tested("etcd", f"etcd {status(one)[2]}")


def test_ready(one: Etcd, ask: Ask) -> None:
    """A member that answers linearizable reads is ready, and says which etcd it is."""
    verdict = ask(f"etcd://{one.place}")
    assert served(one)
    assert verdict.ready
    assert verdict.seen == f"{one.place} answers linearizable reads (etcd {status(one)[2]})"


def test_key(one: Etcd, ask: Ask) -> None:
    """`key` must exist, by its whole name."""
    verdict = ask(f"etcd://{one.place}#key=/config/app")
    assert verdict.ready
    assert verdict.seen.startswith(f"{one.place} has the key /config/app (etcd 3.")
    missing = ask(f"etcd://{one.place}#key=/config/ap")
    assert missing.cause == "missing-object"
    assert missing.seen == f"{one.place} has no key /config/ap"


def test_member_of_one(one: Etcd, ask: Ask) -> None:
    """`member` with one host holds when that one serves."""
    verdict = ask(f"etcd://{one.place}#member")
    assert verdict.ready
    assert verdict.seen.endswith(", as a voting member")


def test_no_alarm(one: Etcd, ask: Ask) -> None:
    """`alarms` says that none is raised."""
    verdict = ask(f"etcd://{one.place}#alarms")
    assert verdict.ready
    assert verdict.seen.endswith(", no alarm is raised")


def test_login_where_none_is_needed(one: Etcd, ask: Ask) -> None:
    """Without authentication a login is no obstacle, for us as for etcd's own client."""
    verdict = ask(f"etcd://app:any-secret@{one.place}")
    assert one.ctl("get", "x", "--user=app:any-secret").returncode == 0
    assert verdict.ready
    assert verdict.seen.endswith(", has authentication not enabled")


def test_no_harm(one: Etcd, ask: Ask) -> None:
    """Three hundred probes write nothing, not even into the cluster's log, and leave no line in the
    server's."""

    def ask_all() -> None:
        for options in ("", "#key=/config/app", "#alarms", "#member", "#key=/none"):
            for _ in range(30):
                ask(f"etcd://{one.place}{options}")

    index = status(one)[7]
    ask_all()
    assert status(one)[7] == index
    # Begun anew, it has no client but us: etcdctl breaks its connections off, and that is logged late.
    one.stop()
    begun = len(one.log)
    one.start()
    one.wait_until(lambda: "serving client traffic" in one.log[begun:])
    one.wait_until(lambda: ask(f"etcd://{one.place}").ready)
    lines = len(one.complaints)
    ask_all()
    assert one.complaints[lines:] == []


def test_hangs(one: Etcd, ask: Ask) -> None:
    """A member that is stopped accepts and says nothing: `no-reply`."""
    one.pause()
    try:
        verdict = ask(f"etcd://{one.place}", 0.5)
    finally:
        one.resume()
    assert verdict.cause == "no-reply"
    assert "has not joined its cluster" in verdict.hint
    assert ask(f"etcd://{one.place}").ready


def test_another_grpc_server(ask: Ask) -> None:
    """A gRPC server that is no etcd is named as such."""
    with GrpcServer() as server:
        verdict = ask(f"etcd://{server.address}")
    assert verdict.cause == "protocol"
    assert verdict.seen.endswith("it speaks gRPC, and is no etcd")


# -- logins


@pytest.mark.parametrize(
    ("user", "password", "key", "cause"),
    [
        ("root", "root-secret", "/config/app", None),
        ("root", "root-secret", "/none", "missing-object"),
        ("precheck", "precheck-secret", "/config/app", None),
        ("precheck", "precheck-secret", "/other", "forbidden"),
        ("precheck", "another", "/config/app", "auth-refused"),
        ("stranger", "another", "/config/app", "auth-refused"),
        ("nobody", "nobody-secret", "/config/app", "forbidden"),
        ("", "", "/config/app", "auth-required"),
    ],
)
def test_login(
    guarded: Etcd, user: str, password: str, key: str, cause: str | None, ask: Ask, tmp_path: Path
) -> None:
    """Each login gets what etcd's own client gets with it."""
    secret = tmp_path / "secret"
    secret.write_text(f"{password}\n")
    login = f"#user={user}#password-file={secret}" if user else ""
    verdict = ask(f"etcd://{guarded.place}#key={key}{login}")
    oracle = guarded.ctl("get", key, *([f"--user={user}:{password}"] if user else []))
    assert verdict.cause == cause, verdict.seen
    assert (oracle.returncode == 0 and bool(oracle.stdout)) is verdict.ready
    if oracle.returncode:
        # The server's own words.
        words = re.search(r"etcdserver: ([a-z ,]+)", oracle.stderr)
        assert words is not None, oracle.stderr
        assert words[1].strip() in verdict.seen
    assert password == "" or password not in f"{verdict.seen}{verdict.hint}"


@pytest.mark.parametrize(
    ("login", "seen"),
    [
        ("", "has a majority for reads, and asks for a login (not tried)"),
        ("precheck:precheck-secret@", "has a majority for reads"),
        ("root:root-secret@", "answers linearizable reads"),
    ],
)
def test_no_right_is_needed(guarded: Etcd, login: str, seen: str, ask: Ask) -> None:
    """Without a `key` no right is needed to learn that the cluster serves: a refusal comes after the
    agreement, as etcd's own health check takes it."""
    verdict = ask(f"etcd://{login}{guarded.place}#member#alarms")
    assert verdict.ready, verdict
    assert verdict.seen.startswith(f"{guarded.place} {seen}")
    assert "no alarm is raised" in verdict.seen
    assert ("takes the login of" in verdict.seen) is bool(login)


def test_refused_login_in_the_log(guarded: Etcd, ask: Ask, gate: StartGate) -> None:
    """fault 58: a refused login is asked ever more rarely, or is final where that is asked for."""
    target = f"etcd://precheck:wrong-secret@{guarded.place}"
    lines = len(guarded.complaints)
    running = gate(target, "--timeout", "2.5s")
    assert running.wait().status == 124
    # At once, after a second; the next would be after three.
    assert len(guarded.complaints) - lines == 2
    done = gate(f"{target}#on-auth-refused=fail").wait()
    assert done.status == 1
    assert "wrong-secret" not in done.stderr + done.stdout


# -- alarms


def alarm(etcd: Etcd, kind: int, *words: str) -> None:
    """Raise an alarm as a member does that has a reason to."""
    member = int(status(etcd, *words)[1], 16)
    fields = ((1, 1), (2, member), (3, kind))
    question = b"".join(protobuf.number(*field) for field in fields)
    call(etcd.place, "/etcdserverpb.Maintenance/Alarm", question)


@VERSIONS
def test_no_space(which: str, enter: Enter, ask: Ask) -> None:
    """A full database: NOSPACE is told where reads are what counts, and blocks with `alarms`."""
    etcd = enter(Etcd(which, options=["--quota-backend-bytes", "200000"])).wait_serving()
    puts = (etcd.ctl("put", f"k{number}", "x" * 50_000) for number in range(20))
    assert any("database space exceeded" in put.stderr for put in puts)
    assert served(etcd)
    verdict = ask(f"etcd://{etcd.place}")
    assert verdict.ready
    assert verdict.seen.endswith(", the alarm NOSPACE is raised")
    verdict = ask(f"etcd://{etcd.place}#alarms")
    assert verdict.cause == "alarm"
    assert verdict.seen == f"{etcd.place} tells of the alarm NOSPACE"
    etcd.ctl("alarm", "disarm")
    assert ask(f"etcd://{etcd.place}#alarms").ready


@VERSIONS
def test_corrupt(which: str, enter: Enter, ask: Ask) -> None:
    """CORRUPT is told, and blocks with `alarms`; else it counts as far as etcd itself lets it count."""
    etcd = enter(Etcd(which)).wait_serving()
    alarm(etcd, 2)
    assert "CORRUPT" in etcd.ctl("alarm", "list").stdout
    verdict = ask(f"etcd://{etcd.place}")
    assert verdict.ready is served(etcd)
    assert verdict.ready or verdict.cause == "alarm"
    assert "corrupt" in verdict.seen.lower()
    assert ask(f"etcd://{etcd.place}#alarms").cause == "alarm"


def test_alarms_without_rights(guarded: Etcd, ask: Ask) -> None:
    """With authentication enabled a login without any rights learns of alarms, too."""
    root = "--user=root:root-secret"
    alarm(guarded, 1, root)
    try:
        verdict = ask(f"etcd://nobody:nobody-secret@{guarded.place}#alarms")
    finally:
        guarded.ctl("alarm", "disarm", root)
    assert verdict.cause == "alarm"
    assert "NOSPACE" in verdict.seen


# -- TLS


@VERSIONS
def test_client_certificates(which: str, enter: Enter, ask: Ask, authority: Authority) -> None:
    """A server that wants a client's certificate of its authority gets it, or that is said."""
    etcd = enter(Etcd(which, certificate=authority.issue(), demand=authority))
    ours, theirs = authority.client(), enter(Authority()).client()
    target = f"etcd://{etcd.place}#ca={authority.file}"
    good = f"{target}#cert={ours.chain}#cert-key={ours.key}"
    etcd.wait_until(lambda: ask(good).ready)
    words = [f"--cacert={authority.file}", f"--cert={ours.chain}", f"--key={ours.key}"]
    assert etcd.ctl("get", "x", *words).returncode == 0
    verdict = ask(f"etcd://{etcd.place}", 2)
    assert verdict.cause == "closed-early"
    assert "#tls" in verdict.hint
    for bad, cause in (
        (target, "tls-client-cert"),
        (f"{target}#cert={theirs.chain}#cert-key={theirs.key}", "tls-client-cert"),
        (f"etcd://{etcd.place}#tls#cert={ours.chain}#cert-key={ours.key}", "tls-untrusted"),
        (f"{good}#server-name=other.example", "tls-name"),
    ):
        verdict = ask(bad, 2)
        assert verdict.cause == cause, verdict


def test_tls_to_a_plain_port(one: Etcd, ask: Ask) -> None:
    """fault 15: asked in TLS, a plain server is named as plain."""
    verdict = ask(f"etcd://{one.place}#tls", 2)
    assert verdict.cause in ("tls-plaintext", "closed-early"), verdict


@VERSIONS
def test_login_by_certificate(which: str, enter: Enter, ask: Ask, authority: Authority) -> None:
    """With authentication enabled the name in a client's certificate is the user."""
    etcd = enter(Etcd(which, certificate=authority.issue(), demand=authority))
    words = [f"--cacert={authority.file}"]
    for name in ("root", "stranger"):
        shown = authority.client(name)
        options = f"#ca={authority.file}#cert={shown.chain}#cert-key={shown.key}"
        words = [f"--cacert={authority.file}", f"--cert={shown.chain}", f"--key={shown.key}"]
        target = f"etcd://{etcd.place}#key=/config/app{options}"
        if name == "root":
            etcd.wait_until(lambda options=options: ask(f"etcd://{etcd.place}{options}").ready)  # type: ignore[misc]
            etcd.ctl("put", "/config/app", "1", *words)
            etcd.ctl("user", "add", "root:root-secret", *words)
            etcd.ctl("user", "grant-role", "root", "root", *words)
            assert etcd.ctl("auth", "enable", *words).returncode == 0
        verdict = ask(target)
        assert verdict.ready is (etcd.ctl("get", "/config/app", *words).returncode == 0)
        assert verdict.cause == (None if name == "root" else "forbidden"), verdict


# -- clusters


def test_learner(enter: Enter, ask: Ask) -> None:
    """A learner serves nothing until it is promoted, and is told as what it is."""
    first = enter(Etcd(OLD)).wait_serving()
    second = Etcd(OLD, name="two")
    url = second.peer.partition("=")[2]
    assert first.ctl("member", "add", "two", "--learner", f"--peer-urls={url}").returncode == 0
    second.join(f"{first.peer},{second.peer}", "existing")
    enter(second)
    second.wait_until(lambda: ask(f"etcd://{second.place}").cause == "not-ready")
    verdict = ask(f"etcd://{second.place}")
    assert "not supported for learner" in verdict.seen
    assert not served(second)
    assert ask(f"etcd://{first.place}#member").ready
    assert ask(f"etcd://{second.place},{first.place}").ready
    assert ask(f"etcd://{first.place},{second.place}#member").cause == "not-ready"
    number = next(
        line.partition(",")[0]
        for line in first.ctl("member", "list").stdout.splitlines()
        if url in line
    )
    second.wait_until(lambda: first.ctl("member", "promote", number).returncode == 0)
    second.wait_until(lambda: ask(f"etcd://{first.place},{second.place}#member").ready)
    assert served(second)


@VERSIONS
def test_losing_members(which: str, enter: Enter, ask: Ask, gate: StartGate) -> None:
    """fault 65: of three members one may go; with two gone there is no leader, until the second is back."""
    cluster = enter(EtcdCluster(3, which))
    whole = f"etcd://{cluster.places}"
    verdict = ask(whole)
    assert verdict.ready
    for member in cluster.members:
        member.wait_serving()
    every = ask(f"{whole}#member")
    assert every.seen.endswith("all do, 3 voting members of one cluster"), every
    last = cluster.leader()
    first, second = (member for member in cluster.members if member is not last)

    first.stop()
    assert cluster.ctl("get", "x").returncode == 0
    assert ask(whole).ready
    verdict = ask(f"{whole}#member")
    assert verdict.cause == "refused"
    assert first.place in verdict.seen

    second.stop(signal.SIGKILL)
    # It believes to lead for a moment, and then knows that it does not.
    verdict = ask(f"etcd://{last.place}", 3)
    assert verdict.cause in ("no-leader", "no-quorum"), verdict
    last.wait_until(lambda: "no leader" in ask(f"etcd://{last.place}").seen)
    verdict = ask(whole)
    assert verdict.cause == "no-leader"
    assert all(member.place in verdict.seen for member in cluster.members)
    assert not served(last)
    running = gate(whole)
    running.wait_output("no-leader")
    assert running.running()
    second.start()
    assert running.wait().status == 0
    assert served(second, 5)


@VERSIONS
def test_leader_hangs(which: str, enter: Enter, ask: Ask) -> None:
    """A leader that hangs holds up the read of a follower until the others elect another; the hosts
    named behind it are asked even so."""
    cluster = enter(EtcdCluster(3, which))
    leader = cluster.leader()
    follower = next(member for member in cluster.members if member is not leader)
    follower.wait_serving()
    leader.pause()
    verdict = ask(f"etcd://{follower.place}", 0.2)
    assert verdict.cause in ("no-quorum", "no-leader"), verdict
    follower.wait_until(lambda: ask(f"etcd://{follower.place}").ready)
    assert served(follower, 5)
    assert ask(f"etcd://{leader.place},{follower.place}", 2).ready
    verdict = ask(f"etcd://{leader.place},{follower.place}#member", 1)
    assert verdict.cause == "no-reply"
    leader.resume()
    leader.wait_until(lambda: ask(f"etcd://{leader.place},{follower.place}#member").ready)


def test_two_clusters(one: Etcd, enter: Enter, ask: Ask) -> None:
    """Hosts of different clusters are told apart by `member`, and serve each by itself."""
    other = enter(Etcd(NEW, options=["--initial-cluster-token", "other"])).wait_serving()
    verdict = ask(f"etcd://{one.place},{other.place}#member")
    assert verdict.cause == "not-ready"
    assert f"{other.place} of another one" in verdict.seen
    assert ask(f"etcd://{other.place},{one.place}").ready


def test_member_needs_answers_of_several(guarded: Etcd, one: Etcd, ask: Ask) -> None:
    """With several hosts `member` compares their clusters, which a refusal does not tell."""
    verdict = ask(f"etcd://{guarded.place},{one.place}#member")
    assert verdict.cause == "auth-required"


# -- the start-up window


def reads(etcd: Etcd, timeout: float = 5) -> bool:
    """Whether grpcio's client gets a linearizable read from this member, at the first attempt."""
    try:
        call(etcd.place, "/etcdserverpb.KV/Range", protobuf.text(1, "x"), timeout=timeout)
    except grpc.RpcError:
        return False
    return True


@VERSIONS
def test_starts_under_the_gate(which: str, enter: Enter, gate: StartGate) -> None:
    """A gate opens once etcd's clients are served, not before, and again after a kill."""
    etcd = Etcd(which)
    for how in ("first start", "restart after kill -9"):
        running = gate(f"etcd://{etcd.place}")
        running.wait_output("refused")
        if how == "first start":
            enter(etcd)
        else:
            etcd.start()
        opened(running, lambda: reads(etcd))
        etcd.stop(signal.SIGKILL)


@VERSIONS
def test_one_of_three_under_the_gate(which: str, enter: Enter, gate: StartGate) -> None:
    """fault 65: one member of three accepts and never answers; with the second the gate opens."""
    cluster = enter(EtcdCluster(3, which, start=False))
    first, second, _ = cluster.members
    first.start()
    running = gate(f"etcd://{cluster.places}", "-v")
    running.wait_output(f"{first.place} accepted the connection, then said nothing")
    assert not reads(first, 0.5)
    assert running.running()
    second.start()
    opened(running, lambda: reads(first))
    assert cluster.ctl("get", "x").returncode == 0
