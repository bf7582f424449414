"""Kafka: a cluster of two brokers with listeners of every kind, and one that starts under the gate.

The oracle is kafka-python: what it can produce to, holds, and the other way round.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service_precheck.model import Verdict
from tests.bed.opening import opened
from tests.bed.process import Gate
from tests.bed.services.kafka import Kafka, accepts, keystore
from tests.bed.services.kafka_driver import Driver
from tests.bed.sockets import Server, close
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(120)]

LISTENERS = {
    "PLAIN": "PLAINTEXT",
    "LOGIN": "SASL_PLAINTEXT",
    "BARE": "SASL_PLAINTEXT",
    "TOKEN": "SASL_PLAINTEXT",
    "SECURE": "SSL",
    "MUTUAL": "SSL",
    "GUARDED": "SASL_SSL",
    "CLOSED": "PLAINTEXT",
    "NAMELESS": "PLAINTEXT",
    "SWAPPED": "PLAINTEXT",
}
PASSWORD = "of-the-app"
ANOTHER = "of-nobody"
JAAS = "org.apache.kafka.common.security"
LOGINS = {
    "plain": f'{JAAS}.plain.PlainLoginModule required user_app="{PASSWORD}" user_stranger="{PASSWORD}";',
    "scram-sha-256": f"{JAAS}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{JAAS}.scram.ScramLoginModule required;",
    "oauthbearer": f"{JAAS}.oauthbearer.OAuthBearerLoginModule required;",
}
MECHANISMS = {
    "login": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    "bare": "PLAIN",
    "token": "OAUTHBEARER",
    "guarded": "PLAIN",
}


def settings(authority: Authority) -> dict[str, object]:
    """What gives the listeners their certificates and logins, and the users their rights."""
    found: dict[str, object] = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    pem = keystore(authority.issue(), authority.folder)
    for name in ("secure", "mutual", "guarded"):
        found[f"listener.name.{name}.ssl.keystore.type"] = "PEM"
        found[f"listener.name.{name}.ssl.keystore.location"] = pem
    found["listener.name.mutual.ssl.truststore.type"] = "PEM"
    found["listener.name.mutual.ssl.truststore.location"] = authority.file
    found["listener.name.mutual.ssl.client.auth"] = "required"
    for name, mechanisms in MECHANISMS.items():
        found[f"listener.name.{name}.sasl.enabled.mechanisms"] = mechanisms
        for mechanism in mechanisms.lower().split(","):
            found[f"listener.name.{name}.{mechanism}.sasl.jaas.config"] = LOGINS[mechanism]
    return found


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[Kafka]:
    """Two brokers, the topics and the users of the tests."""
    made = Kafka(2, LISTENERS, settings(authority))
    for node in (1, 2):
        made.advertised["CLOSED", node] = "localhost:1"
        made.advertised["NAMELESS", node] = f"kafka-{node}.nowhere.invalid:9092"
        made.advertised["SWAPPED", node] = made.where("SWAPPED", 3 - node)
        for name in ("SECURE", "MUTUAL", "GUARDED"):
            made.advertised[name, node] = made.where(name, node).replace("127.0.0.1", "localhost")
    with made:
        made.create("orders", 4, 2)
        made.create("hidden")
        made.create("safe", 1, 2, {"min.insync.replicas": "2"})
        made.create_on("lonely", 2)
        made.create_on("other", 1)
        made.account("app", PASSWORD, "SCRAM-SHA-256", "SCRAM-SHA-512")
        made.account("half", PASSWORD, "SCRAM-SHA-256")
        # The least that the probe needs, and what an application does.
        made.allow("app", "DESCRIBE", "orders")
        made.allow("app", "WRITE", "other")
        yield made


def login(mechanism: str, password: str = PASSWORD) -> dict[str, str]:
    """What the driver wants for a login of the app."""
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "app",
        "sasl_plain_password": password,
    }


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """The oracle."""
    with Driver() as made:
        yield made


def refused(verdict: Verdict, cause: str, *words: str) -> None:
    """See that it is not ready, by which cause, and that the sentence or the hint has these words."""
    assert verdict.cause == cause, verdict
    for word in words:
        assert word in f"{verdict.seen} | {verdict.hint}"


def test_version(cluster: Kafka, tested: Tested) -> None:
    """The broker is of a version that the documentation lists."""
    found = re.search(r"Kafka version: (\S+)", cluster.log())
    assert found
    tested("kafka", f"Kafka {found[1]}")


def test_what_each_level_proves(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """One broker that is reached; as many as asked for; a topic whose leaders answer; in-sync replicas."""
    place = cluster.place
    knows = f"{place} knows 2 brokers, and"
    one = f"{knows} broker 1 answers where it is advertised"
    both = f"{knows} brokers 1, 2 answer where they are advertised"
    assert ask(f"kafka://{place}").seen == one
    assert ask(f"kafka://{place}#brokers=2").seen == both
    orders = f"{both}; orders has 4 partitions, each with a leader that answers"
    assert ask(f"kafka://{place}#topic=orders").seen == orders
    synced = f"{orders} and at least 2 in-sync replicas"
    assert ask(f"kafka://{place}#topic=orders#partitions=4#min-isr=2").seen == synced
    other = f"{one}; other has 1 partition, each with a leader that answers"
    assert ask(f"kafka://{place}#topic=other").seen == other
    two = ask(f"kafka://{place}#topic=other#topic=lonely")
    assert two.ready
    assert "other has" in two.seen
    assert "lonely has" in two.seen
    assert driver.works(place)


def test_what_is_not_as_asked_for(cluster: Kafka, ask: Ask) -> None:
    """Too few partitions, replicas or brokers; a topic that is not there."""
    at = f"kafka://{cluster.place}"
    refused(ask(f"{at}#topic=orders#partitions=5"), "too-few", "4 partitions, 5 are")
    refused(ask(f"{at}#topic=orders#min-isr=3"), "too-few", "2 in-sync replicas, 3 are")
    refused(ask(f"{at}#brokers=3"), "too-few", "2 brokers, 3 are")
    refused(ask(f"{at}#topic=orders#topic=absent"), "missing-object", "absent")


def test_asking_makes_no_topic(cluster: Kafka, ask: Ask) -> None:
    """A topic that is asked for is not made by that, though the brokers make what a client names."""
    with cluster.admin() as admin:
        before = set(admin.list_topics())
        for _ in range(5):
            refused(ask(f"kafka://{cluster.place}#topic=never-made"), "missing-object")
        assert set(admin.list_topics()) == before


@pytest.mark.parametrize("listener", ["CLOSED", "NAMELESS", "SWAPPED"])
@pytest.mark.parametrize("topic", ["", "#topic=orders"])
def test_advertised_where_it_is_not(
    cluster: Kafka, listener: str, topic: str, ask: Ask, driver: Driver
) -> None:
    """fault 63: a broker that sends clients on to where it is not, or to another broker, is no use."""
    cause, words = {
        "CLOSED": ("refused", ("at localhost:1, but 127.0.0.1:1 refused",)),
        "NAMELESS": ("name-not-found", (".nowhere.invalid:9092, but no such name", "listeners")),
        "SWAPPED": ("not-ready", ("where another broker answers",)),
    }[listener]
    place = cluster.where(listener)
    refused(ask(f"kafka://{place}{topic}"), cause, f"{place} advertises broker ", *words)
    assert not driver.works(place, "orders", 1)


def test_the_port_of_the_controller(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """A controller speaks Kafka, and is not for clients: named, and without an error in its log."""
    before = len(cluster.log())
    refused(ask(f"kafka://{cluster.controller}"), "protocol", "knows no Metadata", "controller")
    assert not driver.works(cluster.controller, "orders", 1)
    noise = [line for line in cluster.log()[before:].splitlines() if "ERROR" in line]
    # The driver makes some.
    assert not [line for line in noise if "service-precheck" in line]


def test_several_hosts(cluster: Kafka, ask: Ask) -> None:
    """The first host that takes the conversation is enough; if none does, each is named."""
    two = cluster.where("PLAIN", 2)
    verdict = ask(f"kafka://127.0.0.1:1,{two},{cluster.place}#topic=orders")
    assert verdict.ready
    assert verdict.seen.startswith(f"{two} knows 2 brokers")
    with Server(close) as server:
        verdict = ask(f"kafka://127.0.0.1:1,{server.address}")
        refused(verdict, "refused", "127.0.0.1:1 refused", server.address)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_logins(cluster: Kafka, mechanism: str, ask: Ask, tmp_path: Path, driver: Driver) -> None:
    """Each mechanism logs in at each broker, and a wrong password is refused, as the driver has it."""
    place = cluster.where("LOGIN")
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    options = f"#mechanism={mechanism}#topic=orders#user=app#password-file={secret}"
    verdict = ask(f"kafka://{place}{options}")
    assert verdict.ready, verdict
    assert "brokers 1, 2 answer" in verdict.seen
    assert driver.works(place, "other", 3, login(mechanism))
    secret.write_text(ANOTHER)
    refused(ask(f"kafka://{place}{options}"), "auth-refused", "error 58", "uthentication failed")
    assert not driver.works(place, "other", 1, login(mechanism, ANOTHER))


def test_the_mechanism_is_found(cluster: Kafka, ask: Ask) -> None:
    """Without a word about it the strongest mechanism is taken, and another account's is hinted at."""
    place = cluster.where("LOGIN")
    assert ask(f"kafka://app:{PASSWORD}@{place}#topic=orders").ready
    # This one has an account of SCRAM-SHA-256 only, and none but its password's owner knows.
    half = ask(f"kafka://half:{PASSWORD}@{place}")
    refused(
        half, "auth-refused", "SCRAM-SHA-512", "it also takes PLAIN, SCRAM-SHA-256: #mechanism="
    )
    assert ask(f"kafka://half:{PASSWORD}@{place}#mechanism=SCRAM-SHA-256").ready


