"""What a scheme and its options are, and what a target is once it is read.

Each scheme publishes a table of its options; the parser, the error texts, the documentation and the
completion come from that one table.
"""

from __future__ import annotations

from .kinds import (
    COUNT,
    DURATION,
    FLAG,
    NUMBER,
    PATH,
    PORT,
    SIZE,
    TEXT,
    VARIABLE,
    Kind,
    Wrong,
    choice,
    read_duration,
    write_duration,
)
from .model import Frozen, Verdict, keep_secret, percent_decoded, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .stream import Attempt

__all__ = [
    "COMMON",
    "COUNT",
    "DURATION",
    "FLAG",
    "NAME",
    "NUMBER",
    "PATH",
    "PORT",
    "SIZE",
    "TEXT",
    "TIMEOUT",
    "VARIABLE",
    "Kind",
    "Option",
    "Scheme",
    "Target",
    "Wrong",
    "choice",
    "place",
    "quoted",
    "read_duration",
    "write_duration",
]


class Option(Frozen):
    """One option of a scheme: a row of its table.

    `meaning` is one sentence for people; `default` is what holds when it is not given (None: nothing);
    `many` says that it may be repeated (its value is then a tuple); `secret` that its value is masked.
    """

    __slots__ = ("default", "kind", "many", "meaning", "name", "secret")
    name: str
    kind: Kind
    meaning: str
    default: object
    many: bool
    secret: bool

    def __init__(
        self,
        name: str,
        kind: Kind,
        meaning: str,
        default: object = None,
        *,
        many: bool = False,
        secret: bool = False,
    ) -> None:
        if many and default is None:
            default = ()
        self._set(name=name, kind=kind, meaning=meaning, default=default, many=many, secret=secret)

    def default_text(self) -> str:
        """The default as people would write it, empty where there is none."""
        if self.default is None or self.default == ():
            return ""
        if self.many and isinstance(self.default, tuple):
            return ", ".join(self.kind.write(value) for value in self.default)
        return self.kind.write(self.default)


NAME = Option("name", TEXT, "what this dependency is called in what people see")
TIMEOUT = Option("timeout", DURATION, "after this long without holding it is not ready for good")
# What every dependency takes. A group takes the first two.
COMMON = (
    NAME,
    TIMEOUT,
    Option("attempt-timeout", DURATION, "the time limit of one attempt"),
    Option("successes", NUMBER, "how many good verdicts in a row it takes", 1),
    Option("interval", DURATION, "the longest wait between two attempts"),
)


