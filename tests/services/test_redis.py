"""`redis:` and `rediss:` against single servers, Redis and Valkey; redis-py is the oracle."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from service_precheck.access import USER_ALONE
from tests.bed.fixtures import Enter
from tests.bed.opening import opened
from tests.bed.ports import free_port
from tests.bed.process import Gate
from tests.bed.services.redis import Redis, Valkey
from tests.bed.tls import Authority
from tests.bed.world import World
from tests.probes.conftest import Ask

if TYPE_CHECKING:
    from tests.services.conftest import Tested

pytestmark = [pytest.mark.xdist_group("redis"), pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs" / "schemes" / "redis.md"
BOTH = pytest.mark.parametrize("make", [Redis, Valkey])


def works(call: Callable[[], object]) -> bool:
    """What the driver experiences."""
    try:
        return bool(call())
    except redis.RedisError:
        return False


def writes(client: redis.Redis) -> bool:
    return works(lambda: client.set("oracle", "was here"))


@pytest.fixture(scope="module")
def plain() -> Iterator[Redis]:
    """Return a server without any password, which also listens on a Unix socket."""
    with Redis("--unixsocket", f"/tmp/bed-redis-{free_port()}.sock") as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[Redis]:
    """Return a server with a password, and a user `app` with another one."""
    with Redis("--requirepass", "wide-open") as server:
        server.client("wide-open").acl_setuser(
            "app", enabled=True, passwords=["+app-secret"], keys=["*"], commands=["+@all"]
        )
        yield server


# -- what ready proves


@BOTH
def test_ready(make: type[Redis], ask: Ask, tested: Tested) -> None:
    """A server answers, takes writes, and its version is one that the documentation lists."""
    with make() as server:
        assert ask(f"redis://{server.place}").seen == f"{server.place} answers PING"
        verdict = ask(f"redis://{server.place}#role=primary")
        found = re.fullmatch(rf"{server.place} takes writes \((\w+ [0-9.]+)\)", verdict.seen)
        assert verdict.ready
        assert found
        assert writes(server.client())
        tested("redis", found[1])
        tested("rediss", found[1])


@BOTH
def test_killed_and_back(make: type[Redis], gate: Callable[..., Gate], ask: Ask) -> None:
    """What was killed is refused; a gate opens once it is back, and the driver works then."""
    with make() as server:
        assert ask(f"redis://{server.place}").ready
        server.kill()
        assert ask(f"redis://{server.place}").cause == "refused"
        assert not writes(server.client())
        started = gate("--output", "json", "-v", f"redis://{server.place}#role=primary")
        started.wait_output("refused")
        server.start()
        assert opened(started, lambda: writes(server.client())) <= {"refused"}


def test_restarted(gate: Callable[..., Gate], plain: Redis) -> None:
    """A server that is stopped and started again lets the gate open."""
    plain.stop()
    started = gate("--output", "json", "-v", f"redis://{plain.place}#role=primary")
    started.wait_output("refused")
    plain.start()
    opened(started, lambda: writes(plain.client()))


def test_hangs(plain: Redis, ask: Ask) -> None:
    """A server that hangs accepts and says nothing: `no-reply`, as a redis-py with a time limit."""
    plain.daemon.pause()
    try:
        assert ask(f"redis://{plain.place}", timeout=0.3).cause == "no-reply"
    finally:
        plain.daemon.resume()
    assert ask(f"redis://{plain.place}").ready


def test_unix_socket(plain: Redis, ask: Ask, folder: Path) -> None:
    """A Unix socket is asked in place of the host; one that is not there is `missing-object`."""
    path = plain.client().config_get("unixsocket")["unixsocket"]
    verdict = ask(f"redis://localhost#role=primary#unix-socket={path}")
    assert verdict.ready
    assert verdict.seen == f"{path} takes writes (Redis 7.0.15)"
    assert ask(f"redis://localhost#unix-socket={folder}/none").cause == "missing-object"


@pytest.mark.parametrize("written", ["/3", "/?db=3", "/5?db=3", "/%33"])
def test_database(plain: Redis, ask: Ask, written: str) -> None:
    """The path or `?db=` chooses the database, as redis-py understands them."""
    client = redis.Redis.from_url(f"redis://{plain.place}{written}")
    client.set("of-three", "here")
    verdict = ask(f"redis://{plain.place}{written}#key=of-three")
    assert verdict.ready
    assert verdict.seen == f"{plain.place} has the database 3, has the key of-three"
    assert ask(f"redis://{plain.place}#key=of-three").cause == "missing-object"


def test_no_such_database(plain: Redis, ask: Ask) -> None:
    """A number beyond what the server has is `no-such-database`."""
    verdict = ask(f"redis://{plain.place}/16")
    assert verdict.cause == "no-such-database"
    assert "DB index is out of range" in verdict.seen
    assert not works(redis.Redis.from_url(f"redis://{plain.place}/16").ping)


def test_key(plain: Redis, ask: Ask) -> None:
    """`key` waits for a key, of whatever type and name."""
    name = "jobs: ready/\N{SNOWMAN}#1"
    written = name.replace("#", "%23").replace("\N{SNOWMAN}", "%E2%98%83")
    target = f"redis://{plain.place}#key={written}"
    verdict = ask(target)
    assert verdict.cause == "missing-object"
    assert verdict.seen == f"{plain.place} has no key {name}"
    plain.client().hset(name, "a", "b")
    assert ask(target).seen == f"{plain.place} has the key {name}"
    plain.client().delete(name)


# -- logins


@pytest.mark.parametrize(
    ("login", "options", "known"),
    [
        (":wide-open@", "", True),
        ("default:wide-open@", "", True),
        ("", "#password-file={file}", True),
        ("", "#user=default#password-env=REDIS_PASSWORD", True),
        ("app@", "#password-file={app}", True),
        ("app:app-secret@", "", True),
        (":another@", "", False),
        ("app:wide-open@", "", False),
        ("nobody:wide-open@", "", False),
        ("app@", "", False),
    ],
)
def test_logins(
    guarded: Redis,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    login: str,
    options: str,
    known: bool,
) -> None:
    """A password alone or with a user logs in, from wherever it comes; another one is `auth-refused`."""
    (tmp_path / "password").write_text("wide-open\n")
    (tmp_path / "app").write_text("app-secret\n")
    monkeypatch.setenv("REDIS_PASSWORD", "wide-open")
    options = options.format(file=tmp_path / "password", app=tmp_path / "app")
    verdict = ask(f"redis://{login}{guarded.place}{options}")
    assert verdict.cause == (None if known else "auth-refused")
    if not options:
        assert works(redis.Redis.from_url(f"redis://{login}{guarded.place}").ping) is known
    if not known:
        assert "WRONGPASS invalid username-password pair or user is disabled." in verdict.seen
        assert verdict.hint == (USER_ALONE if login == "app@" else "")
        for secret in ("wide-open", "another"):
            assert secret not in verdict.seen


def test_login_is_named(guarded: Redis, ask: Ask) -> None:
    """The sentence says that the login was taken, and whose it was."""
    seen = ask(f"redis://app:app-secret@{guarded.place}#role=primary").seen
    assert seen == f"{guarded.place} takes the login of app, takes writes (Redis 7.0.15)"
    assert ask(f"redis://:wide-open@{guarded.place}").seen == f"{guarded.place} takes the login"


def test_without_a_login(guarded: Redis, ask: Ask) -> None:
    """Fault 61: a server that asks for a login proves that much without one, and no more is asked."""
    verdict = ask(f"redis://{guarded.place}")
    assert verdict.ready
    assert verdict.seen == f"{guarded.place} answers, and asks for a login (not tried)"
    for more in ("/3", "#role=primary", "#role=replica", "#link", "#cluster", "#key=a"):
        verdict = ask(f"redis://{guarded.place}{more}")
        assert verdict.cause == "auth-required"
        assert "NOAUTH Authentication required." in verdict.seen


def test_any_password(guarded: Redis, ask: Ask, tmp_path: Path) -> None:
    """A password may hold anything: it goes as it stands in the file, in UTF-8."""
    password = "pä ss\t\"*2'\r\n$wörd"
    guarded.tell("ACL", "SETUSER", "poet", "on", f">{password}", "+ping", password="wide-open")
    (tmp_path / "password").write_bytes(f"{password}\n".encode())
    verdict = ask(f"redis://poet@{guarded.place}#password-file={tmp_path}/password")
    assert verdict.seen == f"{guarded.place} takes the login of poet"


def test_disabled_user(guarded: Redis, ask: Ask) -> None:
    """A user that is switched off is refused until it is on."""
    words = ("ACL", "SETUSER", "sleeper")
    guarded.tell(*words, "off", "nopass", "+ping", password="wide-open")
    assert ask(f"redis://sleeper:x@{guarded.place}").cause == "auth-refused"
    guarded.tell(*words, "on", password="wide-open")
    assert ask(f"redis://sleeper:x@{guarded.place}").ready
    assert ask(f"redis://sleeper@{guarded.place}").ready


@BOTH
def test_no_password_configured(make: type[Redis], enter: Enter, ask: Ask) -> None:
    """A password that nobody asks for does not matter to drivers, nor here; the sentence tells."""
    server = enter(make())
    verdict = ask(f"redis://:too-early@{server.place}#role=primary")
    assert verdict.ready
    assert verdict.seen.startswith(
        f"{server.place} asks for no password, though one was given, takes writes ("
    )
    assert writes(server.client("too-early"))
    assert ask(f"redis://default:too-early@{server.place}").ready
    assert ask(f"redis://app:too-early@{server.place}").cause == "auth-refused"


def test_refused_login_ends_or_waits(
    guarded: Redis, gate: Callable[..., Gate], tmp_path: Path
) -> None:
    """A refused login ends the gate on request; else a new password in the file opens it."""
    password = tmp_path / "password"
    password.write_text("outdated")
    target = f"redis://{guarded.place}#user=app#password-file={password}"
    assert gate(f"{target}#on-auth-refused=fail").wait().status == 1
    waiting = gate("-v", target)
    waiting.wait_output("auth-refused")
    password.write_text("app-secret")
    assert waiting.wait().status == 0


# -- rights


def rights(*options: str) -> list[str]:
    """The page's ACL rules for a target with these options, as words after the user's name."""
    rows = re.findall(r"^- (.+): `(\+.+)`$", PAGE.read_text(), re.MULTILINE)
    words = [rule for what, rules in rows for rule in rules.split() if what in options]
    assert words, rows
    return words


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ("", ["every target"]),
        ("/2", ["every target", "a database other than 0"]),
        ("#role=primary", ["every target", "`role`, `link`"]),
        ("#key=jobs:ready", ["every target", "`key=jobs:ready`"]),
    ],
)
@BOTH
def test_least_rights(
    make: type[Redis], enter: Enter, ask: Ask, options: str, rows: list[str]
) -> None:
    """The rights of the page are enough, and without any one of them it is `forbidden`, with the rule."""
    server = enter(make())
    server.client().set("jobs:ready", "1")
    login = f"redis://probe:pw@{server.place}{options}"
    words = rights(*rows)

    def allow(granted: list[str]) -> None:
        server.tell("ACL", "SETUSER", "probe", "reset", "on", ">pw", "resetchannels", *granted)

    allow(words)
    assert ask(login).ready
    for missing in words:
        allow([word for word in words if word != missing])
        verdict = ask(login)
        assert verdict.cause == "forbidden"
        assert "NOPERM" in verdict.seen
        assert verdict.hint == f"ACL SETUSER probe {missing}"
        server.tell("ACL", "SETUSER", "probe", missing)
        assert ask(login).ready


# -- the start-up window


def filled(make: type[Redis], enter: Enter, keys: int = 4000) -> Redis:
    """Return a server, stopped, that loads for about two seconds when it starts."""
    slow = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    server = enter(make("--rdbcompression", "no", *slow))
    server.client().eval(
        f"for i=1,{keys} do redis.call('set','k'..i,string.rep('x',100)) end return 1", 0
    )
    server.client().save()
    server.stop()
    return server


@BOTH
def test_loading(make: type[Redis], enter: Enter, gate: Callable[..., Gate], ask: Ask) -> None:
    """Fault 61: LOADING waits as `starting`, with how far it is, and the gate opens when all is loaded."""
    server = filled(make, enter)
    started = gate("--output", "json", "-v", f"redis://{server.place}#key=k4000")
    started.wait_output("refused")
    server.start()
    started.wait_output("starting")
    verdict = ask(f"redis://{server.place}")
    assert verdict.cause == "starting"
    assert re.search(
        r"LOADING \w+ is loading the dataset in memory \([0-9.]+% loaded", verdict.seen
    )
    assert not works(server.client().ping)
    seen = opened(started, lambda: works(lambda: server.client().exists("k4000")))
    assert {"refused", "starting"} <= seen <= {"refused", "starting", "no-reply"}


def test_loading_without_rights(enter: Enter, ask: Ask) -> None:
    """Who may not ask how far it is learns of the loading all the same."""
    server = filled(Redis, enter)
    server.start()
    server.daemon.wait_until(lambda: ask(f"redis://{server.place}").cause == "starting")
    words = ("probe", "reset", "on", ">pw", *rights("every target"))
    assert server.tell("ACL", "SETUSER", *words) == "OK"
    verdict = ask(f"redis://probe:pw@{server.place}")
    assert verdict.cause == "starting"
    assert verdict.seen == (
        f"{server.place} answers PING with LOADING Redis is loading the dataset in memory"
    )


# -- what holds writes back


@contextlib.contextmanager
def unable_to_save(server: Redis) -> Iterator[None]:
    """Make saving fail: a folder stands where the file belongs."""
    admin = server.client()
    (server.folder / "dump.rdb").unlink(missing_ok=True)
    (server.folder / "dump.rdb").mkdir()
    admin.config_set("save", "3600 1")
    admin.bgsave()
    server.daemon.wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    (server.folder / "dump.rdb").rmdir()
    admin.bgsave()
    server.daemon.wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok")


@BOTH
def test_misconf(make: type[Redis], enter: Enter, ask: Ask) -> None:
    """Fault 61: MISCONF is about writes: who asks for no primary is told, who asks for one waits."""
    server = enter(make())
    client = server.client()
    client.set("here", "1")
    with unable_to_save(server):
        assert not writes(client)
        assert works(lambda: client.get("here"))
        verdict = ask(f"redis://{server.place}#key=here")
        assert verdict.ready
        assert verdict.seen.startswith(f"{server.place} takes no writes for now (MISCONF ")
        verdict = ask(f"redis://{server.place}#role=primary")
        assert verdict.cause == "alarm"
        assert "MISCONF" in verdict.seen
        assert "disk" in verdict.hint
    assert ask(f"redis://{server.place}#role=primary").ready
    assert writes(client)


def fill(client: redis.Redis, expire: int) -> None:
    """Write until the memory is full, by far: a short command that takes much of it."""
    for number in range(20):
        if not works(partial(client.setrange, f"fill{number}", 500_000, "x")):
            return
        if expire:
            client.expire(f"fill{number}", expire)


@pytest.mark.parametrize(
    ("policy", "expire", "full"),
    [
        ("noeviction", 0, True),
        ("volatile-lru", 0, True),
        ("volatile-lru", 1000, False),
        ("allkeys-lru", 0, False),
    ],
)
@BOTH
def test_full_memory(
    make: type[Redis], enter: Enter, ask: Ask, policy: str, expire: int, full: bool
) -> None:
    """A full memory is an `alarm` where nothing can be evicted, and only where writes are asked for."""
    server = enter(make("--maxmemory", "3mb", "--maxmemory-policy", policy))
    client = server.client()
    fill(client, expire)
    assert writes(client) is not full
    verdict = ask(f"redis://{server.place}#role=primary")
    assert verdict.cause == ("alarm" if full else None)
    assert ask(f"redis://{server.place}").ready
    if full:
        assert f"its maxmemory-policy {policy} finds nothing to evict" in verdict.seen
        client.config_set("maxmemory", "20mb")
        assert ask(f"redis://{server.place}#role=primary").ready


def test_busy(enter: Enter, ask: Ask) -> None:
    """A script that does not end makes the server `overloaded`, until it is ended."""
    server = enter(Redis("--busy-reply-threshold", "50"))
    stuck = threading.Thread(
        target=lambda: works(lambda: server.client().eval("while true do end", 0))
    )
    stuck.start()
    server.daemon.wait_until(lambda: not works(server.client().ping))
    verdict = ask(f"redis://{server.place}")
    assert verdict.cause == "overloaded"
    assert "BUSY Redis is busy running a script" in verdict.seen
    server.client().script_kill()
    stuck.join()
    assert ask(f"redis://{server.place}").ready


@BOTH
def test_too_many_clients(make: type[Redis], enter: Enter, ask: Ask) -> None:
    """A server with all its connections in use is `overloaded`."""
    server = enter(make("--maxclients", "2"))
    held = [server.client() for _ in range(2)]
    for client in held:
        client.ping()
    # It says so and closes, at the same moment as it is asked.
    for _ in range(50):
        verdict = ask(f"redis://{server.place}#role=primary")
        assert verdict.cause == "overloaded"
        assert "max number of clients reached" in verdict.seen
    assert not works(server.client().ping)
    held[0].close()
    server.daemon.wait_until(lambda: ask(f"redis://{server.place}").ready)


def test_protected_mode(enter: Enter, world: World, ask: Ask) -> None:
    """A server in protected mode turns those away who come from elsewhere: `forbidden`."""
    server = enter(Redis("--bind", "10.53.0.2 127.0.0.1", inside=(world,)))
    verdict = world.inside(lambda: ask(f"redis://10.53.0.2:{server.port}"))
    assert verdict.cause == "forbidden"
    assert "DENIED Redis is running in protected mode" in verdict.seen
    assert world.inside(lambda: ask(f"redis://{server.place}")).ready


def test_renamed_command(enter: Enter, ask: Ask) -> None:
    """A command that the server does not know is `unsupported`, and named."""
    server = enter(Redis("--rename-command", "INFO", ""))
    assert ask(f"redis://{server.place}").ready
    verdict = ask(f"redis://{server.place}#role=primary")
    assert verdict.cause == "unsupported"
    assert "unknown command 'INFO'" in verdict.seen


def test_renamed_login(enter: Enter, ask: Ask) -> None:
    """A server without AUTH repeats what it was sent; the password is masked even so."""
    server = enter(Redis("--rename-command", "AUTH", ""))
    verdict = ask(
        f"redis://app:pässwörd@{server.place}".replace("ä", "%C3%A4").replace("ö", "%C3%B6")
    )
    assert verdict.cause == "unsupported"
    assert verdict.seen == (
        f"{server.place} answers AUTH with ERR unknown command 'AUTH', with args beginning with: "
        "'app' '***'"
    )


# -- TLS


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[Redis]:
    """Return a server that speaks TLS only, and wants a client's certificate."""
    certificate = authority.issue()
    port = free_port()
    words = {
        "tls-port": port,
        "tls-cert-file": certificate.chain,
        "tls-key-file": certificate.key,
        "tls-ca-cert-file": authority.file,
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    with Redis("--port", "0", *options, port=port) as server:
        yield server


def test_tls(secure: Redis, authority: Authority, ask: Ask) -> None:
    """`rediss:` speaks TLS and shows a client's certificate; the driver gets in the same way."""
    shown = authority.client()
    options = f"#ca={authority.file}#cert={shown.chain}#cert-key={shown.key}"
    verdict = ask(f"rediss://localhost:{secure.port}/1#role=primary{options}")
    assert verdict.ready
    assert "takes writes (Redis 7.0.15)" in verdict.seen
    files = {"ssl_ca_certs": authority.file, "ssl_certfile": shown.chain, "ssl_keyfile": shown.key}
    client = redis.Redis.from_url(
        f"rediss://localhost:{secure.port}", **{name: str(file) for name, file in files.items()}
    )
    assert writes(client)
    client.close()


def test_tls_faults(secure: Redis, plain: Redis, authority: Authority, ask: Ask) -> None:
    """No certificate shown, none trusted, plain where TLS is spoken and the reverse, told apart."""
    place = f"localhost:{secure.port}"
    assert ask(f"rediss://{place}#ca={authority.file}").cause == "tls-client-cert"
    assert ask(f"rediss://{place}").cause == "tls-untrusted"
    verdict = ask(f"redis://{place}")
    assert verdict.cause in ("closed-early", "protocol")
    verdict = ask(f"rediss://{plain.place}", timeout=0.5)
    assert verdict.cause in ("tls-plaintext", "no-reply")
    assert verdict.hint == "redis:// asks without TLS"


def test_too_many_clients_in_tls(secure: Redis, authority: Authority, ask: Ask) -> None:
    """In TLS a server with all its connections in use closes before it can say why."""
    shown = authority.client()
    options = f"#ca={authority.file}#cert={shown.chain}#cert-key={shown.key}"
    client = redis.Redis(
        *("localhost", secure.port),
        ssl=True,
        ssl_ca_certs=str(authority.file),
        ssl_certfile=str(shown.chain),
        ssl_keyfile=str(shown.key),
    )
    client.config_set("maxclients", 1)
    assert ask(f"rediss://localhost:{secure.port}{options}").cause == "closed-early"
    client.config_set("maxclients", 100)
    assert ask(f"rediss://localhost:{secure.port}{options}").ready
    client.close()


# -- no harm


def test_a_thousand_probes(plain: Redis, ask: Ask) -> None:
    """Nothing is logged, nothing written, no connection left, no command refused."""
    client = plain.client()
    client.set("there", "1")
    before, log = client.info(), plain.log
    for number in range(1000):
        assert ask(f"redis://{plain.place}/{number % 2}#role=primary").ready
    after = client.info()
    assert plain.log == log
    assert after["total_connections_received"] - before["total_connections_received"] >= 1000
    same = ("connected_clients", "rdb_changes_since_last_save", "total_error_replies", "db0")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    asked = {
        name.removeprefix("cmdstat_")
        for name, value in after.items()
        if name.startswith("cmdstat_") and value != before.get(name)
    }
    assert asked <= {"ping", "info", "select"}


def test_a_refused_login_is_noted_once(guarded: Redis, ask: Ask) -> None:
    """Refused logins leave one counted entry in ACL LOG, and nothing in the server's log."""
    admin = guarded.client("wide-open")
    admin.acl_log_reset()
    log = guarded.log
    for _ in range(20):
        assert ask(f"redis://app:wrong@{guarded.place}").cause == "auth-refused"
    assert guarded.log == log
    assert [entry["count"] for entry in admin.acl_log()] == [20]
