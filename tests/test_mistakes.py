"""What is said of a mistake: our own words stay whole, and no secret is among them."""

from __future__ import annotations

import pytest

from service_precheck import model, schemes
from service_precheck.errors import OperatorError
from service_precheck.target import parse, parse_all


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep one test's secrets from masking another one's texts."""
    monkeypatch.setattr(model, "_secrets", set())


def told(*texts: str) -> list[str]:
    with pytest.raises(OperatorError) as caught:
        parse_all([(text, "") for text in texts])
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "etcd://a#alarm",
            "'#alarm': etcd:// has no option 'alarm'; did you mean #alarms?",
        ),
        (
            "any(etcd://a#alarm, b)",
            "'#alarm': etcd:// has no option 'alarm'; did you mean #alarms?",
        ),
        (
            "mysql://h#galeria",
            "'#galeria': mysql:// has no option 'galeria'; did you mean #galera?",
        ),
        (
            "etcd://h#mem",
            "'#mem': etcd:// has no option 'mem'; did you mean #member?",
        ),
        (
            "http://h#statis=200",
            "'#statis=***': http:// has no option 'statis'; did you mean #status=...?",
        ),
        (
            "jdbc:mysql://h/db?user=app",
            "'jdbc:mysql://h/db?user=***': there is no scheme 'jdbc:mysql'; mysql:// without jdbc:",
        ),
        (
            "jdbc:mariadb://h/db",
            "'jdbc:mariadb://h/db': there is no scheme 'jdbc:mariadb'; mysql://, which MariaDB speaks",
        ),
        (
            "postgresql://app:pw@h/x?target_session_attrs=read-write",
            (
                "'postgresql://app:***@h/x?target_session_attrs=***': ?target_session_attrs= is not read "
                "here: it is said #role=; see the options of postgresql://"
            ),
        ),
        (
            "postgresql://app@db-1.shop/x?sslrootcert=/etc/ssl/ca.crt",
            (
                "'postgresql://***@db-1.shop/x?sslrootcert=***': ?sslrootcert= is not read here: it is "
                "said #ca=; see the options of postgresql://"
            ),
        ),
        (
            "mysql://app:pw@db-0.shop/x?sslmode=require",
            (
                "'mysql://app:***@db-0.shop/x?sslmode=require': ?sslmode= of a mode that there is not: "
                "disabled, preferred, required, verify_ca, verify_identity; see the options of mysql://"
            ),
        ),
        (
            "elasticsearch://a#ssl",
            "'#ssl': elasticsearch:// has no option 'ssl'; did you mean #tls?",
        ),
        (
            "mysql://u:hunter22@h/db?charset=utf8#ssl=true",
            "'#ssl=***': mysql:// has no option 'ssl'; did you mean #tls=...?",
        ),
        (
            "mysql://u:hunter22@h/db?ssl-mode=VERIFY_FULL&x=y",
            (
                "'mysql://u:***@h/db?ssl-mode=VERIFY_FULL&x=***': ?ssl-mode= of a mode that there is not: "
                "disabled, preferred, required, verify_ca, verify_identity; see the options of mysql://"
            ),
        ),
        (
            "grpc://a:1#metadata=X-Foo: hunter22",
            (
                "'grpc://a:1#metadata=X-Foo:***': #metadata=: 'X-Foo' is no name of metadata: a-z, 0-9 and "
                "_-. are; #metadata=name: value; see the options of grpc://"
            ),
        ),
        (
            "http://a#header=X-Foo: a%0Ab",
            (
                "'http://a#header=X-Foo:***': #header=: the value of X-Foo holds a line break or another "
                "control character; #header=Name: value; see the options of http://"
            ),
        ),
    ],
)
def test_own_words_stay_whole(text: str, said: str) -> None:
    """Neither what is masked in a target, nor a secret that is like a word of ours, makes holes in them."""
    assert told(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "etcd://a:2379,b:2379/x#member=maybe",
            ["'maybe' is neither true nor false", "a path or query, which says nothing to etcd"],
        ),
        (
            "redis://h/abc#link=1",
            ["'1' is neither true nor false", "the path is no number of a database"],
        ),
        ("mysql://u@h/a/b#galeria", ["did you mean #galera?", "'a/b' has a slash in it"]),
        # Nothing of what may be missing for that mistake alone.
        ("etcd://:pw@h#user=", ["it is empty"]),
        ("etcd://u@h#password-env=", ["it is empty"]),
        ("etcd://h#usr=a#password-file=/x", ["did you mean #user=...?"]),
        ("mysql://h:99999/a/b#role=x", ["'99999' is no port", "'x' is none of primary, replica"]),
    ],
)
def test_all_mistakes_are_told_together(text: str, said: list[str]) -> None:
    """One of an option does not hide those of the rest, nor is anything untrue told of it."""
    assert [words in one for words, one in zip(said, told(text), strict=True)] == [True] * len(said)


@pytest.mark.parametrize("name", schemes.BUILT_IN)
def test_an_option_that_cannot_be_read_is_one_mistake(name: str) -> None:
    """It is neither told to be empty besides, nor missed by what belongs to it."""
    scheme = schemes.load(name)
    assert scheme is not None
    bare = scheme.example.partition("#")[0]
    try:
        parse(bare)
        without = []
    except OperatorError as error:
        without = [mistake.wrong for mistake in error.mistakes]
    for option in scheme.options:
        with pytest.raises(OperatorError) as caught:
            parse(f"{bare}#{option.name}=%FF")
        first, *others = (mistake.wrong for mistake in caught.value.mistakes)
        assert first == "its percent-encoding is not UTF-8"
        assert set(others) <= set(without)


def test_own_words_of_a_variable() -> None:
    """The same of what is only told of targets that are about to be asked."""
    with pytest.raises(OperatorError) as caught:
        parse_all([("mysql://start@h#password-env=NOPE", "")], {})
    assert str(caught.value) == (
        "'#password-env=NOPE': the environment variable NOPE is not set, or empty; set it before the "
        "start: nothing can set it later"
    )


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        # No name of an option is like them.
        ("mysql://h#hunter2", "hunter2"),
        ("mysql://app:pa#hunter2#role=primary", "hunter2"),
        # The same word in the open.
        ("http://hunter2:hunter2@web:99999/", "hunter2"),
        ("http://user:hunter2@hunter2:99999/hunter2", "hunter2"),
        ("jdbc:mysql://h/hunter2?password=hunter2", "hunter2"),
        ("mysql://user:hunter2@h/hunter2/x", "hunter2"),
        # Behind a port, which is no secret.
        ("any(a:80, http://user:hunter2-and)", "hunter2"),
        ("any(http://u:p@a, http://user:hunter2-and)", "hunter2"),
        ("any(etcd://a#alarms, http://user:hunter2-and)", "hunter2"),
        ("any(etcd://a#alarm, http://user:hunter2-and)", "hunter2"),
        # Words of ours that are somebody's password.
        ("mysql://app:primary", "primary"),
        ("jdbc:hunter2://h", "hunter2"),
        ("jdbc:mysql://h:hunter2-and/db", "hunter2"),
        ("jdbc:mysql://h/db?password=hunter2", "hunter2"),
        ("user:jdbc:mysql://hunter2@h", "hunter2"),
        ("redis://user:hunter2@a,b", "hunter2"),
        ("postgresql://user:hunter2@a,b/db?password=hunter2", "hunter2"),
        # A field's value, also where its name was forgotten.
        ("grpc://a:1#metadata=X-Foo: hunter2", "hunter2"),
        ("grpc://a:1#metadata=Bearer hunter2:3", "hunter2"),
        ("grpc://a:1#metadata=hunter2", "hunter2"),
        ("any(http://a#header=X-Foo: b#header=Y hunter2: x, b)", "hunter2"),
    ],
)
def test_what_could_be_a_secret_stays_masked(text: str, secret: str) -> None:
    """Whatever is wrong with the target."""
    assert all(secret not in one for one in told(text))


def test_a_secret_of_another_target() -> None:
    """It is masked in what is said of this one, where it stands in the open."""
    said = told("mysql://app:hunter22@h", "mysql://me@hunter22/x?sslmode=require")
    assert len(said) == 1
    assert "hunter22" not in said[0]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("redis://h#tls", "rediss:// speaks TLS"),
        ("redis://h#ca=/x", "rediss:// speaks TLS, and has #ca"),
        ("amqp://h#tls", "amqps:// speaks TLS"),
        ("amqp://h#mechanism=external", "amqps:// speaks TLS, and has #mechanism"),
        ("grpc://h:1#insecure", "grpcs:// speaks TLS, and has #insecure"),
        ("http://h#server-name=x", "https:// speaks TLS, and has #server-name"),
        ("rediss://h#tls", "rediss:// always speaks TLS: leave it out"),
        ("redis://h#ssl", "rediss:// speaks TLS"),
        ("a#tls=true", "known are: type, min"),
        ("tcp://a:1#tls", "known are: each"),
    ],
)
def test_tls_has_a_scheme_of_its_own(text: str, right: str) -> None:
    """Where TLS is another scheme's, the option that is looked for here names that."""
    (said,) = told(text)
    assert f"; {right}" in said


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("postgresql://u@h/postgres#database=x", "database"),
        ("postgresql://u@h#dbname=x", "database"),
        ("mysql://h#db=x", "database"),
        ("redis://h#database=1", "database"),
        ("rediss://h#db=1", "database"),
        ("amqp://h#vhost=x", "vhost"),
    ],
)
def test_what_stands_in_the_path(text: str, what: str) -> None:
    """What a scheme has behind the host is not looked for among its options."""
    (said,) = told(text)
    assert f"; the {what} stands behind the host: /{what.upper()}" in said


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("redis://a,b", "any(redis://a, redis://b)"),
        ("elasticsearch://a:1,b", "any(elasticsearch://a:1, elasticsearch://b)"),
        ("postgresql://a,b/db", "any(postgresql://a/db, postgresql://b/db)"),
        ("http://a,b/x,y", "any(http://a/x%2Cy, http://b/x%2Cy)"),
        ("a:1,b:2", "any(a:1, b:2)"),
        ("tcp://a,b:2", "any(tcp://a:2, tcp://b:2)"),
        ("a,b", "any(a, b)"),
    ],
)
def test_several_hosts(text: str, right: str) -> None:
    """A scheme that has one host is told as a group, which parses."""
    (said,) = told(text)
    assert f"one target each: {right}; or all(...)" in said
    if "postgresql" not in right:
        # A database takes a user.
        parse(right)


def test_several_hosts_with_a_login() -> None:
    """It is not repeated, since it has a password."""
    (said,) = told("postgresql://app:geheim@a,b/db#role=primary")
    each = "any(postgresql://a/db, postgresql://b/db)"
    assert f"{each}, each with the login and the options (%2C for a comma in them)" in said
