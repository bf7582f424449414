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

# A look for a server that closes at once; a longer one where it holds nothing up.
FIRST_LOOK, SECOND_LOOK = 0.010, 0.100

_OPTIONS = (
    Option("settle", DURATION, "how long to look whether an accepted connection is closed again"),
)


def probe(target: Target, attempt: Attempt) -> Verdict:
    """Ready when a connection is accepted and stays open."""
    with stream.connect_unix(target.path, attempt) as connection:
        settle = target.number("settle")
        connection.settle(settle or (FIRST_LOOK if attempt.alone else SECOND_LOOK))
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
