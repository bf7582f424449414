"""`python -m bench.cluster [--quick] [--only NAME]...`: measure on a real Kubernetes, print, write down.

A full run takes about an hour and a quarter and writes `docs/benchmarks/cluster.*` and what other pages
show of it, each measure once it is there. It brings a cluster of its own for each measure and needs root, Debian and Go, as
`make cluster-test` does.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import pages
from bench.cluster import PAGES, TITLES, fleet, stories
from bench.launch import Failed
from bench.pages import OUTPUT, Section
from bench.results import Row
from bench.rivals import GATE, GETADDRINFO, NSLOOKUP, WAIT4X, Field
from tools import docs_tables
from tools.cluster import BIN
from tools.cluster import __main__ as run

Measure = Callable[..., Iterator[Row]]

MEASURES: dict[str, Measure] = {
    "mysql": stories.mysql,
    "hdfs": stories.hdfs,
    "fleet": fleet.uncached,
    "fleet-cached": fleet.cached,
}


def main() -> int:
    """Measure what is asked for; the exit status tells of failures to measure, never of goals."""
    parser = argparse.ArgumentParser(
        prog="bench.cluster", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and gates, shorter waits"
    )
    parser.add_argument("--only", action="append", choices=MEASURES, help="a measure; repeatable")
    parser.add_argument(
        "--output", type=Path, help="where to write results, beside older ones (a full run: docs)"
    )
    options = parser.parse_args()
    if why := run.missing():
        print(f"bench.cluster: no cluster here: {why}", file=sys.stderr)
        return 2
    if run.pid():
        print("bench.cluster: a cluster is up (`make cluster-down`)", file=sys.stderr)
        return 2
    output = options.output or (OUTPUT if not (options.quick or options.only) else None)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    began = time.monotonic()
    failures: dict[str, str] = {}
    with Field((GATE, WAIT4X, NSLOOKUP, GETADDRINFO)) as field:
        versions = {rival.name: rival.version for rival in field.rivals.values()}
        machine = pages.machine(versions | parts())
        print(pages.header(machine))
        failures |= field.missing
        for name, measure in MEASURES.items():
            if options.only and name not in options.only:
                continue
            rows: list[Row] = []
            before = pages.jiffies()
            try:
                rows += measure(field, quick=options.quick)
            # What skips a test of the bed keeps a measure from being made.
            except (
                *(Failed, AssertionError, OSError, subprocess.SubprocessError),
                pytest.skip.Exception,
            ) as error:
                failures[name] = f"{error.__class__.__name__}: {error}"
                continue
            section = Section(TITLES[name], pages.noise(before), rows)
            print(section.text(), flush=True)
            if output is not None:
                PAGES.write(output, machine, {name: section})
            if output == OUTPUT:
                docs_tables.main(())
    told = f"Took {(time.monotonic() - began) / 60:.1f} minutes.\n"
    told += "".join(f"\nNot measured: {name}: {why}\n" for name, why in failures.items())
    print(told)
    return 1 if failures else 0


def parts() -> dict[str, str]:
    """The versions of what the cluster is made of."""
    told = {
        name: (BIN / program).resolve().name.rpartition("-")[2]
        for name, program in (("Kubernetes", "kubelet"), ("CoreDNS", "coredns"), ("etcd", "etcd"))
    }
    for program in ("containerd", "runc"):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        told[program] = said.stdout.splitlines()[0].removeprefix(program).strip()
    return told


if __name__ == "__main__":
    sys.exit(main())
