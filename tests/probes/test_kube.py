"""`kube:` without a cluster: what an API server answers that a real one cannot be made to soon enough, how
objects are judged, kubeconfig files, and mistakes. The real one is asked in `tests/cluster/test_kube.py`.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import queue
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_precheck import library, net, signals, stream
from service_precheck.codecs.kube import access, discovery, fields, plugin, rules
from service_precheck.codecs.kube.kinds import Kind, built_in, names
from service_precheck.codecs.kube.selector import read_selector
from service_precheck.dns import Names
from service_precheck.errors import NotReady, OperatorError
from service_precheck.model import Verdict
from service_precheck.options import Target
from service_precheck.probes import kube
from service_precheck.stream import Attempt
from service_precheck.target import parse
from tests.bed.process import TOOLBOX, Gate, need_root, own_threads
from tests.bed.sockets import Server, answer, close, hang, say
from tests.bed.tls import Authority
from tests.probes.conftest import Ask
from tests.test_imports import LEAN, loaded, split

Object = dict[str, Any]
# What a script answers: a status and a body, or the steps of a watch.
Answer = tuple[int, Object, dict[str, str]]


def ok(body: Object) -> Answer:
    return 200, body, {}


def status(code: int, message: str = "", **headers: str) -> Answer:
    told = {"kind": "Status", "code": code, "message": message}
    return code, told, {name.replace("_", "-"): value for name, value in headers.items()}


def listed(version: str, *items: Object) -> Answer:
    return ok({"metadata": {"resourceVersion": version}, "items": list(items)})


def named(name: str, version: str = "1", **more: object) -> Object:
    return {"metadata": {"name": name, "resourceVersion": version}, **more}


def event(kind: str, thing: Object) -> Object:
    return {"type": kind, "object": thing}


class ApiServer:
    """Answers each list and each watch with the next of its script, and keeps what was asked.

    A watch's script is a queue: events, then None where the server ends it.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.lists: list[Answer | Callable[[], Answer]] = []
        self.watches: list[Answer | queue.Queue[Object | None]] = []
        self.paths: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.tokens: list[str] = []
        # The subjects of the certificates that were shown, and the names that were asked for in TLS.
        self.shown: list[object] = []
        self.names: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            tls.sni_callback = lambda _channel, name, _context: self.names.append(name)
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        self.tokens.append(handler.headers.get("Authorization", ""))
        if isinstance(handler.connection, ssl.SSLSocket):
            self.shown.append((handler.connection.getpeercert() or {}).get("subject"))
        if handler.path in self.paths:
            self.send(handler, self.paths[handler.path])
        elif "watch=true" in handler.path:
            watch = self.watches.pop(0) if self.watches else queue.Queue()
            if isinstance(watch, tuple):
                self.send(handler, watch)
                return
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            try:
                while (told := watch.get()) is not None:
                    raw = json.dumps(told).encode() + b"\n"
                    handler.wfile.write(b"%x\r\n%b\r\n" % (len(raw), raw))
                handler.wfile.write(b"0\r\n\r\n")
            except OSError:
                handler.close_connection = True
        else:
            answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            self.send(handler, answer() if callable(answer) else answer)

    def send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        code, body, headers = answer
        raw = json.dumps(body).encode()
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    def verbs(self) -> list[str]:
        """What was asked, in short."""
        return ["watch" if "watch=true" in path else "list" for path in self.asked]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with closing(ApiServer()) as made:
        yield made


