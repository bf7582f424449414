"""`precheck VERB`: what surrounds the gate. Each verb is a module here, loaded when it is called.

The gate itself is `service-precheck`, with no verbs, so that any word can be a target.
"""

from __future__ import annotations

import io
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

VERBS = {
    "check": "ask each target once and print every verdict",
    "explain": "tell what a target would do, without asking anything",
    "rbac": "print the least rights that kube: targets need",
    "causes": "tell what a cause means and what to do about it",
    "completion": "print a completion script for bash or zsh",
    "demo": "show a gate in front of services that come up one after another",
}
MISTAKE = 2
INTERRUPTED = 130
TERMINATED = 143
BROKEN_PIPE = 141


def help_text() -> str:
    """What `precheck --help` prints."""
    rows = "".join(f"  {verb:12}{meaning}\n" for verb, meaning in VERBS.items())
    return (
        "usage: precheck VERB [...]\n\n"
        f"{rows}\n"
        "`precheck VERB --help` tells more. The gate itself is `service-precheck TARGET...`.\n"
    )


class _Output(io.StringIO):
    """Standard output, written when it is flushed. That it is full or closed is no error."""

    def __init__(self, output: TextIO | None) -> None:
        super().__init__()
        # None where it was closed from the start.
        self._output = output

    def flush(self) -> None:
        """Write what was gathered. Raises BrokenPipeError when nobody reads on."""
        said = self.getvalue()
        self.seek(0)
        self.truncate()
        if self._output is None:
            return
        try:
            self._output.write(said)
            self._output.flush()
        except OSError as error:
            # The interpreter's own flush would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._output.fileno())
            if isinstance(error, BrokenPipeError):
                raise


def main() -> int:
    """Run the verb that the command line names; give the exit status."""
    arguments = sys.argv[1:]
    verb = arguments[0] if arguments else ""
    output = sys.stdout
    sys.stdout = _Output(output)
    # By an exception, as Ctrl-C: commands that were started are ended.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        if verb in ("-h", "--help", "help"):
            sys.stdout.write(help_text())
            status = 0
        elif verb == "--version":
            from ..cli import VERSION

            sys.stdout.write(f"precheck {VERSION}\n")
            status = 0
        elif verb in VERBS:
            status = _run(verb, arguments[1:])
        else:
            sys.stderr.write(_no_such(verb))
            status = MISTAKE
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `precheck causes | head`
        return BROKEN_PIPE
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.stdout = output
    return status


def _run(verb: str, arguments: list[str]) -> int:
    module = f"{__name__}.{verb}"
    try:
        __import__(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        # The image carries no demo.
        sys.stderr.write(f"precheck: {verb} is not part of this installation\n")
        return MISTAKE
    return int(sys.modules[module].run(arguments, os.environ))


def _no_such(verb: str) -> str:
    if not verb:
        return help_text()
    from difflib import get_close_matches

    from ..model import printable

    near = get_close_matches(verb, VERBS, 1, 0.6)
    right = f"did you mean {near[0]}?" if near else "precheck --help lists them"
    return f"precheck: there is no verb {printable(verb, 60)!r}; {right}\n"
