"""The grammar of targets: text in, a tree of targets and groups out, or every mistake in it.

A scheme is only what stands before `://`. Options live in the fragment, which no protocol sends;
each `#` begins one. Groups nest. Nothing here touches the network or a file.
"""

from __future__ import annotations

from . import schemes
from .errors import Mistake, OperatorError
from .kinds import read_port
from .model import printable
from .net import is_address, unusable
from .options import COMMON, NAME, TIMEOUT, VARIABLE, Option, Scheme, Target, Wrong, quoted
from .tree import GROUPS, Group, Node, from_member, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .masking import Said

__all__ = ["Group", "Node", "leaves", "lines", "parse", "parse_all"]

GROUP_OPTIONS = (NAME, TIMEOUT)

MOST_TARGETS = 10_000
# What is told at once; there may be more.
MOST_MISTAKES = 100
LONGEST = 65_536
_ZONE_MARKS = {ord(mark): "x" for mark in "-_."}
_NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"
DEEPEST = 32


def parse(text: str) -> Node:
    """The tree of one target. Raises OperatorError with every mistake in it."""
    return parse_all([(text, "")]).members[0]


def parse_all(
    texts: Iterable[tuple[str, str]], environment: Mapping[str, str] | None = None
) -> Group:
    """`all(...)` of the targets given as (text, place). Raises OperatorError with every mistake in them.

    With an `environment` they are about to be asked: the variables that they name must be set in it.
    """
    members: list[Node] = []
    mistakes: list[Mistake] = []
    for text, place in texts:
        reader = _Reader(text, environment)
        node = reader.read()
        mistakes += [mistake.at(place) for mistake in reader.told()]
        if node is not None:
            members.append(node)
        if len(members) > MOST_TARGETS or len(mistakes) > MOST_MISTAKES:
            break
    if len(members) > MOST_TARGETS:
        mistakes.append(Mistake("", f"more than {MOST_TARGETS} targets"))
    if mistakes:
        raise OperatorError(tuple(mistakes))
    _tell_apart(members)
    return Group("all", len(members), tuple(members))


def _tell_apart(members: list[Node]) -> None:
    """Have targets that would be shown alike show the options in which they differ."""
    alike: dict[str, list[Target]] = {}
    for member in members:
        for leaf in leaves(member):
            if not leaf.text("name"):
                alike.setdefault(leaf.address(), []).append(leaf)
    for same in alike.values():
        if len(same) > 1:
            first, *others = same
            common = [pair for pair in first.given if all(pair in one.given for one in others)]
            for leaf in same:
                leaf.set_apart(common)


def lines(text: str, source: str) -> Iterator[tuple[str, str]]:
    """The targets of a file or a variable, one a line, with their places; comments left out.

    A `#` at the start of a line or after white space begins a comment.
    """
    for number, line in enumerate(text.split("\n"), 1):
        end = 0
        while (end := line.find("#", end)) >= 0:
            if end == 0 or line[end - 1].isspace():
                line = line[:end]
                break
            end += 1
        if line.strip():
            yield line.strip(), f"{source}:{number}"