def kubeconfig(
    folder: Path, server: str, cluster: Object | None = None, context: str = "x", **user: object
) -> Path:
    """A file whose contexts x and y log in as `user`; a new one in place of the last."""
    path = folder / "config"
    document = {
        "current-context": context,
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "y", "context": {"cluster": "c", "user": "u", "namespace": "other"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def config(api: ApiServer, tmp_path: Path) -> Path:
    return kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}")


def watching(text: str, timeout: float = 5.0) -> Iterator[Verdict]:
    """The verdicts of a watch."""
    target = parse(text)
    assert isinstance(target, Target)
    assert target.scheme.watch is not None
    return target.scheme.watch(target, Attempt(net.monotonic() + timeout, Names()))


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between two watches, and know no kind."""
    monkeypatch.setattr(kube, "LEAST", 0.0)
    monkeypatch.setattr(discovery, "_found", {})
    monkeypatch.setattr(discovery, "_missing", {})
    monkeypatch.setattr(plugin, "_known", {})


def test_a_watch_goes_on_from_its_bookmark(api: ApiServer, config: Path) -> None:
    """When the server ends a watch, the next begins at the last version that was told, without a list."""
    first: queue.Queue[Object | None] = queue.Queue()
    second: queue.Queue[Object | None] = queue.Queue()
    api.lists, api.watches = [listed("10")], [first, second]
    verdicts = watching(f"kube://cm/a#kubeconfig={config}")
    assert next(verdicts).cause == "missing-object"
    first.put(event("BOOKMARK", named("", "25")))
    first.put(None)
    second.put(event("ADDED", named("a", "30")))
    assert next(verdicts).ready
    assert api.verbs() == ["list", "watch", "watch"]
    assert "resourceVersion=10" in api.asked[1]
    assert "resourceVersion=25" in api.asked[2]
    second.put(event("DELETED", named("a", "31")))
    assert next(verdicts).cause == "missing-object"


@pytest.mark.parametrize("how", ["event", "status"])
def test_gone_is_one_relist(api: ApiServer, config: Path, how: str) -> None:
    """fault 47: 410 Gone, as an event or as the answer, costs one list and one watch."""
    first: queue.Queue[Object | None] = queue.Queue()
    second: queue.Queue[Object | None] = queue.Queue()
    api.lists = [listed("10"), listed("50", named("a", "40"))]
    api.watches = [first if how == "event" else status(410, "too old"), second]
    first.put(event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
    verdicts = watching(f"kube://cm/a#kubeconfig={config}")
    assert next(verdicts).cause == "missing-object"
    assert next(verdicts).ready
    second.put(event("DELETED", named("a", "51")))
    assert next(verdicts).cause == "missing-object"
    assert api.verbs() == ["list", "watch", "list", "watch"]
    assert "resourceVersion=50" in api.asked[3]


def test_a_throttled_request_waits_as_told(api: ApiServer, config: Path, ask: Ask) -> None:
    """fault 48: 429 is asked again when the server says, of a list and of a watch."""
    api.lists = [status(429, "too many", Retry_After="7")]
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.again, verdict.stale) == ("overloaded", 7.0, True)
    assert len(api.asked) == 1
    api.lists, api.watches = [listed("10")], [status(429, "too many", Retry_After="3")]
    verdicts = watching(f"kube://cm/a#kubeconfig={config}")
    assert next(verdicts).cause == "missing-object"
    with pytest.raises(NotReady) as told:
        next(verdicts)
    assert (told.value.verdict.cause, told.value.verdict.again) == ("overloaded", 3.0)
    assert "nothing new is known of configmap a in shop" in told.value.verdict.seen


def test_a_rotated_token_costs_one_call(api: ApiServer, tmp_path: Path) -> None:
    """fault 49: a token that was replaced while it was sent is read again, for one failed call."""
    token = tmp_path / "token"
    token.write_text("first-token\n")
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", tokenFile="token")

    def refuse() -> Answer:
        token.write_text("second-token\n")
        return status(401, "Unauthorized")

    api.lists = [refuse, listed("10", named("a"))]
    assert next(watching(f"kube://cm/a#kubeconfig={config}")).ready
    assert api.tokens == ["Bearer first-token", "Bearer second-token"]


def test_a_refused_token_is_not_sent_twice(api: ApiServer, tmp_path: Path, ask: Ask) -> None:
    """fault 49: a token that is still the same is `auth-refused`; none at all is `auth-required`."""
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", token="a-token")
    api.lists = [status(401, "Unauthorized")]
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert verdict.cause == "auth-refused"
    assert len(api.asked) == 1
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}")
    assert ask(f"kube://cm/a#kubeconfig={config}").cause == "auth-required"


def test_without_an_api_server_others_go_on(tmp_path: Path) -> None:
    """fault 52: while the API server is away, other targets are asked, and what was known is marked stale;
    when it is back the gate opens."""
    first = ApiServer()
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{first.port}")
    stop: queue.Queue[Object | None] = queue.Queue()
    first.lists, first.watches = [listed("10", named("a"))], [stop]
    with Server(say(b"x"), opened=False) as other:
        target = f"kube://cm/a#kubeconfig={config}"
        with Gate(target, f"tcp://{other.address}", "-v") as gate:
            gate.wait_output("is there")
            first.close()
            stop.put(None)
            gate.wait_output("nothing new is known of configmap a in shop; ")
            assert "ago: configmap a in shop is there [refused]" in gate.stderr
            other.open()
            gate.wait_output("accepts connections")
            with closing(ApiServer(first.port)) as second:
                second.lists = [listed("20", named("a"))]
                done = gate.wait(20)
    assert done.status == 0


def test_an_api_server_that_is_away_proves_no_absence(tmp_path: Path, ask: Ask) -> None:
    """fault 52: that nobody answers is no proof that an object is gone."""
    with Server(say(b""), opened=False) as nobody:
        config = kubeconfig(tmp_path, f"http://{nobody.address}")
        verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.definite) == ("refused", False)


def test_a_forbidden_list_says_what_to_grant(api: ApiServer, config: Path, ask: Ask) -> None:
    """fault 50: the hint creates the least role, for the user that the refusal names."""
    user = "system:serviceaccount:front:web"
    api.lists = [status(403, f'jobs.batch "m" is forbidden: User "{user}" cannot list resource')]
    verdict = ask(f"kube://job/m#kubeconfig={config}")
    assert (verdict.cause, verdict.again, verdict.stale) == ("forbidden", 5.0, False)
    assert verdict.hint == (
        "kubectl -n shop create role service-precheck-front:web:jobs.batch:m --verb=list,watch "
        "--resource=jobs.batch --resource-name=m && kubectl -n shop create rolebinding "
        "service-precheck-front:web:jobs.batch:m --role=service-precheck-front:web:jobs.batch:m "
        "--serviceaccount=front:web"
    )


@pytest.mark.parametrize("user", ["system:serviceaccount:front:web", "https://issuer.example#me"])
def test_what_several_refusals_say_can_all_be_run(
    api: ApiServer, config: Path, ask: Ask, user: str
) -> None:
    """fault 50: each hint of a gate creates a role and a binding that no other hint creates."""
    api.lists = [status(403, f'it is forbidden: User "{user}" cannot list resource')]
    made = []
    for text in ("job/m", "job/n", "cm/m", "pod#selector=a", "node/m", "front/job/m"):
        hint = ask(f"kube://{text}#kubeconfig={config}").hint
        for command in hint.split(" && "):
            words = command.split()
            space = words[2] if words[1] == "-n" else ""
            kind, name = words[words.index("create") + 1 :][:2]
            assert not set("/%#") & set(name)
            made.append((kind, space, name))
    assert len(made) == len(set(made)) == 12


def test_a_silent_watch_is_given_up(
    api: ApiServer, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that keeps a watch open past its time, and says nothing, is taken for gone."""
    from service_precheck.codecs.kube import api as wire

    monkeypatch.setattr(wire, "WATCH", 1)
    monkeypatch.setattr(wire, "LATE", -0.8)
    api.lists = [listed("10")]
    verdicts = watching(f"kube://cm/a#kubeconfig={config}")
    assert next(verdicts).cause == "missing-object"
    with pytest.raises(NotReady) as told:
        next(verdicts)
    assert told.value.verdict.cause == "no-reply"


def test_a_watch_ends_when_nobody_waits(
    api: ApiServer, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library's call that has ended leaves no watch behind."""
    monkeypatch.setattr(stream, "CALLED_OFF_LOOK", 0.01)
    api.lists = [listed("10")]
    target = parse(f"kube://cm/a#kubeconfig={config}")
    assert isinstance(target, Target)
    assert target.scheme.watch is not None
    attempt = Attempt(net.monotonic() + 5, Names())
    over: list[bool] = []
    attempt.called_off = lambda: bool(over)
    verdicts = target.scheme.watch(target, attempt)
    assert next(verdicts).cause == "missing-object"
    over.append(True)
    with pytest.raises(stream.CalledOff):
        next(verdicts)


def test_a_call_of_the_library_leaves_no_watch(api: ApiServer, config: Path) -> None:
    """When a wait from Python has ended, its watch ends within a moment, and its thread with it."""
    api.lists = [listed("10")]
    with pytest.raises(library.WaitTimeout):
        library.wait(f"kube://cm/a#kubeconfig={config}", timeout=0.3)

    def watches() -> int:
        return sum(name.startswith("precheck-watch") for name in own_threads())

    end = time.monotonic() + 10
    while watches():
        assert time.monotonic() < end, "the watch goes on"
        time.sleep(0.05)
    assert api.verbs() == ["list", "watch"]


def test_a_selector_is_listed_in_pages(api: ApiServer, config: Path, ask: Ask) -> None:
    """A long list comes in pages; all of what matches must hold, or as many as `min` says."""
    done = named("a", status={"phase": "Succeeded"})
    more = {
        "metadata": {"resourceVersion": "9", "continue": "next/page"},
        "items": [done],
    }
    api.lists = [ok(more), listed("9", named("b", status={"phase": "Pending"}))]
    verdict = ask(f"kube://pod#selector=app in (x,y)#kubeconfig={config}")
    assert verdict.cause == "too-few"
    assert "1 of 2 pods with app in (x,y) in shop hold: b is Pending" in verdict.seen
    assert "labelSelector=app%20in%20%28x%2Cy%29&limit=50" in api.asked[0]
    assert api.asked[1].endswith("&continue=next%2Fpage")
    api.lists = [ok(more), listed("9")]
    assert ask(f"kube://pod#selector=a#min=1#kubeconfig={config}").ready
    api.lists = [ok(more), listed("9")]
    assert ask(f"kube://pod#selector=a#min=2#kubeconfig={config}").cause == "too-few"
    api.lists = [listed("9")]
    assert ask(f"kube://pod#selector=a#kubeconfig={config}").cause == "missing-object"


def test_a_missing_kind_is_looked_for_every_ten_seconds(api: ApiServer, config: Path) -> None:
    """A kind that nobody serves is asked for once by all its targets, and again after ten seconds."""
    api.paths["/apis/example.org"] = status(404)
    seen = []
    for name in ("one", "two", "three"):
        with pytest.raises(NotReady) as told:
            next(watching(f"kube://gadget.example.org/{name}#kubeconfig={config}"))
        verdict = told.value.verdict
        assert verdict.cause == "missing-object"
        assert verdict.definite
        seen.append(verdict.again)
    assert api.asked == ["/apis/example.org"]
    assert seen[0] == 10.0
    assert 9.0 < (seen[2] or 0) <= 10.0


def test_a_custom_kind_is_discovered_once(api: ApiServer, config: Path) -> None:
    """Group and version are asked for once; short names are known; a status that nobody filled in is waited for."""
    api.paths["/apis/example.org"] = ok({"preferredVersion": {"version": "v1beta2"}})
    gadgets: Object = {"name": "gadgets", "singularName": "gadget", "kind": "Gadget"}
    gadgets |= {"namespaced": True, "shortNames": ["gg"]}
    found = {"resources": [gadgets, {"name": "gadgets/status"}]}
    api.paths["/apis/example.org/v1beta2"] = ok(found)
    api.lists = [listed("5", named("one"))]
    for word in ("gadget", "gadget", "gadgets"):
        verdict = next(watching(f"kube://{word}.example.org/one#kubeconfig={config}"))
        assert verdict.seen == "gadget one in shop has no status yet"
    gadgets["namespaced"] = False
    discovery.forget(
        "gadget.example.org", access.Access("127.0.0.1", api.port, "", None, lambda _: "")
    )
    with pytest.raises(NotReady) as told:
        next(watching(f"kube://shop/gadget.example.org/one#kubeconfig={config}"))
    assert "a gadget stands in no namespace" in told.value.verdict.seen
    assert api.asked.count("/apis/example.org/v1beta2") == 3
    assert "/apis/example.org/v1beta2/namespaces/shop/gadgets?" in api.asked[-3]


def served(*kinds: str) -> Answer:
    """A version of a group with these kinds."""
    named = ({"name": f"{kind}s", "singularName": kind, "namespaced": True} for kind in kinds)
    return ok({"resources": list(named)})


def in_versions(*versions: str) -> Answer:
    """A group with these versions, the first preferred."""
    named = [{"groupVersion": f"example.org/{one}", "version": one} for one in versions]
    return ok({"preferredVersion": named[0], "versions": named[::-1]})


def test_a_kind_of_another_version_than_the_preferred(
    api: ApiServer, config: Path, ask: Ask
) -> None:
    """A group's versions are looked into one after the other, the preferred one first, and no further than
    to the kind; one that is gone meanwhile is passed over; what none has is missing."""
    api.paths["/apis/example.org"] = in_versions("v1", "v1beta3", "v1beta2")
    api.paths["/apis/example.org/v1"] = served("receiver")
    api.paths["/apis/example.org/v1beta2"] = status(404)
    api.paths["/apis/example.org/v1beta3"] = served("alert", "receiver")
    api.lists = [listed("1", named("a"))]

    def asked(kind: str) -> tuple[str | None, list[str]]:
        api.asked.clear()
        cause = ask(f"kube://{kind}/a#kubeconfig={config}").cause
        return cause, [path.partition("?")[0].removeprefix("/apis/") for path in api.asked]

    group = ["example.org", "example.org/v1"]
    others = ["example.org/v1beta2", "example.org/v1beta3"]
    assert asked("receiver.example.org") == (
        None,
        [*group, "example.org/v1/namespaces/shop/receivers"],
    )
    alerts = "example.org/v1beta3/namespaces/shop/alerts"
    assert asked("alert.example.org") == (None, [*group, *others, alerts])
    assert asked("alerts.v1beta3.example.org") == (None, [others[1], alerts])
    assert asked("alert.v1.example.org") == ("missing-object", group[1:])
    assert asked("gadget.example.org") == ("missing-object", [*group, *others])
    api.paths["/apis/example.org/v1"] = status(503)
    discovery._found.clear()
    assert asked("alert.example.org") == ("not-ready", group)


READY = {"type": "Ready", "status": "True"}


def says(kind: str, status: str = "True", **more: object) -> Object:
    return {"type": kind, "status": status, **more}


# An object of each kind that is as it should be.
SOUND: dict[str, Object] = {
    "pod": {
        "metadata": {"generation": 2},
        "status": {"observedGeneration": 2, "phase": "Running", "conditions": [READY]},
    },
    "deployment": {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {
            "observedGeneration": 2,
            **dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 2),
            "conditions": [says("Progressing", reason="NewReplicaSetAvailable")],
        },
    },
    "statefulset": {
        "metadata": {"generation": 2},
        "spec": {
            "replicas": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
        "status": {
            "observedGeneration": 2,
            **dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), 3),
            **dict.fromkeys(("currentRevision", "updateRevision"), "b"),
        },
    },
    "daemonset": {
        "metadata": {"generation": 2},
        "spec": {"updateStrategy": {"type": "RollingUpdate"}},
        "status": {
            "observedGeneration": 2,
            "desiredNumberScheduled": 2,
            "updatedNumberScheduled": 2,
            "numberAvailable": 2,
        },
    },
    **{
        kind: {
            "metadata": {"generation": 2},
            "spec": {"replicas": 2},
            "status": {
                "observedGeneration": 2,
                **dict.fromkeys(("replicas", "fullyLabeledReplicas", "availableReplicas"), 2),
            },
        }
        for kind in ("replicaset", "rc")
    },
    "job": {"metadata": {"generation": 2}, "status": {"conditions": [says("Complete")]}},
    "pvc": {"status": {"phase": "Bound"}},
    "pv": {"status": {"phase": "Bound"}},
    "ingress": {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}},
    "gateway": {
        "metadata": {"generation": 2},
        "status": {
            "addresses": [{"value": "10.0.0.1"}],
            "conditions": [says("Programmed", observedGeneration=2)],
        },
    },
    "crd": {"status": {"conditions": [says("NamesAccepted"), says("Established")]}},
    "namespace": {"status": {"phase": "Active"}},
    "node": {"status": {"conditions": [READY]}},
    **{kind: {} for kind in ("cronjob", "limitrange", "quota", "endpoints", "secret")},
}

