"""OpenSearch with its Security plugin: logins, rights and TLS; opensearch-py is asked the same.

What an attempt leaves in the plugin's log, and what it counts as a failed login, is shown here too.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opensearchpy
import pytest

from tests.bed.fixtures import Enter
from tests.bed.process import Gate
from tests.bed.services.opensearch_security import SecuredOpenSearch
from tests.bed.tls import Authority
from tests.bed.webservers import Nginx
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("opensearch-security"), pytest.mark.timeout(120)]

logging.getLogger("opensearch").setLevel(logging.CRITICAL)
PASSWORD = "tannenwald-17"
# Users, the permissions of each for the cluster, and those for the index `orders`.
USERS = {
    "app": (["cluster_monitor"], ["crud"]),
    "precheck": (["cluster:monitor/health", "cluster:monitor/state"], []),
    "health": (["cluster:monitor/health"], []),
    "reader": ([], ["read", "indices_monitor"]),
    "certified@example.org": (["cluster_monitor"], []),
    "bearer": (["cluster_monitor"], []),
}


@pytest.fixture(scope="module")
def node(authority: Authority) -> Iterator[SecuredOpenSearch]:
    """A node with an index, and users who may do more or less."""
    with SecuredOpenSearch(authority) as started:
        started.ask("PUT", "/orders", {"settings": {"number_of_replicas": 0}})
        started.ask("PUT", "/orders/_doc/1?refresh=true", {"state": "new"})
        for name, (cluster, index) in USERS.items():
            started.add(name, PASSWORD, cluster=cluster, index={"orders": index} if index else {})
        yield started


class Client:
    """One who asks a node: by a target of ours, and by the driver."""

    def __init__(self, node: SecuredOpenSearch, authority: Authority) -> None:
        self.node = node
        self.authority = authority

    def target(self, login: str = f"app:{PASSWORD}@", rest: str = "") -> str:
        return f"elasticsearch://{login}{self.node.place}#ca={self.authority.file}{rest}"

    def driver(self, login: str = f"app:{PASSWORD}@", **more: object) -> Any:  # noqa: ANN401 it has no types
        options: dict[str, Any] = {
            "http_auth": tuple(login[:-1].split(":")) if login else None,
            "use_ssl": True,
            "ca_certs": str(self.authority.file),
            "timeout": 10,
            "max_retries": 0,
            **more,
        }
        return opensearchpy.OpenSearch([{"host": "127.0.0.1", "port": self.node.port}], **options)

    def status(self, login: str, path: str, **more: object) -> int:
        """What status the driver gets for a question, 200 when it is answered."""
        try:
            self.driver(login, **more).transport.perform_request("GET", path)
        except opensearchpy.TransportError as error:
            return int(error.status_code)
        return 200


@pytest.fixture
def client(node: SecuredOpenSearch, authority: Authority) -> Client:
    return Client(node, authority)


def test_the_version_is_listed(node: SecuredOpenSearch, tested: Tested) -> None:
    """The servers that are tested are those that the documentation names."""
    tested("elasticsearch", node.version)


@pytest.mark.parametrize(
    ("login", "cause", "status"),
    [
        (f"app:{PASSWORD}@", None, 200),
        ("app:birkenwald-17@", "auth-refused", 401),
        (f"nobody:{PASSWORD}@", "auth-refused", 401),
        ("", "auth-required", 401),
        (f"reader:{PASSWORD}@", "forbidden", 403),
    ],
)
def test_logins(login: str, cause: str | None, status: int, client: Client, ask: Ask) -> None:
    """The right login is ready, each other one has its cause, and the driver gets no further."""
    verdict = ask(client.target(login))
    assert verdict.cause == cause, verdict.seen
    assert client.status(login, "/_cluster/health") == status
    assert PASSWORD not in verdict.seen


@pytest.mark.parametrize(
    ("user", "rest", "lacking"),
    [
        ("precheck", "", ""),
        ("precheck", "#index=orders#writable", ""),
        ("health", "", ""),
        ("health", "#index=orders", "cluster:monitor/state"),
        ("health", "#writable", "cluster:monitor/state"),
        ("reader", "", "cluster:monitor/health"),
        ("reader", "#index=orders", "cluster:monitor/state"),
    ],
)
def test_rights(user: str, rest: str, lacking: str, client: Client, ask: Ask) -> None:
    """It takes two permissions for the cluster, and none for an index; the one that lacks is named."""
    log = len(client.node.log)
    verdict = ask(client.target(f"{user}:{PASSWORD}@", rest))
    assert verdict.ready == (not lacking), verdict.seen
    if lacking:
        assert verdict.cause == "forbidden"
        assert f"no permissions for [{lacking}]" in verdict.seen
        assert "`cluster_monitor`" in verdict.hint
        (line,) = client.node.told(log)
        assert f"No permissions for [{lacking}]" in line


def test_the_rights_of_an_index(client: Client, ask: Ask) -> None:
    """Ready does not say that this user may search: that is asked of no index."""
    for user, status in (("app", 200), ("precheck", 403)):
        login = f"{user}:{PASSWORD}@"
        assert ask(client.target(login, "#index=orders")).ready
        assert client.status(login, "/orders/_search") == status


def test_a_client_certificate(client: Client, authority: Authority, ask: Ask) -> None:
    """A certificate is a login, without a user in the target, and a user without rights is told."""
    for name, cause, status in (
        ("certified@example.org", None, 200),
        ("stranger@example.org", "forbidden", 403),
    ):
        shown = authority.client(name)
        files = f"#cert={shown.chain}#key={shown.key}"
        assert ask(client.target("", files)).cause == cause
        more = {"client_cert": str(shown.chain), "client_key": str(shown.key)}
        assert client.status("", "/_cluster/health", **more) == status


def test_a_token(client: Client, tmp_path: Path, ask: Ask) -> None:
    """A token logs in (Bearer), and one that is signed by another key does not."""
    for token, cause, status in (
        (client.node.token("bearer"), None, 200),
        (client.node.token("bearer", b"other"), "auth-refused", 401),
    ):
        (tmp_path / "token").write_text(token)
        assert ask(client.target("", f"#token-file={tmp_path / 'token'}")).cause == cause
        headers = {"Authorization": f"Bearer {token}"}
        assert client.status("", "/_cluster/health", headers=headers) == status


def test_a_certificate_that_is_not_trusted(client: Client, ask: Ask) -> None:
    """Nothing is asked of who shows a certificate that nobody vouches for; the plugin logs that."""
    log = len(client.node.log)
    verdict = ask(f"elasticsearch://app:{PASSWORD}@{client.node.place}#tls")
    assert verdict.cause == "tls-untrusted"
    assert "#ca=" in verdict.hint
    client.node.daemon.wait_until(lambda: "SSLHandshakeException" in client.node.log[log:])


def test_asked_without_tls(client: Client, ask: Ask) -> None:
    """fault 65b: the hint has the way; what it was sent stands in the plugin's log, and is no password."""
    log = len(client.node.log)
    verdict = ask(f"elasticsearch://app:{PASSWORD}@{client.node.place}")
    assert verdict.cause == "closed-early"
    assert "#tls" in verdict.hint
    request = b"OPTIONS /_cluster/health HTTP/1.1"
    client.node.daemon.wait_until(lambda: request.hex() in client.node.log[log:])
    for secret in (PASSWORD.encode(), base64.b64encode(f"app:{PASSWORD}".encode())):
        assert secret.hex() not in client.node.log[log:]


