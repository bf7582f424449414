"""Which names a target stands for, for the resolv.conf files that pods really have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.dns.config import Config, parse_resolv_conf
from service_precheck.dns.plan import EACH, FOURTH, SWEEP, plan

POD = """\
search shop.svc.cluster.local svc.cluster.local cluster.local corp.example
nameserver 10.96.0.10
options ndots:5
"""
FOUR = parse_resolv_conf(POD)
SIX = parse_resolv_conf(POD.replace("corp.example", "corp.example eu.corp.example lan"))
OTHER_ZONE = parse_resolv_conf(POD.replace("cluster.local", "k8s.corp.example"))
OFFICE = Config((("192.0.2.53", 53),), ("corp.example", "eu.corp.example"))


def spelled(name: str, config: Config, absolute: bool = False) -> list[str]:
    return [f"{one.name} {one.when}" for one in plan(name, config, absolute)]


def asked(name: str, config: Config, when: str) -> list[str]:
    return [one.name for one in plan(name, config) if one.when is when]


@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("db", ["db.shop.svc.cluster.local"]),
        ("db.shop", ["db.shop.shop.svc.cluster.local", "db.shop.svc.cluster.local"]),
        ("db-0.db.shop", ["db-0.db.shop.svc.cluster.local"]),
        ("db.shop.svc", ["db.shop.svc.cluster.local"]),
        ("db-0.db.shop.svc", ["db-0.db.shop.svc.cluster.local"]),
        ("_sql._tcp.db", ["_sql._tcp.db.shop.svc.cluster.local"]),
        ("_sql._tcp.db.shop", ["_sql._tcp.db.shop.svc.cluster.local"]),
        ("_sql._tcp.db.shop.svc", ["_sql._tcp.db.shop.svc.cluster.local"]),
    ],
)
@pytest.mark.parametrize("config", [FOUR, SIX])
def test_what_a_cluster_can_hold_is_asked_each_poll(
    name: str, each: list[str], config: Config
) -> None:
    """A form of name has one or two places in a cluster; the rest of the list waits for a sweep."""
    assert asked(name, config, EACH) == each
    assert asked(name, config, FOURTH) == [name]
    assert len(asked(name, config, SWEEP)) == len(config.search) - len(each)


@pytest.mark.parametrize("name", ["db.prod.eu.example.com", "a.b.c.d", "_sql._tcp.db.prod.example"])
def test_what_no_cluster_can_hold_is_asked_as_written(name: str) -> None:
    """A name with too many labels for a service or a pod is external: as written at each poll."""
    assert asked(name, FOUR, EACH) == [name]
    assert asked(name, FOUR, FOURTH) == []
    assert asked(name, FOUR, SWEEP) == [f"{name}.{suffix}" for suffix in FOUR.search]


@pytest.mark.parametrize("name", ["db.shop.svc.cluster.local", "DB-0.db.shop.svc.Cluster.Local"])
def test_a_name_in_the_zone_is_asked_as_it_is(name: str) -> None:
    """A name that ends in the cluster's zone is complete."""
    assert spelled(name, FOUR) == [f"{name.lower()} {EACH}"]


@pytest.mark.parametrize("name", ["db.", "db.shop.", "www.example.com."])
def test_a_final_dot_makes_a_name_absolute(name: str) -> None:
    """With a final dot, or `absolute`, nothing is appended."""
    assert spelled(name, FOUR) == [f"{name[:-1]} {EACH}"]
    assert spelled(name[:-1], FOUR, absolute=True) == [f"{name[:-1]} {EACH}"]


def test_the_order_is_the_resolvers() -> None:
    """With fewer dots than ndots the search list comes first, else the name as written."""
    listed = [f"db.shop.{suffix}" for suffix in FOUR.search]
    assert [one.name for one in plan("db.shop", FOUR)] == [*listed, "db.shop"]
    one_dot = Config(FOUR.servers, FOUR.search, ndots=1)
    assert [one.name for one in plan("db.shop", one_dot)] == ["db.shop", *listed]
    assert [one.name for one in plan("db", one_dot)][-1] == "db"


def test_another_zone_is_recognised() -> None:
    """The cluster's zone is what its search list says it is."""
    assert OTHER_ZONE.zone == "k8s.corp.example"
    assert asked("db-0.db.shop", OTHER_ZONE, EACH) == ["db-0.db.shop.svc.k8s.corp.example"]


def test_outside_a_cluster_all_is_asked() -> None:
    """A search list that is not a pod's is asked in full at each poll."""
    assert spelled("db", OFFICE) == [
        f"db.corp.example {EACH}",
        f"db.eu.corp.example {EACH}",
        f"db {EACH}",
    ]
    assert spelled("db", Config(OFFICE.servers)) == [f"db {EACH}"]


def test_only_the_clusters_own_suffixes_are_free_of_wildcards() -> None:
    """A suffix that merely ends in the zone's letters is not the cluster's."""
    config = parse_resolv_conf(POD.replace("corp.example", "mycluster.local"))
    clusters = {one.suffix: one.cluster for one in plan("db", config)}
    assert clusters == {
        "shop.svc.cluster.local": True,
        "svc.cluster.local": True,
        "cluster.local": True,
        "mycluster.local": False,
        "": False,
    }


def test_a_zone_whose_place_is_missing_from_the_list() -> None:
    """Where the search list lacks a name's place, the name as written is asked at each poll."""
    config = Config(FOUR.servers, ("svc.cluster.local", "cluster.local"), ndots=5)
    assert asked("db", config, EACH) == ["db"]
    assert asked("db", config, FOURTH) == []


LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)
NAMES = st.lists(LABELS, min_size=1, max_size=12).map(".".join).filter(lambda name: len(name) < 254)


@given(
    NAMES,
    st.booleans(),
    st.lists(st.sampled_from([*SIX.search, "a" * 60 + ".example"]), unique=True).map(tuple),
    st.integers(0, 15),
)
def test_every_plan_is_the_resolvers_list_in_its_order(
    name: str, final_dot: bool, search: tuple[str, ...], ndots: int
) -> None:
    """Nothing is asked that the pod's resolver would not ask, nothing possible is left out, and one
    candidate at least is asked at each poll."""
    config = Config(FOUR.servers, search, ndots)
    candidates = plan(name + "." * final_dot, config)
    names = [one.name for one in candidates]
    assert len(set(names)) == len(names)
    assert all(len(one) <= 253 for one in names)
    assert any(one.when is EACH for one in candidates)
    assert name in names
    if len(names) > 1:
        rest = [f"{name}.{suffix}" for suffix in search if len(name) + 1 + len(suffix) <= 253]
        assert names == ([name, *rest] if name.count(".") >= ndots else [*rest, name])
