"""The grammar of targets: what parses prints and parses again; what does not is told, and no secret is."""

from __future__ import annotations

import base64
import html
import json
import re
import string
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from service_precheck import kinds, model, schemes
from service_precheck.errors import Mistake, OperatorError
from service_precheck.model import ready
from service_precheck.options import COMMON, Option, Scheme, Target
from service_precheck.target import Group, Node, leaves, lines, parse, parse_all
from service_precheck.tree import GROUPS


def load(name: str) -> Scheme:
    scheme = schemes.load(name)
    assert scheme is not None
    return scheme


SCHEMES = tuple(load(name) for name in schemes.BUILT_IN)

LABELS = st.text("ab01_-", min_size=1, max_size=12).map(lambda label: f"x{label}")
NAMES = st.builds(
    lambda labels, dot: ".".join(labels) + "." * dot,
    st.lists(LABELS, min_size=1, max_size=4),
    st.booleans(),
)
IPV6 = st.ip_addresses(v=6).map(str)
ZONES = st.builds("{}%{}".format, IPV6, st.text("eth0123", min_size=1, max_size=6))
HOSTS = st.one_of(NAMES, st.ip_addresses(v=4).map(str), IPV6, ZONES)
TEXTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
URL = "".join(sorted(set(string.printable) - set(string.whitespace) - set("#?")))
TAILS = st.text(URL, max_size=30).filter(lambda tail: "$(" not in tail)
PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def values(option: Option) -> st.SearchStrategy[object] | None:
    """Values of an option's kind, None for kinds with a grammar of their own."""
    known: dict[kinds.Kind, st.SearchStrategy[object]] = {
        kinds.TEXT: TEXTS,
        kinds.PATH: TEXTS,
        kinds.VARIABLE: TEXTS,
        kinds.FLAG: st.booleans(),
        kinds.NUMBER: st.integers(1, 1_000_000),
        kinds.COUNT: st.integers(0, 1_000_000),
        kinds.SIZE: st.integers(0, 10**12),
        kinds.PORT: st.integers(1, 65535),
        kinds.DURATION: st.floats(1e-6, 1e8).map(lambda x: round(x, 6)),
    }
    if option.kind in known:
        return known[option.kind]
    if "|" in option.kind.shape:
        return st.sampled_from(option.kind.shape.split("|")).map(option.kind.read)
    return None


@st.composite
def given_options(draw: st.DrawFn, scheme: Scheme) -> tuple[tuple[str, object], ...]:
    """Options of a scheme with values, none but the repeatable ones twice."""
    table = [option for option in (*scheme.options, *COMMON) if values(option) is not None]
    chosen = draw(st.lists(st.sampled_from(table), max_size=4))
    options: list[tuple[str, object]] = []
    for option in chosen:
        if option.many or all(name != option.name for name, _ in options):
            strategy = values(option)
            assert strategy is not None
            options.append((option.name, draw(strategy)))
    return tuple(options)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """Targets of every scheme of ours."""
    scheme = draw(st.sampled_from(SCHEMES))
    parts: dict[str, object] = {}
    if scheme.form == "path":
        parts["path"] = "/" + draw(PATHS)
    elif scheme.form == "object":
        parts["path"] = draw(st.sampled_from(("pod/a", "shop/job/b", "thing.example.org/c", "pod")))
    elif scheme.form == "name":
        parts["host"] = draw(NAMES)
        parts["bare"] = draw(st.booleans())
    else:
        parts["host"] = draw(HOSTS)
        parts["port"] = draw(st.integers(1, 65535))
        parts["bare"] = scheme.name == "tcp" and draw(st.booleans())
    if scheme.form == "hosts":
        more = draw(st.lists(st.tuples(HOSTS, st.integers(1, 65535)), max_size=3))
        assume(len({(parts["host"], parts["port"]), *more}) == 1 + len(more))
        parts["more"] = tuple(more)
    if scheme.form in ("url", "hosts"):
        # Most protocols take one word, or nothing.
        parts["path"] = draw(st.just("/") | TAILS.map("/{}".format))
        parts["query"] = draw(st.just("") | TAILS)
        parts["user"] = draw(st.just("") | TEXTS)
        parts["password"] = draw(st.just("") | TEXTS)
    target = Target(scheme, given=draw(given_options(scheme)), **parts)  # type: ignore[arg-type]
    assume(scheme.check is None or not scheme.check(target))
    return target