# What is changed in it (None: it is missing), and what is said then; of what is still good the cause is None.
Changes = dict[str, object]
NEWER: Changes = {"metadata.generation": 3}
UNSEEN: Changes = {"status.observedGeneration": None}
ON_DELETE: Changes = {
    "spec.updateStrategy": {"type": "OnDelete"},
    "status.updatedReplicas": 0,
    "status.updatedNumberScheduled": 0,
    "status.currentRevision": "a",
}
PARTITION: Changes = {
    "spec.updateStrategy.rollingUpdate.partition": 2,
    "status.currentRevision": "a",
}
LATE: Changes = {
    "status.conditions": [says("Progressing", "False", reason="ProgressDeadlineExceeded")],
}
PAUSED: Changes = {
    "spec.paused": True,
    "status.conditions": [says("Progressing", "Unknown", reason="DeploymentPaused")],
}
REPLICAS: list[tuple[Changes, str]] = [
    ({"status.availableReplicas": 1}, "1 of 2 replicas available"),
    ({"status.fullyLabeledReplicas": 1}, "1 of 2 replicas with its template's labels"),
    ({"status.replicas": 3}, "has 3 replicas, 2 wanted"),
    ({"spec.replicas": 1}, "has 2 replicas, 1 wanted"),
    ({"spec.replicas": None}, "has 2 replicas, 1 wanted"),
    (
        {"status.conditions": [says("ReplicaFailure", reason="FailedCreate")]},
        "cannot have the replicas it wants (FailedCreate)",
    ),
]
JUDGED: list[tuple[str, Changes, str | None, str]] = [
    *((kind, {}, None, "") for kind in SOUND),
    *(
        (kind, change, "not-ready", "has a new form that its controller has not seen yet")
        for kind in ("deployment", "statefulset", "daemonset", "replicaset", "rc")
        for change in (NEWER, UNSEEN)
    ),
    ("pod", {"status.phase": "Succeeded", "status.conditions": []}, None, "has succeeded"),
    ("pod", {"status.phase": "Failed"}, "not-ready", "has failed"),
    ("pod", {"status.conditions.0.status": "False"}, "not-ready", "is Running and not ready"),
    ("pod", {"status.conditions": []}, "not-ready", "is Running and not ready"),
    ("pod", {"metadata.deletionTimestamp": "x"}, "not-ready", "is being deleted"),
    ("pod", NEWER, "not-ready", "not ready (what it says is of an older form)"),
    # Of an older kubelet.
    ("pod", NEWER | UNSEEN, None, "is ready"),
    (
        "pod",
        {
            "status.conditions": [],
            "status.containerStatuses": [
                {"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}
            ],
        },
        "not-ready",
        "a waits: ErrImagePull",
    ),
    ("deployment", {"status.updatedReplicas": 1}, "not-ready", "1 of 2 replicas are updated"),
    ("deployment", {"status.availableReplicas": 1}, "not-ready", "1 of 2 replicas are available"),
    ("deployment", {"status.replicas": 3}, "not-ready", "3 replicas are there, 2 wanted"),
    ("deployment", {"spec.replicas": 1}, "not-ready", "2 replicas are there, 1 wanted"),
    ("deployment", {"spec.replicas": None}, "not-ready", "2 replicas are there, 1 wanted"),
    ("deployment", LATE, "not-ready", "has all of its replicas; ProgressDeadlineExceeded"),
    (
        "deployment",
        LATE | {"status.updatedReplicas": 1},
        "not-ready",
        "1 of 2 replicas are updated; ProgressDeadlineExceeded",
    ),
    ("deployment", PAUSED, None, "is rolled out"),
    (
        "deployment",
        {"spec.replicas": 0, "status": {"observedGeneration": 2}},
        None,
        "0 of 0 replicas are available",
    ),
    ("statefulset", {"status.readyReplicas": 2}, "not-ready", "2 of 3 replicas are ready"),
    ("statefulset", {"status.updatedReplicas": 2}, "not-ready", "2 of 3 replicas are updated"),
    ("statefulset", {"status.replicas": 4}, "not-ready", "4 replicas are there, 3 wanted"),
    ("statefulset", {"spec.replicas": 2}, "not-ready", "3 replicas are there, 2 wanted"),
    ("statefulset", {"spec.replicas": None}, "not-ready", "3 replicas are there, 1 wanted"),
    ("statefulset", {"status.currentRevision": "a"}, "not-ready", "rolling out from a to b"),
    ("statefulset", PARTITION | {"status.updatedReplicas": 1}, None, "is rolled out"),
    (
        "statefulset",
        PARTITION | {"status.updatedReplicas": 0},
        "not-ready",
        "0 of 1 replicas are updated",
    ),
    ("statefulset", ON_DELETE, None, "has 3 of 3 replicas ready"),
    ("statefulset", ON_DELETE | {"status.readyReplicas": 2}, "not-ready", "2 of 3 replicas"),
    ("statefulset", ON_DELETE | {"status.replicas": 4}, "not-ready", "4 replicas are there"),
    ("daemonset", {"status.updatedNumberScheduled": 1}, "not-ready", "1 of 2 pods are updated"),
    ("daemonset", {"status.numberAvailable": 1}, "not-ready", "1 of 2 pods are available"),
    ("daemonset", ON_DELETE, None, "2 of 2 pods are available"),
    ("daemonset", ON_DELETE | {"status.numberAvailable": 1}, "not-ready", "1 of 2 pods"),
    *(
        (kind, change, "not-ready", seen)
        for kind in ("replicaset", "rc")
        for change, seen in REPLICAS
    ),
    ("job", {"status.conditions.0.type": "Failed"}, "failed", "has failed"),
    ("job", {"status.conditions.0.type": "FailureTarget"}, "failed", "has failed"),
    ("job", {"status.conditions.0.status": "False"}, "not-ready", "has no pod yet"),
    ("job", {"status": {"active": 2, "failed": 1}}, "not-ready", "2 active pods, 1 have failed"),
    ("job", {"status": {}, "spec.suspend": True}, "not-ready", "is suspended"),
    ("pvc", {"status.phase": "Pending"}, "not-ready", "is Pending, not bound"),
    ("pvc", {"status": None}, "not-ready", "is new, not bound"),
    ("pvc", {"status.phase": "Available"}, "not-ready", "is Available, not bound"),
    ("pv", {"status.phase": "Available"}, None, "is available"),
    ("pv", {"status.phase": "Released"}, "not-ready", "is Released, not bound"),
    ("ingress", {"status.loadBalancer.ingress.0": {"ip": "10.0.0.1"}}, None, "10.0.0.1"),
    ("ingress", {"status.loadBalancer.ingress.0": {}}, "not-ready", "has no address yet"),
    ("ingress", {"status": {}}, "not-ready", "has no address yet"),
    ("gateway", {"status.addresses": []}, "not-ready", "has no address yet"),
    ("gateway", {"status.conditions": []}, None, "has the address 10.0.0.1"),
    ("gateway", {"status.conditions.0.status": "False"}, "not-ready", "is not programmed"),
    ("gateway", {"status.conditions.0.status": "Unknown"}, "not-ready", "is not programmed"),
    ("gateway", NEWER, "not-ready", "not programmed (what it says is of an older form)"),
    ("crd", {"status.conditions.0.status": "False"}, "not-ready", "names that are not accepted"),
    ("crd", {"status.conditions.1.status": "False"}, "not-ready", "is not established"),
    ("crd", {"status": {}}, "not-ready", "is not established"),
    ("namespace", {"status.phase": "Terminating"}, "not-ready", "is Terminating"),
    ("node", {"status.conditions.0.status": "Unknown"}, "not-ready", "is not ready"),
    ("secret", {"metadata.deletionTimestamp": "x"}, "not-ready", "is being deleted"),
]


def changed(thing: Object, changes: Changes) -> Object:
    """A copy of an object with other values at these paths."""
    copy: Object = json.loads(json.dumps(thing))
    for path, value in changes.items():
        *before, last = path.split(".")
        place: Any = copy
        for step in before:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if isinstance(place, list):
            place[int(last)] = value
        elif value is None:
            del place[last]
        else:
            place[last] = value
    return copy


def test_each_rule_has_a_good_object() -> None:
    """The table has an object for each rule, and says of each what is wrong with it once it is changed."""
    judged = {kind.name for word in SOUND if (kind := built_in(word)) is not None}
    assert set(rules.RULES) - {"exists", "key"} <= judged
    wrong = {kind for kind, _, cause, _ in JUDGED if cause is not None}
    assert {kind for kind, thing in SOUND.items() if thing} <= wrong


@pytest.mark.parametrize(("kind", "changes", "cause", "seen"), JUDGED)
def test_objects_are_judged(
    api: ApiServer,
    config: Path,
    ask: Ask,
    kind: str,
    changes: Changes,
    cause: str | None,
    seen: str,
) -> None:
    """Each kind is judged as kubectl, Argo CD and Flux do, each of its fields for itself."""
    whole = changed(SOUND[kind], {"metadata.name": "x", **changes})
    api.lists = [listed("1", whole)]
    verdict = ask(f"kube://{kind}/x#kubeconfig={config}")
    assert verdict.cause == cause, verdict
    assert seen in verdict.seen


@pytest.mark.parametrize(
    ("condition", "option", "final"),
    [
        ("Failed", "", True),
        ("Failed", "#failed=wait", False),
        # Its pods are still being ended.
        ("FailureTarget", "", False),
    ],
)
def test_a_job_that_has_failed_is_final(
    api: ApiServer, config: Path, ask: Ask, condition: str, option: str, final: bool
) -> None:
    """What ends the gate is a job that has failed and will not be waited for, nothing before."""
    failed = changed(SOUND["job"], {"metadata.name": "x", "status.conditions": [says(condition)]})
    api.lists = [listed("1", failed)]
    verdict = ask(f"kube://job/x{option}#kubeconfig={config}")
    assert (verdict.cause, verdict.final) == ("failed", final)


@pytest.mark.parametrize(
    ("option", "cause", "final"), [("", "failed", True), ("#min=1", "too-few", False)]
)
def test_one_of_several_that_has_failed(
    api: ApiServer, config: Path, ask: Ask, option: str, cause: str, final: bool
) -> None:
    """A job that has failed is final for all that a selector matches, not where others may be enough."""
    good = changed(SOUND["job"], {"metadata.name": "x"})
    failed, runs = (
        changed(good, {"metadata.name": name, "status.conditions": conditions})
        for name, conditions in (("failed", [says("Failed")]), ("runs", []))
    )
    api.lists = [listed("1", failed, runs)]
    verdict = ask(f"kube://job#selector=a{option}#kubeconfig={config}")
    assert (verdict.cause, verdict.final) == (cause, final)
    api.lists = [listed("1", failed, good)]
    assert ask(f"kube://job#selector=a#min=1#kubeconfig={config}").ready


def test_of_several_what_goes_away_does_not_count(api: ApiServer, config: Path, ask: Ask) -> None:
    """A pod that is being deleted is neither waited for nor enough, where a selector names it."""
    stays = changed(SOUND["pod"], {"metadata.name": "stays"})
    goes: Changes = {"metadata.name": "goes", "metadata.deletionTimestamp": "x"}
    api.lists = [listed("1", stays, changed(stays, goes | {"status.conditions": []}))]
    assert "1 of 1 pods" in ask(f"kube://pod#selector=a#kubeconfig={config}").seen
    api.lists = [listed("1", stays, changed(stays, goes))]
    assert ask(f"kube://pod#selector=a#min=2#kubeconfig={config}").cause == "too-few"


@pytest.mark.parametrize(
    ("options", "cause", "seen"),
    [
        (".data.password", None, "is there, .data.password is ***"),
        (".data", None, "is there, .data is ***"),
        (".metadata.annotations.last", None, "is there, .metadata.annotations.last is ***"),
        (".data.password:Zm9v", "not-ready", ".data.password is ***, another value is expected"),
        (".data.none", "not-ready", "is there without .data.none"),
    ],
)
@pytest.mark.parametrize("kind", ["secret", "Secrets"])
def test_what_a_secret_holds_is_not_shown(
    api: ApiServer, config: Path, ask: Ask, kind: str, options: str, cause: str | None, seen: str
) -> None:
    """A field of a secret is compared, and its value shown nowhere."""
    held = {"password": "aHVudGVyMg=="}
    last = {"last": '{"data":{"password":"aHVudGVyMg=="}}'}
    api.lists = [listed("1", {"metadata": {"name": "x", "annotations": last}, "data": held})]
    verdict = ask(f"kube://{kind}/x#jsonpath={options}#kubeconfig={config}")
    assert verdict.cause == cause
    assert verdict.seen.endswith(seen)
    assert "aHVud" not in f"{verdict.seen} {verdict.hint}"


@pytest.mark.parametrize(
    ("options", "cause", "seen"),
    [
        ("#condition=Ready", None, "Ready is True"),
        ("#condition=ready:true", None, "ready is True"),
        ("#condition=Ready:False", "not-ready", "Ready is True, False is expected"),
        ("#condition=Ready=True", None, "Ready is True"),
        ("#condition=Ready=False", "not-ready", "Ready is True, False is expected"),
        ("#condition=Other", "not-ready", "Other is not told, True is expected"),
        ("#jsonpath=.status.phase:Running", None, ".status.phase is Running"),
        ("#jsonpath={.status.phase}=Running", None, ".status.phase is Running"),
        ("#jsonpath={.status.phase}:Running", None, ".status.phase is Running"),
        ("#jsonpath=.status.phase=Running", None, ".status.phase is Running"),
        ("#jsonpath=.status.phase=Done", "not-ready", "is Running, Done is expected"),
        ("#jsonpath=.status.image=a:1=b", None, ".status.image is a:1=b"),
        ("#jsonpath=.status.image:a:1=b", None, ".status.image is a:1=b"),
        ("#jsonpath=.status.list[1].a:2", None, "is 2"),
        ("#jsonpath=.metadata.labels.app\\.io/x:y", None, "is y"),
        ("#jsonpath=.status.none", "not-ready", "is there without .status.none"),
        ("#jsonpath=.status.list[7]:2", "not-ready", "is there without"),
        ("#jsonpath=.status.phase:Done", "not-ready", "is Running, Done is expected"),
    ],
)
def test_fields_are_compared(
    api: ApiServer, config: Path, ask: Ask, options: str, cause: str | None, seen: str
) -> None:
    """`condition` and `jsonpath` ask any object for what it says of itself."""
    body: Object = {
        "metadata": {"name": "x", "labels": {"app.io/x": "y"}},
        "status": {"phase": "Running", "list": [{}, {"a": 2}], "conditions": [READY]},
    }
    body["status"]["image"] = "a:1=b"
    api.lists = [listed("1", body)]
    verdict = ask(f"kube://pod/x{options}#kubeconfig={config}")
    assert verdict.cause == cause
    assert seen in verdict.seen


@pytest.mark.parametrize(
    ("seen", "whole", "newest", "holds"),
    [
        (None, None, 2, True),
        (None, None, None, True),
        (None, 2, 2, True),
        (None, 1, 2, False),
        (None, 0, 2, False),
        (None, 2, None, True),
        (1, None, 2, False),
        (2, None, 2, True),
        # Its own word goes before the whole status'.
        (2, 1, 2, True),
        (1, 2, 2, False),
        (3, None, 2, True),
    ],
)
def test_a_condition_of_an_older_form_does_not_hold(
    api: ApiServer,
    config: Path,
    ask: Ask,
    seen: int | None,
    whole: int | None,
    newest: int | None,
    holds: bool,
) -> None:
    """As for `kubectl wait`, a condition is of the form that it has seen, else of the status' own; what
    nobody tells of, as of a node or a job, is of the newest."""

    def known(**numbers: int | None) -> Object:
        return {name: number for name, number in numbers.items() if number is not None}

    body = {
        "metadata": {"name": "x", **known(generation=newest)},
        "status": {
            **known(observedGeneration=whole),
            "conditions": [says("Available", **known(observedGeneration=seen))],
        },
    }
    api.lists = [listed("1", body)]
    for kind in ("deployment", "node"):
        verdict = ask(f"kube://{kind}/x#condition=Available#kubeconfig={config}")
        assert verdict.ready is holds
        assert ("Available is outdated" in verdict.seen) is not holds
        opposite = ask(f"kube://{kind}/x#condition=Available:False#kubeconfig={config}")
        assert opposite.cause == "not-ready"


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}, "not-ready"),
        ({"status": {"conditions": [READY]}}, None),
        ({"status": {"conditions": [READY | {"status": "False"}]}}, "not-ready"),
        (
            {"status": {"conditions": [READY, {"type": "Reconciling", "status": "True"}]}},
            "not-ready",
        ),
        ({"status": {"conditions": [{"type": "Stalled", "status": "True"}]}}, "failed"),
        (
            {
                "metadata": {"generation": 2},
                "status": {"conditions": [READY | {"observedGeneration": 1}]},
            },
            "not-ready",
        ),
        ({"metadata": {"generation": 1}, "status": {"observedGeneration": 2}}, "not-ready"),
        # kstatus asks neither of these which form it has seen.
        *(
            (
                {
                    "metadata": {"generation": 2},
                    "status": {"conditions": [says(name, observedGeneration=1)]},
                },
                cause,
            )
            for name, cause in (("Reconciling", "not-ready"), ("Stalled", "failed"))
        ),
        ({"metadata": {"generation": 2}, "status": {"conditions": [READY]}}, None),
        ({"status": {"conditions": [READY | {"status": "Unknown"}]}}, "not-ready"),
        ({"status": {"phase": "x"}}, None),
        ({}, "not-ready"),
    ],
)
def test_kstatus(body: Object, cause: str | None) -> None:
    """Custom resources are judged by kstatus' rules; a status that nobody filled in is waited for."""
    verdict = fields.status(body, has_status=True)
    assert verdict.cause == cause
    assert not verdict.final


