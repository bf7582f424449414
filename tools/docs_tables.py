"""Fills the tables of the documentation from the tables of the code: `make docs`.

A page says where a table stands, each mark on a line of its own; what is between is replaced:

    <!-- options:http -->
    <!-- end -->

| mark             | what is put there                                                        |
|------------------|--------------------------------------------------------------------------|
| `options:NAME`   | the options of a scheme, without those that all have                     |
| `options:common` | the options that every target takes, and those of groups                 |
| `schemes`        | every scheme: an example, what ready proves and what it does not         |
| `services`       | every scheme with a protocol: options, causes, cost, logins, versions    |
| `gate`           | the gate's options and their variables                                   |
| `verb:NAME`      | the options of a verb of the toolbox                                     |
| `verbs`          | the verbs of the toolbox                                                 |
| `causes`         | each cause, what it means and what to do                                 |
| `cluster:ended`  | how each story ended in each way, from `docs/benchmarks/cluster.json`    |
| `cluster:given`  | what stands for each gate of a story in each way                         |

With `--check` nothing is written; it fails when a page is not what it would be.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bench.cluster import PAGES, outcome, stories, ways
from service_precheck import causes, cli, schemes
from service_precheck.access import LOGIN_OPTIONS, ON_AUTH_REFUSED, TLS, TLS_OPTIONS
from service_precheck.model import INDEFINITE
from service_precheck.options import COMMON, FLAG, write_duration
from service_precheck.target import GROUP_OPTIONS
from service_precheck.toolbox import VERBS, check, explain, rbac

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service_precheck.options import Option, Scheme

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TESTED = ROOT / "tests" / "services" / "tested.toml"
MARKS = re.compile(
    r"^<!-- ([a-z]+(?::[a-z0-9-]+)?) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)
VERB_OPTIONS = {"check": check.OPTIONS, "explain": explain.OPTIONS, "rbac": rbac.OPTIONS}


def main(arguments: Sequence[str], docs: Path = DOCS) -> int:
    stale = []
    for page in sorted(docs.rglob("*.md")):
        text = page.read_text()
        filled = MARKS.sub(
            lambda found: f"<!-- {found[1]} -->\n{content(found[1], docs)}<!-- end -->", text
        )
        if filled != text:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(filled)
    for page in stale:
        print(
            f"{page.relative_to(docs.parent)}: {'not as the code has it' if '--check' in arguments else 'filled'}"
        )
    return 1 if stale and "--check" in arguments else 0


def content(mark: str, docs: Path = DOCS) -> str:
    """What stands between a mark and its end."""
    kind, _, name = mark.partition(":")
    if mark == "options:common":
        return common_options()
    if kind == "options":
        return options(scheme(name).options)
    if kind == "verb":
        return options(VERB_OPTIONS[name], "--")
    return {
        "schemes": lambda: index(docs),
        "services": lambda: services(docs),
        "gate": gate,
        "verbs": verbs,
        "causes": all_causes,
        "cluster:ended": lambda: ended(docs),
        "cluster:given": given,
    }[mark]()


def scheme(name: str) -> Scheme:
    found = schemes.load(name)
    assert found is not None, f"no scheme {name}"
    return found


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines
    )


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def value(option: Option) -> str:
    """What an option's value looks like."""
    return "" if option.kind is FLAG else code(option.kind.shape)


def default(option: Option) -> str:
    return "" if option.kind is FLAG and not option.default else code(option.default_text())


def meaning(option: Option) -> str:
    repeated = "; may be repeated" if option.many else ""
    masked = "; never shown" if option.secret else ""
    return f"{option.meaning}{repeated}{masked}"


def options(rows: Iterable[Option], prefix: str = "#") -> str:
    rows = list(rows)
    if not rows:
        return "None of its own.\n"
    return table(
        ("option", "value", "default", "meaning"),
        ((code(f"{prefix}{row.name}"), value(row), default(row), meaning(row)) for row in rows),
    )


