"""`precheck explain`: what a target would do, which is what the gate then does."""

from __future__ import annotations

import _socket
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from service_precheck import schemes
from service_precheck.toolbox import explain
from tests.bed.fixtures import Enter
from tests.bed.names import ScriptedDNS
from tests.bed.process import GATE, TOOLBOX, Finished, Wrapper, run
from tests.bed.world import Etc, World, resolv_conf

if TYPE_CHECKING:
    from collections.abc import Sequence

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A pod's resolv.conf."""
    file = tmp_path / "pod.conf"
    file.write_text(resolv_conf("10.96.0.10", "10.96.0.11", search=SEARCH, options="ndots:5"))
    return file


def told(*arguments: str, inside: Sequence[Wrapper] = ()) -> Finished:
    return run("explain", *arguments, command=TOOLBOX, inside=inside)


def fields(text: str) -> dict[str, list[str]]:
    """The lines of an explained target by their label."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines()[1:]:
        label = line[2:16].strip() or label
        found.setdefault(label, []).append(line[16:].strip())
    return found


def test_nothing_is_asked(
    pod: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No socket is made, for any scheme."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a socket")

    monkeypatch.setattr(_socket, "socket", refuse)
    for name in schemes.BUILT_IN:
        scheme = schemes.load(name)
        assert scheme is not None
        assert explain.run(["--resolv-conf", str(pod), scheme.example], {}) == 0
        out = capsys.readouterr().out
        found = fields(out)
        assert found["is"][0].startswith(f"scheme {name}")
        assert found["ready proves"] == [scheme.proves]
        assert found["but not"] == [scheme.not_proves]


def test_bare_target_is_taken_apart(pod: Path) -> None:
    """What a name and a port stand for, and who is asked for the name, in a pod's view."""
    done = told("--resolv-conf", str(pod), "mysql-read.shop:3306")
    assert done.status == 0, done.stderr
    found = fields(done.stdout)
    assert found["is"] == ["scheme tcp (it is a host and a port), name mysql-read.shop, port 3306"]
    rows = [line.split(maxsplit=2) for line in found["names"]]
    assert [(row[1], row[2].strip()) for row in rows] == [
        ("mysql-read.shop.shop.svc.cluster.local", "at each poll"),
        ("mysql-read.shop.svc.cluster.local", "at each poll"),
        ("mysql-read.shop.cluster.local", "at the first poll, then each 30 s"),
        ("mysql-read.shop.corp.example", "at the first poll, then each 30 s"),
        ("mysql-read.shop", "at every fourth poll"),
    ]
    (asked,) = found["asked of"]
    assert asked.startswith("10.96.0.10, then 10.96.0.11 (")
    assert "ndots 5" in asked


def test_explained_names_are_the_ones_asked(enter: Enter) -> None:
    """The first poll of the gate asks for exactly the names that are explained."""
    world = enter(World("10.96.0.10"))
    server = enter(ScriptedDNS(host="10.96.0.10", port=53, place=world))
    etc = enter(Etc(resolv_conf("10.96.0.10", search=SEARCH, options="ndots:5")))
    explained = told("db.shop", inside=[world, etc])
    gate = run("db.shop", "--timeout", "2s", command=GATE, inside=[world, etc])
    assert gate.status == 124, gate.stderr
    listed = {line.split()[1] for line in fields(explained.stdout)["names"]}
    assert len(listed) == len(SEARCH) + 1
    assert {query.name.rstrip(".") for query in server.queries} == listed


def test_options_in_force(pod: Path) -> None:
    """Given options come with their value, defaults are marked, the rest is named."""
    target = "http://api/#status=204#status=301-302#header=X-Key: hunter22#interval=10s"
    done = told("--resolv-conf", str(pod), target)
    found = fields(done.stdout)
    options = {line.partition(":")[0] for line in found["options"]}
    assert {"status=204, 301-302", "header=***", "interval=10s"} <= options
    assert {"method=GET (default)", "attempt-timeout=5s (default)"} <= options
    assert "contains" in found["also takes"][0].split(", ")
    assert "hunter22" not in done.stdout
    assert "10 s after 1 h" in found["asks"][0]