def test_endpoints_of_a_service_are_counted_once(api: ApiServer, config: Path, ask: Ask) -> None:
    """A pod with an IPv4 and an IPv6 address is one endpoint; what is not ready does not count, nor does
    what is called so by `publishNotReadyAddresses` alone, nor what goes away."""

    def end(address: str, uid: str, **known: bool) -> Object:
        return {"addresses": [address], "conditions": known, "targetRef": {"uid": uid}}

    four = named("s-1", endpoints=[end("10.0.0.1", "a", ready=True), end("10.0.0.2", "b")])
    six = named(
        "s-2",
        endpoints=[
            end("fd00::1", "a", ready=True, serving=True, terminating=False),
            end("fd00::3", "c", ready=False),
            end("fd00::4", "d", ready=True, serving=False, terminating=False),
            end("fd00::5", "e", ready=False, serving=True, terminating=True),
            end("fd00::6", "f", ready=True, serving=True, terminating=True),
        ],
    )
    api.lists = [listed("1", four, six)]
    assert ask(f"kube://svc/s#min=2#kubeconfig={config}").seen.endswith("has 2 ready endpoints")
    verdict = ask(f"kube://svc/s#min=3#kubeconfig={config}")
    assert (verdict.cause, verdict.seen[-27:]) == ("too-few", "2 ready endpoints, 3 needed")
    assert "labelSelector=kubernetes.io%2Fservice-name%3Ds" in api.asked[0]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("kube://", "is not as in kube://[NAMESPACE/]KIND/NAME"),
        ("kube://pod", "is not as in kube://[NAMESPACE/]KIND/NAME"),
        ("kube://a/pod/b/c", "is not as in"),
        ("kube://a//b", "is not as in"),
        ("kube://pods/../b", "is no name"),
        ("kube://pod/a b", "is no name that an object"),
        ("kube://pod/A_b", "no pod can be called 'A_b'"),
        ("kube://pod/a_b", "no pod can be called 'a_b'"),
        ("kube://cm/a:b", "no configmap can be called 'a:b'"),
        ("kube://cm/-a", "no configmap can be called '-a'"),
        ("kube://cm/a.-b", "no configmap can be called"),
        ("kube://cm/a..b", "no configmap can be called"),
        ("kube://Shop/cm/a", "no namespace can be called 'Shop'"),
        ("kube://a.b/cm/a", "no namespace can be called 'a.b'"),
        (f"kube://{'a' * 64}/cm/a", "no namespace can be called"),
        ("kube://deploymnet/a", "did you mean deployment"),
        ("kube://deploymnet/a", "any other is written KIND.GROUP"),
        ("kube://pdb/a", "there is no kind 'pdb' here; any other is written KIND.GROUP"),
        ("kube://gizmo/a", "any other is written KIND.GROUP"),
        ("kube://gizmo.v1/a", "there is no kind 'gizmo.v1' here"),
        ("kube://gizmo./a", "there is no kind 'gizmo.' here"),
        ("kube://shop/node/a", "stands in no namespace"),
        ("kube://pod/a#selector=x", "names one object, and #selector= chooses some"),
        ("kube://pod/a#key=x", "only a configmap and a secret"),
        ("kube://pod/a#min=2", "goes with a service"),
        ("kube://pod/a#failed=wait", "only a job"),
        ("kube://pod/a#same-node", "without a daemonset"),
        ("kube://pod/a#exists#absent", "#exists with #absent"),
        ("kube://pod/a#absent#condition=Ready", "only an object that is there"),
        ("kube://pod/a#condition=Ready:Maybe", "is not as in Ready"),
        ("kube://pod/a#condition=Ready=Maybe", "is not as in Ready"),
        ("kube://pod/a#condition==True", "is not as in Ready"),
        ("kube://pod/a#jsonpath=.items[*].x", "only names and [INDEX]"),
        ("kube://pod/a#jsonpath=.items[?(@.a=1)].x", "only names and [INDEX]"),
    ],
)
def test_mistakes_are_named(text: str, wrong: str) -> None:
    """What cannot be meant is found before anything is asked."""
    with pytest.raises(OperatorError) as told:
        parse(text)
    assert wrong in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        *("kube://clusterrole/system:node", "kube://shop/role/A_b", "kube://rolebinding/a:B"),
        *(
            "kube://gizmo.example.org/A_b",
            "kube://cm/kube-root-ca.crt",
            "kube://cm/0",
            "kube://Cm/a",
        ),
        f"kube://{'a' * 63}/pod/{'b' * 253}",
    ],
)
def test_what_an_object_may_be_called_is_its_kinds_matter(text: str) -> None:
    """Roles have names with colons and capitals, and what a custom kind allows is not known here."""
    assert isinstance(parse(text), Target)