def test_where_tls_ends_before_it(
    client: Client, authority: Authority, enter: Enter, ask: Ask
) -> None:
    """In plain text to a proxy: what is asked before the login is no failed login."""
    forward = f"location / {{ proxy_pass https://{client.node.place}; }}"
    nginx = enter(Nginx(forward))
    client.node.limit(type="ip", allowed_tries=2)
    try:
        for _ in range(10):
            assert ask(f"elasticsearch://app:{PASSWORD}@127.0.0.1:{nginx.port}#index=orders").ready
        assert client.status(f"app:{PASSWORD}@", "/_cluster/health") == 200
    finally:
        client.node.limit()


# -- what it leaves behind


def opened(node: SecuredOpenSearch) -> int:
    """How many connections of HTTP a node has open."""
    (stats,) = node.ask("GET", "/_nodes/stats/http")[1]["nodes"].values()
    return int(stats["http"]["current_open"])


def test_right_logins_do_no_harm(client: Client, ask: Ask) -> None:
    """Two hundred attempts leave nothing in the log, and no connection."""
    log, connections = len(client.node.log), opened(client.node)
    for _ in range(100):
        for rest in ("", "#index=orders#writable"):
            assert ask(client.target(rest=rest)).ready
    assert client.node.told(log) == []
    client.node.daemon.wait_until(lambda: opened(client.node) <= connections)


