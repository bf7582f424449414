"""What /etc/resolv.conf and /etc/hosts say, read as glibc reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.dns.config import Config, Files, parse_hosts, parse_resolv_conf


def test_a_pods_file() -> None:
    """The kubelet's own layout."""
    config = parse_resolv_conf(
        "search a.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\noptions ndots:5\n"
    )
    assert config.servers == (("10.96.0.10", 53),)
    assert config.search == ("a.svc.cluster.local", "svc.cluster.local", "cluster.local")
    assert (config.ndots, config.attempts, config.tcp) == (5, 2, False)
    assert config.zone == "cluster.local"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1 # first\n", [("192.0.2.1", 53)]),
        (
            "nameserver fe80::1%eth0\nnameserver 2001:db8::1",
            [("fe80::1%eth0", 53), ("2001:db8::1", 53)],
        ),
        ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n", []),
        ("nameserver dns.example\nnameserver 1.2.3\nnameserver\n", []),
        (
            "".join(f"nameserver 192.0.2.{i}\n" for i in range(9)),
            [(f"192.0.2.{i}", 53) for i in range(3)],
        ),
        ("\tnameserver\t192.0.2.1\r\n", [("192.0.2.1", 53)]),
    ],
)
def test_servers(text: str, expected: list[tuple[str, int]]) -> None:
    """Addresses of both families, three at most, comments and nonsense passed over."""
    assert parse_resolv_conf(text).servers == tuple(expected)


def test_the_last_of_search_and_domain_wins() -> None:
    """`search` and `domain` replace each other; a final dot and case do not matter."""
    assert parse_resolv_conf("search a b\ndomain C.example.\n").search == ("c.example",)
    assert parse_resolv_conf("domain c\nsearch a. B\n").search == ("a", "b")
    assert parse_resolv_conf("search . ok ä bad..label\n").search == ("ok",)


def test_options_are_bounded() -> None:
    """ndots at most 15, attempts 1 to 5, nonsense ignored; `use-vc` means TCP."""
    config = parse_resolv_conf("options ndots:99 attempts:77\noptions use-vc rotate timeout:x\n")
    assert (config.ndots, config.attempts, config.tcp) == (15, 5, True)
    assert parse_resolv_conf("options attempts:0 ndots:0").attempts == 1
    assert parse_resolv_conf("options ndots:0").ndots == 0
    assert parse_resolv_conf("options ndots:-1 ndots:٣ ndots:").ndots == 1


def test_the_environment_overrides() -> None:
    """LOCALDOMAIN replaces the search list, also by nothing; RES_OPTIONS adds to the options."""
    text = "search a b\noptions ndots:5\n"
    assert parse_resolv_conf(text, "x y").search == ("x", "y")
    assert parse_resolv_conf(text, "").search == ()
    assert parse_resolv_conf(text, None, "ndots:2").ndots == 2


def test_the_hostnames_domain_is_the_default_search_list() -> None:
    """Without `search` and `domain` the host's own domain is searched."""
    assert parse_resolv_conf("", None, "", "web.corp.example").search == ("corp.example",)
    assert parse_resolv_conf("", None, "", "web").search == ()
    assert parse_resolv_conf("search a", None, "", "web.corp.example").search == ("a",)
    assert parse_resolv_conf("", "", "", "web.corp.example").search == ()


@pytest.mark.parametrize(
    ("search", "zone"),
    [
        (("a.svc.k8s.example", "svc.k8s.example", "k8s.example"), "k8s.example"),
        (("svc.example",), ""),
        (("corp.example",), ""),
        ((), ""),
    ],
)
def test_a_cluster_is_told_by_its_search_list(search: tuple[str, ...], zone: str) -> None:
    """`svc.ZONE` and `ZONE` together make a cluster; a domain called svc alone does not."""
    assert Config((), search).zone == zone


@given(st.text(), st.none() | st.text(), st.text(), st.text())
def test_no_file_raises(text: str, domain: str | None, options: str, hostname: str) -> None:
    """Whatever the files and the environment hold, what is understood of it is within its bounds."""
    config = parse_resolv_conf(text, domain, options, hostname)
    assert len(config.servers) <= 3
    assert 0 <= config.ndots <= 15
    assert 1 <= config.attempts <= 5
    parse_hosts(text)


def test_hosts() -> None:
    """Names in any case with all their addresses in the file's order; comments and nonsense left out."""
    hosts = parse_hosts(
        "10.0.0.1 db DB.Shop. # the database\nfd00::1 db\n10.0.0.1 db\n"
        "no-address x\n10.0.0.2\n#10.0.0.3 y\n"
    )
    assert hosts["db"] == ("10.0.0.1", "fd00::1")
    assert hosts["db.shop"] == ("10.0.0.1",)
    assert "x" not in hosts
    assert "y" not in hosts
    assert hosts["localhost"] == ("127.0.0.1", "::1")
    assert parse_hosts("127.0.0.2 localhost")["localhost"] == ("127.0.0.2",)


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    """A change is seen at the next look, also one by rename, and none costs a second reading."""
    resolv, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    resolv.write_text("nameserver 192.0.2.1\n")
    files = Files(str(resolv), str(hosts))
    assert files.config().servers == (("192.0.2.1", 53),)
    assert files.config() is files.config()
    assert files.addresses("db") == ()
    hosts.write_text("10.0.0.1 db\n")
    assert files.addresses("DB.") == ("10.0.0.1",)
    other = tmp_path / "new"
    other.write_text("nameserver 192.0.2.2\n")
    os.replace(other, resolv)
    assert files.config().servers == (("192.0.2.2", 53),)


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("options ndots:2\n", "names no server")]
)
def test_a_missing_or_empty_file_is_stated(tmp_path: Path, text: str | None, said: str) -> None:
    """Loopback is tried as the resolver rules say, and the note tells why (fault 32)."""
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text)
    config = Files(str(path), str(tmp_path / "hosts")).config()
    assert config.servers == (("127.0.0.1", 53),)
    assert config.note == f"{path} {said}, so 127.0.0.1 was asked"
    assert config.ndots == (1 if text is None else 2)
