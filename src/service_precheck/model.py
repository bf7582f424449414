"""The words everything else is written in: causes and verdicts.

A verdict is immutable, and the same object feeds text, JSON and the library.
"""

from __future__ import annotations

# The closed list. What each means and what to do about it stands in `causes`, which only
# `precheck causes` and the documentation load; a test holds the two together.
CAUSES = (
    "name-not-found",
    "no-addresses",
    "resolver-failure",
    "resolver-timeout",
    "wildcard",
    "refused",
    "unreachable",
    "connect-timeout",
    "closed-early",
    "no-reply",
    "protocol",
    "tls-expired",
    "tls-name",
    "tls-untrusted",
    "tls-client-cert",
    "tls-plaintext",
    "unexpected-status",
    "unexpected-body",
    "redirect",
    "starting",
    "read-only",
    "replica-lag",
    "no-leader",
    "no-quorum",
    "overloaded",
    "alarm",
    "auth-required",
    "auth-refused",
    "no-such-database",
    "missing-object",
    "not-ready",
    "failed",
    "forbidden",
    "too-few",
    "lost",
    "unsupported",
    "local",
)

# These say that nothing was learnt about the dependency itself. They keep `not(...)` shut: a dead
# resolver does not prove that a name is gone.
INDEFINITE = frozenset(
    (
        "resolver-failure",
        "resolver-timeout",
        "unreachable",
        "connect-timeout",
        "no-reply",
        "overloaded",
        "auth-required",
        "auth-refused",
        "forbidden",
        "unsupported",
        "local",
    )
)

# These say that it was not even reached, so that the attempt cost it nothing. A name that is not there
# is none of them: its question cost the DNS.
NOT_REACHED = frozenset(("refused", "unreachable", "connect-timeout"))


_secrets: set[str] = set()
# Those of conversations under way, each with all its spellings.
_passing: list[set[str]] = []


def keep_secret(value: str) -> str:
    """Mask `value` from now on in every verdict and mistake of this process; gives it back.

    Servers repeat what they were sent, so masking what we show of a target is not enough. What a server
    makes of it is masked too: percent-encoded, in JSON or HTML, in base64. Values of less than three
    characters are not masked: every text would be full of holes.
    """
    if len(value) >= 3 and value not in _secrets:
        _secrets.add(value)
        _secrets.update(_spellings(value))
    return value


def keep_for_now(value: str) -> set[str]:
    """As `keep_secret`, until `let_go` is given what this returns: for what a server hands out anew each
    time, of which a process that goes on for weeks would keep ever more."""
    forms = {value, *_spellings(value)} if len(value) >= 3 else set()
    _passing.append(forms)
    return forms


def let_go(forms: set[str]) -> None:
    """End what `keep_for_now` began. Others that keep the same value still do."""
    _passing.remove(forms)


# What encoders of URLs leave as it is: all of them the first, JavaScript's the next, Go's for a path the last.
_LEFT_AS_IS = ("-._~", "-._~!*'()", "-._~$&+=:@")
_IN_JSON = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_IN_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def _spellings(value: str) -> set[str]:
    """What a value looks like where others wrote it down."""
    from binascii import b2a_base64

    raw = value.encode("utf-8", "surrogateescape")
    encoded = b2a_base64(raw, newline=False).decode("ascii").rstrip("=")
    found = {encoded, encoded.replace("+", "-").replace("/", "_")}
    if value.isascii() and value.isalnum():
        return found
    for form in ("%{:02X}", "%{:02x}"):
        for kept in _LEFT_AS_IS:
            percent = "".join(
                chr(byte)
                if chr(byte) in kept or (byte < 128 and chr(byte).isalnum())
                else form.format(byte)
                for byte in raw
            )
            found |= {percent, percent.replace("%20", "+")}
    for plain in ("", "/"):
        escaped = "".join(c if c == plain else _IN_JSON.get(c, c) for c in value)
        found.add(escaped)
        found.add("".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in escaped))
    found.add("".join(_IN_HTML.get(c, c) for c in value))
    return found


