"""DNS as the pod's own resolver would see it, spoken by ourselves.

glibc's lookup cannot be cancelled, answers one cause for four, and doubles every query. Here:
`message` is the wire format, `config` what `/etc/resolv.conf` and `/etc/hosts` say, `plan` which
names a target may stand for and when each is worth a question, `exchange` one question to the
servers, `denials` what a denial says of its own age, and `resolver` puts them together.
"""

from __future__ import annotations

from .. import net

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resolver import Resolver


class Names:
    """The resolver of one gate, loaded at the first look-up: an address needs none."""

    __slots__ = ("_lock", "_resolver")

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._lock = net.Lock()
        self._resolver = resolver

    def resolver(self) -> Resolver:
        """The resolver. From any thread."""
        with self._lock:
            if self._resolver is None:
                from .resolver import Resolver

                self._resolver = Resolver()
            return self._resolver