def groups(members: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    labels = st.just("") | TEXTS
    timeouts = st.none() | st.floats(1e-6, 1e8).map(lambda x: round(x, 6))
    several = st.lists(members, min_size=1, max_size=4).map(tuple)

    def group(
        kind: str, nodes: tuple[Node, ...], share: float, label: str, timeout: float | None
    ) -> Group:
        count = len(nodes)
        need = {"all": count, "any": 1, "quorum": count // 2 + 1}.get(kind, 0)
        return Group(kind, need or 1 + int(share * count), nodes, label, timeout)

    plain = st.builds(
        group, st.sampled_from(GROUPS[:4]), several, st.floats(0, 0.99), labels, timeouts
    )
    nots = st.builds(lambda m, label, t: Group("not", 1, (m,), label, t), members, labels, timeouts)
    return plain | nots


NODES: st.SearchStrategy[Node] = st.recursive(targets(), groups, max_leaves=6)


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what other tests declared secret from masking the texts of these."""
    monkeypatch.setattr(model, "_secrets", set())


def mistakes(text: str) -> tuple[Mistake, ...]:
    with pytest.raises(OperatorError) as raised:
        parse_all([(text, "argument 1")])
    return raised.value.mistakes


relaxed = settings(
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)


@relaxed
@given(NODES)
def test_what_is_printed_parses_to_the_same(node: Node) -> None:
    """`spelled` and `parse` are each other's inverse, for targets and groups of every kind."""
    assert parse(node.spelled()) == node


@relaxed
@given(NODES)
def test_what_is_shown_is_printable_and_without_secrets(node: Node) -> None:
    """Names and spellings for people are one line of printable text."""
    for shown in (node.name, str(node), *(leaf.address() for leaf in leaves(node))):
        assert shown.isprintable()
    assert str(parse(node.spelled())) == str(node)


ALPHABET = st.text(
    st.sampled_from(":/?#@&=,()%[] $.-{}")
    | st.sampled_from("ab1é\0\n\x1b\u0663\u202e\u200f\udc80")
    | st.characters()
)
STARTS = (
    "",
    "all(",
    "any(a,",
    "atleast(2,",
    "not(",
    "http://",
    "tcp://",
    "dns://",
    "file://",
    "exec://",
    "[",
)


@settings(relaxed, max_examples=500)
@given(st.sampled_from(STARTS), ALPHABET)
@example("", "any(" * 100)
@example("", "any(" * 5000)
@example("", ")" * 100)
@example("", "a:0")
@example("", "http://[::1%25")
@example("", "%")
@example("", "file:///%ff%00%")
def test_arbitrary_text_never_crashes(start: str, text: str) -> None:
    """Anything is a tree or mistakes, each of them whole, printable and short (fault 67)."""
    told: tuple[Mistake, ...] = ()
    try:
        node = parse_all([(start + text, "argument 1")])
    except OperatorError as error:
        told = error.mistakes
    else:
        assert parse_all([(member.spelled(), "") for member in node.members]) == node
        assert all(leaf.name.isprintable() for leaf in leaves(node))
    for mistake in told:
        assert mistake.place == "argument 1"
        assert mistake.wrong
        assert mistake.right
        assert str(mistake).isprintable()


def test_ten_mebibytes() -> None:
    """10 MiB are refused in one short sentence, as one target or as a file of them (fault 67)."""
    for text in (
        "a" * (10 << 20),
        "any(" + "a," * (5 << 20),
        "http://u:" + "s3cr3t" * (2 << 20) + "@h",
    ):
        (mistake,) = mistakes(text)
        assert "65536 at most" in mistake.wrong
        assert len(str(mistake)) < 300
        assert "s3cr3t" not in str(mistake)
    with pytest.raises(OperatorError) as raised:
        parse_all(lines("a\n" * (5 << 20), "file"))
    assert "more than 10000 targets" in str(raised.value)
    with pytest.raises(OperatorError) as raised:
        parse_all(lines("://\n" * (1 << 20), "file"))
    assert len(raised.value.mistakes) < 200


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("mysql-0.mysql.namespace", "mysql-0.mysql.namespace"),
        ("mysql-read.namespace:3306", "mysql-read.namespace:3306"),
        ("redis:6379", "redis:6379"),
        ("[::1]:80", "[::1]:80"),
        ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80"),
        ("http://[fe80::1%25eth0]:80/", "http://[fe80::1%eth0]:80/"),
        ("HTTP://Example.com", "http://Example.com:80/"),
        (
            "https://h/a?b=1#status=200#status=3xx",
            "https://h:443/a?b=1#status=200#status=3xx",
        ),
        ("exec:///usr/bin/pg_isready#arg=-h#arg=db", "exec:///usr/bin/pg_isready#arg=-h#arg=db"),
        ("tcp://db:5432#expect=a%23b", "tcp://db:5432#expect=a%23b"),
        ("file:///tmp/a b%3F", "file:///tmp/a b?"),
        ("any( a , b:80 )#name=cache", "any(a, b:80)#name=cache"),
        ("any(file:///a%2Cb%29, c)", "any(file:///a%2Cb%29, c)"),
        ("all(any(a, b)#name=x, not(c))", "all(any(a, b)#name=x, not(c))"),
        ("atleast(2, a, b, c)", "atleast(2, a, b, c)"),
        ("quorum(a, b, c)#timeout=90s", "quorum(a, b, c)#timeout=90s"),
        ("  a  ", "a"),
    ],
)
def test_examples(text: str, spelled: str) -> None:
    """Each form of the documentation parses to what it says."""
    assert parse(text).spelled() == spelled
    assert parse(spelled).spelled() == spelled


