"""AMQP against RabbitMQ; pika says what an application meets.

What it costs the broker is counted by the broker itself: its connections, its messages, its log.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pika
import pika.exceptions
import pytest

from tests.bed.opening import opened
from tests.bed.process import Gate, run
from tests.bed.services.rabbitmq import RabbitMQ
from tests.bed.tls import Authority
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("amqp"), pytest.mark.timeout(120)]

NOTHING = ("^$", "^$", "^$")
logging.getLogger("pika").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
def rabbit(authority: Authority) -> Iterator[RabbitMQ]:
    """A broker with a user, a vhost with rights for him and one without."""
    with RabbitMQ(authority=authority) as broker:
        broker.vhost("orders/eu")
        broker.vhost("closed")
        broker.user("app", "s3cret")
        broker.user("app", "s3cret", "orders/eu")
        broker.user("client@example.org", "other")
        with broker.connect() as connection:
            channel = connection.channel()
            channel.queue_declare("new", durable=True)
            channel.exchange_declare("events", "topic", durable=True)
            channel.basic_publish("", "new", b"one", pika.BasicProperties(delivery_mode=2))
        yield broker


def target(rabbit: RabbitMQ, rest: str = "", login: str = "app:s3cret@") -> str:
    return f"amqp://{login}{rabbit.place}{rest}"


def test_the_version_is_listed(rabbit: RabbitMQ, tested: Tested) -> None:
    """The broker that is tested is the one that the documentation names."""
    tested("amqp", rabbit.version)


def test_without_login(rabbit: RabbitMQ, ask: Ask) -> None:
    """A broker answers, and what was not tried is said."""
    verdict = ask(target(rabbit, login=""))
    assert verdict.ready
    assert verdict.seen == f"{rabbit.place} is {rabbit.version} and asks for a login (not tried)"


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", "opens the vhost / to app"),
        ("/", "opens the vhost / to app"),
        ("/%2F", "opens the vhost / to app"),
        ("/%2f?heartbeat=10#alarms", "opens the vhost / to app, no alarm"),
        ("/orders%2Feu", "opens the vhost orders/eu to app"),
        ("#queue=new", "the queue new is there (messages 1, consumers 0)"),
        ("#exchange=events#exchange=amq.topic", "the exchange events is there, the exchange amq.t"),
        ("#queue=new#exchange=events#alarms", "(messages 1, consumers 0), the exchange events is"),
    ],
)
def test_ready(rabbit: RabbitMQ, rest: str, said: str, ask: Ask) -> None:
    """Ready says what was proven, and at which broker."""
    verdict = ask(target(rabbit, rest))
    assert verdict.ready, verdict.seen
    assert verdict.seen.startswith(f"{rabbit.place} ({rabbit.version}) opens the vhost")
    assert said in verdict.seen


def oracle(user: str, password: str, vhost: str, queue: str, exchange: str, port: int) -> int:
    """What pika gets of the same: 0 when all works, else the broker's reply code."""
    place = pika.ConnectionParameters("127.0.0.1", port, vhost)
    place.credentials = pika.PlainCredentials(user, password)
    try:
        with pika.BlockingConnection(place) as connection:
            channel = connection.channel()
            if queue:
                channel.queue_declare(queue, passive=True)
            if exchange:
                channel.exchange_declare(exchange, passive=True)
    except pika.exceptions.ProbableAuthenticationError:
        return 403
    except pika.exceptions.ProbableAccessDeniedError:
        return 530
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker) as e:
        return int(e.reply_code)
    return 0