def common_options() -> str:
    groups = {option.name for option in GROUP_OPTIONS}
    return table(
        ("option", "value", "default", "meaning", "groups too"),
        (
            (
                code(f"#{row.name}"),
                value(row),
                default(row),
                meaning(row),
                "yes" * (row.name in groups),
            )
            for row in COMMON
        ),
    )


def page_of(name: str, docs: Path) -> str:
    """The page that has a scheme's options, relative to the schemes' index."""
    for page in sorted((docs / "schemes").glob("*.md")):
        if f"<!-- options:{name} -->" in page.read_text():
            return page.name
    return ""


def index(docs: Path) -> str:
    rows = []
    for name in schemes.BUILT_IN:
        row = scheme(name)
        page = page_of(name, docs)
        port = "" if row.port is None else str(row.port)
        rows.append(
            (
                f"[{code(name)}]({page})" if page else code(name),
                code(row.example),
                row.proves,
                row.not_proves,
                port,
                write_duration(row.attempt_timeout),
                write_duration(row.floor),
            )
        )
    heads = ("scheme", "example", "ready proves", "it does not prove", "port", "attempt", "floor")
    return table(heads, rows)


def services(docs: Path) -> str:
    """A row for each service that is asked in its own protocol; its secure scheme stands beside it."""
    tested = tomllib.loads(TESTED.read_text())
    rows = []
    modules: dict[str, list[str]] = {}
    for name, module in schemes.BUILT_IN.items():
        modules.setdefault(module, []).append(name)
    for names in modules.values():
        row = scheme(names[0])
        if not row.cost:
            continue
        shared = {option.name for option in (*LOGIN_OPTIONS, ON_AUTH_REFUSED, TLS, *TLS_OPTIONS)}
        own = (code(f"#{option.name}") for option in row.options if option.name not in shared)
        page = page_of(names[0], docs)
        rows.append(
            (
                f"[{', '.join(map(code, names))}]({page})",
                row.proves,
                ", ".join(own),
                ", ".join(f"[{code(cause)}](../causes.md#{cause})" for cause in row.causes),
                ", ".join(row.logins) or "none",
                row.cost,
                ", ".join(tested[names[0]]),
            )
        )
    heads = (
        *("scheme", "ready proves", "options of its own", "causes of its own"),
        *("logins", "an attempt costs the server", "tested with"),
    )
    return table(heads, rows)


def gate() -> str:
    rows = []
    for option in cli.OPTIONS:
        short = next(
            (f"{code(key)}, " for key, name in cli.SHORT.items() if name == option.name), ""
        )
        rows.append(
            (
                f"{short}{code(f'--{option.name}')}",
                value(option),
                default(option),
                code(cli.variable(option)),
                meaning(option),
            )
        )
    return table(("option", "value", "default", "variable", "meaning"), rows)


def verbs() -> str:
    return table(
        ("verb", "what it does"), ((code(f"precheck {v}"), said) for v, said in VERBS.items())
    )


def all_causes() -> str:
    parts = []
    for name, advice in causes.CAUSES.items():
        meant = (
            f"{advice.meaning} {causes.WITHOUT_KNOWLEDGE}" if name in INDEFINITE else advice.meaning
        )
        parts.append(f"\n## {name}\n\n{meant}\n\n**What to do:** {advice.remedy}\n")
    return "".join(parts) + "\n"


def ended(docs: Path) -> str:
    _, sections = PAGES.read(docs / "benchmarks")
    measured = {name: sections[name].rows for name in stories.STORIES if name in sections}
    heads = ("story", "way", "restarts", "time to ready", "API writes")
    return table(heads, outcome.summary(measured))


def given() -> str:
    rows = []
    for story in stories.STORIES:
        files = sorted((DOCS.parent / "examples" / "kubernetes" / story).glob("*.yaml"))
        objects = [each for file in files for each in yaml.safe_load_all(file.read_text())]
        for workload, loop, wait4x in ways.given(objects):
            rows.append(
                (story, workload, "<br>".join(map(code, loop)), "<br>".join(map(code, wait4x)))
            )
    return table(("story", "workload", "the loop's names", "wait4x, one after another"), rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
