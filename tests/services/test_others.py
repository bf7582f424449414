"""The page on services without a scheme of their own: each example, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.daemon import Daemon
from tests.bed.fixtures import Enter
from tests.bed.ports import free_port
from tests.bed.process import PIP, Gate, need, run
from tests.bed.services.postgresql import PostgreSQL
from tests.bed.world import World
from tests.probes.conftest import Ask
from tools.servers import cache

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "schemes" / "others.md"

pytestmark = [pytest.mark.xdist_group("others"), pytest.mark.timeout(120)]


def example(*swaps: tuple[str, str]) -> str:
    """The page's one example that has the first of each pair, with the second in its place."""
    (text,) = re.findall(rf"['`]([^'`\n]*{swaps[0][0]}[^'`\n]*)['`]", PAGE.read_text())
    assert isinstance(text, str)
    for there, here in swaps:
        text = text.replace(there, here)
    return text


def here(place: str, port: int) -> tuple[str, str]:
    return place, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def nats() -> Iterator[tuple[int, int]]:
    """Return the ports of a NATS server: for clients, and for monitoring."""
    port, monitoring = free_port(), free_port()
    words = ("-a", "127.0.0.1", "-p", str(port), "-m", str(monitoring))
    with Daemon(need("nats-server", "nats-server"), *words) as server:
        server.wait_until(lambda: run(f"127.0.0.1:{monitoring}", "--timeout=1s").status == 0)
        yield port, monitoring


def test_health_page(nats: tuple[int, int], ask: Ask) -> None:
    """NATS's health page says that it is ready."""
    _, monitoring = nats
    verdict = ask(example(here("nats.shop:8222", monitoring)))
    assert verdict.ready, verdict
    refused = ask(f"http://127.0.0.1:{monitoring}/healthz#json=status:down")
    assert refused.cause == "unexpected-body"


def test_health_of_a_cluster(enter: Enter, tmp_path: Path) -> None:
    """MinIO listens, lives and is "ready" without the half that it needs to take writes; its cluster's page
    waits for that half, and falls back when it is gone."""
    minio = cache() / "bin" / "minio"
    if not minio.exists():
        pytest.skip("needs MinIO (python -m tools.servers services)")
    # It takes no loopback address in a container.
    host = "10.53.0.2"
    world = enter(World(host))
    nodes = (f"{host}:9001", f"{host}:9002")
    drives = [f"http://{node}{tmp_path}/{node[-1]}/{drive}" for node in nodes for drive in "ab"]
    # So that it takes drives that are folders of one disk.
    env = {"MINIO_CI_CD": "1", "HOME": str(tmp_path)}
    words = [(str(minio), "server", "--address", node, *drives) for node in nodes]
    enter(Daemon(*words[0], inside=[world], env=env))
    page = example(("minio.shop:9000", nodes[0]))
    waiting = enter(Gate(page, "-v", inside=[world]))
    waiting.wait_output("503 Service Unavailable")
    for held in (nodes[0], *(page.replace("cluster", other) for other in ("live", "ready"))):
        assert run(held, "--timeout=30s", inside=[world]).status == 0
    assert waiting.running()
    other = enter(Daemon(*words[1], inside=[world], env=env))
    assert waiting.wait(60).status == 0
    other.stop()
    left = enter(Gate(page, inside=[world]))
    left.wait_output("503 Service Unavailable")


def test_greeting(nats: tuple[int, int], ask: Ask) -> None:
    """NATS greets with what it is; its monitoring port does not."""
    port, monitoring = nats
    verdict = ask(example(here("nats.shop:4222", port)))
    assert verdict.ready, verdict
    assert ask(example(here("nats.shop:4222", monitoring)), timeout=0.5).cause == "no-reply"


def test_question_and_answer(ask: Ask) -> None:
    """Memcached tells its version; before it listens, and while it hangs, it does not."""
    port = free_port()
    text = example(here("cache.shop:11211", port))
    assert ask(text).cause == "refused"
    words = ("-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody")
    with Daemon(need("memcached", "memcached"), *words) as server:
        server.wait_until(lambda: ask(text).ready)
        server.pause()
        assert ask(text, timeout=0.5).cause == "no-reply"
        server.resume()


@pytest.fixture(scope="module")
def mail() -> Iterator[int]:
    """Return the port of a mail server, Exim."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bed-mail-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        settings = folder / "exim.conf"
        settings.write_text(
            f"spool_directory = {folder}\nlog_file_path = {folder}/%s.log\n"
            f"pid_file_path = {folder}/pid\nprimary_hostname = mail.shop.example\n"
            "exim_user = nobody\nexim_group = nogroup\n"
        )
        exim = need("exim4", "exim4-daemon-light")
        words = ("-C", str(settings), "-bdf", "-oX", f"127.0.0.1.{port}")
        with Daemon(exim, *words) as server:
            server.wait_until(lambda: run(f"127.0.0.1:{port}", "--timeout=1s").status == 0)
            yield port


def test_mail(mail: int, nats: tuple[int, int], ask: Ask) -> None:
    """A mail server greets by itself; what greets otherwise is none."""
    verdict = ask(example(("tcp://mail.shop:25", f"tcp://127.0.0.1:{mail}")))
    assert verdict.ready, verdict
    other = example(("tcp://mail.shop:25", f"tcp://127.0.0.1:{nats[0]}"))
    assert ask(other, timeout=0.5).cause == "unexpected-body"


def test_ssh(mail: int, tmp_path: Path, ask: Ask) -> None:
    """SSH greets by itself, once it listens; a mail server is none."""
    port = free_port()
    text = example(here("git.shop:22", port))
    assert ask(text).cause == "refused"
    key = tmp_path / "key"
    keygen = need("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    if os.geteuid() == 0:
        # Where it gives up its rights; Debian's unit makes it at each start.
        Path("/run/sshd").mkdir(exist_ok=True)
    given = (f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={key}", "PidFile=none")
    words = ("-D", "-e", "-f", "/dev/null", *(f"-o{each}" for each in given))
    with Daemon(need("sshd", "openssh-server"), *words) as server:
        server.wait_until(lambda: ask(text).ready)
    other = example(here("git.shop:22", mail))
    assert ask(other, timeout=0.5).cause == "unexpected-body"


def test_scheme_of_a_package(mail: int, tmp_path: Path) -> None:
    """The example's package asks the mail server who it is."""
    information = tmp_path / "precheck_smtp-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: precheck-smtp\nVersion: 1\n"
    )
    (information / "entry_points.txt").write_text(
        "[service_precheck.schemes]\nsmtp = precheck_smtp:SMTP\n"
    )
    text = example(("smtp://mail.shop:25", f"smtp://127.0.0.1:{mail}"))
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'examples' / 'custom-scheme'}"}
    done = run(text, "--timeout=30s", command=PIP, env=env)
    assert done.status == 0, done.stderr
    assert "takes mail: mail.shop.example ESMTP Exim" in done.stderr


def test_client_of_its_own() -> None:
    """pg_isready tells by its exit status whether somebody serves; the sentence has its words."""
    need("pg_isready", "postgresql-client")
    port = free_port()
    text = example(("db.shop", "127.0.0.1"), ("5432", str(port)))
    done = run(text, "--timeout=1s", "--output=plain")
    assert done.status == 124
    assert "no response" in done.stderr
    with PostgreSQL() as server:
        done = run(text.replace(str(port), str(server.port)), "--timeout=30s", "--output=plain")
    assert done.status == 0, done.stderr