# The API server itself is asked for these, too: `tests/cluster/test_kube.py`.
SELECTORS = (
    *(
        "app",
        "!app",
        "app=web",
        "app==web",
        "app!=web",
        "app=",
        "a=,b",
        "app = web , tier!= db",
    ),
    *(
        "app in (x)",
        "app in ()",
        "app in(x,y)",
        "app notin ( x , y )",
        "app in (,x)",
        "app in (x,)",
    ),
    *(
        "cpu>4",
        "cpu<10",
        "example.org/app=web",
        "a.example.org/App_1.x-y=W_1.x-y",
        "in in (in)",
    ),
    *("app,!tier,x in (a,b),y=z", f"app={'x' * 63}", "notin", "! app"),
)


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors_are_read_as_kubernetes_does(selector: str) -> None:
    """What its own grammar takes is taken."""
    assert read_selector(selector) == selector


NO_SELECTORS = (
    ("app web", "'web' stands behind app, instead of ="),
    ("app==,,", "',' stands where a label is named"),
    ("app=web,", "a label is missing"),
    (",app", "',' stands where"),
    ("=web", "'=' stands where"),
    ("!", "a label is missing"),
    ("!app=web", "a comma is missing before '='"),
    ("app=web tier=db", "a comma is missing before 'tier'"),
    ("app=web=x", "a comma is missing before '='"),
    ("app=-x", "'-x' is no label"),
    ("app=x/y", "'x/y' is no label"),
    ("app:web", "'app:web' is no label"),
    ("app=(x)", "'(' is no label"),
    (f"app={'x' * 64}", "63 at most"),
    ("Example/app", "'Example' before / is no domain"),
    ("/app", "'' before / is no domain"),
    ("example.org/", "names no label"),
    ("app in x", "no ( follows in"),
    ("app in (x", "a ( is not closed; within a group"),
    ("app in (x y)", "a comma is missing before 'y'"),
    ("app in (x,(", "'(' is no label"),
    ("app>x", "'x' behind > is no number"),
    ("app>", "'' behind > is no number"),
)


@pytest.mark.parametrize(("selector", "wrong"), NO_SELECTORS)
def test_a_selector_that_kubernetes_refuses_is_a_mistake(selector: str, wrong: str) -> None:
    """It would be answered with 400, and waited for in vain."""
    with pytest.raises(OperatorError) as told:
        parse(f"kube://pod#selector={selector}")
    assert wrong in str(told.value)


def test_kinds_are_known_by_their_usual_names() -> None:
    """Names, plurals, short names and names with a group mean the same kind."""
    for text in ("deploy", "Deployment", "deployments", "deployments.apps", "deployment.v1.apps"):
        kind = built_in(text)
        assert kind is not None
        assert (kind.plural, kind.group) == ("deployments", "apps")
    for text in ("quota", "resourcequota", "ResourceQuotas", "resourcequotas.v1"):
        kind = built_in(text)
        assert kind is not None
        assert kind.path("shop") == "/api/v1/namespaces/shop/resourcequotas"
    assert {name for name in names() if built_in(name) is None} == set()
    assert built_in("gateway.networking.istio.io") is None
    assert built_in("") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("True"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "status",
                    "spec",
                    "metadata",
                    "conditions",
                    "type",
                    "replicas",
                    "phase",
                    "addresses",
                    "generation",
                    "observedGeneration",
                    "loadBalancer",
                    "ingress",
                    "reason",
                    "message",
                    "data",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["status", "spec", "metadata", "data"]), JSON))
def test_no_object_breaks_a_rule(thing: Object) -> None:
    """Whatever stands in an object, each rule has a verdict."""
    target = parse("kube://job/x#condition=Ready#jsonpath=.status.phase:x")
    keyed = parse("kube://cm/x#key=a")
    assert isinstance(target, Target)
    assert isinstance(keyed, Target)
    for name, rule in rules.RULES.items():
        assert isinstance(rule(thing, keyed if name == "key" else target), Verdict)
    assert isinstance(fields.fields(thing, target), Verdict)
    assert isinstance(fields.status(thing, has_status=True), Verdict)


GOOD = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3f\r\n{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{}}]}\n\r\n0\r\n\r\n'
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, len(GOOD)), st.binary(max_size=6), st.integers(0, 8))
def test_no_answer_breaks_it(tmp_path: Path, ask: Ask, at: int, instead: bytes, cut: int) -> None:
    """An answer that is mutated anywhere is a verdict, never anything else that is raised."""
    raw = GOOD[:at] + instead + GOOD[at + cut :]

    with Server(answer(b"\r\n\r\n", raw, then=close)) as server:
        config = kubeconfig(tmp_path, f"http://{server.address}")
        assert isinstance(ask(f"kube://pod/a#kubeconfig={config}", 2.0), Verdict)


def test_a_silent_api_server_is_no_reply(tmp_path: Path, ask: Ask) -> None:
    """An API server that accepts and hangs is `no-reply` within the attempt."""
    with Server(hang) as server:
        config = kubeconfig(tmp_path, f"http://{server.address}")
        verdict = ask(f"kube://pod/a#kubeconfig={config}", 0.2)
    assert (verdict.cause, verdict.stale) == ("no-reply", True)


def test_an_object_without_end_is_refused(
    api: ApiServer, config: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is kept of an answer is `protocol`."""
    from service_precheck.codecs.kube import api as wire

    monkeypatch.setattr(wire, "MOST", 1 << 20)
    api.lists = [listed("1", named("x", data={"a": "x" * (1 << 20)}))]
    verdict = ask(f"kube://cm/x#key=a#kubeconfig={config}")
    assert verdict.cause == "protocol"
    assert "more than 1 MiB" in verdict.seen


def test_contexts_and_tokens_of_a_kubeconfig(api: ApiServer, tmp_path: Path, ask: Ask) -> None:
    """`context` chooses another namespace; a token stands in the file, and is never shown."""
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", token="very-secret")
    api.lists = [listed("1")]
    assert "in other yet" in ask(f"kube://cm/a#context=y#kubeconfig={config}").seen
    assert api.tokens == ["Bearer very-secret"]
    verdict = ask(f"kube://cm/a#context=z#kubeconfig={config}")
    assert (verdict.cause, "has no context 'z'" in verdict.seen) == ("local", True)


def test_yaml_and_several_files(
    api: ApiServer, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KUBECONFIG may name several files, in YAML; the first to name something has it."""
    import yaml

    whole = json.loads(kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}").read_text())
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump({"current-context": "y"}))
    second.write_text(yaml.safe_dump(whole))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    api.lists = [listed("1")]
    assert "in other yet" in ask("kube://cm/a").seen
    monkeypatch.setitem(sys.modules, "yaml", None)
    verdict = ask("kube://cm/a")
    assert verdict.cause == "local"
    assert "service-precheck[kubeconfig]" in verdict.hint