@pytest.mark.parametrize(
    ("user", "password", "vhost", "queue", "exchange", "cause"),
    [
        ("app", "s3cret", "/", "new", "events", None),
        ("app", "wrong-one", "/", "", "", "auth-refused"),
        ("nobody", "s3cret", "/", "", "", "auth-refused"),
        ("app", "s3cret", "nowhere", "", "", "missing-object"),
        ("app", "s3cret", "closed", "", "", "forbidden"),
        ("app", "s3cret", "/", "gone", "", "missing-object"),
        ("app", "s3cret", "/", "", "gone", "missing-object"),
        ("app", "s3cret", "/", "new", "gone", "missing-object"),
    ],
)
def test_as_the_driver_meets_it(
    rabbit: RabbitMQ,
    user: str,
    password: str,
    vhost: str,
    queue: str,
    exchange: str,
    cause: str | None,
    ask: Ask,
) -> None:
    """Ready if and only if pika works; else the broker's code is in what is said."""
    options = "".join(f"#{k}={v}" for k, v in (("queue", queue), ("exchange", exchange)) if v)
    path = "/" if vhost == "/" else f"/{vhost}"
    verdict = ask(target(rabbit, path + options, f"{user}:{password}@"))
    assert verdict.cause == cause, verdict.seen
    code = oracle(user, password, vhost, queue, exchange, rabbit.port)
    assert (code == 0) == verdict.ready
    assert not code or f" answers {code} " in verdict.seen
    assert password not in verdict.seen


def test_no_rights_at_all_are_needed(rabbit: RabbitMQ, ask: Ask) -> None:
    """A user who may configure, write and read nothing sees queues, exchanges and alarms."""
    rabbit.user("watcher", "other-one", rights=NOTHING)
    rest = "#queue=new#exchange=events#alarms"
    verdict = ask(target(rabbit, rest, "watcher:other-one@"))
    assert verdict.ready, verdict.seen


def test_a_queue_of_another_connection(rabbit: RabbitMQ, ask: Ask) -> None:
    """An exclusive queue is there, and it is said for whom; the next question is asked all the same."""
    with rabbit.connect() as connection:
        connection.channel().queue_declare("mine", exclusive=True)
        verdict = ask(target(rabbit, "#queue=mine#exchange=events#alarms"))
    assert verdict.ready
    assert "the queue mine is there, for another connection only, the exchange ev" in verdict.seen
    assert ask(target(rabbit, "#queue=mine")).cause == "missing-object"


def test_a_loopback_user_from_afar(rabbit: RabbitMQ, ask: Ask) -> None:
    """guest is told why he is refused: in the broker's default from its own machine only."""
    verdict = ask(target(rabbit, login="guest:wrong-one@"))
    assert verdict.cause == "auth-refused"
    assert "loopback_users" in verdict.hint


INTERNAL = "rabbit_auth_backend_internal"
USER_LIMIT = f'{INTERNAL}:set_user_limits(<<"app">>, #{{<<"max-%s">> => 0}}, <<"bed">>)'
NO_USER_LIMIT = f'{INTERNAL}:clear_user_limits(<<"app">>, <<"all">>, <<"bed">>)'


@pytest.mark.parametrize(
    ("limit", "lift"),
    [
        (
            'rabbit_vhost_limit:set(<<"/">>, [{<<"max-connections">>, 0}], <<"bed">>)',
            'rabbit_vhost_limit:clear(<<"/">>, <<"bed">>)',
        ),
        (USER_LIMIT % "connections", NO_USER_LIMIT),
        (USER_LIMIT % "channels", NO_USER_LIMIT),
    ],
    ids=["of the vhost", "of the user", "of the user's channels"],
)
def test_limits(rabbit: RabbitMQ, limit: str, lift: str, ask: Ask) -> None:
    """A limit that is reached is `overloaded`, in the broker's words, and lifted it is ready."""
    rabbit.eval(limit)
    try:
        verdict = ask(target(rabbit))
        assert oracle("app", "s3cret", "/", "new", "", rabbit.port)
    finally:
        rabbit.eval(lift)
    assert verdict.cause == "overloaded", verdict.seen
    assert "limit" in verdict.seen
    assert ask(target(rabbit)).ready


