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
from ..codecs.kube import kinds
from ..codecs.kube.access import access
from ..codecs.kube.api import Gone, Talk, part, text
from ..codecs.kube.discovery import forget, kind_of
from ..codecs.kube.options import OPTIONS, check
from ..codecs.kube.view import View
from ..errors import NotReady, blocked
from ..model import Verdict, printable, seconds
from ..options import Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..codecs.kube.access import Access
    from ..codecs.kube.kinds import Kind, Question
    from ..stream import Attempt

# A server that ends each watch at once is not asked more often than this.
LEAST = 1.0


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when the objects are as they should be: one list."""
    with access(target, attempt) as way, Talk(way, attempt) as talk:
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
    with access(target, attempt) as way:
        asking = _Asking(target, way)
        began = float("-inf")
        while True:
            try:
                net.sleep(max(0.0, began + LEAST - net.monotonic()))
                began = net.monotonic()
                attempt.renew()
                with Talk(way, attempt) as talk:
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
            if error.verdict.cause != "missing-object":
                raise
            raise self._not_served(question.kind, error) from error
        self._heard = net.monotonic()

    def _not_served(self, kind: Kind, error: NotReady) -> NotReady:
        """What it means that a kind's list is not found (404)."""
        if kind.group not in kinds.WITH_A_DEFINITION and kinds.built_in(
            f"{kind.plural}.{kind.group}"
        ):
            # Each API server has it, so that was none, and nothing is known of the object.
            hint = "is the path of the server right, as the kubeconfig file has it?"
            return NotReady(error.verdict.but(cause="unexpected-status", hint=hint))
        # The kind's definition was deleted.
        forget(kinds.asked(self._target).kind, self._way)
        seen = f"no {kind.plural}.{kind.group} are served"
        hint = "its CustomResourceDefinition is not installed yet?"
        return blocked("missing-object", seen, hint, again=10.0)

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
            what = kinds.asked(self._target)
            kind = kind_of(what.kind, self._way, talk)
            if what.namespace and not kind.namespaced:
                said = f"a {kind.name} stands in no namespace: kube://{what.kind}/..."
                raise blocked("unsupported", said)
            node = _node(self._target)
            namespace = what.namespace or self._way.namespace
            self._question = kinds.question(self._target, kind, namespace, node)
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
        # Those about TLS are of options that other schemes have.
        hint = "" if (verdict.cause or "").startswith("tls-") else verdict.hint
        return NotReady(verdict.but(seen=said, hint=hint, stale=True))

    def _rights(self, said: str) -> str:
        """How who was refused gets the least rights, as the refusal names them."""
        from ..codecs.kube import rights

        if self._question is None:
            return ""
        user = said.partition('User "')[2].partition('"')[0] or "USER"
        what = kinds.asked(self._target)
        kind = kinds.built_in(what.kind) or self._question.kind
        return rights.commands(rights.rule(self._target, kind, self._question.namespace), user)


def _node(target: Target) -> str:
    """This pod's own node, for `same-node`."""
    if not target.flag("same-node"):
        return ""
    name = net.environment().get("NODE_NAME", "")
    if not name:
        hint = "env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]"
        raise blocked("local", "the environment variable NODE_NAME is not set", hint)
    return name


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
        options=OPTIONS,
        floor=1.0,
        check=check,
        watch=watch,
    ),
)