def test_a_relative_path_begins_at_its_own_file(
    secure: tuple[ApiServer, Authority],
    tmp_path: Path,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a cluster and a user of two files name by relative paths lies beside each one's own file."""
    api, authority = secure
    whole = json.loads(
        kubeconfig(tmp_path, f"https://127.0.0.1:{api.port}", tokenFile="token").read_text()
    )
    whole["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    paths = []
    for name in ("contexts", "clusters", "users"):
        folder = tmp_path / name
        folder.mkdir()
        paths.append(folder / "config")
        paths[-1].write_text(json.dumps({name: whole[name]}))
    paths[0].write_text(json.dumps({"contexts": whole["contexts"], "current-context": "x"}))
    (tmp_path / "clusters" / "ca.crt").write_bytes(authority.file.read_bytes())
    (tmp_path / "users" / "token").write_text("of-the-user")
    monkeypatch.setenv("KUBECONFIG", ":".join(map(str, paths)))
    assert ask("kube://cm/a").seen == "configmap a in shop is there"
    assert api.tokens == ["Bearer of-the-user"]


def test_a_missing_file_of_several_is_passed_over(
    api: ApiServer, config: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for kubectl, KUBECONFIG may name files that are not there, unless none is; `kubeconfig` may not."""
    missing = tmp_path / "missing"
    api.lists = [listed("1", named("a"))]
    monkeypatch.setenv("KUBECONFIG", f"{missing}:{config}:{tmp_path / 'other'}")
    assert ask("kube://cm/a").ready
    monkeypatch.setenv("KUBECONFIG", f"{missing}:{tmp_path / 'other'}")
    assert (ask("kube://cm/a").cause, str(missing) in ask("kube://cm/a").seen) == ("local", True)
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert ask(f"kube://cm/a#kubeconfig={missing}").cause == "local"


def test_a_big_kubeconfig_with_line_breaks_and_empty_files(
    secure: tuple[ApiServer, Authority],
    tmp_path: Path,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hundreds of clusters in one file, base64 in lines and an empty file beside it are usual."""
    api, authority = secure
    trusted = base64.encodebytes(authority.file.read_bytes()).decode().replace("\n", "\r\n")
    cluster = {"certificate-authority-data": trusted, "extensions": [{"name": "x" * 300_000}]}
    whole = kubeconfig(tmp_path, f"https://127.0.0.1:{api.port}", cluster)
    empty = tmp_path / "empty"
    empty.write_text(" \n")
    monkeypatch.setenv("KUBECONFIG", f"{empty}:{whole}")
    assert ask("kube://cm/a").ready
    monkeypatch.setenv("KUBECONFIG", str(empty))
    verdict = ask("kube://cm/a")
    assert (verdict.cause, verdict.seen) == ("local", f"{empty} has no current-context")
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", context="")
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert verdict.seen == f"{config} has no current-context"
    assert verdict.hint == "#context= names one, of x, y"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[]", "is no kubeconfig file"),
        ("{", "is no YAML"),
        ("[" * 30_000, "is no YAML"),
        ("a: &a [*a]\nx: 2024-02-31\ny: !!int z\n<<: 1", "has no current-context"),
        ('{"current-context": "x"}', "has no context 'x'"),
        ('{"current-context": "x", "contexts": [{"name": "x"}]}', "cluster of context x in"),
    ],
)
def test_a_bad_kubeconfig_is_local(tmp_path: Path, ask: Ask, text: str, wrong: str) -> None:
    """A file that cannot be used is told, and waited for: it may be mended."""
    path = tmp_path / "config"
    path.write_text(text)
    verdict = ask(f"kube://cm/a#kubeconfig={path}")
    assert verdict.cause == "local"
    assert wrong in verdict.seen
    assert str(path) in verdict.seen


@pytest.mark.parametrize(
    ("cluster", "user", "wrong"),
    [
        ({"server": ""}, {}, "server of cluster c in {} is not set"),
        ({"server": ["x"]}, {}, "server of cluster c in {} is no text"),
        ({"server": "http://exämple.org"}, {}, "server of cluster c in {} is neither"),
        ({"server": "https://[::1"}, {}, "server of cluster c in {} is neither"),
        ({"server": "https://h:99999"}, {}, "server of cluster c in {} is neither"),
        ({"server": "ftp://h"}, {}, "HOST:PORT: ftp://h"),
        ({"server": "http://h/a b\r\nX: y"}, {}, "server of cluster c in {} holds a line break"),
        ({"tls-server-name": "exämple"}, {}, "tls-server-name of cluster c in {} is no name"),
        ({"tls-server-name": "a\0b"}, {}, "tls-server-name of cluster c in {} holds"),
        (
            {"insecure-skip-tls-verify": "true"},
            {},
            "insecure-skip-tls-verify of cluster c in {} is neither true nor false",
        ),
        ({"certificate-authority": "a\0b"}, {}, "certificate-authority of cluster c in {} holds"),
        (
            {"certificate-authority": "none"},
            {},
            "certificate-authority of cluster c in {} names {}/none, which cannot be read: No such",
        ),
        (
            {"certificate-authority-data": "Zm9v"},
            {},
            "certificate-authority-data of cluster c in {} is no certificate in PEM",
        ),
        (
            {},
            {"client-certificate-data": "é"},
            "client-certificate-data of user u in {} is no base",
        ),
        (
            {},
            {"client-certificate-data": "a b="},
            "client-certificate-data of user u in {} is no b",
        ),
        (
            {},
            {"client-certificate-data": "Zm9v"},
            "client-certificate-data of user u in {} is no c",
        ),
        ({}, {"client-key-data": "Zm9v"}, "client-key-data of user u in {} has no certificate"),
        ({}, {"token": "a\nb"}, "token of user u in {} holds a line break"),
        ({}, {"token": "\ud800"}, "token of user u in {} holds"),
        ({}, {"tokenFile": "a\0b"}, "tokenFile of user u in {} holds"),
        ({}, {"exec": "aws"}, "exec of user u in {} is no object"),
        ({}, {"exec": {"args": []}}, "command of exec of user u in {} is not set"),
        ({}, {"exec": {"command": "a\0b"}}, "command of exec of user u in {} holds"),
        ({}, {"exec": {"command": "a", "args": ["\0"]}}, "args of exec of user u in {} holds"),
        ({}, {"exec": {"command": "a", "args": "x"}}, "args of exec of user u in {} is no list"),
        (
            {},
            {"exec": {"command": "a", "env": [{"name": "A=B"}]}},
            "env of exec of user u in {} has a variable",
        ),
        (
            {},
            {"exec": {"command": "a", "env": [{"name": "A", "value": "\0"}]}},
            "env of exec of user u in {} holds",
        ),
    ],
)
def test_a_bad_field_is_named(
    tmp_path: Path, ask: Ask, cluster: Object, user: Object, wrong: str
) -> None:
    """A field that cannot be used is `local`, by its name, whose it is and the file; nothing of it that
    may be a secret is shown, and no option of other schemes is named."""
    config = kubeconfig(tmp_path, "https://127.0.0.1:1", cluster, **user)
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert verdict.cause == "local"
    assert wrong.format(config, tmp_path) in verdict.seen
    assert "#" not in verdict.hint


def test_a_bad_namespace_is_named(tmp_path: Path, ask: Ask) -> None:
    """A context's namespace becomes a part of a path, so it is one that a namespace can have."""
    config = kubeconfig(tmp_path, "http://127.0.0.1:1")
    config.write_text(config.read_text().replace('"shop"', '"a/../b"'))
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert verdict.cause == "local"
    assert f"namespace of context x in {config} is no name" in verdict.seen


def in_memory() -> list[str]:
    """The open files of this process that lie on no disk."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if name.startswith("/memfd:kubeconfig")]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(
        ["c", "u", "x", "https://127.0.0.1:1", "127.0.0.1:1", "\ud800", "Zm9v", "/none", "é.x"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
# No program that is there may be run.
SPEC = st.fixed_dictionaries(
    {"command": st.sampled_from(["/none", "a\0b", "", "/\ud800", 1, None])},
    optional=dict.fromkeys(
        ("args", "env", "apiVersion", "installHint", "provideClusterInfo"),
        VALUES | st.lists(st.fixed_dictionaries({"name": VALUES, "value": VALUES}), max_size=2),
    ),
)
CLUSTER = st.fixed_dictionaries(
    {},
    optional={
        "server": VALUES | st.just("https://127.0.0.1:1"),
        **dict.fromkeys(
            ("certificate-authority", "certificate-authority-data", "tls-server-name"), VALUES
        ),
        **dict.fromkeys(("insecure-skip-tls-verify", "proxy-url", "extensions"), VALUES),
    },
)
USER = st.fixed_dictionaries(
    {},
    optional={
        "exec": VALUES | SPEC,
        **dict.fromkeys(("client-certificate", "client-certificate-data", "client-key"), VALUES),
        **dict.fromkeys(("client-key-data", "token", "tokenFile", "as", "username"), VALUES),
    },
)
CONTEXT = st.fixed_dictionaries(
    {"cluster": st.just("c") | VALUES},
    optional={"user": st.just("u") | VALUES, "namespace": VALUES},
)


def entries(what: str, name: str, inside: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(st.fixed_dictionaries({"name": st.just(name), what: inside}), max_size=2)


KUBECONFIGS = st.fixed_dictionaries(
    {
        "current-context": st.just("x"),
        "contexts": entries("context", "x", CONTEXT | VALUES) | VALUES,
        "clusters": entries("cluster", "c", CLUSTER | VALUES) | VALUES,
        "users": entries("user", "u", USER | VALUES) | VALUES,
    }
).map(json.dumps)
# Words that YAML makes something of.
YAMLS = st.lists(
    st.sampled_from(
        [
            *("a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", "&a ", "*a", "!!int ", "!!binary "),
            *("!!timestamp ", "2024-02-31", "0b_", "1:30", "<<: ", "? ", "'", "|\n", "---\n", "~"),
            *("contexts", "current-context", "x", "\t", "%YAML 9.9\n", "!!bool z", "\ufeff", "#"),
        ]
    ),
    max_size=14,
).map("".join)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(KUBECONFIGS | YAMLS | st.binary(max_size=12))
def test_no_kubeconfig_breaks_it(tmp_path: Path, text: str | bytes) -> None:
    """Whatever a kubeconfig file holds, there is a way to an API server or a verdict, and no descriptor is left."""
    path = tmp_path / "config"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    target = parse(f"kube://cm/a#kubeconfig={path}")
    assert isinstance(target, Target)
    with contextlib.suppress(NotReady):
        with access.access(target, Attempt(net.monotonic() + 5, Names())) as way:
            way.token(None)
    assert not in_memory()


def test_what_is_not_spoken_is_unsupported(tmp_path: Path, ask: Ask) -> None:
    """A way or a login that would be another one than kubectl's is never tried, nor are they shown."""
    secret = "http://proxy-user:S3cretPw@proxy:3128"
    users: tuple[Object, ...] = (
        {"as": secret},
        {"username": secret},
        {"auth-provider": {"name": secret}},
    )
    for user in users:
        name, config = next(iter(user)), kubeconfig(tmp_path, "http://127.0.0.1:1", **user)
        verdict = ask(f"kube://cm/a#kubeconfig={config}")
        assert (verdict.cause, verdict.definite) == ("unsupported", False)
        assert verdict.seen.startswith(f"{name} of user u in {config} is")
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", {"proxy-url": secret})
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.seen) == (
        "unsupported",
        f"proxy-url of cluster c in {config} is not spoken here",
    )


@pytest.mark.parametrize(
    "server",
    [
        *("admin:S3cretPw@10.0.0.1:6443", "https://admin:S3cretPw@10.0.0.1", "S3cretPw@10.0.0.1"),
        *("ftp://admin:S3cretPw@h", "https://admin:S3cretPw/@h", "admin:S3cret@Pw/x@[::1"),
    ],
)
def test_a_login_in_a_servers_address_is_not_shown(tmp_path: Path, ask: Ask, server: str) -> None:
    """fault 68: what stands before an @ of the server is in no verdict, and is not tried as a login."""
    config = kubeconfig(tmp_path, server)
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert verdict.cause in ("unsupported", "local")
    assert f"server of cluster c in {config}" in verdict.seen
    assert "S3cret" not in f"{verdict.seen} {verdict.hint}"


def test_a_server_without_a_scheme(
    secure: tuple[ApiServer, Authority], api: ApiServer, tmp_path: Path, ask: Ask
) -> None:
    """As client-go has it, HOST:PORT is asked in TLS where anything is said of TLS, else in plain text."""
    api.lists = [listed("1", named("a"))]
    assert ask(f"kube://cm/a#kubeconfig={kubeconfig(tmp_path, f'127.0.0.1:{api.port}')}").ready
    server, authority = secure
    cluster = {"certificate-authority": str(authority.file)}
    config = kubeconfig(tmp_path, f"127.0.0.1:{server.port}", cluster)
    assert ask(f"kube://cm/a#kubeconfig={config}").ready


