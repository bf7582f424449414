"""`precheck explain`: what a target would do, without doing it.

Nothing is sent. What is printed comes from where the gate has it: the parsed target, the scheme's
table, the schedule's own function, and the resolver's plan of a name.
"""

from __future__ import annotations

import os
import sys

from .. import schedule
from ..dns.config import DNS_PORT, Config, Files
from ..dns.plan import EACH, FOURTH, SWEEP, plan
from ..dns.resolver import SWEEP_EVERY
from ..model import redacted, seconds
from ..net import is_address
from ..options import PATH, Option, Target, write_duration
from ..target import Group, Node
from .targets import FROM, MISTAKE, understood

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPTIONS = (
    Option(
        "resolv-conf", PATH, "explain names as the pod with this resolv.conf would look them up"
    ),
    FROM,
)
PURPOSE = "Says what each TARGET would do, without asking anything of it."
# Waits after which the schedule is shown.
MOMENTS = (10.0, 60.0, 600.0, 3600.0)
WHEN = {
    EACH: "at each poll",
    FOURTH: "at every fourth poll",
    SWEEP: f"at the first poll, then each {seconds(SWEEP_EVERY)}",
}
LABEL = 14


def run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Print what each target means; 2 at a mistake."""
    command = understood("explain", PURPOSE, OPTIONS, arguments, environment)
    if isinstance(command, int):
        return command
    path = command.options["resolv-conf"]
    files = Files()
    if isinstance(path, str):
        if not os.access(path, os.R_OK) or os.path.isdir(path):
            sys.stderr.write(f"precheck explain: {path} cannot be read\n")
            return MISTAKE
        # Another machine's view: this one's /etc/hosts has no say in it.
        files = Files(path, os.devnull)
    blocks = ["\n".join(explained(member, files)) for member in command.root.members]
    # What an option holds may have a secret within it: a proxy's password.
    sys.stdout.write(redacted("\n\n".join(blocks)) + "\n")
    return 0


def explained(node: Node, files: Files) -> Iterator[str]:
    """The lines about a target or a group, its members below it."""
    if isinstance(node, Target):
        yield from _target(node, files)
        return
    yield str(node)
    yield _line("holds", _holds(node))
    if node.timeout is not None:
        yield _line("own time", f"after {write_duration(node.timeout)} it is not ready for good")
    for member in node.members:
        yield ""
        yield from (f"    {line}" if line else "" for line in explained(member, files))


def _holds(group: Group) -> str:
    count = len(group.members)
    if group.kind == "not":
        return "when its member was seen to be gone; no answer at all proves nothing"
    if group.need == count:
        return "when its member does" if count == 1 else f"when all {count} members do"
    return (
        f"when {group.need} of its {count} members do{'; the first is enough' * (group.need == 1)}"
    )


def _line(label: str, text: str) -> str:
    return f"  {label:{LABEL}}{text}"


def _target(target: Target, files: Files) -> Iterator[str]:
    scheme = target.scheme
    yield str(target)
    yield _line("is", ", ".join(_parts(target)))
    yield _line("ready proves", scheme.proves)
    yield _line("but not", scheme.not_proves)
    yield from _options(target)
    yield from _schedule(target)
    if not _goes_elsewhere(target):
        for host in dict(target.hosts) or ([target.host] if target.host else ()):
            if not is_address(host):
                yield from _names(target, host, files)


def _goes_elsewhere(target: Target) -> bool:
    """Whether the host is only a word in the question, since another place is connected to."""
    return any(
        target.scheme.option(name) is not None and target.text(name)
        for name in ("proxy", "unix-socket")
    )


def _parts(target: Target) -> Iterator[str]:
    """The target taken apart, secrets left out."""
    what = "a bare name" if target.port is None else "a host and a port"
    yield f"scheme {target.scheme.name}" + (f" (it is {what})" if target.bare else "")
    if target.user:
        yield f"user {target.user}" + (" with a password" if target.password else "")
    if len(target.hosts) > 1:
        yield f"{len(target.hosts)} hosts, {target.where()}"
    elif target.host:
        yield f"{'address' if is_address(target.host) else 'name'} {target.host}"
    if target.port is not None and len(target.hosts) < 2:
        yield f"port {target.port}"
    if target.path:
        yield f"path {target.path}"
    if target.query:
        keys = (pair.partition("=")[0] for pair in target.query.split("&"))
        yield f"query {'&'.join(keys)} (values not shown)"


def _options(target: Target) -> Iterator[str]:
    """What was given, then what holds by default, then what else there is."""
    from ..options import COMMON

    label = "options"
    unset = []
    written = {name for name, _ in target.given}
    for option in (*target.scheme.options, *COMMON):
        if option.name in written:
            given = [value for name, value in target.given if name == option.name]
            shown = "***" if option.secret else ", ".join(map(option.kind.write, given))
            yield _line(label, f"{option.name}={shown}: {option.meaning}")
        elif option.name == "attempt-timeout":
            limit = write_duration(target.scheme.attempt_timeout)
            yield _line(label, f"{option.name}={limit} (default): {option.meaning}")
        elif (default := option.default_text()) and default != "false":
            yield _line(label, f"{option.name}={default} (default): {option.meaning}")
        else:
            unset.append(option.name)
            continue
        label = ""
    if unset:
        yield _line("also takes", ", ".join(unset))


def _schedule(target: Target) -> Iterator[str]:
    floor = target.scheme.floor
    interval = target.number("interval")
    first = schedule.next_wait(0.0, 1, floor, 0.0, interval)
    latest = schedule.next_wait(0.0, 1, floor, 1.0, interval)
    waits = ", ".join(
        f"{_time(schedule.next_wait(moment, 2, floor, 0.0, interval))} after {_time(moment)}"
        for moment in MOMENTS
    )
    if target.scheme.watch is not None:
        yield _line(
            "watches", "asks once, then is told of changes; when that breaks, and for `check`:"
        )
    yield _line(
        "asks",
        f"at once, again after {_time(first)} to {_time(latest)}, "
        f"then ever more rarely: each {waits}",
    )
    many, most = (attempts(floor, interval, span) for span in (300.0, 3600.0))
    yield _line("", f"about {many} attempts in five minutes, {most} in an hour")


def _time(duration: float) -> str:
    return f"{duration * 1000:g} ms" if duration < 1 else seconds(duration)


def attempts(floor: float, interval: float | None, span: float) -> int:
    """How many attempts a wait of `span` seconds takes, if each is answered at once."""
    now, count = 0.0, 0
    while now < span:
        count += 1
        now += schedule.next_wait(now, count, floor, 0.5, interval)
    return count


def _names(target: Target, host: str, files: Files) -> Iterator[str]:
    """The names that a host may stand for, in the resolver's order, and whom they are asked of."""
    server = target.option("server") if target.scheme.option("server") is not None else None
    asked_here = isinstance(server, tuple)
    typed = target.scheme.option("type") is not None and target.text("type")
    if not asked_here and not typed and (listed := files.addresses(host)):
        # Without the file only what every machine has is left: localhost.
        by = files.hosts_path if files.hosts_path != os.devnull else "definition"
        found = f"{host} is {', '.join(listed)} by {by}"
        yield _line("name", f"{found}: no question is sent")
        return
    config = Config((server,)) if isinstance(server, tuple) else files.config()
    absolute = target.scheme.option("absolute") is not None and target.flag("absolute")
    candidates = plan(host, config, absolute)
    label = "names"
    width = max(len(candidate.name) for candidate in candidates)
    for place, candidate in enumerate(candidates, 1):
        yield _line(label, f"{place}. {candidate.name:{width}}  {WHEN[candidate.when]}")
        label = ""
    servers = ", then ".join(
        address if port == DNS_PORT else f"{address} port {port}"
        for address, port in config.servers
    )
    if asked_here:
        yield _line("asked of", f"{servers} (#server)")
        return
    search = f"; search {' '.join(config.search)}; ndots {config.ndots}" if config.search else ""
    yield _line("asked of", f"{servers} ({config.note or files.resolv_path}{search})")