class Scheme(Frozen):
    """A way to ask: one row of the scheme table.

    `form` is what stands behind `://`: "name", "host:port", "url" (user, host, port, path, query),
    "hosts" (a URL that may name several hosts, with commas between), "path" or "object" (words with
    slashes between).
    `port` is the default port, None where one must be given. `floor` is the shortest wait after an
    attempt that reached the server, in seconds; it follows from `cost`, what that costs. `proves` and
    `not_proves` say, in one sentence each, what "ready" means. `logins` are the ways to log in that are
    spoken, by the protocol's own names; `causes` what it can say beyond the causes of a connection.
    `query` names the parameters of a URL's query that it understands: their values are no secrets.
    `probe` blocks until the attempt's deadline at most and gives a verdict or raises NotReady. `watch`
    stands instead, where it is told of changes: it gives a verdict at each, for ever, and raises NotReady
    where it must begin anew; the deadline holds for what it asks, not for what it waits for. `check`
    looks at a target for what the option table cannot say, before anything is probed, and gives what
    is wrong.
    """

    __slots__ = (
        "attempt_timeout",
        "causes",
        "check",
        "cost",
        "example",
        "floor",
        "form",
        "logins",
        "name",
        "not_proves",
        "options",
        "port",
        "probe",
        "proves",
        "query",
        "watch",
    )
    name: str
    form: str
    probe: Callable[[Target, Attempt], Verdict]
    proves: str
    not_proves: str
    example: str
    cost: str
    logins: tuple[str, ...]
    causes: tuple[str, ...]
    query: tuple[str, ...]
    options: tuple[Option, ...]
    port: int | None
    floor: float
    attempt_timeout: float
    check: Callable[[Target], tuple[str, ...]] | None
    watch: Callable[[Target, Attempt], Iterator[Verdict]] | None

    def __init__(
        self,
        name: str,
        form: str,
        probe: Callable[[Target, Attempt], Verdict],
        *,
        proves: str,
        not_proves: str,
        example: str,
        cost: str = "",
        logins: tuple[str, ...] = (),
        causes: tuple[str, ...] = (),
        query: tuple[str, ...] = (),
        options: tuple[Option, ...] = (),
        port: int | None = None,
        floor: float = 0.025,
        attempt_timeout: float = 5.0,
        check: Callable[[Target], tuple[str, ...]] | None = None,
        watch: Callable[[Target, Attempt], Iterator[Verdict]] | None = None,
    ) -> None:
        self._set(
            name=name,
            form=form,
            probe=probe,
            proves=proves,
            not_proves=not_proves,
            example=example,
            cost=cost,
            logins=logins,
            causes=causes,
            query=query,
            options=options,
            port=port,
            floor=floor,
            attempt_timeout=attempt_timeout,
            check=check,
            watch=watch,
        )

    def option(self, name: str) -> Option | None:
        """The row of the table for an option's name, the common ones included."""
        return next((option for option in (*self.options, *COMMON) if option.name == name), None)


