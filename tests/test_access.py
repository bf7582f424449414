"""What many schemes say alike about TLS and logins."""

from __future__ import annotations

import pytest

from service_precheck import access, schemes
from service_precheck.errors import OperatorError
from service_precheck.model import Verdict, ready
from service_precheck.options import TEXT, Option, Scheme, Target
from service_precheck.target import parse


def probe(_: Target, __: object) -> Verdict:
    return ready("it is there")


def check(target: Target) -> tuple[str, ...]:
    return (*access.check_login(target), *access.check_tls_choice(target))


def scheme(name: str, tls: Option, rows: tuple[Option, ...] = access.TLS_OPTIONS) -> Scheme:
    return Scheme(
        *(name, "url", probe),
        proves="it is there",
        not_proves="more",
        example=f"{name}://a",
        options=(*access.LOGIN_OPTIONS, access.ON_AUTH_REFUSED, tls, *rows),
        port=1,
        check=check,
    )


@pytest.fixture(autouse=True)
def _two_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `flag://` a scheme with the option TLS, `start://` one with STARTTLS, and `store://` one
    with a `key` of its own."""
    rows = (Option("key", TEXT, "what is stored"), *access.TLS_OPTIONS_BESIDE_KEY)
    known = {
        "flag": scheme("flag", access.TLS),
        "start": scheme("start", access.STARTTLS),
        "store": scheme("store", access.TLS, rows),
    }
    load = schemes.load
    monkeypatch.setattr(schemes, "load", lambda name: known.get(name) or load(name))


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("flag://a", False),
        ("flag://a#tls", True),
        ("flag://a#tls=false", False),
        ("flag://a#ca=/ca.pem", True),
        ("flag://a#insecure", True),
        ("flag://a#insecure=false", False),
        ("start://a", False),
        ("start://a#tls=prefer", False),
        ("start://a#tls=require", True),
        ("start://a#server-name=b", True),
        ("flag://a#cert=/c.pem#key=/k.pem", True),
        ("store://a#key=/config/app", False),
        ("store://a#cert=/c.pem#cert-key=/k.pem", True),
    ],
)
def test_who_wants_tls(text: str, wants: bool) -> None:
    """An option of TLS means TLS, without a word of its own."""
    target = parse(text)
    assert isinstance(target, Target)
    assert access.wants_tls(target) is wants


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("flag://a#tls=false#ca=/ca.pem", "#tls= says no, and another option of TLS says yes"),
        ("start://a#tls=off#cert=/c.pem", "#tls= says no, and another option of TLS says yes"),
        (
            "start://a#tls=prefer#min-days=3",
            "unchecked, and another option of TLS wants more: leave",
        ),
        ("flag://a#key=/k.pem", "#key= without #cert="),
        ("store://a#cert-key=/k.pem", "#cert-key= without #cert="),
        ("flag://u@a#user=v", "#user= besides a user before the host"),
        ("flag://u:p@a#password-env=P", "more than one password"),
        ("flag://a#password-file=/p", "#password-file= without a user"),
        ("flag://:p@a", "a password without a user"),
        ("mysql://:secret@a", "a password without a user"),
        ("kafka://:secret@a", "a password without a user"),
        ("mongodb://:secret@a", "a password without a user"),
        ("flag://u%07@a", "a character that cannot be seen in the user's name"),
    ],
)
def test_mistakes(text: str, wrong: str) -> None:
    """What contradicts itself is told before anything is asked."""
    with pytest.raises(OperatorError) as caught:
        parse(text)
    assert wrong in str(caught.value)


NEEDS_LOGIN = {
    "mysql": ("#role=primary", "#max-lag=3s", "#table=a.b", "#query=SELECT 1", "#galera", "/shop"),
    "postgresql": ("#role=primary", "#max-lag=3s", "#table=a", "#query=SELECT 1", "/shop"),
    "amqp": ("#queue=new", "#exchange=events", "#alarms", "/shop"),
    "amqps": ("#queue=new", "#exchange=events", "#alarms", "/shop"),
}


@pytest.mark.parametrize(
    ("name", "asked"), [(name, asked) for name in NEEDS_LOGIN for asked in NEEDS_LOGIN[name]]
)
def test_what_only_a_login_can_see(name: str, asked: str) -> None:
    """Without a user it can never hold: the same mistake, in the same words."""
    with pytest.raises(OperatorError) as caught:
        parse(f"{name}://a{asked}")
    what = asked.partition("=")
    said = (
        ("a vhost" if "amqp" in name else "a database") if asked == "/shop" else "".join(what[:2])
    )
    assert [one.wrong for one in caught.value.mistakes] == [f"{said} without a user: #user=NAME"]
    parse(f"{name}://me:pw@a{asked}")
    # A service as such is asked without one.
    parse(f"{name}://a")


def test_a_certificate_is_a_login() -> None:
    """It names the user to RabbitMQ."""
    parse("amqps://a/shop#queue=new#mechanism=external#cert=/c.pem")


# Where there are accounts that need no password, or a user alone is a token.
TAKE_A_USER_ALONE = ("http", "https", "mysql", "postgresql", "redis", "rediss")


@pytest.mark.parametrize("name", schemes.BUILT_IN)
@pytest.mark.parametrize("text", ["me@a", "me:@a", "a#user=me"])
def test_a_user_without_a_password(name: str, text: str) -> None:
    """Where every login takes one it is the same mistake, in the same words; elsewhere it is none."""
    scheme = schemes.load(name)
    assert scheme is not None
    if scheme.option("password-file") is None:
        return
    if name in TAKE_A_USER_ALONE:
        parse(f"{name}://{text}")
        return
    with pytest.raises(OperatorError) as caught:
        parse(f"{name}://{text}")
    assert [one.wrong for one in caught.value.mistakes] == [access.USER_ALONE]


@pytest.mark.parametrize(
    "text",
    ["amqps://me@a#mechanism=external#cert=/c.pem", "mongodb://me@a/?authMechanism=MONGODB-X509"],
)
def test_a_login_that_takes_no_password(text: str) -> None:
    """What is wrong with it is something else."""
    with pytest.raises(OperatorError) as caught:
        parse(text)
    assert len(caught.value.mistakes) == 1
    assert access.USER_ALONE not in str(caught.value)


@pytest.mark.parametrize("name", ["rediss", "etcd"])
def test_a_key_of_the_data_that_is_a_file(name: str) -> None:
    """Where `key` is one of the data, the certificate's is mistaken for it; not where both are said."""
    with pytest.raises(OperatorError, match="#cert-key= is the certificate's"):
        parse(f"{name}://a#cert=/tls/tls.crt#key=/tls/tls.key")
    parse(f"{name}://a#cert=/tls/both.pem#key=/config/app")
    parse(f"{name}://a#cert=/tls/tls.crt#cert-key=/tls/tls.key#key=/certs/a.pem")


def test_a_key_beside_the_certificates() -> None:
    """Where `key` is something else, the certificate's stands in `cert-key`."""
    target = parse("store://a#key=/config/app#cert=/c.pem#cert-key=/k.pem")
    assert isinstance(target, Target)
    assert access.tls_settings(target).key == "/k.pem"
    target = parse("flag://a#cert=/c.pem#key=/k.pem")
    assert isinstance(target, Target)
    assert access.tls_settings(target).key == "/k.pem"
