"""What stands for `precheck demo` in the image: a sentence in place of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:  # noqa: ARG001
    """Say where the demo can be had. The status of a mistake."""
    sys.stderr.write("precheck: the image holds no demo; with pip or from a clone: precheck demo\n")
    return 2