class Target(Frozen):
    """A dependency as it was asked for: where, and with which options.

    `host` is a name or an address without brackets. `hosts` has all that were named, each with its
    port; `host` and `port` are the first's. `path` starts with `/`, or is empty. `given` holds the
    options that were written, in their order; `option` gives defaults too. `apart` are those of them that
    tell it from another that is shown alike: they are a part of its name, and not of what it is.
    """

    __slots__ = (
        "apart",
        "bare",
        "given",
        "host",
        "hosts",
        "password",
        "path",
        "port",
        "query",
        "scheme",
        "user",
    )
    scheme: Scheme
    host: str
    port: int | None
    hosts: tuple[tuple[str, int], ...]
    path: str
    query: str
    user: str
    password: str
    given: tuple[tuple[str, object], ...]
    bare: bool
    apart: tuple[tuple[str, object], ...]

    def __init__(
        self,
        scheme: Scheme,
        *,
        host: str = "",
        port: int | None = None,
        more: tuple[tuple[str, int], ...] = (),
        path: str = "",
        query: str = "",
        user: str = "",
        password: str = "",
        given: tuple[tuple[str, object], ...] = (),
        bare: bool = False,
    ) -> None:
        keep_secret(password)
        for pair in query.split("&") if query else ():
            key, equals, value = pair.partition("=")
            secret = value if equals else key
            if len(secret) > 5 and not (equals and key in scheme.query):
                keep_secret(secret)
                keep_secret(percent_decoded(secret.replace("+", " ")))
        self._set(
            scheme=scheme,
            host=host,
            port=port,
            hosts=() if port is None else ((host, port), *more),
            path=path,
            query=query,
            user=user,
            password=password,
            given=given,
            bare=bare,
            apart=(),
        )

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__ if name != "apart")

    def values(self, name: str) -> tuple[object, ...]:
        """The values of an option that may be repeated; its default if it was not given."""
        given = tuple(value for option, value in self.given if option == name)
        if given:
            return given
        option = self.scheme.option(name)
        assert option is not None
        assert isinstance(option.default, tuple)
        return option.default

    def option(self, name: str) -> object:
        """The value of an option, or its default."""
        for option, value in reversed(self.given):
            if option == name:
                return value
        row = self.scheme.option(name)
        assert row is not None, name
        return row.default

    def text(self, name: str) -> str:
        """The value of a text option, empty if not given."""
        value = self.option(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a text option that may be repeated."""
        return tuple(value for value in self.values(name) if isinstance(value, str))

    def number(self, name: str) -> float | None:
        """The value of a numeric option (a duration in seconds, a size in bytes), None if not given."""
        value = self.option(name)
        return value if isinstance(value, int | float) else None

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return self.option(name) is True

    def reads_files(self) -> bool:
        """Whether an attempt touches files: they may lie on a server that hangs, past every deadline."""
        rows = (self.scheme.option(name) for name, _ in self.given)
        return self.scheme.form == "path" or any(
            row is not None and (row.kind is PATH or row.name.endswith("-file")) for row in rows
        )

    def where(self) -> str:
        """`host:port`, several with commas between; the host alone without a port."""
        return ",".join(place(*one) for one in self.hosts) or self.host

    def address(self) -> str:
        """The target without its options, secrets masked."""
        return self._spell(masked=True)

    @property
    def name(self) -> str:
        """What people see of it: the `name` option, else the target with what tells it `apart`, secrets
        masked."""
        return printable(self.text("name")) or self.address() + self._spell_options(
            True, self.apart
        )

    def set_apart(self, common: Collection[tuple[str, object]]) -> None:
        """Have the options shown in its name that others which are shown alike do not have as well."""
        self._set(apart=tuple(pair for pair in self.given if pair not in common))

    def __str__(self) -> str:
        """The target with its options, secrets masked."""
        return self._spell(masked=True) + self._spell_options(True, self.given)

    def spelled(self) -> str:
        """The target in its canonical spelling, secrets included: what parses to an equal target."""
        return self._spell(masked=False) + self._spell_options(False, self.given)

    def _spell(self, masked: bool) -> str:
        where = self.where()
        if self.bare:
            return where
        if self.scheme.form in ("path", "object"):
            return f"{self.scheme.name}://{quoted(self.path)}"
        # Without a password a user is often a token.
        user = quoted(self.user, b":/?@")
        password = quoted(self.password, b":/?@")
        if masked:
            user, password = (user, "***") if password else ("***" if user else "", "")
        if password:
            user += f":{password}"
        at = "@" if user else ""
        query = masked_query(self.query, self.scheme.query) if masked else self.query
        mark = "?" if query else ""
        return f"{self.scheme.name}://{user}{at}{where}{self.path}{mark}{query}"

    def _spell_options(self, masked: bool, given: tuple[tuple[str, object], ...]) -> str:
        spelled = ""
        for name, value in given:
            option = self.scheme.option(name)
            assert option is not None
            text = "***" if masked and option.secret else quoted(option.kind.write(value))
            spelled += f"#{name}={text}"
        return spelled


def place(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def masked_query(query: str, harmless: Collection[str] = ()) -> str:
    """A URL's query with every value masked but the words of `harmless` names; a part without `=` is
    all value."""
    if not query:
        return ""
    shown = []
    for pair in query.split("&"):
        key, equals, value = pair.partition("=")
        # In a group the next member may follow: more than a word is not shown.
        word = key in harmless and all(c.isalnum() or c in "-_.$%" for c in value)
        shown.append(pair if word and equals else f"{key}=***" if equals else "***" if key else "")
    return "&".join(shown)


_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'(),*+;=:/?[]{}|^\"<> `\\"
)


def quoted(text: str, also: bytes = b"") -> str:
    """`text` percent-encoded where a target needs it: `#` and `%`, spaces at its ends, a `$(`, what is
    not printable ASCII, and `also`."""
    raw = text.encode("utf-8", "surrogateescape")
    spelled = "".join(
        chr(byte) if byte in _PLAIN and byte not in also else f"%{byte:02X}" for byte in raw
    )
    if spelled[:1] == " ":
        spelled = f"%20{spelled[1:]}"
    if spelled[-1:] == " ":
        spelled = f"{spelled[:-1]}%20"
    return spelled.replace("$(", "$%28")