def test_a_kind_of_kubernetes_that_is_not_found(api: ApiServer, tmp_path: Path, ask: Ask) -> None:
    """A path that is not the API's, as behind a proxy, says so; of the object nothing is known. Of a
    kind that somebody brings the definition is missing."""
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}/k8s/clusters/c-1")
    api.lists = [status(404, "page not found")]
    verdict = ask(f"kube://pod/a#kubeconfig={config}")
    assert (verdict.cause, verdict.definite) == ("unexpected-status", False)
    path = "/k8s/clusters/c-1/api/v1/namespaces/shop/pods"
    assert f"404 Not Found to {path}: page not found; nothing new is known of" in verdict.seen
    assert verdict.hint == "is the path of the server right, as the kubeconfig file has it?"
    assert ask(f"kube://deploy/a#kubeconfig={config}").cause == "unexpected-status"
    verdict = ask(f"kube://gateway/a#kubeconfig={config}")
    assert (verdict.cause, verdict.definite) == ("missing-object", True)
    assert verdict.seen == "no gateways.gateway.networking.k8s.io are served"
    assert "CustomResourceDefinition" in verdict.hint


class Program:
    """A plugin in a folder: it notes each of its runs, and does what its script says."""

    def __init__(self, folder: Path, script: str) -> None:
        self.runs = folder / "runs"
        self.path = folder / "plugin"
        self.write(script)

    def write(self, script: str) -> None:
        self.path.write_text(f"#!/bin/sh\necho $$ >> {self.runs}\n{script}\n")
        self.path.chmod(0o755)

    def pids(self) -> list[int]:
        return list(map(int, self.runs.read_text().split())) if self.runs.exists() else []


def prints(**status: str) -> str:
    """The script of a plugin that prints a login."""
    return f"printf %s '{json.dumps({'kind': 'ExecCredential', 'status': status})}'"


def gone(pid: int) -> bool:
    """Whether a process has ended, or was killed and not yet taken away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_plugin_gives_the_token(api: ApiServer, tmp_path: Path, ask: Ask) -> None:
    """An exec plugin is told the version and nothing of the cluster; what it prints is the token."""
    Program(
        tmp_path,
        f'printf %s "$KUBERNETES_EXEC_INFO" > {tmp_path}/info\n'
        'echo "{\\"status\\": {\\"token\\": \\"$1$X\\"}}"',
    )
    spec = {"command": "./plugin", "args": ["for"], "env": [{"name": "X", "value": "-x"}]}
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", exec=spec)
    api.lists = [listed("1")]
    assert ask(f"kube://cm/a#kubeconfig={config}").cause == "missing-object"
    assert api.tokens == ["Bearer for-x"]
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }


def test_a_plugin_is_told_of_the_cluster(
    secure: tuple[ApiServer, Authority], tmp_path: Path, ask: Ask
) -> None:
    """With provideClusterInfo it learns what client-go would tell it, by data and by a file alike."""
    api, authority = secure
    trusted = authority.file.read_bytes()
    Program(tmp_path, f'printf %s "$KUBERNETES_EXEC_INFO" > {tmp_path}/info\n{prints(token="tok")}')
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": 7}}
    cluster: Object = {"tls-server-name": "127.0.0.1", "extensions": [extension]}
    spec = {"command": "./plugin", "provideClusterInfo": True, "apiVersion": "client.x/v1beta1"}
    server = f"https://127.0.0.1:{api.port}"
    for named_by in (
        {"certificate-authority-data": base64.b64encode(trusted).decode()},
        {"certificate-authority": str(authority.file)},
    ):
        config = kubeconfig(tmp_path, server, cluster | named_by, exec=spec)
        assert ask(f"kube://cm/a#kubeconfig={config}").ready
        told = json.loads((tmp_path / "info").read_text())
        assert told["apiVersion"] == "client.x/v1beta1"
        assert told["spec"]["cluster"] == {
            "server": server,
            "tls-server-name": "127.0.0.1",
            "certificate-authority-data": base64.b64encode(trusted).decode(),
            "config": {"audience": 7},
        }


@pytest.mark.parametrize(
    ("script", "wrong"),
    [
        ("echo no login >&2; exit 3", "ended with 3: no login"),
        ("kill -9 $$", "was killed by signal 9"),
        ("echo hello", "printed no ExecCredential"),
        ("printf '\\377'", "printed no ExecCredential"),
        ("yes '[' | head -30000", "printed no ExecCredential"),
        ("echo '{}'", "printed no ExecCredential with a token"),
        ("echo '[]'", "printed no ExecCredential with a token"),
        (prints(clientCertificateData="x"), "printed no ExecCredential with a token"),
        (prints(clientCertificateData="x", clientKeyData="y"), "clientCertificateData is no cert"),
        (prints(token="a\nb"), "the value of Authorization holds a line break"),
    ],
)
def test_a_plugin_that_fails_is_not_run_at_each_attempt(
    tmp_path: Path, ask: Ask, script: str, wrong: str
) -> None:
    """What it said is `local`, and told to all that ask within five seconds, without another run."""
    program = Program(tmp_path, script)
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", exec={"command": "./plugin"})
    seen = []
    for name in ("a", "b", "c"):
        verdict = ask(f"kube://cm/{name}#kubeconfig={config}")
        assert (verdict.cause, wrong in verdict.seen) == ("local", True), verdict
        assert str(program.path) in verdict.seen
        seen.append(verdict.again or 0.0)
    assert 0 < seen[2] < seen[1] <= seen[0] == plugin.AGAIN
    assert len(program.pids()) == 1


def test_a_plugin_that_is_not_there(tmp_path: Path, ask: Ask) -> None:
    """A program that is missing is told with the hint that the kubeconfig file has for that."""
    spec = {"command": "no-such-plugin", "installHint": "It is got\nfrom example.org"}
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", exec=spec)
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.seen) == ("local", "there is no program no-such-plugin")
    assert verdict.hint == "It is got from example.org"


def test_one_run_for_all_that_ask(api: ApiServer, tmp_path: Path) -> None:
    """Eight targets that ask at once, and ask again and again while the API server refuses, share one run."""
    program = Program(tmp_path, f"sleep 0.5\n{prints(token='tok')}")
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", exec={"command": "./plugin"})
    api.lists = [status(503, "starting")]
    targets = [f"kube://cm/a{n}#kubeconfig={config}" for n in range(8)]
    for _ in range(3):
        states = library.check(*targets).states
        assert {state.cause for state in states} == {"not-ready"}
    assert api.tokens == ["Bearer tok"] * 24
    assert len(program.pids()) == 1


def test_a_slow_plugin_is_waited_for_over_several_attempts(api: ApiServer, tmp_path: Path) -> None:
    """An attempt that waits for it ends at its own deadline and blames it, not the network; the run goes
    on for the next one."""
    program = Program(
        tmp_path, f"while ! test -e {tmp_path}/now; do sleep 0.02; done\n{prints(token='tok')}"
    )
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", exec={"command": "./plugin"})
    api.lists = [listed("1", named("a"))]
    target = f"kube://cm/a#kubeconfig={config}#attempt-timeout=1s"
    with Gate(target, "-v") as gate:
        gate.wait_output(f"{program.path} has not given a login for 1")
        later = re.compile(f"{program.path} has not given a login for [2-9]")
        until = time.monotonic() + 30
        while not later.search(gate.stderr):
            assert time.monotonic() < until, gate.stderr
            time.sleep(0.01)
        assert "[local]" in gate.stderr
        (tmp_path / "now").touch()
        assert gate.wait(20).status == 0
    assert len(program.pids()) == 1


def test_a_plugin_that_never_ends_is_given_up(
    tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run has a time limit of its own, however many attempts wait for it; then it is killed."""
    monkeypatch.setattr(plugin, "PATIENCE", 0.2)
    program = Program(tmp_path, "exec sleep 1000")
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", exec={"command": "./plugin"})
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.seen) == (
        "local",
        f"{program.path} gave no login within 0.2 s",
    )
    assert all(map(gone, program.pids()))


@pytest.mark.parametrize("how", ["timeout", "signal", "success", "check", "terminated check"])
def test_no_plugin_outlives_who_waits_for_it(tmp_path: Path, how: str) -> None:
    """Its whole process group is gone when the gate, or a single look, ends in whichever way."""
    program = Program(tmp_path, f"sleep 1000 & echo $! >> {tmp_path}/runs; wait")
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", exec={"command": "./plugin"})
    target = f"kube://cm/a#kubeconfig={config}#attempt-timeout=2s"
    with Server(say(b"x"), opened=False) as other:
        if "check" in how:
            gate = Gate("check", target, command=TOOLBOX)
        elif how == "success":
            gate = Gate(f"any({target.replace(',', '%2C')}, {other.address})")
        else:
            gate = Gate(target, *(("--timeout", "3s") if how == "timeout" else ()))
        with gate:
            wait_until(lambda: len(program.pids()) == 2)
            if how in ("signal", "terminated check"):
                gate.signal(signal.SIGTERM)
            if how == "success":
                other.open()
            done = gate.wait(20)
    ends = {"timeout": 124, "signal": 143, "success": 0, "check": 1, "terminated check": 143}
    assert done.status == ends[how]
    if how == "check":
        assert f"{program.path} has not given a login for " in done.stdout
    for pid in program.pids():
        wait_until(lambda pid=pid: gone(pid))  # type: ignore[misc]


def test_no_plugin_outlives_a_call_of_the_library(tmp_path: Path) -> None:
    """After a look, and after a wait that ran out of time, nothing of it is left in a process that lives on."""
    program = Program(tmp_path, "exec sleep 1000")
    config = kubeconfig(tmp_path, "http://127.0.0.1:1", exec={"command": "./plugin"})
    target = f"kube://cm/a#kubeconfig={config}"
    library.check(f"{target}#attempt-timeout=500ms")
    assert len(program.pids()) == 1
    assert gone(program.pids()[0])
    with pytest.raises(library.WaitTimeout):
        library.wait(f"{target}#attempt-timeout=1h", timeout=1.5)
    assert len(program.pids()) == 2
    wait_until(lambda: gone(program.pids()[1]))
    assert not signals.children


def test_a_refused_token_is_asked_for_once_more(api: ApiServer, tmp_path: Path, ask: Ask) -> None:
    """fault 49: at 401 the plugin is run anew, once; a token that is refused again is told, and its plugin
    not run at each attempt."""
    program = Program(
        tmp_path, f"""echo '{{"status": {{"token": "token-'$(wc -l < {tmp_path}/runs)'"}}}}'"""
    )
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", exec={"command": "./plugin"})
    target = f"kube://cm/a#kubeconfig={config}"
    api.lists = [status(401, "expired"), listed("1", named("a"))]
    assert ask(target).ready
    assert api.tokens == ["Bearer token-1", "Bearer token-2"]
    api.lists = [status(401, "expired")]
    assert [ask(target).cause for _ in range(3)] == ["auth-refused"] * 3
    assert set(api.tokens[2:]) == {"Bearer token-2"}
    assert len(program.pids()) == 2


