"""The files about TLS that a target names: every scheme that takes them, those added later included,
tells what is wrong with one before it has reached anybody."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from service_precheck import schemes
from service_precheck.options import Scheme
from tests.bed.sockets import Server, hang
from tests.bed.tls import Authority
from tests.probes.conftest import Ask


def of(name: str) -> Scheme:
    scheme = schemes.load(name)
    assert scheme is not None
    return scheme


SCHEMES = [name for name in schemes.BUILT_IN if of(name).option("ca") is not None]
every = pytest.mark.parametrize("name", SCHEMES)


def key_of(name: str) -> str:
    """What the option with the certificate's key is called."""
    return "key" if of(name).option("cert-key") is None else "cert-key"


@every
def test_a_file_that_is_missing(name: str, ask: Ask, tmp_path: Path) -> None:
    """It is told whatever else is the matter, and nobody is connected to."""
    with Server(hang) as server:
        for where in (server.address, f"127.0.0.1:1{server.port % 1000}", "no-such-name.invalid:1"):
            for option in ("ca", "cert"):
                verdict = ask(f"{name}://{where}#{option}={tmp_path}/later.pem")
                assert verdict.cause == "local"
                assert verdict.seen == (
                    f"{tmp_path}/later.pem cannot be read: No such file or directory"
                )
        assert server.connections == []


@every
def test_a_file_that_is_broken(name: str, ask: Ask, tmp_path: Path, authority: Authority) -> None:
    """So is one that holds something else, and a key that is of another certificate."""
    (tmp_path / "broken.pem").write_text("no PEM")
    good, other = authority.client("me"), authority.client("you")
    with Server(hang) as server:
        for options in (
            f"#ca={tmp_path}/broken.pem",
            f"#cert={tmp_path}/broken.pem",
            f"#cert={good.chain}#{key_of(name)}={other.key}",
        ):
            verdict = ask(f"{name}://{server.address}{options}")
            assert verdict.cause == "local"
            assert "cannot be used" in verdict.seen
        assert server.connections == []


@every
def test_files_that_rotate(name: str, ask: Ask, tmp_path: Path, authority: Authority) -> None:
    """A file that comes is taken, one that breaks later is told again."""
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    with Server(hang, opened=False) as server:
        text = f"{name}://{server.address}#ca={authority.file}#cert={cert}#{key_of(name)}={key}"
        assert ask(text).cause == "local"
        made = authority.client("me")
        shutil.copy(made.chain, cert)
        assert ask(text).cause == "local"
        shutil.copy(made.key, key)
        assert ask(text).cause == "refused"
        assert ask(text).cause == "refused"
        key.write_text("no PEM")
        assert ask(text).cause == "local"
        shutil.copy(made.key, key)
        assert ask(text).cause == "refused"
        cert.unlink()
        assert ask(text).cause == "local"