def test_attempts_are_the_schedules() -> None:
    """The number of attempts that is told keeps the schedule's bounds, and an interval lowers it."""
    for floor in (0.025, 0.1, 1.0):
        in_five_minutes = explain.attempts(floor, None, 300.0)
        assert 250 < in_five_minutes <= 520
        assert in_five_minutes < explain.attempts(floor, None, 3600.0) <= 1300
    assert explain.attempts(0.025, 0.1, 300.0) > explain.attempts(0.025, None, 300.0)
    # At once, after one floor and a half, then after each floor.
    assert explain.attempts(60.0, 60.0, 600.0) == 1 + len(range(90, 600, 60))


def test_secrets_of_a_url_are_masked(pod: Path) -> None:
    """Neither a password nor a value of the query is shown; that there is one is said."""
    target = "https://bob:hunter22@api/x?key=hunter33&deep#proxy=http://me:hunter44@proxy:3128"
    done = told("--resolv-conf", str(pod), target)
    assert "hunter" not in done.stdout
    (parts,) = fields(done.stdout)["is"]
    assert "user bob with a password" in parts
    assert "query key&deep (values not shown)" in parts


def test_groups_are_explained_member_by_member(pod: Path) -> None:
    """A group says when it holds; its members follow, each in full."""
    done = told("--resolv-conf", str(pod), "quorum(a:1, b:2, not(c:3))#timeout=5m")
    lines = done.stdout.splitlines()
    assert lines[0] == "quorum(a:1, b:2, not(c:3))#timeout=5m"
    assert "when 2 of its 3 members do" in lines[1]
    assert "after 5m" in lines[2]
    assert {"    a:1", "    b:2", "    not(c:3)", "        c:3"} <= set(lines)
    assert done.stdout.count("ready proves") == 3


def test_hosts_file_and_literal_addresses_need_no_question(pod: Path) -> None:
    """What /etc/hosts has is told; an address is looked up nowhere; a pod's view leaves our hosts out."""
    hosts = "192.0.2.7 ours.example\n"
    with Etc(resolv_conf("192.0.2.53"), hosts) as etc:
        done = told("ours.example", inside=[etc])
        there = told("--resolv-conf", str(pod), "ours.example", inside=[etc])
    assert "ours.example is 192.0.2.7 by /etc/hosts: no question is sent" in done.stdout
    assert "asked of" in fields(there.stdout)
    assert "asked of" not in fields(told("192.0.2.7:80").stdout)


def test_server_and_absolute_are_respected(pod: Path) -> None:
    """With `server` or `absolute` only the name as written is asked for."""
    by_server = told("--resolv-conf", str(pod), "dns://zk#server=127.0.0.1:5353").stdout
    assert [line.split()[1] for line in fields(by_server)["names"]] == ["zk"]
    assert fields(by_server)["asked of"] == ["127.0.0.1 port 5353 (#server)"]
    absolute = told("--resolv-conf", str(pod), "dns://zk#absolute").stdout
    assert [line.split()[1] for line in fields(absolute)["names"]] == ["zk"]


@pytest.mark.parametrize("missing", ["nowhere.conf", "."])
def test_unreadable_resolv_conf_is_a_mistake(missing: str, tmp_path: Path) -> None:
    """A file that cannot be read is told, instead of explaining somebody else's view."""
    done = told("--resolv-conf", str(tmp_path / missing), "db:1")
    assert done.status == 2
    assert done.stdout == ""
    assert "cannot be read" in done.stderr


def test_mistakes_are_exit_2() -> None:
    """Wrong targets are told as the gate tells them."""
    done = told("db:0", "htp://x")
    assert done.status == 2
    assert "precheck explain: 2 mistakes; nothing was asked" in done.stderr
    assert "did you mean http://?" in done.stderr
    assert os.linesep not in done.stdout


def test_several_hosts(pod: Path) -> None:
    """Each host of a target that names several is explained: which names are asked for it."""
    words = ("--resolv-conf", str(pod), "zookeeper://zk-0.zk,zk-1.zk:2182,10.0.0.9")
    shown = told(*words).stdout
    assert "3 hosts, zk-0.zk:2181,zk-1.zk:2182,10.0.0.9:2181" in shown
    assert "1. zk-0.zk" in shown
    assert "1. zk-1.zk" in shown
    assert shown.count("asked of") == 2