def test_a_vhost_that_is_down(rabbit: RabbitMQ, ask: Ask) -> None:
    """A vhost that exists and whose processes do not is `not-ready`, with how to bring it back."""
    rabbit.vhost("broken")
    rabbit.user("app", "s3cret", "broken")
    assert ask(target(rabbit, "/broken")).ready
    rabbit.eval('rabbit_vhost_sup_sup:stop_and_delete_vhost(<<"broken">>)')
    verdict = ask(target(rabbit, "/broken"))
    assert verdict.cause == "not-ready"
    assert "is down" in verdict.seen
    assert "restart_vhost" in verdict.hint
    assert oracle("app", "s3cret", "broken", "", "", rabbit.port)


@contextmanager
def alarm(rabbit: RabbitMQ, *resources: str) -> Iterator[None]:
    """An alarm of the broker's own monitors, until the end of the block."""
    raising = {
        "memory": "vm_memory_monitor:set_vm_memory_high_watermark(0.000001)",
        "disk": "rabbit_disk_monitor:set_disk_free_limit(900000000000000)",
    }
    lifting = {
        "memory": "vm_memory_monitor:set_vm_memory_high_watermark(0.9)",
        "disk": 'rabbit_disk_monitor:set_disk_free_limit("1MB")',
    }
    rabbit.eval(*(raising[one] for one in resources))
    alarms(rabbit, len(resources))
    try:
        yield
    finally:
        rabbit.eval(*(lifting[one] for one in resources))
        alarms(rabbit, 0)


def alarms(rabbit: RabbitMQ, count: int) -> None:
    """Wait until the broker has that many alarms."""
    rabbit.daemon.wait_until(lambda: rabbit.eval("length(rabbit_alarm:get_alarms())") == str(count))


def connections(rabbit: RabbitMQ) -> int:
    return int(rabbit.eval("length(rabbit_networking:local_connections())"))


def driver_publishes(rabbit: RabbitMQ) -> bool:
    """Whether what pika publishes is confirmed, or its connection blocked."""
    try:
        with rabbit.connect("app", "s3cret") as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", "new", b"more")
            channel.queue_purge("new")
    except pika.exceptions.ConnectionBlockedTimeout:
        return False
    return True


@pytest.mark.parametrize("resources", [("memory",), ("disk",), ("memory", "disk")])
def test_alarms(rabbit: RabbitMQ, resources: tuple[str, ...], ask: Ask) -> None:
    """fault 64: an alarm is told, and with `alarms` it blocks, as it blocks pika; lifted, it is over."""
    assert driver_publishes(rabbit)
    with alarm(rabbit, *resources):
        told, blocked = ask(target(rabbit, "#queue=new")), ask(target(rabbit, "#queue=new#alarms"))
        assert not driver_publishes(rabbit)
    assert told.ready
    assert "), who publishes is blocked: low on " in told.seen
    assert all(resource in told.seen for resource in resources)
    assert blocked.cause == "alarm"
    assert all(resource in blocked.seen for resource in resources)
    assert ask(target(rabbit, "#alarms")).ready


def test_an_alarm_leaves_no_connections_behind(rabbit: RabbitMQ, ask: Ask) -> None:
    """A connection that was blocked is dropped while the alarm lasts: the broker does not fill up."""
    with alarm(rabbit, "disk"):
        for _ in range(20):
            assert ask(target(rabbit, "#alarms"), timeout=2).cause == "alarm"
        rabbit.daemon.wait_until(lambda: connections(rabbit) == 0)
        assert rabbit.eval("length(rabbit_alarm:get_alarms())") == "1"