class _Reader:
    """Reads one target; collects what is wrong with it instead of stopping at the first mistake."""

    __slots__ = ("at", "environment", "harmless", "mistakes", "secret", "text")

    def __init__(self, text: str, environment: Mapping[str, str] | None = None) -> None:
        self.text = text.strip()
        self.environment = environment
        self.at = 0
        # As they are, secrets included.
        self.mistakes: list[Said] = []
        # The options met so far whose values may be shown, and may not.
        self.harmless = {option.name for option in COMMON}
        self.secret: set[str] = set()

    def read(self) -> Node | None:
        text = self.text
        if not text:
            self._wrong("", "an empty target", "write a name, HOST:PORT or a URL")
        elif len(text) > LONGEST:
            self._wrong(
                f"{text[: len(text) - len(text.lstrip(_NAME_CHARACTERS))][:60]}...",
                f"a target of {len(text)} characters; {LONGEST} at most",
                "several targets are several arguments, or lines",
            )
        elif not text.isprintable():
            strange = next(c for c in text if not c.isprintable())
            self._wrong(
                text, f"it holds {strange!r}, which cannot be seen", "write %XX if it is meant"
            )
        elif "$(" in text and ")" in text[text.index("$(") :]:
            start = text.index("$(")
            variable = text[start : text.index(")", start) + 1]
            self._wrong(
                text,
                f"{variable} was not replaced: the kubelet leaves undefined variables as they stand",
                "define it in the container's env before it is used (a literal $( is written $%28)",
            )
        if self.mistakes:
            return None
        node = self._node(0)
        if node is not None and self.at < len(text) and not self.mistakes:
            self._wrong(
                text,
                f"{text[self.at :]!r} is left over",
                "a group ends with its last ) and options",
            )
        return None if self.mistakes else node

    def _wrong(self, given: str, wrong: str, right: str) -> None:
        if len(self.mistakes) > MOST_MISTAKES:
            # Of thousands in a long target the first tell enough.
            return
        self.mistakes.append((given, wrong, right, frozenset(self.harmless - self.secret)))

    def told(self) -> list[Mistake]:
        """The mistakes, without a secret in them."""
        if not self.mistakes:
            return []
        from .masking import told

        whole = self.text if len(self.text) <= LONGEST else ""
        return list(told(whole, self.mistakes, self._again))

    def _again(self, text: str) -> list[Said]:
        reader = _Reader(text, self.environment)
        reader.read()
        return reader.mistakes

    def _node(self, depth: int) -> Node | None:
        text = self.text
        kind = next((k for k in GROUPS if text.startswith(f"{k}(", self.at)), None)
        if kind is not None:
            if depth == DEEPEST:
                self._wrong(text, f"groups nested deeper than {DEEPEST}", "flatten the groups")
                self.at = len(text)
                return None
            return self._group(kind, depth)
        end = self._end(depth)
        raw = text[self.at : end].strip()
        self.at = end
        return self._leaf(from_member(raw) if depth else raw)

    def _group(self, kind: str, depth: int) -> Group | None:
        text = self.text
        start = self.at
        self.at += len(kind) + 1
        need = self._need() if kind == "atleast" else 0
        members: list[Node] = []
        count = 0
        while True:
            self._skip_space()
            if self.at >= len(text):
                self._wrong(text[start:], f"{kind}( is not closed", "add the missing )")
                return None
            if text[self.at] == ")" and not count:
                break
            node = self._node(depth + 1)
            count += 1
            if node is not None:
                members.append(node)
            self._skip_space()
            if self.at < len(text) and text[self.at] == ",":
                self.at += 1
                if self._tears(node):
                    self.at = len(text)
                    return None
                continue
            if self.at < len(text) and text[self.at] == ")":
                break
            if self.at < len(text):
                self._wrong(
                    text[start:], f"{text[self.at :]!r} follows a member", "separate with ,"
                )
                self.at = len(text)
            else:
                self._wrong(text[start:], f"{kind}( is not closed", "add the missing )")
            return None
        self.at += 1
        options = self._group_options(depth)
        given = text[start : self.at]
        if not count:
            self._wrong(given, f"{kind}() holds nothing", f"{kind}(TARGET, ...)")
            return None
        if kind == "not" and count != 1:
            self._wrong(given, f"not() of {count} targets", "not(any(...)) or not(all(...))")
        if kind == "atleast":
            if not 1 <= need <= count:
                self._wrong(given, f"at least {need} of {count}", f"a number from 1 to {count}")
        else:
            need = {"all": count, "any": 1, "not": 1, "quorum": count // 2 + 1}[kind]
        label, timeout = options.get("name", ""), options.get("timeout")
        assert isinstance(label, str)
        assert timeout is None or isinstance(timeout, float)
        return Group(kind, need, tuple(members), label, timeout)

    def _tears(self, node: Node | None) -> bool:
        """Whether the comma just read stands between the hosts of one member rather than two members."""
        if not isinstance(node, Target) or node.scheme.form != "hosts" or node.given:
            return False
        behind = self.text[self.at : self._end(1)]
        if not behind.strip() or behind[0] == " " or "://" in behind or "(" in behind:
            return False
        self._wrong(
            self.text,
            f"in a group a comma ends a member, and {behind!r} looks like another host of the one before",
            "%2C between the hosts of one target; a blank behind the comma between members",
        )
        return True

    def _need(self) -> int:
        text = self.text
        comma = text.find(",", self.at)
        number = text[self.at : comma if comma >= 0 else len(text)].strip()
        if comma < 0 or not (number.isascii() and number.isdecimal() and len(number) < 7):
            self._wrong(text, "atleast needs a number first", "atleast(2, a, b, c)")
            self.at = len(text)
            return 0
        self.at = comma + 1
        return int(number)

    def _end(self, depth: int) -> int:
        """Where what begins here ends: a member at its group's `,` or `)`, else with the text."""
        text = self.text
        if not depth:
            return len(text)
        ends = (text.find(",", self.at), text.find(")", self.at))
        return min((end for end in ends if end >= 0), default=len(text))

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def _group_options(self, depth: int) -> dict[str, object]:
        end = self._end(depth)
        raw = self.text[self.at : end].strip()
        if not raw.startswith("#"):
            return {}
        self.at = end
        return dict(self._options(raw[1:].split("#"), GROUP_OPTIONS, None))

    def _leaf(self, raw: str) -> Target | None:
        before = len(self.mistakes)
        front, *options = raw.split("#")
        if not front:
            self._wrong(
                raw or self.text, "no target stands here", "write one, or remove what is empty"
            )
            return None
        name, colon_slashes, rest = front.partition("://")
        bare = not colon_slashes
        if bare:
            if self._misses_slashes(front):
                return None
            # What has a port is a connection; `[::1]` and `::1` are addresses either way.
            name = "tcp" if ":" in front.rpartition("]")[2] else "dns"
            rest = front
        try:
            scheme = schemes.load(name.lower()) if name.isascii() and name else None
        except schemes.Unusable as error:
            wrong = f"the package that has {name}:// cannot be loaded: {printable(str(error))}"
            self._wrong(raw, wrong, "install it again, with all that it needs")
            return None
        if scheme is None:
            from . import masking, mistakes

            word, parenthesis, _ = name.partition("(")
            if parenthesis and word.isalpha():
                right = masking.nearest(word, GROUPS, "{}(...)")
                self._wrong(raw, f"there is no group {word!r}", right)
            else:
                self._wrong(raw, f"there is no scheme {name!r}", mistakes.no_scheme(name))
            return None
        table = (*scheme.options, *COMMON)
        self.harmless |= {option.name for option in table if not option.secret}
        self.secret |= {option.name for option in table if option.secret}
        self.harmless |= {f"?{parameter}" for parameter in scheme.query}
        self.harmless |= {f"{x.name}:" for x in table if x.secret and x.kind.shape == "NAME: VALUE"}
        parts = self._place(raw, rest, scheme, bare)
        placed = len(self.mistakes)
        given = self._options(options, table, scheme)
        if placed > before:
            return None
        target = Target(scheme, given=given, bare=bare, **parts)  # type: ignore[arg-type]
        if scheme.check is not None:
            # Of an option that could not be read, or that was meant, nothing can be said.
            told = " ".join(f"{one[0]} {one[2]}" for one in self.mistakes[placed:])
            unread = [f"#{option.name}" for option in table if f"#{option.name}" in told]
            for wrong in scheme.check(target):
                if not any(name in wrong for name in unread):
                    self._wrong(raw, wrong, f"see the options of {scheme.name}://")
        if self.environment is not None:
            self._check_variables(target, self.environment)
        return None if len(self.mistakes) > before else target

    def _misses_slashes(self, front: str) -> bool:
        """Whether a scheme's `://` was written `:/`, `/`, `//` or `:`."""
        word, slash, behind = front.partition("/")
        name, _, host = word.partition(":")
        name = name.lower()
        # `kafka:9092/x` is a host of that name, and a port.
        if not behind or name not in schemes.BUILT_IN or host.isdecimal():
            return False
        behind = f"{host}{slash}{behind}" if host else behind
        root = "/" if name in ("unix", "file", "exec") else ""
        right = f"{name}://{root}{behind.lstrip('/')}"
        self._wrong(front, f"{name} is a scheme, and no :// follows it", right)
        return True

    def _place(self, raw: str, rest: str, scheme: Scheme, bare: bool) -> dict[str, object]:
        """What stands behind the scheme, as the fields of a Target."""
        if scheme.form == "path":
            if not rest.startswith("/"):
                self._wrong(raw, "the path is not absolute", f"{scheme.name}:///{rest}")
            return {"path": self._decoded(raw, rest)}
        if scheme.form == "object":
            return {"path": self._decoded(raw, rest)}
        cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        authority, tail = rest[:cut], rest[cut:]
        path, _, query = tail.partition("?")
        url = scheme.form in ("url", "hosts")
        if not url and tail not in ("", "/"):
            right = f"http://{rest}" if bare else f"{scheme.name}://{authority}"
            self._wrong(raw, f"{tail!r} stands behind the {scheme.form}", right)
        userinfo, at, where = authority.rpartition("@")
        if at and not url:
            self._wrong(
                raw,
                "something stands before an @",
                f"{'' if bare else scheme.name + '://'}{where or 'HOST'}",
            )
        if "," in where and "(" not in where and scheme.form != "hosts":
            from .mistakes import one_host_each

            around = bool(userinfo or query or "#" in raw)
            behind = path if url else ""
            right = one_host_each(where, scheme, bare=bare, path=behind, more=around)
            wrong = "several hosts in one target"
            self._wrong(raw, wrong if bare else f"{wrong} of {scheme.name}://", right)
            return {}
        user, _, password = userinfo.partition(":")
        first, *others = where.split(",") if scheme.form == "hosts" else [where]
        host, port = self._host_and_port(raw, first, scheme, bare)
        more = tuple(self._host_and_port(raw, other, scheme, bare) for other in others)
        if len({(host, port), *more}) <= len(more):
            self._wrong(raw, "a host is named twice", "name each once")
        parts: dict[str, object] = {"host": host, "port": port, "more": more}
        if url:
            if " " in tail:
                self._wrong(raw, "a space in the path", "write %20 for a space")
            if not tail.isascii():
                spelled = quoted(path).replace("%25", "%")
                self._wrong(raw, "the path or query is not ASCII", f"percent-encode it: {spelled}")
            parts |= {
                "path": path or "/",
                "query": query,
                "user": self._decoded(raw, user),
                "password": self._decoded(raw, password),
            }
        return parts

    def _host_and_port(
        self, raw: str, where: str, scheme: Scheme, bare: bool
    ) -> tuple[str, int | None]:
        prefix = "" if bare else f"{scheme.name}://"
        if where.startswith("["):
            host, bracket, after = where[1:].partition("]")
            host = host.replace("%25", "%")
            zone = host.partition("%")[2].translate(_ZONE_MARKS)
            known = is_address(host) and ":" in host and (zone.isalnum() or "%" not in host)
            if not bracket or not known or (after and after[0] != ":"):
                right = f"{prefix}[2001:db8::1]:{scheme.port or 80}"
                self._wrong(raw, f"{where!r} is no IPv6 address", right)
                return host, None
            port_text = after[1:] if after else None
        elif where.count(":") > 1:
            right = (
                f"{prefix}[{where}]:PORT"
                if is_address(where)
                else "an IPv6 address stands in brackets"
            )
            self._wrong(raw, f"{where!r} has more than one colon", right)
            return where, None
        else:
            host, colon, after = where.partition(":")
            port_text = after if colon else None
            self._check_name(raw, host, prefix)
        if scheme.form == "name":
            if port_text is not None:
                self._wrong(raw, "a name lookup has no port", f"{prefix}{host}")
            if is_address(host):
                self._wrong(
                    raw,
                    f"{host} is an address: there is nothing to look up",
                    f"{_bracketed(host)}:PORT",
                )
            return host, None
        if port_text is None:
            if scheme.port is None:
                self._wrong(raw, "the port is missing", f"{prefix}{_bracketed(host)}:PORT")
            return host, scheme.port
        port = read_port(port_text)
        if port is None:
            right = "1 to 65535"
            if bare and host.lower() in schemes.BUILT_IN:
                right = f"{host.lower()}://{port_text}"
            self._wrong(raw, f"{port_text!r} is no port", right)
        return host, port

    def _check_name(self, raw: str, host: str, prefix: str) -> None:
        wrong, right = "", "letters, digits and hyphens, with dots between"
        bare = host.removesuffix(".")
        labels = bare.split(".")
        if not host:
            wrong, right = "the host is missing", f"{prefix}HOST"
        elif not host.isascii():
            wrong = "the name is not ASCII, and DNS asks for its xn-- form"
            # What stands before an @ may be a part of a password.
            if "@" not in raw:
                try:
                    right = prefix + host.encode("idna").decode("ascii")
                except UnicodeError:
                    pass
        elif not all(c.isalnum() or c in "-_." for c in host):
            strange = next(c for c in host if not (c.isalnum() or c in "-_."))
            wrong = f"{strange!r} cannot stand in a name"
        elif len(bare) > 253:
            wrong, right = f"a name of {len(bare)} characters", "253 at most"
        elif not all(labels):
            wrong = "the name has an empty label"
            right = prefix + (".".join(label for label in labels if label) or "HOST")
        elif max(len(label) for label in labels) > 63:
            wrong, right = "a label of the name is longer than 63 characters", "63 at most"
        elif host.startswith("-"):
            wrong = "a name does not begin with a hyphen"
            right = "service-precheck --help lists the options"
        elif len(labels) > 1 and all(x.isdecimal() for x in labels) and not is_address(host):
            wrong, right = f"{host} is neither an address nor a name", "four numbers from 0 to 255"
        if wrong:
            self._wrong(raw, wrong, right)

    def _decoded(self, raw: str, text: str) -> str:
        """`text` with its percent-encoding undone."""
        if "%" not in text:
            return text
        out = bytearray()
        at = 0
        encoded = text.encode()
        while at < len(encoded):
            if encoded[at] != 0x25:
                out.append(encoded[at])
                at += 1
                continue
            try:
                out += bytes.fromhex(encoded[at + 1 : at + 3].decode("ascii").ljust(2, "-"))
            except ValueError:
                self._wrong(
                    raw, "a % that is not followed by two hexadecimal digits", "write %25 for %"
                )
                return ""
            at += 3
        try:
            decoded = out.decode()
        except UnicodeDecodeError:
            self._wrong(raw, "its percent-encoding is not UTF-8", "percent-encode UTF-8")
            return ""
        if "\0" in decoded:
            self._wrong(raw, "it holds a NUL byte", "nothing here can hold one")
        return decoded

    def _options(
        self, texts: list[str], table: tuple[Option, ...], scheme: Scheme | None
    ) -> tuple[tuple[str, object], ...]:
        given: list[tuple[str, object]] = []
        rows = {option.name: option for option in table}
        for text in texts:
            name, equals, encoded = text.partition("=")
            option = rows.get(name)
            if option is None:
                from .mistakes import no_option

                owner = "a group" if scheme is None else f"{scheme.name}://"
                shown = f"#{name}=***" if equals else f"#{name}"
                right = no_option(name, table, scheme)
                self._wrong(shown, f"{owner} has no option {name!r}", right)
                continue
            if not option.many and any(known == name for known, _ in given):
                self._wrong(f"#{name}", f"{name} is given twice", "keep one of them")
                continue
            shown = "***" if option.secret else encoded
            before = len(self.mistakes)
            value = self._decoded(f"#{name}={shown}", encoded)
            if len(self.mistakes) > before:
                continue
            if not equals and option.kind.shape != "true|false":
                self._wrong(f"#{name}", "the value is missing", f"#{name}={option.kind.shape}")
                continue
            try:
                given.append((name, option.kind.read(value)))
            except Wrong as error:
                wrong = "its value is not valid" if option.secret else str(error)
                self._wrong(f"#{name}={shown}", wrong, f"#{name}={option.kind.shape}")
        return tuple(given)

    def _check_variables(self, target: Target, environment: Mapping[str, str]) -> None:
        for name, value in target.given:
            option = target.scheme.option(name)
            if option is not None and option.kind is VARIABLE:
                variable = str(value)
                if why := unusable(environment.get(variable, "")):
                    wrong = f"the environment variable {variable} {why}"
                    right = "set it before the start: nothing can set it later"
                    self._wrong(f"#{name}={quoted(variable)}", wrong, right)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
