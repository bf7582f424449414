"""Unix sockets: does something listen at a path.

unix(7). Opens a stream connection, sends nothing, and closes it. Costs the server one accepted
connection.
"""

from __future__ import annotations

from .. import stream
from ..model import Verdict, ready
from ..options import DURATION, Option, Scheme, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stream import Attempt

_OPTIONS = (
    Option("settle", DURATION, "how long to look whether an accepted connection is closed again"),
)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when a connection is accepted and stays open."""
    with stream.connect_unix(target.path, attempt) as connection:
        connection.linger(target.number("settle"))
    return ready(f"{target.path} accepts connections")


SCHEMES = (
    Scheme(
        "unix",
        "path",
        probe,
        proves="a server listens at the path, and a connection to it stays open",
        not_proves="that the service behind it can do any work",
        example="unix:///run/postgresql/.s.PGSQL.5432",
        options=_OPTIONS,
    ),
)