def test_which_scheme_a_bare_target_has() -> None:
    """A port makes a connection, a name alone is looked up, a scheme is only what stands before ://."""
    for text, scheme in (
        ("a.b", "dns"),
        ("http:80", "tcp"),
        ("tcp://a:1", "tcp"),
        ("[::1]:1", "tcp"),
    ):
        leaf = parse(text)
        assert isinstance(leaf, Target)
        assert leaf.scheme.name == scheme


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("", "an empty target", "HOST:PORT"),
        ("a:0", "'0' is no port", "1 to 65535"),
        ("a:65536", "'65536' is no port", "1 to 65535"),
        ("a:000000080808080", "'000000080808080' is no port", "1 to 65535"),
        ("a:", "'' is no port", "1 to 65535"),
        ("a:٣", "'٣' is no port", "1 to 65535"),
        ("host:cache", "'cache' is no port", "1 to 65535"),
        ("tcp:db", "'db' is no port", "tcp://db"),
        ("https:/db/x", "no :// follows it", "https://db/x"),
        ("HTTP//db", "no :// follows it", "http://db"),
        ("file:/etc/x", "no :// follows it", "file:///etc/x"),
        ("kube:job/migrate", "no :// follows it", "kube://job/migrate"),
        ("kafka:9092/x", "stands behind the host:port", "http://kafka:9092/x"),
        ("::1", "more than one colon", "[::1]:PORT"),
        ("[::1", "no IPv6 address", "[2001:db8::1]:80"),
        ("[db]:80", "no IPv6 address", "[2001:db8::1]:80"),
        ("mysql://[db]", "no IPv6 address", "mysql://[2001:db8::1]:3306"),
        ("[fe80::1%a b]:80", "no IPv6 address", "[2001:db8::1]:80"),
        ("10.0.0.1", "nothing to look up", "10.0.0.1:PORT"),
        ("10.0.0.256:80", "neither an address nor a name", "0 to 255"),
        ("tcp://db", "the port is missing", "tcp://db:PORT"),
        ("dns://db:53", "a name lookup has no port", "dns://db"),
        ("db:80/healthz", "stands behind", "http://db:80/healthz"),
        ("bücher.example", "xn--", "xn--bcher-kva.example"),
        ("htp://x", "no scheme 'htp'", "http://"),
        ("some(a, b)", "cannot stand in a name", "letters"),
        ("quorun(http://a, b)", "no group 'quorun'", "quorum(...)"),
        ("a..b", "empty label", "a.b"),
        ("--timeout", "hyphen", "--help"),
        ("a" * 64, "longer than 63", "63"),
        (".".join(["a" * 60] * 5), "304 characters", "253"),
        ("a_b:80#nmae=x", "no option 'nmae'", "#name="),
        ("a#timeout=5x", "'5x' is no duration", "#timeout=DURATION"),
        ("a#timeout=-5", "'-5' is no duration", "#timeout=DURATION"),
        ("a#timeout=0", "not longer than nothing", "#timeout=DURATION"),
        ("a#min=0", "out of range", "#min=N"),
        ("a#min", "value is missing", "#min=N"),
        ("a#min=1#min=2", "min is given twice", "keep one"),
        ("a#type=MX", "none of A, AAAA", "#type="),
        ("any()", "holds nothing", "any(TARGET, ...)"),
        ("any(a", "not closed", "add the missing )"),
        ("any(a,", "not closed", "add the missing )"),
        ("any(a,)", "no target stands here", "remove"),
        ("any(a, b))", "left over", "ends with its last )"),
        ("any(a, b) c", "left over", "ends with its last )"),
        ("not(a, b)", "not() of 2", "not(any(...))"),
        ("atleast(a, b)", "needs a number first", "atleast(2, a, b, c)"),
        ("atleast(3, a, b)", "at least 3 of 2", "1 to 2"),
        ("atleast(0, a)", "at least 0 of 1", "1 to 1"),
        ("any(any(" * 20 + "a", "deeper than 32", "flatten"),
        ("$(DB_HOST):5432", "$(DB_HOST) was not replaced", "container's env"),
        ("any(a, $(B))", "$(B) was not replaced", "container's env"),
        ("a\0b", "'\\x00'", "%XX"),
        ("a\x1b[31m", "'\\x1b'", "%XX"),
        ("a\u202eb", "'\\u202e'", "%XX"),
        ("a\udc80", "'\\udc80'", "%XX"),
        ("file://tmp/x", "not absolute", "file:///tmp/x"),
        ("file:///%00", "NUL", "nothing"),
        ("file:///%zz", "two hexadecimal digits", "%25"),
        ("file:///%ff", "not UTF-8", "UTF-8"),
        ("http://h/a b", "a space", "%20"),
        ("http://h/é", "not ASCII", "/%C3%A9"),
        ("user@db:5432", "before an @", "db:5432"),
        ("http://", "the host is missing", "http://HOST"),
        ("#name=x", "no target stands here", "write one"),
    ],
)
def test_each_mistake_is_told(text: str, wrong: str, right: str) -> None:
    """What is wrong, and what would be right, in words that name it (fault 67)."""
    found = mistakes(text)
    assert any(wrong in mistake.wrong and right in mistake.right for mistake in found), [
        str(mistake) for mistake in found
    ]
    assert all(mistake.place == "argument 1" for mistake in found)


