"""Waits until the services a workload depends on are usable, and says which one blocks and why.

The library's face: `wait`, `check` and `wait_async`, what they give, and what they raise. Each name is
loaded when it is first used, so that importing the package costs nothing, as the gate's own start
asks of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import Mistake, OperatorError, PrecheckError
    from .library import DependencyError, DependencyFailed, WaitTimeout, check, wait, wait_async
    from .model import Verdict
    from .state import Outcome, State

__all__ = [
    "DependencyError",
    "DependencyFailed",
    "Mistake",
    "OperatorError",
    "Outcome",
    "PrecheckError",
    "State",
    "Verdict",
    "WaitTimeout",
    "check",
    "wait",
    "wait_async",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import library

        return getattr(library, name)

    def __dir__() -> list[str]:
        # What is not loaded yet is there all the same, for those who look around in a shell.
        return [*globals(), *__all__]
