"""Credential plugins: a program that prints a login, in one run for all that ask.

Kubernetes documentation, "client-go credential plugins". The same program with the same words and
environment gives the same login, so it is run once in this process. What it gave is kept until shortly
before it expires, or until the API server refuses it. A run may last longer than an attempt: each that
waits for it ends at its own deadline, the next finds it further on, and when nobody comes for it any
more it is killed.
"""

from __future__ import annotations

import time
from contextlib import closing

from ... import net, stream
from ...errors import NotReady, blocked
from ...model import Frozen, keep_secret, printable, seconds
from .. import http1, json_path
from ..command import Command
from .api import part, text
from .certificate import Held, fault_of_certificates, fault_of_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...stream import Attempt

    Environment = tuple[tuple[str, str], ...]

# How long a run may last.
PATIENCE = 60.0
# A login is asked for anew this long before it expires.
EARLY = 10.0
# A run that failed, or whose login was refused or had expired, is not repeated before.
AGAIN = 5.0


class Login(Frozen):
    """What a plugin gave: a token, or a certificate with its key in PEM, or both; else they are empty."""

    __slots__ = ("certificate", "key", "token")
    certificate: str
    key: str
    token: str

    def __init__(self, token: str, certificate: str, key: str) -> None:
        self._set(token=token, certificate=certificate, key=key)


class _Waiting:
    """Somebody who waits for a plugin, in an attempt or between two."""

    __slots__ = ("_plugin",)

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    def close(self) -> None:
        """Wait no more."""
        self._plugin.leave(self)


