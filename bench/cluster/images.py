"""The rivals' images: the post's loop on a Debian with nslookup, and wait4x with the libc it asks for."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from bench.launch import Failed
from tools.cluster import images

LOOP, WAIT4X = "nslookup-loop:1", "wait4x:1"
PACKAGES = ("bind9-dnsutils",)
# Its arguments are names, as ours are in the post.
SCRIPT = 'for name in "$@"; do until nslookup "$name"; do sleep 2; done; done'
NO_LISTS = "rm -rf $1/var/cache/apt $1/var/lib/apt/lists"


def loop() -> Path:
    """The loop's image, made where it is missing (a minute)."""
    made_of = repr((PACKAGES, SCRIPT, NO_LISTS, images.SUITE, images.LEFT_OUT))
    stamp = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    made = images.FOLDER / f"nslookup-loop-{stamp}.tar"
    if not made.exists():
        if not images.can_bootstrap():
            raise Failed("not root on Debian with mmdebstrap, so no image of the loop")
        print("making the loop's image (a minute, once)", flush=True)
        root = images.bootstrap(PACKAGES, (NO_LISTS,))
        for older in images.FOLDER.glob("nslookup-loop-*.tar"):
            older.unlink()
        images.write(made, LOOP, root, ["/bin/sh", "-c", SCRIPT, "sh"])
    return made


def wait4x(program: Path) -> Path:
    """The image of Debian's wait4x, which is linked to libc, on scratch."""
    told = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    libraries = [Path(word) for word in told.split() if word.startswith("/")]
    files = {str(path).lstrip("/"): (path.read_bytes(), 0o755) for path in libraries}
    files["wait4x"] = (program.read_bytes(), 0o755)
    return images.archive(WAIT4X, files, ["/wait4x"])