def test_an_expired_token_is_asked_for_anew(
    api: ApiServer, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login is kept until shortly before it expires; one whose time has passed already is tried."""
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3600)
    login = prints(token="tok", expirationTimestamp=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    program = Program(tmp_path, login)
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", exec={"command": "./plugin"})
    target = f"kube://cm/a#kubeconfig={config}"
    api.lists = [listed("1", named("a"))]
    now = time.time()
    for later, runs in ((0, 1), (3600 - plugin.EARLY - 60, 1), (3600 - plugin.EARLY + 1, 2)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert ask(target).ready
        assert len(program.pids()) == runs
    program.write(prints(token="tok", expirationTimestamp="0001-01-01T00:00:00Z"))
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert ask(target).ready
    assert ask(target).ready
    assert len(program.pids()) == 3


def test_without_a_login_in_a_pod(
    tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pod without a token the hint says how one is mounted; elsewhere that there is no file, also
    where nobody knows a home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    verdict = ask("kube://cm/a")
    assert (verdict.cause, verdict.seen[:14]) == ("local", "this is no pod")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    verdict = ask("kube://cm/a")
    assert "automountServiceAccountToken" in verdict.hint
    monkeypatch.delenv("HOME")
    assert "automountServiceAccountToken" in ask("kube://cm/a").hint
    verdict = ask("kube://cm/a#context=x")
    assert (verdict.cause, verdict.seen) == (
        "local",
        "there is no kubeconfig file that could have the context",
    )


def test_a_user_without_a_name_or_a_home() -> None:
    """fault 43: a user id that no passwd file knows, without HOME, is in no pod, or in one without a token."""
    need_root("another user")
    with Gate("kube://cm/a", "--timeout", "1s", user=54321) as gate:
        done = gate.wait(20)
    assert (done.status, "this is no pod" in done.stderr) == (124, True)


@contextlib.contextmanager
def in_tls(name: str, clients: ssl.VerifyMode) -> Iterator[tuple[ApiServer, Authority]]:
    """An API server in TLS whose certificate is for a name, and that asks for one of its clients so."""
    with Authority() as authority:
        certificate = authority.issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        context.load_verify_locations(authority.file)
        context.verify_mode = clients
        with closing(ApiServer(tls=context)) as made:
            made.lists = [listed("1", named("a"))]
            yield made, authority


@pytest.fixture
def secure() -> Iterator[tuple[ApiServer, Authority]]:
    """An API server in TLS that asks for a client's certificate, and takes none too."""
    with in_tls("127.0.0.1", ssl.CERT_OPTIONAL) as made:
        yield made


def test_in_a_pod_by_its_service_account(
    secure: tuple[ApiServer, Authority],
    tmp_path: Path,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service account's files say who asks, whom to trust and in which namespace."""
    api, authority = secure
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    monkeypatch.setattr(access, "ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    assert ask("kube://cm/a").seen == "configmap a in shop is there"
    assert api.tokens == ["Bearer of-the-pod"]
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "x")
    assert ask("kube://cm/a").cause == "local"
    with Authority() as other:
        (tmp_path / "ca.crt").write_bytes(other.file.read_bytes())
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        verdict = ask("kube://cm/a")
    assert (verdict.cause, verdict.definite) == ("tls-untrusted", False)


def test_in_a_pod_it_loads_little(secure: tuple[ApiServer, Authority], tmp_path: Path) -> None:
    """A watch in a pod loads the C modules of TLS, JSON and base64, and nothing of the library."""
    api, authority = secure
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    first = (
        "import posix\n"
        "posix.environ[b'KUBERNETES_SERVICE_HOST'] = b'127.0.0.1'\n"
        f"posix.environ[b'KUBERNETES_SERVICE_PORT'] = b'{api.port}'\n"
        "import service_precheck.codecs.kube.access as access\n"
        f"access.ACCOUNT = {str(tmp_path)!r}"
    )
    ours, others = split(loaded(sys.executable, "kube://cm/a", first=first))
    assert others <= LEAN | {"_ssl", "_json", "binascii"}
    assert "codecs.kube.config" not in ours
    assert "access" not in ours


def test_in_a_pod_a_kubeconfig_goes_first(
    secure: tuple[ApiServer, Authority],
    api: ApiServer,
    tmp_path: Path,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As kubectl has it: what KUBECONFIG names, else the home folder's, else the service account. A home
    that is not asked for, since KUBECONFIG is set, is not."""
    pod, authority = secure
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("of-the-pod")
    (account / "namespace").write_text("front")
    (account / "ca.crt").write_bytes(authority.file.read_bytes())
    home = tmp_path / ".kube"
    home.mkdir()
    monkeypatch.setattr(access, "ACCOUNT", str(account))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(pod.port))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    api.lists = [listed("1", named("a"))]
    assert ask("kube://cm/a").seen == "configmap a in front is there"
    kubeconfig(home, f"http://127.0.0.1:{api.port}", token="of-the-home")
    assert ask("kube://cm/a").seen == "configmap a in shop is there"
    named_there = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}", token="of-the-file")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/missing:{named_there}")
    assert ask("kube://cm/a").seen == "configmap a in shop is there"
    assert api.tokens == ["Bearer of-the-home", "Bearer of-the-file"]
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/missing")
    assert ask("kube://cm/a").seen == "configmap a in front is there"
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.delenv("HOME")
    assert ask("kube://cm/a").seen == "configmap a in front is there"
    assert pod.tokens == ["Bearer of-the-pod"] * 3


@pytest.fixture
def demanding() -> Iterator[tuple[ApiServer, Authority]]:
    """An API server in TLS, called api.example, that lets nobody in without a client's certificate."""
    with in_tls("api.example", ssl.CERT_REQUIRED) as made:
        yield made


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("how", ["data", "file", "plugin"])
def test_a_clients_certificate_is_shown(
    demanding: tuple[ApiServer, Authority], tmp_path: Path, ask: Ask, how: str
) -> None:
    """Certificate and key log in: by the kubeconfig's own data, which lies on no disk, by files beside it, or
    from its plugin. The server is asked for by the name that it is given."""
    api, authority = demanding
    client = authority.client("cart@example.org")
    cluster: Object = {"tls-server-name": "api.example"}
    user: Object
    if how == "data":
        cluster["certificate-authority-data"] = encoded(authority.file)
        user = {"client-certificate-data": encoded(client.chain)}
        user["client-key-data"] = encoded(client.key)
    else:
        for name, path in (("ca", authority.file), ("c.crt", client.chain), ("c.key", client.key)):
            (tmp_path / name).write_bytes(path.read_bytes())
        cluster["certificate-authority"] = "ca"
        user = {"client-certificate": "c.crt", "client-key": "c.key"}
    if how == "plugin":
        login = {"clientCertificateData": client.chain.read_text()}
        login["clientKeyData"] = client.key.read_text()
        Program(tmp_path, prints(**login))
        user = {"exec": {"command": "./plugin"}}
    config = kubeconfig(tmp_path, f"https://127.0.0.1:{api.port}", cluster, **user)
    assert ask(f"kube://cm/a#kubeconfig={config}").ready
    assert not in_memory()
    assert "cart@example.org" in str(api.shown[-1])
    assert set(api.names) == {"api.example"}
    config = kubeconfig(tmp_path, f"https://127.0.0.1:{api.port}", cluster)
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.hint) == ("tls-client-cert", "")


def test_a_key_of_another_certificate(tmp_path: Path, authority: Authority, ask: Ask) -> None:
    """It is said which field's key does not go with the certificate."""
    one, other = authority.client(), authority.client()
    user: Object = {"client-certificate": str(one.chain), "client-key-data": encoded(other.key)}
    config = kubeconfig(tmp_path, "https://127.0.0.1:1", **user)
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert verdict.cause == "local"
    assert verdict.seen == (f"client-key-data of user u in {config} is not that of the certificate")
    del user["client-key-data"]
    config = kubeconfig(tmp_path, "https://127.0.0.1:1", **user)
    assert (
        f"client-key of user u in {config} is not set"
        in ask(f"kube://cm/a#kubeconfig={config}").seen
    )


def test_a_certificate_is_looked_at_unless_that_is_forbidden(
    secure: tuple[ApiServer, Authority], tmp_path: Path, ask: Ask
) -> None:
    """An unknown authority, and another name, are refused, but for insecure-skip-tls-verify."""
    api, authority = secure
    server = f"https://127.0.0.1:{api.port}"
    config = kubeconfig(tmp_path, server)
    assert ask(f"kube://cm/a#kubeconfig={config}").cause == "tls-untrusted"
    cluster: Object = {"certificate-authority": str(authority.file)}
    config = kubeconfig(tmp_path, server, cluster | {"tls-server-name": "other.example"})
    verdict = ask(f"kube://cm/a#kubeconfig={config}")
    assert (verdict.cause, verdict.hint) == ("tls-name", "")
    config = kubeconfig(tmp_path, server, {"insecure-skip-tls-verify": True})
    assert ask(f"kube://cm/a#kubeconfig={config}").ready


def test_same_node_needs_the_node(
    api: ApiServer, config: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`same-node` asks for the daemonset's pods on the node that NODE_NAME names."""
    monkeypatch.delenv("NODE_NAME", raising=False)
    api.lists = [listed("1")]
    verdict = ask(f"kube://ds/agent#same-node#kubeconfig={config}")
    assert (verdict.cause, "fieldRef" in verdict.hint) == ("local", True)
    monkeypatch.setenv("NODE_NAME", "node-7")
    owners = [{"kind": "DaemonSet", "name": "agent"}]
    mine = {"metadata": {"name": "agent-x", "ownerReferences": owners}}
    api.lists = [listed("1", mine | {"status": {"phase": "Succeeded"}}, named("other"))]
    assert ask(f"kube://ds/agent#same-node#kubeconfig={config}").ready
    assert "/pods?fieldSelector=spec.nodeName%3Dnode-7&" in api.asked[-1]


def test_a_kind_compares_by_its_fields() -> None:
    """A kind's path has its group, its version and its namespace."""
    assert Kind("a", "as", "g", "v2").path("n") == "/apis/g/v2/namespaces/n/as"
    assert Kind("a", "as", "", "v1", namespaced=False).path("n") == "/api/v1/as"
