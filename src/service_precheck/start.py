"""The gate's entry point: signal handlers first, everything else after."""

from __future__ import annotations

from . import signals

signals.hold()


def main() -> None:
    """Run the gate and end the process with its exit status. Never returns."""
    import gc
    import sys

    # What the start makes stays: looking for garbage in it costs a fiftieth of the start.
    gc.disable()

    from .net import environment, os

    status = 70
    try:
        from .cli import run

        status = run(sys.argv[1:], environment())
    except Exception:
        # Ours: with a traceback, since it has to be mended, and without secrets, since it is shown.
        import traceback

        from .model import redacted
        from .report import STDERR, restore, write

        restore()
        write(STDERR, redacted(traceback.format_exc()))
    finally:
        signals.kill_children()
        # Threads may be stuck in calls that nothing can end.
        os._exit(status)  # noqa: SLF001 the name means: without the interpreter's own end