def test_a_password_is_not_sent_in_the_clear_unasked(cluster: Kafka, ask: Ask) -> None:
    """Where a broker has PLAIN alone and no TLS, it takes a word of the operator's."""
    place = cluster.where("BARE")
    refused(ask(f"kafka://app:{PASSWORD}@{place}"), "unsupported", "PLAIN only", "unprotected")
    assert ask(f"kafka://app:{PASSWORD}@{place}#mechanism=PLAIN").ready


def test_mechanisms_that_are_not_spoken(cluster: Kafka, ask: Ask) -> None:
    """What the broker has instead is named."""
    at = f"kafka://app:{PASSWORD}@{cluster.where('TOKEN')}"
    refused(ask(at), "unsupported", "by OAUTHBEARER only", "SCRAM-SHA-512, SCRAM-SHA-256, PLAIN")
    refused(ask(f"{at}#mechanism=PLAIN"), "unsupported", "by OAUTHBEARER, not by PLAIN")


def test_without_a_login(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """A listener that asks for a login answers, which is said; more than that takes one."""
    place = cluster.where("LOGIN")
    verdict = ask(f"kafka://{place}")
    assert verdict.ready
    asks = (
        f"{place} answers, and asks for a login by PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 (not tried)"
    )
    assert verdict.seen == asks
    for option in ("#topic=orders", "#brokers=1"):
        refused(ask(f"kafka://{place}{option}"), "auth-required", "before it says more", "#user=")
    assert not driver.works(place, "other", 1)


def test_a_login_where_none_is_taken(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """A listener without logins refuses one, for us and for the driver."""
    refused(ask(f"kafka://app:{PASSWORD}@{cluster.place}"), "unsupported", "takes no login")
    assert not driver.works(cluster.place, "other", 1, login("PLAIN"))


def test_a_topic_that_may_not_be_seen(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """Describe on the topic is the one right that the probe needs; without it nothing is learnt."""
    at = f"kafka://app:{PASSWORD}@{cluster.where('LOGIN')}"
    verdict = ask(f"{at}#topic=hidden")
    refused(verdict, "forbidden", "error 29 (TOPIC_AUTHORIZATION_FAILED)", "Describe")
    refused(ask(f"{at}#topic=absent"), "forbidden")
    assert not driver.works(cluster.where("LOGIN"), "hidden", 1, login("PLAIN"))
    assert ask(f"{at}#topic=orders").ready
    # It is for the probe alone: who would write needs Write.
    assert not driver.works(cluster.where("LOGIN"), "orders", 1, login("PLAIN"))


def test_tls(cluster: Kafka, authority: Authority, ask: Ask, driver: Driver) -> None:
    """Each broker's certificate is checked for the name that it is advertised by."""
    port = cluster.where("SECURE").rpartition(":")[2]
    ca = f"#ca={authority.file}"
    assert ask(f"kafka://localhost:{port}{ca}#topic=orders").ready
    oracle = {"security_protocol": "SSL", "ssl_cafile": str(authority.file)}
    assert driver.works(f"localhost:{port}", options=oracle)
    refused(ask(f"kafka://localhost:{port}#tls"), "tls-untrusted")
    refused(
        ask(f"kafka://127.0.0.1:{port}{ca}#server-name=else.example"), "tls-name", "else.example"
    )
    # What the first is called is not what the others are called.
    assert ask(f"kafka://127.0.0.1:{port}{ca}#server-name=::1#topic=orders").ready


def test_tls_mistaken(cluster: Kafka, authority: Authority, ask: Ask, driver: Driver) -> None:
    """Plain text at a port of TLS, and the reverse, are told as such."""
    port = cluster.where("SECURE").rpartition(":")[2]
    refused(
        ask(f"kafka://localhost:{port}"), "protocol", "answers in TLS to a plain request", "#tls"
    )
    assert not driver.works(f"localhost:{port}", "orders", 1)
    refused(ask(f"kafka://{cluster.place}#tls"), "closed-early", "without TLS")


def test_client_certificates(cluster: Kafka, authority: Authority, ask: Ask) -> None:
    """A listener that asks for a certificate takes a good one, and its owner has rights of its own."""
    place = cluster.where("MUTUAL").replace("127.0.0.1", "localhost")
    ca = f"kafka://{place}#ca={authority.file}"
    refused(ask(ca), "tls-client-cert", "#cert=")
    ours = authority.client()
    ca += f"#cert={ours.chain}#key={ours.key}"
    assert ask(ca).ready
    refused(ask(f"{ca}#topic=orders"), "forbidden")


def test_login_inside_tls(cluster: Kafka, authority: Authority, ask: Ask) -> None:
    """Inside TLS the password may be sent as it is, so PLAIN is found by itself."""
    place = cluster.where("GUARDED").replace("127.0.0.1", "localhost")
    assert ask(f"kafka://app:{PASSWORD}@{place}#ca={authority.file}#topic=orders").ready
    assert "asks for a login by PLAIN" in ask(f"kafka://{place}#ca={authority.file}").seen


def test_no_harm(cluster: Kafka, ask: Ask) -> None:
    """Many attempts with and without a login leave no line in the brokers' logs."""
    targets = (
        f"kafka://{cluster.place}#topic=orders",
        f"kafka://app:{PASSWORD}@{cluster.where('LOGIN')}#topic=orders",
        f"kafka://{cluster.where('LOGIN')}",
    )
    assert all(ask(target).ready for target in targets)
    before = [len(cluster.log(node)) for node in cluster.nodes]
    for _ in range(60):
        assert all(ask(target).ready for target in targets)
    told = [cluster.log(node)[size:] for node, size in zip(cluster.nodes, before, strict=True)]
    # The brokers speak of their own affairs meanwhile.
    ours = [line for line in "".join(told).splitlines() if "Selector" in line or "WARN" in line]
    assert ours == []


def test_a_broker_that_hangs(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """A broker that accepts and says nothing is named, and only who needs it is held up by it."""
    cluster.pause(2)
    try:
        place = cluster.where("PLAIN", 2)
        refused(ask(f"kafka://{place}", 0.5), "no-reply", place)
        lonely = ask(f"kafka://{cluster.place}#topic=lonely", 0.5)
        refused(lonely, "no-reply", f"advertises broker 2 at {place}, but", "said nothing")
        assert not driver.works(cluster.place, "lonely", 1)
        assert ask(f"kafka://{place},{cluster.place}#topic=other", 1).ready
    finally:
        cluster.resume(2)
    cluster.settled()


def test_a_broker_that_dies(
    cluster: Kafka, ask: Ask, gate: Callable[..., Gate], driver: Driver
) -> None:
    """Its partitions have no leader until it is back, the others shrink, and a gate opens then."""
    place = cluster.place
    assert ask(f"kafka://{place}#topic=lonely#brokers=2").ready
    cluster.stop(2, signal.SIGKILL)
    # The cluster does not know yet; whoever is sent there does.
    waiting = gate("--output", "json", "-v", f"kafka://{place}#topic=lonely#topic=orders#min-isr=1")
    where = cluster.where("PLAIN", 2)
    refused(ask(f"kafka://{place}#topic=lonely"), "refused", f"advertises broker 2 at {where}, but")
    refused(ask(f"kafka://{place}#brokers=2"), "refused", where)
    assert not driver.works(place, "lonely", 0.5)
    waiting.wait_output('"no-leader"')
    refused(ask(f"kafka://{place}#topic=lonely"), "no-leader", "0 of lonely has no leader: error 5")
    refused(ask(f"kafka://{place}#brokers=2"), "too-few", "knows 1 broker, 2 are asked for")
    refused(ask(f"kafka://{place}#topic=orders#min-isr=2"), "too-few", "1 in-sync replica, 2 are")
    assert not driver.works(place, "lonely", 0.5)
    # What takes writes that must not be lost takes two replicas.
    refused(ask(f"kafka://{place}#topic=safe#min-isr=2"), "too-few", "1 in-sync replica, 2 are")
    assert not driver.works(place, "safe", 0.5, {"acks": "all"})
    assert ask(f"kafka://{place}#topic=orders#min-isr=1").ready
    assert driver.works(place, "orders")
    cluster.begin(2)
    causes = opened(waiting, lambda: driver.works(place, "lonely", 0.5))
    assert {"refused", "no-leader"} <= causes <= {"refused", "no-leader", "missing-object"}
    cluster.settled()
    assert ask(f"kafka://{place}#topic=orders#topic=safe#min-isr=2#brokers=2").ready
    assert driver.works(place, "safe", 3, {"acks": "all"})


def test_without_the_controller(cluster: Kafka, ask: Ask, driver: Driver) -> None:
    """A broker serves what it leads, though the controller is gone: for us as for the driver."""
    cluster.stop(1, signal.SIGKILL)
    try:
        place = cluster.where("PLAIN", 2)
        assert ask(f"kafka://{place}#topic=lonely").ready
        assert driver.works(place, "lonely")
        refused(ask(f"kafka://{place}#topic=other"), "refused", "advertises broker 1")
        assert not driver.works(place, "other", 0.5)
        refused(ask(f"kafka://{cluster.controller}"), "refused")
    finally:
        cluster.start(1)
    cluster.settled()


def test_the_start_under_a_gate(ask: Ask, gate: Callable[..., Gate], driver: Driver) -> None:
    """fault 63: the controller's port is open seconds before a broker answers; no gate opens early."""
    with Kafka(started=False) as kafka:
        first = gate("--output", "json", "-v", f"kafka://{kafka.place}")
        first.wait_output('"refused"')
        kafka.begin()
        assert opened(first, lambda: driver.answers(kafka.place)) == {"refused"}
        kafka.wait()
        kafka.create("orders", 3)

        kafka.stop(1, signal.SIGKILL)
        again = gate("--output", "json", "-v", f"kafka://{kafka.place}#topic=orders#partitions=3")
        wrong = gate("--output", "json", "-v", f"kafka://{kafka.controller}")
        again.wait_output('"refused"')
        kafka.begin()
        # The old session has to end first.
        wrong.wait_output('"protocol"')
        assert not accepts(kafka.place)
        assert again.running()
        causes = opened(again, lambda: driver.works(kafka.place, "orders", 0.5))
        assert "refused" in causes
        assert causes <= {"refused", "no-leader", "too-few", "missing-object"}
        assert wrong.running()