def test_all_mistakes_come_at_once() -> None:
    """Several targets and several mistakes in one: all of them, each with its place."""
    with pytest.raises(OperatorError) as raised:
        parse_all([("a:0#foo=1", "argument 1"), ("ok", "argument 2"), ("any(b:x, c#min=y)", "f:7")])
    assert [mistake.place for mistake in raised.value.mistakes] == ["argument 1"] * 2 + ["f:7"] * 2
    assert str(raised.value).count("\n") == 3


def test_a_file_of_targets() -> None:
    """One a line; a # at its start or after white space begins a comment, in a target it does not."""
    text = "# all\na\n\n  b:80 # the cache\r\nhttp://c/#status=204 #x\n\t# no\nd#min=2\n"
    assert list(lines(text, "t")) == [
        ("a", "t:2"),
        ("b:80", "t:4"),
        ("http://c/#status=204", "t:5"),
        ("d#min=2", "t:7"),
    ]


CANARY = "c4N4ry7x"
# Of no word that is long enough to be masked by itself.
CHOPPED = "k7-x2!q9"
PLACES = (
    "http://user:{}@host/",
    "http://{}@host/",
    "https://user:{}@host:8443/path?x=1#status=200",
    "http://host/?token={}",
    "http://host/p?a=1&token={}&b=2",
    "http://host/?{}",
    "http://host/#header=Authorization: Bearer {}",
    "http://host/#password={}",
    "tcp://host:80#send=AUTH {}",
    "tcp://host:80#token={}#name=x",
    "any(http://host/?token={}, b)",
    "any(a, http://user:{}@host/)#name=x",
    "all(a#name=x, any(http://host/?k={}))",
    "user:{}@host:80",
)
SEPARATORS = st.sampled_from(":/?#@&=,()%[] $.-é\0")
MUTATIONS = st.lists(st.tuples(st.floats(0, 0.999), SEPARATORS), max_size=3)


def said(text: str) -> list[str]:
    """All that people get to see of a target that does not parse; nothing of one that does."""
    try:
        parse(text)
    except OperatorError as error:
        return [str(error), *(repr(mistake) for mistake in error.mistakes)]
    return []