def percent_decoded(text: str) -> str:
    """`text` with its percent-encoding undone, as far as there is any."""
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    decoded = first
    for part in rest:
        try:
            decoded += bytes.fromhex(part[:2].decode("ascii").ljust(2, "-")) + part[2:]
        except ValueError:
            decoded += b"%" + part
    return decoded.decode("utf-8", "replace")


def redacted(text: str) -> str:
    """`text` with every known secret replaced by `***`, and the part of one that is cut off at its end."""
    for value in sorted(_secrets.union(*_passing), key=len, reverse=True):
        if value in text:
            text = text.replace(value, "***")
        at = text.find(value[:4], max(0, len(text) - len(value)))
        while at >= 0 and not value.startswith(text[at:]):
            at = text.find(value[:4], at + 1)
        if at >= 0:
            text = f"{text[:at]}***"
    return text


def printable(text: str, limit: int = 500) -> str:
    """`text` on one line for people: control characters, ANSI and bidirectional marks escaped.

    Secrets are masked, here already, since a part of one would not be known for it later. At most
    `limit` characters are kept; what is cut is marked with "...".
    """
    text = redacted(text) if _secrets or _passing else text
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else _escape(ord(c)) for c in cut)
    return f"{cut}..." if len(text) > limit else cut


def _escape(code: int) -> str:
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def seconds(duration: float) -> str:
    """A duration in seconds as people read it: `20 ms`, `0.4 s`, `12 s`, `2 min 5 s`, `1 h 4 min`."""
    if 0 < duration < 0.05:
        return f"{max(1, round(duration * 1000))} ms"
    if duration < 9.95:
        return f"{duration:.1f}".removesuffix(".0") + " s"
    whole = round(duration)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def epoch(year: int, month: str, day: int, clock: str) -> float:
    """Seconds since the epoch of a moment in UTC, as certificates and HTTP write it: 2026, "Nov", 23,
    "04:15:00". Raises ValueError."""
    hour, minute, second = (int(part) for part in clock.split(":"))
    if max(year, day, hour, minute, second) > 9999:
        raise ValueError("no such moment")
    number = _MONTHS.index(month) + 1
    # Days since the epoch in the proleptic Gregorian calendar; a year begins with March.
    year -= number < 3
    days = 365 * year + year // 4 - year // 100 + year // 400
    days += (153 * ((number + 9) % 12) + 2) // 5 + day - 719_469
    return float(days * 86_400 + hour * 3600 + minute * 60 + second)


class Frozen:
    """Immutable, compared and printed by its slots. What `dataclass(frozen=True)` gives, for 10 ms less."""

    __slots__: tuple[str, ...] = ()

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({inner})"


class Verdict(Frozen):
    """What one probe found.

    `cause` is None when ready, else one of `CAUSES`. `seen` is one sentence without a full stop: what
    was proven, or what was seen and expected. `hint` is what to do, where we know. `again` is the
    number of seconds after which asking again can first be useful, None where unknown. `final` says
    that waiting can never help. `stale` says that what the dependency is asked by failed, so that
    nothing new is known of itself. `definite` says that the dependency was seen not to hold (what
    `not(...)` needs), rather than not seen.
    """

    __slots__ = ("again", "cause", "final", "hint", "seen", "stale")
    cause: str | None
    seen: str
    hint: str
    again: float | None
    final: bool
    stale: bool

    def __init__(
        self,
        cause: str | None,
        seen: str,
        hint: str = "",
        again: float | None = None,
        final: bool = False,
        stale: bool = False,
    ) -> None:
        if cause is not None and cause not in CAUSES:
            raise ValueError(f"no such cause: {cause}")
        self._set(
            cause=cause,
            seen=printable(redacted(seen)),
            hint=printable(redacted(hint)),
            again=again,
            final=final,
            stale=stale,
        )

    @property
    def ready(self) -> bool:
        """Whether the dependency holds."""
        return self.cause is None

    @property
    def definite(self) -> bool:
        """Whether the dependency was seen, rather than what stands between."""
        return self.cause not in INDEFINITE and not self.stale

    def but(self, **changes: object) -> Verdict:
        """The same verdict with some fields changed."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields.update(changes)
        return Verdict(**fields)


def ready(seen: str) -> Verdict:
    """The verdict that a dependency holds; `seen` says what was proven ("takes writes")."""
    return Verdict(None, seen)
