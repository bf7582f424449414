"""Kubernetes: is an object there and as it should be, told by the API server when it changes.

Kubernetes documentation, "Kubernetes API Concepts". Sends one list, narrowed to the object's name (`GET
...?fieldSelector=metadata.name=`, so that it needs no more rights than that name, and may be asked for
what does not exist yet) or to a selector, then one watch on the same connection; a kind that Kubernetes
does not come with is looked up before, once. When the server ends the watch, which it is asked to do
after 5 to 10 minutes, the next goes on from where that one ended. Costs the API server one connection,
and a message at each change of the object.

TCP's keepalive finds out within 25 s that nobody is there any more. Where no watch can stand (`check`;
no thread left) the list alone is asked, again and again.
"""

from __future__ import annotations

from .. import net
from ..codecs import kube_kinds
from ..codecs.kube_access import access
from ..codecs.kube_api import Gone, Talk, part, text
from ..codecs.kube_discovery import forget, kind_of
from ..codecs.kube_fields import read_condition, read_path
from ..codecs.kube_view import View
from ..errors import NotReady, blocked
from ..kinds import Kind, Wrong
from ..model import Verdict, printable, seconds
from ..options import FLAG, NUMBER, PATH, TEXT, Option, Scheme, Target, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..codecs.kube_access import Access
    from ..codecs.kube_kinds import Question
    from ..stream import Attempt

# A server that ends each watch at once is not asked more often than this.
LEAST = 1.0

_OPTIONS = (
    Option("selector", TEXT, "labels of the objects, as app=web,tier!=db, instead of a name"),
    Option("min", NUMBER, "how many endpoints, or of the selected objects, must be ready"),
    Option(
        "condition",
        Kind("NAME:STATUS", read_condition),
        "a condition that must be so, as Ready or Ready:False",
        many=True,
    ),
    Option(
        "jsonpath",
        Kind("PATH:VALUE", read_path),
        "a field that must be so, as .status.phase:Running; without a value, that must be there",
        many=True,
    ),
    Option("exists", FLAG, "ask for no more than that it is there", False),
    Option("absent", FLAG, "ask for it to be gone", False),
    Option("key", TEXT, "a key that the configmap or secret must have", many=True),
    Option("same-node", FLAG, "ask for the daemonset's pod on this pod's node ($NODE_NAME)", False),
    Option(
        "failed",
        choice("fail", "wait"),
        "fail: a job that failed ends the gate; wait: it is waited for one that is made anew",
        "fail",
    ),
    Option("kubeconfig", PATH, "a kubeconfig file to use instead of the pod's service account"),
    Option("context", TEXT, "the context of the kubeconfig file, instead of its current one"),
)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the objects are as they should be: one list."""
    with access(target) as way, Talk(way, attempt) as talk:
        asking = _Asking(target, way)
        try:
            asking.list(talk)
        except Gone as error:
            raise blocked("overloaded", f"{asking.what} changed while it was listed") from error
        except NotReady as error:
            raise asking.explained(error) from error
        return asking.verdict()


def watch(target: Target, attempt: Attempt) -> Iterator[Verdict]:
    """What `probe` gives, at each change, for ever."""
    with access(target) as way:
        asking = _Asking(target, way)
        began = float("-inf")
        while True:
            try:
                net.sleep(max(0.0, began + LEAST - net.monotonic()))
                began = net.monotonic()
                with Talk(way, attempt.anew()) as talk:
                    if not asking.version:
                        asking.list(talk)
                        yield from asking.news()
                    told = asking.version
                    for _ in asking.watch(talk):
                        yield from asking.news()
                    if asking.version == told and net.monotonic() - began < LEAST:
                        # It ended before it could tell anything, and may again.
                        asking.version = ""
            except Gone:
                asking.version = ""
            except NotReady as error:
                raise asking.explained(error) from error


class _Asking:
    """A target's conversation with the API server, and what is known of its objects.

    `version` is that of the newest of it, empty before the first list.
    """

    __slots__ = ("_heard", "_question", "_target", "_told", "_view", "_way", "version")

    def __init__(self, target: Target, way: Access) -> None:
        self._target = target
        self._way = way
        self._question: Question | None = None
        self._view: View | None = None
        self._heard = net.monotonic()
        self._told: Verdict | None = None
        self.version = ""

    @property
    def what(self) -> str:
        """The target's objects, for people."""
        return self._target.address() if self._view is None else self._view.what

    def verdict(self) -> Verdict:
        """What is known by now."""
        assert self._view is not None
        return self._view.verdict()

    def news(self) -> Iterator[Verdict]:
        """The verdict, where it is another one than before."""
        now = self.verdict()
        if now != self._told:
            self._told = now
            yield now

    def list(self, talk: Talk) -> None:
        """Learn all objects."""
        question, view = self._begun(talk)
        view.clear()
        try:
            for version, things in talk.pages(question):
                self.version = version
                for thing in things:
                    view.take(thing)
        except NotReady as error:
            if error.verdict.cause == "missing-object":
                # The kind's definition was deleted.
                forget(kube_kinds.asked(self._target).kind, self._way)
                raise blocked(
                    "missing-object",
                    f"no {question.kind.plural}.{question.kind.group} are served",
                    "its CustomResourceDefinition is not installed yet?",
                    again=10.0,
                ) from error
            raise
        self._heard = net.monotonic()

    def watch(self, talk: Talk) -> Iterator[None]:
        """Learn each change, one at a time, until the server ends the watch."""
        question, view = self._begun(talk)
        for event in talk.watch(question, self.version):
            self._heard = net.monotonic()
            thing = part(event, "object")
            kind = event.get("type")
            if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
                raise blocked("protocol", f"the API server told of {printable(str(kind), 60)!r}")
            if kind != "BOOKMARK":
                view.take(thing, gone=kind == "DELETED")
            self.version = text(thing, "metadata", "resourceVersion") or self.version
            yield

    def _begun(self, talk: Talk) -> tuple[Question, View]:
        if self._question is None or self._view is None:
            what = kube_kinds.asked(self._target)
            kind = kind_of(what.kind, self._way, talk)
            node = _node(self._target)
            namespace = what.namespace or self._way.namespace
            self._question = kube_kinds.question(self._target, kind, namespace, node)
            self._view = View(self._target, kind, self._question)
        return self._question, self._view

    def explained(self, error: NotReady) -> NotReady:
        """An obstacle as one of asking: it says nothing of the objects themselves."""
        verdict = error.verdict
        if verdict.cause == "forbidden":
            return NotReady(verdict.but(hint=self._rights(verdict.seen)))
        if verdict.cause in ("missing-object", "local"):
            return error
        ago = seconds(net.monotonic() - self._heard)
        before = f"; {ago} ago: {self._told.seen}" if self._told is not None else ""
        said = f"{verdict.seen}; nothing new is known of {self.what}{before}"
        return NotReady(verdict.but(seen=said, stale=True))

    def _rights(self, said: str) -> str:
        """How who was refused gets the least rights, as the refusal names them."""
        from ..codecs import kube_rights

        if self._question is None:
            return ""
        user = said.partition('User "')[2].partition('"')[0] or "USER"
        what = kube_kinds.asked(self._target)
        kind = kube_kinds.built_in(what.kind) or self._question.kind
        return kube_rights.commands(
            kube_rights.rule(self._target, kind, self._question.namespace), user
        )