@pytest.mark.parametrize(
    "place", [place for place in PLACES if place[:4] in ("http", "tcp:", "any(", "all(")]
)
def test_a_target_shows_no_secret_of_its_own(place: str) -> None:
    """What people see of a target that parses holds no canary (fault 68)."""
    if "password=" in place or "token={}#name" in place:
        assert said(place.format(CANARY))
        return
    node = parse(place.format(CANARY))
    for shown in (node.name, str(node), *(leaf.address() for leaf in leaves(node))):
        assert CANARY not in shown


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_shown(place: str) -> None:
    """A canary in every place where a secret can stand, in targets that parse and that do not (fault 68)."""
    good = place.format(CANARY)
    broken: tuple[Callable[[str], str], ...] = (
        lambda text: text + "#nosuch=1",
        lambda text: text + ")",
        lambda text: "any(" + text,
        lambda text: "x" + text,
        lambda text: text.replace("//", "/"),
        lambda text: text.replace("//", "///"),
        lambda text: text.replace("host", "ho st"),
        lambda text: text.replace("host", "hö/st"),
        lambda text: text.replace("host", "host:99999"),
        lambda text: text.replace("host", "host:" + CANARY),
        lambda text: text.replace(CANARY, CANARY + "\x1b"),
        lambda text: text.replace(CANARY, CANARY + "%zz"),
        lambda text: text.replace(CANARY, "%" + CANARY),
        lambda text: text.replace(CANARY, f"a/{CANARY}"),
        lambda text: text.replace(CANARY, f"a#{CANARY}"),
        lambda text: text.replace(CANARY, f"a?{CANARY}"),
        lambda text: text.replace(CANARY, f"a,{CANARY}"),
        lambda text: text.replace(CANARY, f"a){CANARY}"),
        lambda text: text.replace(CANARY, f"a {CANARY}"),
        lambda text: text.replace(CANARY, f"a@{CANARY}@"),
        lambda text: text.replace(CANARY, f"$({CANARY}"),
        lambda text: text.replace("@", ""),
    )
    for change in broken:
        text = change(good)
        for shown in said(text):
            assert CANARY not in shown, text


@settings(relaxed, max_examples=400)
@given(st.sampled_from(PLACES), MUTATIONS, st.sampled_from([CANARY, CHOPPED]))
def test_no_mutation_shows_a_secret(
    place: str, mutations: list[tuple[float, str]], canary: str
) -> None:
    """Separators put anywhere around a canary do not bring it out (fault 68)."""
    text = place
    for where, separator in mutations:
        at = int(where * len(text))
        if text[at - 1 : at + 1] != "{}":
            text = text[:at] + separator + text[at:]
    text = text.replace("{}", canary)
    for shown in said(text):
        assert canary not in shown


@pytest.mark.parametrize(
    "secret", ["p@ss w/rd", 'qu"ote\\back', "Zq7<&>'it", "grüße-an-alle", "100%+/=sure", "plain42"]
)
def test_a_secret_that_a_server_encoded_is_masked(secret: str) -> None:
    """What servers make of a secret is masked, too: percent-encoded, in JSON, in HTML, in base64."""
    parse(f"http://user:{urllib.parse.quote(secret, safe='')}@host/")
    in_base64 = base64.b64encode(secret.encode()).decode()
    for repeated in (
        urllib.parse.quote(secret, safe=""),
        re.sub("%..", lambda code: code[0].lower(), urllib.parse.quote(secret, safe="")),
        urllib.parse.quote_plus(secret),
        urllib.parse.quote(secret, safe="!*'()"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret)[1:-1].replace("/", "\\/"),
        html.escape(secret).replace("&#x27;", "&#39;"),
        in_base64.rstrip("="),
        base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    ):
        seen = model.redacted(f"denied: {repeated}, sorry")
        assert seen == "denied: ***, sorry", repeated


@pytest.mark.parametrize(
    "text",
    [
        "host/a:{}@x",
        "https:/u:{}@h/x",
        "db:{}@host/x",
        "u:{}@h:80",
        "u:{}/z@h",
        "host:{}",
        "[::1]:{}",
    ],
)
@pytest.mark.parametrize("secret", [CANARY, CHOPPED, "q-7\\x-y2"])
def test_a_password_of_short_words_is_masked(text: str, secret: str) -> None:
    """A password in which no run of letters and digits is long is masked all the same (fault 68)."""
    for shown in said(text.format(secret)):
        assert secret not in shown
        assert repr(secret)[1:-1] not in shown