def test_gates_that_wait_for_the_end_of_an_alarm(rabbit: RabbitMQ) -> None:
    """fault 64: each waits on one connection, however long, and leaves at once when it is over."""
    with contextlib.ExitStack() as stack:
        with alarm(rabbit, "disk"):
            text = target(rabbit, "#alarms#attempt-timeout=1s")
            options = "--output", "json", "-v"
            gates = [stack.enter_context(Gate(*options, text)) for _ in range(5)]
            for gate in gates:
                gate.wait_output('"attempts":4')
            assert connections(rabbit) == len(gates)
        for gate in gates:
            done = gate.wait()
            assert (done.status, "no alarm" in done.stdout) == (0, True), done.stdout
    rabbit.daemon.wait_until(lambda: connections(rabbit) == 0)


def test_an_alarm_that_ends_opens_the_gate(rabbit: RabbitMQ) -> None:
    """fault 64: the gate waits while the alarm lasts, and opens when it is lifted."""
    with Gate(target(rabbit, "#alarms")) as gate:
        with alarm(rabbit, "memory"):
            pass
        assert gate.wait().status == 0
    with alarm(rabbit, "memory"):
        gate = Gate(target(rabbit, "#alarms")).__enter__()
        gate.wait_output("[alarm]")
        assert gate.running()
    done = gate.wait()
    gate.__exit__(None, None, None)
    assert done.status == 0, done.stderr


def test_it_does_no_harm(rabbit: RabbitMQ, ask: Ask) -> None:
    """Five hundred probes: nothing published, no connection left, nothing but notes in the log."""
    counted = "messages_received_total"
    asked = (
        f"maps:get({counted}, maps:get([{{protocol, amqp091}}], rabbit_global_counters:overview()))"
    )
    before, log = rabbit.eval(asked), len(rabbit.log)
    full = target(rabbit, "#queue=new#exchange=events#alarms")
    for _ in range(500):
        verdict = ask(full)
        assert verdict.ready, verdict.seen
    assert rabbit.eval(asked) == before
    assert connections(rabbit) == 0
    said = rabbit.log[log:]
    assert "[warning]" not in said
    assert "[error]" not in said
    assert said.count("authenticated and granted access") == 500


def test_without_login_it_warns_once_an_attempt(rabbit: RabbitMQ, ask: Ask) -> None:
    """A goodbye before the login is not in the protocol: the broker notes a warning, and no error."""
    log = len(rabbit.log)
    assert ask(target(rabbit, login="")).ready
    rabbit.daemon.wait_until(lambda: "unexpectedly closed" in rabbit.log[log:])
    assert "[error]" not in rabbit.log[log:]


def test_tls(rabbit: RabbitMQ, authority: Authority, ask: Ask) -> None:
    """Over TLS with a trusted certificate it is ready; without trust it is not; nor in plain text."""
    secure = f"amqps://app:s3cret@{rabbit.tls_place}#queue=new"
    verdict = ask(f"{secure}#ca={authority.file}")
    assert verdict.ready, verdict.seen
    assert ask(secure).cause == "tls-untrusted"
    plain = ask(f"amqps://{rabbit.place}")
    assert plain.cause == "tls-plaintext"
    assert "amqp://" in plain.hint
    reverse = ask(f"amqp://{rabbit.tls_place}")
    assert reverse.cause in ("protocol", "closed-early")


def test_a_certificate_as_login(rabbit: RabbitMQ, authority: Authority, ask: Ask) -> None:
    """EXTERNAL: the certificate's common name is the user; one that nobody has is refused."""
    known, unknown = authority.client(), authority.client("stranger@example.org")
    secure = f"amqps://{rabbit.tls_place}#ca={authority.file}#mechanism=external#cert="
    verdict = ask(f"{secure}{known.chain}#key={known.key}#queue=new")
    assert verdict.ready, verdict.seen
    assert "opens the vhost / to the certificate's user" in verdict.seen
    assert ask(f"{secure}{unknown.chain}#key={unknown.key}").cause == "auth-refused"
    inquery = f"amqps://{rabbit.tls_place}/?auth_mechanism=external#ca={authority.file}"
    assert ask(f"{inquery}#cert={known.chain}#key={known.key}#alarms").ready


