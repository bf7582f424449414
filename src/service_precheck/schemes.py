"""The scheme table: which module answers for which scheme.

A module is loaded when a target needs it, and third parties' (an entry point in the group
`service_precheck.schemes`, pip installs only) are looked up only for a scheme that is not ours:
`importlib.metadata` costs 45 ms.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .options import Scheme

# The scheme's name and the module under `probes` that has it. A module may have several.
BUILT_IN = {
    "dns": "dns",
    "tcp": "tcp",
    "tls": "tls",
    "http": "http",
    "https": "http",
    "unix": "unix",
    "file": "file",
    "exec": "exec",
    "mysql": "mysql",
    "postgresql": "postgresql",
    "redis": "redis",
    "rediss": "redis",
    "mongodb": "mongodb",
    "zookeeper": "zookeeper",
    "etcd": "etcd",
    "kafka": "kafka",
    "amqp": "amqp",
    "amqps": "amqp",
    "elasticsearch": "elasticsearch",
    "grpc": "grpc",
    "grpcs": "grpc",
    "kube": "kube",
}

# What connection strings of the field begin with as well; targets are shown with the scheme's own name.
ALIASES = {"postgres": "postgresql"}
# What others begin with that is not spoken here, and what to write for it.
INSTEAD = {
    "mongodb+srv": "mongodb://HOST,HOST/?tls=true with the hosts of its SRV record, _mongodb._tcp.NAME",
    "mariadb": "mysql://, which MariaDB speaks",
    "valkey": "redis://, which Valkey speaks",
    "opensearch": "elasticsearch://, which OpenSearch speaks",
    "rabbitmq": "amqp://",
    "sentinel": "redis://SENTINEL:26379#sentinel=NAME",
    "zk": "zookeeper://",
}

ENTRY_POINTS = "service_precheck.schemes"


class Unusable(Exception):
    """An installed package says that it has the scheme, and does not load; the text says why."""


def load(name: str) -> Scheme | None:
    """The scheme of a name, None if neither we nor an installed package has it. Raises Unusable."""
    name = ALIASES.get(name, name)
    module = BUILT_IN.get(name)
    if module is None:
        return _from_entry_points(name)
    full = f"{__package__}.probes.{module}"
    __import__(full)
    schemes: tuple[Scheme, ...] = sys.modules[full].SCHEMES
    return next(scheme for scheme in schemes if scheme.name == name)


def names() -> tuple[str, ...]:
    """All scheme names, third parties' included."""
    return (*BUILT_IN, *sorted(entry.name for entry in _entry_points()))


def _entry_points() -> tuple[EntryPoint, ...]:
    if sys.flags.no_site:
        # The lean start sees no installed packages.
        return ()
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINTS))


def _from_entry_points(name: str) -> Scheme | None:
    from .options import Scheme

    for entry in _entry_points():
        if entry.name == name:
            try:
                found = entry.load()
            except Exception as error:
                raise Unusable(f"{type(error).__name__}: {error}") from error
            if not isinstance(found, Scheme):
                raise Unusable(f"{entry.value} is no Scheme")
            return found
    return None