def test_a_querys_secret_is_masked_as_the_server_reads_it() -> None:
    """The value of a query is masked as it was written and as it was meant."""
    parse("http://host/?token=s3%2Bcr%C3%A9t+x%zz")
    assert model.redacted("no s3%2Bcr%C3%A9t+x%zz") == "no ***"
    assert model.redacted("no s3+crét x%zz.") == "no ***."


def test_a_secret_that_parsed_is_masked_everywhere() -> None:
    """A password that a target was given is masked from then on in all verdicts and mistakes."""
    parse(f"http://user:{CANARY}@host/")
    assert CANARY not in model.Verdict("refused", f"said {CANARY}", hint=CANARY).seen
    assert CANARY not in str(Mistake(CANARY, CANARY, CANARY, "argument 1"))


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `seats://` a scheme whose targets may name several hosts."""
    made = Scheme(
        *("seats", "hosts", lambda *_: ready("sits")),
        proves="it sits",
        not_proves="that it stands",
        example="seats://a,b",
        port=2181,
    )
    load = schemes.load
    monkeypatch.setattr(schemes, "load", lambda name: made if name == "seats" else load(name))


@pytest.mark.usefixtures("several")
def test_several_hosts() -> None:
    """Hosts with commas between share a default port; what is spelled parses to the same."""
    target = parse("seats://user@zk-0.zk,zk-1.zk:2182,[::1]:2183,10.0.0.9/path?a=b#timeout=5s")
    assert isinstance(target, Target)
    assert target.hosts == (
        ("zk-0.zk", 2181),
        ("zk-1.zk", 2182),
        ("::1", 2183),
        ("10.0.0.9", 2181),
    )
    assert (target.host, target.port, target.user, target.path) == hosts_first(target)
    assert str(target).startswith("seats://***@zk-0.zk:2181,zk-1.zk:2182,[::1]:2183,10.0.0.9:2181/")
    assert parse(target.spelled()) == target
    member = parse("any(seats://a%2Cb, c:1)")
    assert isinstance(member, Group)
    assert isinstance(member.members[0], Target)
    assert member.members[0].hosts == (("a", 2181), ("b", 2181))
    for apart in ("any(seats://a, b)", "any(seats://a,dns://b)", "any(seats://a#timeout=1s,b)"):
        group = parse(apart)
        assert isinstance(group, Group)
        assert len(group.members) == 2


def hosts_first(target: Target) -> tuple[str, int, str, str]:
    return (*target.hosts[0], "user", "/path")


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (
            ["redis://h#key=a#timeout=5s", "any(redis://h#key=b#timeout=5s, redis://h#timeout=5s)"],
            ["redis://h:6379/#key=a", "redis://h:6379/#key=b", "redis://h:6379/"],
        ),
        (
            ["redis://h#key=a", "redis://h#key=b#name=cache", "redis://i#key=c"],
            ["redis://h:6379/", "cache", "redis://i:6379/"],
        ),
        (["a:1", "a:1", "a:2"], ["a:1", "a:1", "a:2"]),
        (
            ["http://h/#header=X-Key: secret-1", "http://h/#header=X-Key: secret-2#status=204"],
            ["http://h:80/#header=***", "http://h:80/#header=***#status=204"],
        ),
    ],
)
def test_what_would_be_shown_alike(texts: list[str], names: list[str]) -> None:
    """Targets that differ in their options alone show those that differ, secrets masked."""
    root = parse_all([(text, "") for text in texts])
    found = list(leaves(root))
    assert [leaf.name for leaf in found] == names
    # What they are is the same as of those that stand alone.
    assert all(parse(leaf.spelled()) == leaf for leaf in found)


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("seats://a,,b", "the host is missing"),
        ("seats://a,", "the host is missing"),
        ("seats://a,b,a", "a host is named twice"),
        ("seats://a,b:2181,b", "a host is named twice"),
        ("seats://a,b:99999", "'99999' is no port"),
        ("seats://a,[::1", "is no IPv6 address"),
        ("tcp://a,b:1", "one target each: any(tcp://a:1, tcp://b:1)"),
        ("any(seats://a,b:2, tcp://c:1)", "looks like another host of the one before"),
        ("any(seats://a:1,b/x#timeout=5s)", "looks like another host of the one before"),
    ],
)
def test_several_hosts_mistaken(text: str, wrong: str) -> None:
    """Each host is looked at, and only schemes that can ask several take them."""
    with pytest.raises(OperatorError) as caught:
        parse(text)
    assert wrong in str(caught.value)