@pytest.mark.parametrize(
    ("login", "line"),
    [
        ("app:birkenwald-17@", "Authentication finally failed for app"),
        ("", "No 'Authorization' header"),
    ],
    ids=["wrong", "none"],
)
def test_failed_logins_lock_nobody_out(login: str, line: str, client: Client, ask: Ask) -> None:
    """As it is configured by default, after two hundred the right login is taken; each is a line."""
    log = len(client.node.log)
    for _ in range(200):
        # One question is asked, and no second one.
        assert not ask(client.target(login, "#index=orders")).ready
    told = client.node.told(log)
    assert len(told) == 200
    assert all(line in each for each in told)
    assert ask(client.target()).ready
    assert client.status(f"app:{PASSWORD}@", "/_cluster/health") == 200


@pytest.mark.parametrize("login", ["app:birkenwald-17@", ""], ids=["wrong", "none"])
def test_an_address_that_is_blocked(login: str, client: Client, ask: Ask) -> None:
    """fault 65b: where failed logins are counted, none at all is one; nobody from there gets in then."""
    client.node.limit(type="ip", allowed_tries=5)
    try:
        for _ in range(5):
            assert not ask(client.target(login)).hint.startswith("or too many")
        verdict = ask(client.target())
        status = client.status(f"app:{PASSWORD}@", "/_cluster/health")
    finally:
        client.node.limit()
    assert (verdict.cause, status) == ("auth-refused", 401)
    assert "too many logins failed, and this address is blocked" in verdict.hint
    assert ask(client.target()).ready


def test_an_address_that_is_spared(client: Client, ask: Ask) -> None:
    """An address among `ignore_hosts` may fail to log in as often as it likes."""
    client.node.limit(type="ip", allowed_tries=2, ignore_hosts=["127.0.0.1"])
    try:
        for _ in range(5):
            ask(client.target("app:birkenwald-17@"))
        verdict = ask(client.target())
    finally:
        client.node.limit()
    assert verdict.ready, verdict.seen


def test_a_user_who_is_blocked(client: Client, ask: Ask) -> None:
    """Where they are counted by user, that user is refused, and others are not."""
    client.node.limit(type="username", authentication_backend="intern", allowed_tries=5)
    try:
        for _ in range(5):
            ask(client.target("app:birkenwald-17@"))
        verdict = ask(client.target())
        status = client.status(f"app:{PASSWORD}@", "/_cluster/health")
        other = ask(client.target(f"precheck:{PASSWORD}@"))
    finally:
        client.node.limit()
    assert (verdict.cause, status) == ("auth-refused", 401)
    assert other.ready
    assert ask(client.target()).ready


def test_the_start_under_a_gate(client: Client) -> None:
    """fault 65b: before the plugin knows its users it is `starting`: no login is refused, none is ready."""
    node = client.node
    node.stop()
    target = client.target(rest="#index=orders#on-auth-refused=fail")
    with Gate("--output", "json", target) as gate:
        gate.wait_output('"change"')
        log = len(node.log)
        node.launch()
        try:
            done = gate.wait()
            found = client.driver().search(index="orders")
        finally:
            node.wait()
    assert done.status == 0, done.stderr
    assert found["hits"]["total"]["value"] == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    starting = [event["seen"] for event in told if event.get("cause") == "starting"]
    assert any("Security not initialized" in seen for seen in starting), starting
    causes = {event.get("cause") for event in told} - {None}
    assert causes <= {"refused", "starting", "not-ready", "closed-early", "no-reply"}
    # Each attempt in that time is a line.
    assert any("Not yet initialized" in line for line in node.told(log))
