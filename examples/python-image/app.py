"""The smallest app that gunicorn can serve."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer every request with a greeting (PEP 3333)."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from {environ.get('PATH_INFO')}\n".encode()]
