"""Services asked in their own protocols by the image, as a pod would run it, in 16 MiB."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bed.ports import free_port
from tests.bed.services.mariadb import MariaDB
from tests.bed.services.postgresql import PostgreSQL
from tests.bed.services.redis import Redis
from tests.bed.tls import Authority
from tests.bed.world import World
from tests.image.containers import Container, Image

pytestmark = pytest.mark.timeout(120)

PASSWORD = "geheim-of-the-image"
MEMORY = 16 << 20
PROVEN = "takes writes ("
# Holds the gate back until its memory has been looked at.
LAST = "127.0.0.1:9"
ROUNDS = 10_000
# As modules of the image have them: the interpreter's own, found by name, and OpenSSL's from ROUNDS on.
DIGESTS = f"""
exec(open("/usr/bin/service-precheck").read().partition("from ")[0])
from service_precheck import digests
for name in ("md5", "sha1", "sha256", "sha512"):
    print(getattr(digests, name)(b"data").hex())
for name in ("sha1", "sha256", "sha512"):
    for rounds in (2, {ROUNDS}):
        print(digests.pbkdf2(name, b"key", b"salt", rounds).hex())
"""

Waits = Callable[..., None]


@pytest.fixture
def world() -> Iterator[World]:
    """Return a network whose loopback address is that of the servers and the container."""
    with World() as made:
        yield made


@pytest.fixture
def waits(own_image: Image, root: Path, world: World, tmp_path: Path) -> Waits:
    """Return what runs the gate with a server down, starts the server, and has the gate open."""
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    # A pod's user is not the one that mounts it.
    secret.chmod(0o444)

    def one(target: str, start: Callable[[], object], proven: str, **files: Path) -> None:
        mounted = {"/run/secrets/password": secret, **{f"/{n}": p for n, p in files.items()}}
        words = (f"{target}#password-file=/run/secrets/password", LAST, "--timeout", "60s")
        options = {"world": world, "files": mounted, "memory": MEMORY, "user": 1_234_567_890}
        with Container(own_image, root, tmp_path, *words, **options) as gate:  # type: ignore[arg-type]
            gate.wait_output("refused the connection [refused]")
            start()
            gate.wait_output(proven)
            print(f"{target}: {gate.peak() / (1 << 20):.1f} MiB")
            host, _, port = LAST.rpartition(":")
            with world.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.bind((host, int(port)))
                listener.listen()
                done = gate.wait()
        assert done.status == 0, done

    return one


def test_mysql(waits: Waits, world: World) -> None:
    """MariaDB's login takes SHA-1, which the image's interpreter has built in."""
    with MariaDB(inside=[world]) as server:
        server.sql(f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'")
        server.stop()
        target = f"mysql://app@{server.place}#role=primary"
        waits(target, server.launch, PROVEN)


def test_postgresql(waits: Waits, world: World) -> None:
    """PostgreSQL's login takes SCRAM-SHA-256 with its 4,096 rounds."""
    with PostgreSQL(inside=[world]) as server:
        server.sql(f"CREATE USER app PASSWORD '{PASSWORD}'")
        server.stop()
        target = f"postgresql://app@{server.address}/postgres#role=primary"
        waits(target, server.start, PROVEN)


def test_redis(waits: Waits, world: World) -> None:
    """Redis, with a login."""
    with Redis("--requirepass", PASSWORD, inside=(world,)) as server:
        server.stop()
        target = f"redis://{server.place}#role=primary"
        waits(target, server.start, PROVEN)


def test_redis_over_tls(waits: Waits, world: World, authority: Authority) -> None:
    """The same by TLS, verified against roots that are mounted: OpenSSL and a login in 16 MiB."""
    certificate, port = authority.issue(), free_port()
    words = ("--tls-port", str(port), "--tls-auth-clients", "no", "--requirepass", PASSWORD)
    files = ("--tls-cert-file", str(certificate.chain), "--tls-key-file", str(certificate.key))
    with Redis("--port", "0", *words, *files, port=port, inside=(world,)) as server:
        server.stop()
        target = f"rediss://{server.place}#role=primary#ca=/ca.pem"
        waits(target, server.start, PROVEN, **{"ca.pem": authority.file})


def test_digests(own_image: Image, root: Path, tmp_path: Path) -> None:
    """Each digest that a login may take is there and right, by the interpreter's modules and OpenSSL's."""
    entrypoint = ["/usr/bin/python3"]
    with Container(
        own_image, root, tmp_path, "-IS", "-c", DIGESTS, entrypoint=entrypoint, memory=MEMORY
    ) as python:
        done = python.wait()
    plain = [hashlib.new(name, b"data").hexdigest() for name in ("md5", "sha1", "sha256", "sha512")]
    stretched = [
        hashlib.pbkdf2_hmac(name, b"key", b"salt", rounds).hex()
        for name in ("sha1", "sha256", "sha512")
        for rounds in (2, ROUNDS)
    ]
    assert (done.status, done.stdout.split()) == (0, plain + stretched), done