def test_a_mechanism_that_is_not_offered(rabbit: RabbitMQ, authority: Authority, ask: Ask) -> None:
    """A login that the broker does not take is `unsupported`, and what it takes is named."""
    known = authority.client()
    secure = f"amqps://{rabbit.tls_place}#ca={authority.file}#mechanism=external"
    rabbit.eval("application:set_env(rabbit, auth_mechanisms, ['AMQPLAIN'])")
    try:
        external = ask(f"{secure}#cert={known.chain}#key={known.key}")
        plain = ask(target(rabbit))
    finally:
        rabbit.eval("application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'EXTERNAL'])")
    assert external.cause == plain.cause == "unsupported"
    assert plain.seen.endswith("takes logins by AMQPLAIN, not by PLAIN")


def test_a_refused_login_can_be_final(rabbit: RabbitMQ) -> None:
    """`on-auth-refused=fail` ends the gate; the password is nowhere."""
    done = run(target(rabbit, "#on-auth-refused=fail", "app:wrong-one@"))
    assert done.status == 1
    assert "[auth-refused]" in done.stderr
    assert "wrong-one" not in done.stderr + rabbit.log


def test_hangs(rabbit: RabbitMQ, ask: Ask) -> None:
    """fault 3: a broker that was stopped accepts and says nothing; it goes on, and is ready."""
    rabbit.daemon.pause()
    try:
        assert ask(target(rabbit), timeout=0.3).cause == "no-reply"
    finally:
        rabbit.daemon.resume()
    assert ask(target(rabbit)).ready


def test_a_cluster(rabbit: RabbitMQ, ask: Ask) -> None:
    """An alarm of another node counts; the queue of a node that is down is `not-ready`, as for pika.

    A quorum queue without a majority is said to be there, by the broker to pika as well.
    """
    with RabbitMQ(beside=rabbit) as other:
        other.join(rabbit)
        with other.connect("app", "s3cret") as connection:
            channel = connection.channel()
            channel.queue_declare("elsewhere", durable=True)
            channel.queue_declare("both", durable=True, arguments={"x-queue-type": "quorum"})
        assert ask(target(rabbit, "#queue=elsewhere#queue=both#alarms")).ready
        with alarm(other, "memory"):
            assert ask(target(rabbit, "#alarms")).cause == "alarm"
        other.stop()
        verdict = ask(target(rabbit, "#queue=elsewhere"))
        assert verdict.cause == "not-ready"
        assert "is down or inaccessible" in verdict.seen
        assert oracle("app", "s3cret", "/", "elsewhere", "", rabbit.port) == 404
        both = "app", "s3cret", "/", "both", "", rabbit.port
        assert ask(target(rabbit, "#queue=both")).ready == (oracle(*both) == 0)
    rabbit.eval(f"rabbit_mnesia:forget_cluster_node('{other.node}', false)")
    rabbit.daemon.wait_until(lambda: rabbit.eval("length(rabbit_alarm:get_alarms())") == "0")


def works(rabbit: RabbitMQ) -> bool:
    """Whether pika sees the queue."""
    try:
        return not oracle("app", "s3cret", "/", "new", "", rabbit.port)
    except pika.exceptions.AMQPError:
        return False


@pytest.mark.parametrize("end", [RabbitMQ.stop, RabbitMQ.kill], ids=["restarted", "killed"])
def test_the_start_under_a_gate(rabbit: RabbitMQ, end: Callable[[RabbitMQ], None]) -> None:
    """A gate that waits while the broker starts opens when pika works, and never before."""
    end(rabbit)
    with Gate("--output", "json", target(rabbit, "#queue=new#alarms")) as gate:
        gate.wait_output('"change"')
        rabbit.launch()
        try:
            causes = opened(gate, lambda: works(rabbit))
        finally:
            rabbit.wait()
    assert causes <= {"refused", "closed-early", "missing-object", "not-ready"}
    assert "refused" in causes
