"""Installs the programs that the tests speak to, outside the tree and once a machine.

`python -m tools.servers base services image` brings what is missing of these sets, says what it does,
and is quick when nothing is:

| set        | for                                                                         |
|------------|-----------------------------------------------------------------------------|
| `base`     | `make test`: name servers, web servers, tools of the network                 |
| `services` | `make services-test`: databases, caches, queues, coordinators                |
| `cluster`  | `make cluster-test`: Kubernetes, its container runtime, Helm, kustomize, and |
|            | an image of the services for its stories                                    |
| `image`    | `make image-test` and a release's dry run                                    |

Debian's packages are installed as root on Debian, and nothing of theirs is started, now or at the next
boot. What Debian does not have is built from its Go module, fetched from Maven's repository, or
installed into a folder of its own (`chroot`), below `cache()`.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Where what is expensive is kept: `$XDG_CACHE_HOME/service-precheck` or `~/.cache/service-precheck`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "service-precheck"