class Plugin:
    """One program, and the login that it gave.

    Who waits takes turns in hearing it: `_turn` is held for a second at most. A run is looked at by whose
    turn it is, so that only when nobody waits it may be taken away by `leave`.
    """

    __slots__ = (
        *("_arguments", "_environment", "_hint", "_path"),
        *("_begun", "_failed", "_login", "_refused", "_renews", "_run", "_until"),
        *("_turn", "_waiting", "_waiting_lock"),
    )

    def __init__(
        self, path: str, arguments: tuple[str, ...], environment: Environment, hint: str
    ) -> None:
        self._path = path
        self._arguments = arguments
        self._environment = environment
        self._hint = hint
        self._turn = net.Lock()
        self._waiting_lock = net.Lock()
        self._waiting: set[_Waiting] = set()
        self._run: Command | None = None
        self._begun = 0.0
        self._login: Login | None = None
        # By the wall clock, as the plugin tells it.
        self._until = 0.0
        # When the last run failed, and the verdict.
        self._failed: tuple[float, NotReady] | None = None
        # Whether this run is for a login that was refused, and when the last of these gave one.
        self._renews = False
        self._refused = float("-inf")

    def login(self, attempt: Attempt, refused: str | None = None) -> Login:
        """Its login; another one than that of the token that was `refused`, if there can be one.

        Raises NotReady (`local`).
        """
        waiting = _Waiting(self)
        with self._waiting_lock:
            self._waiting.add(waiting)
        # It goes on waiting between two attempts, as long as the gate does.
        before, attempt.kept = attempt.kept, waiting
        if before is not None:
            before.close()
        login = self._awaited(attempt, refused)
        attempt.kept = None
        waiting.close()
        return login

    def leave(self, waiting: _Waiting) -> None:
        """Nobody comes for what `waiting` waited for. A run that nobody waits for is killed."""
        with self._waiting_lock:
            self._waiting.discard(waiting)
            if self._waiting or self._run is None:
                return
            run, self._run = self._run, None
        run.end()

    def _awaited(self, attempt: Attempt, refused: str | None) -> Login:
        while True:
            now = net.monotonic()
            look = min(attempt.deadline, now + stream.CALLED_OFF_LOOK)
            if self._turn.acquire(timeout=max(0.0, look - now)):
                try:
                    login = self._heard(look, refused)
                finally:
                    self._turn.release()
                if login is not None:
                    return login
            if attempt.called_off is not None and attempt.called_off():
                raise stream.CalledOff
            now = net.monotonic()
            if now >= attempt.deadline:
                long = seconds(now - self._begun) if self._run is not None else attempt.limit()
                raise blocked("local", f"{self._path} has not given a login for {long} yet")

    def _heard(self, look: float, refused: str | None) -> Login | None:
        """The login, None where it has not come by then."""
        if self._run is None:
            login = self._login
            if login is not None and time.time() < self._until:
                # One that was refused is asked for anew once, and then now and then.
                if login.token != refused or net.monotonic() < self._refused + AGAIN:
                    return login
                self._renews = True
            self._begin()
        assert self._run is not None
        end = self._begun + PATIENCE
        ended = self._run.listen(min(look, end))
        if not ended and net.monotonic() < end:
            return None
        run, self._run = self._run, None
        status = run.end()
        try:
            if not ended:
                raise blocked("local", f"{self._path} gave no login within {seconds(PATIENCE)}")
            self._take(run, status)
        except NotReady as error:
            self._failed = net.monotonic(), error
            raise NotReady(error.verdict.but(again=AGAIN)) from error
        return self._login

    def _begin(self) -> None:
        if self._failed is not None:
            since, failure = self._failed
            left = since + AGAIN - net.monotonic()
            if left > 0:
                raise NotReady(failure.verdict.but(again=left))
        self._login = self._failed = None
        self._begun = net.monotonic()
        environment = {**net.environment(), **dict(self._environment)}
        try:
            self._run = Command(self._path, self._arguments, environment, self._hint, apart=True)
        except NotReady as error:
            self._failed = self._begun, error
            raise

    def _take(self, run: Command, status: int | None) -> None:
        """What a run that has ended gave."""
        if status:
            complaint = printable(run.complained.decode("utf-8", "replace").strip(), 200)
            how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise blocked("local", f"{self._path} {how}: {complaint}")
        try:
            told = part(json_path.parse(run.said), "status")
        except ValueError as error:
            raise blocked("local", f"{self._path} printed no ExecCredential") from error
        token, certificate, key = (
            text(told, name) for name in ("token", "clientCertificateData", "clientKeyData")
        )
        if not (token or certificate) or bool(certificate) != bool(key):
            wanted = "a token, or a clientCertificateData with its clientKeyData"
            raise blocked("local", f"{self._path} printed no ExecCredential with {wanted}")
        if fault := _fault(token, certificate, key):
            raise blocked("local", f"{self._path} printed an ExecCredential: {fault}")
        self._login = Login(keep_secret(token), certificate, key)
        # One that has expired already is tried, too: clocks differ.
        ends = _moment(text(told, "expirationTimestamp"))
        self._until = max(ends - EARLY, time.time() + AGAIN)
        if self._renews:
            self._renews = False
            self._refused = net.monotonic()


_known: dict[tuple[str, tuple[str, ...], Environment], Plugin] = {}


def plugin(path: str, arguments: tuple[str, ...], environment: Environment, hint: str) -> Plugin:
    """The plugin that is run so, the same one for all that ask; `hint` says how it is installed."""
    made = Plugin(path, arguments, environment, hint)
    return _known.setdefault((path, arguments, environment), made)


def _fault(token: str, certificate: str, key: str) -> str:
    """What is wrong with a login, empty if nothing is."""
    if token and (fault := http1.check_header("Authorization", token)):
        return fault
    if not certificate:
        return ""
    with closing(Held(certificate.encode())) as one, closing(Held(key.encode())) as other:
        if fault := fault_of_certificates(one.path):
            return f"clientCertificateData {fault}"
        fault = fault_of_key(one.path, other.path)
        return fault and f"clientKeyData {fault}"


def _moment(written: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; for ever where there is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(written).timestamp()
    except (ValueError, OverflowError):
        return float("inf")