def _node(target: Target) -> str:
    """This pod's own node, for `same-node`."""
    if not target.flag("same-node"):
        return ""
    name = net.environment().get("NODE_NAME", "")
    if not name:
        hint = "env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]"
        raise blocked("local", "the environment variable NODE_NAME is not set", hint)
    return name


def _check(target: Target) -> tuple[str, ...]:
    """What is wrong with the parts of a target, and with options that do not go with its kind."""
    try:
        what = kube_kinds.asked(target)
    except Wrong as wrong:
        return (str(wrong),)
    known = kube_kinds.built_in(what.kind)
    name = known.name if known is not None else what.kind
    given = {option for option, value in target.given if value is not False}
    wrong_ones = []
    if what.name and "selector" in given:
        wrong_ones.append("#selector= besides a name")
    if {"exists", "absent"} & given and given & {
        "condition",
        "jsonpath",
        "key",
        "same-node",
        "min",
    }:
        wrong_ones.append("#exists or #absent with what only an object that is there can have")
    if {"exists", "absent"} <= given:
        wrong_ones.append("#exists with #absent")
    if "key" in given and name not in ("configmap", "secret"):
        wrong_ones.append(f"#key= of a {name}; only a configmap and a secret have keys")
    if "key" in given and given & {"condition", "jsonpath"}:
        wrong_ones.append("#key= with #condition= or #jsonpath=")
    if "min" in given and not ("selector" in given or name == "service"):
        wrong_ones.append("#min= of one object; it goes with a service, or with #selector=")
    if "same-node" in given and not (name == "daemonset" and what.name):
        wrong_ones.append("#same-node without a daemonset: kube://daemonset/NAME#same-node")
    if "failed" in given and name != "job":
        wrong_ones.append(f"#failed= of a {name}; only a job fails for good")
    return tuple(wrong_ones)


SCHEMES = (
    Scheme(
        "kube",
        "object",
        probe,
        proves="the object is there and, by its own status, as it should be; for a service, that "
        "endpoints are ready",
        not_proves="more than Kubernetes knows of it: what its readiness probe does not look at",
        example="kube://shop/job/migrate",
        cost="one list, then one watch, which lasts",
        logins=("service account token", "client certificate", "token", "exec plugin"),
        causes=(
            "missing-object",
            "not-ready",
            "too-few",
            "failed",
            "forbidden",
            "auth-required",
            "auth-refused",
            "overloaded",
            "unexpected-status",
            "unsupported",
        ),
        options=_OPTIONS,
        floor=1.0,
        check=_check,
        watch=watch,
    ),
)
