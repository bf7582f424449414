"""`python -m bench [--quick] [--only NAME]...`: measure, print, and after a full run write it down.

A full run takes about a quarter of an hour and writes `docs/benchmarks/`: every sample in
`results.json`, the tables in `results.md`, and pictures. It needs root: the rivals are measured in
networks of their own.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import cost, lateness, many, pages, services, signals
from bench.launch import Failed
from bench.pages import OUTPUT, Pages, Section
from bench.results import Row
from bench.rivals import ALL, Field

Measure = Callable[..., Iterator[Row]]

# Those of the first list want the machine for themselves; the others mostly wait, and do so together.
ALONE: dict[str, Measure] = {
    "cost": cost.cost,
    "limits": cost.limits,
    "many": many.many,
    "blind": signals.blind_window,
    "sigterm": signals.sigterm,
    "services-cost": services.cost,
    "services-late": services.lateness,
    "stack": services.stack,
}
TOGETHER: dict[str, Measure] = {
    "lateness": lateness.lateness,
    "queries": lateness.queries,
    "cached": lateness.negative_cache,
    "dead": lateness.dead_resolver,
}
TITLES = {
    "cost": "CPU and memory to exit with one target that holds",
    "limits": "Start under a cpu limit",
    "many": "A hundred and a thousand targets",
    "blind": "SIGTERM as PID 1",
    "sigterm": "SIGTERM to exit, by phase",
    "lateness": "Lateness: from a target coming up to exit",
    "queries": "Load on others while waiting",
    "cached": "Behind a negative cache",
    "dead": "Behind dead resolvers",
    "services-cost": "Services in their own protocols: cpu and memory to exit",
    "services-late": "Services in their own protocols: lateness after a start",
    "stack": "One gate, six protocols, eight servers in random order",
}
PAGES = Pages("results", "Results", TITLES)


def main() -> int:
    """Measure what is asked for; the exit status tells of failures to measure, never of goals."""
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    names = [*ALONE, *TOGETHER]
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter waits")
    parser.add_argument("--only", action="append", choices=names, help="a measure; repeatable")
    parser.add_argument(
        "--rival", action="append", choices=ALL, help="leave out others; repeatable"
    )
    parser.add_argument(
        "--output", type=Path, help="where to write results, beside older ones (a full run: docs)"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root, for network namespaces and cgroups", file=sys.stderr)
        return 2
    chosen = [name for name in names if not options.only or name in options.only]
    output = options.output or (
        OUTPUT if not (options.quick or options.only or options.rival) else None
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    began = time.monotonic()
    sections: dict[str, Section] = {}
    failures: dict[str, str] = {}
    with Field(options.rival or ()) as field:
        machine = pages.machine({rival.name: rival.version for rival in field.rivals.values()})
        print(pages.header(machine))
        failures |= field.missing

        together = [name for name in chosen if name in TOGETHER]
        standing = threading.Barrier(max(1, len(together)))

        def set_up() -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                standing.wait()

        field.set_up = set_up

        def measure(name: str) -> None:
            rows: list[Row] = []
            before = pages.jiffies()
            try:
                for row in (ALONE | TOGETHER)[name](field, quick=options.quick):
                    rows.append(row)
                    print(f"  {row.title}: done", file=sys.stderr, flush=True)
            # What skips a test of the bed keeps a measure from being made.
            except (Failed, AssertionError, OSError, pytest.skip.Exception) as error:
                failures[name] = f"{error.__class__.__name__}: {error}"
                if name in TOGETHER:
                    standing.abort()
            sections[name] = Section(TITLES[name], pages.noise(before), rows)
            print(sections[name].text(), flush=True)

        for name in chosen:
            if name in ALONE:
                measure(name)
        with concurrent.futures.ThreadPoolExecutor(max(1, len(together))) as pool:
            for future in [pool.submit(measure, name) for name in together]:
                future.result()
    told = f"Took {(time.monotonic() - began) / 60:.1f} minutes.\n"
    told += "".join(f"\nNot measured: {name}: {why}\n" for name, why in failures.items())
    print(told)
    if output is not None:
        PAGES.write(output, machine, sections)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
