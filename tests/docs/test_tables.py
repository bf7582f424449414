"""The documentation's tables are the code's: schemes, options, causes, exit statuses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from service_precheck import causes, cli, model, schemes
from service_precheck.model import CAUSES
from service_precheck.options import COMMON
from service_precheck.toolbox import VERBS
from tests.bed.process import GATE, TOOLBOX, Gate, run
from tools import docs_tables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def first_column(page: Path, mark: str) -> list[str]:
    """The first column of a page's table as bare words."""
    (body,) = re.findall(
        rf"^<!-- {mark} -->\n(.*?)^<!-- end -->", page.read_text(), re.MULTILINE | re.DOTALL
    )
    cells = [line.split("|")[1].strip() for line in body.splitlines() if line.startswith("|")]
    return [re.sub(r"[`\[\]]|\(.*\)", "", cell) for cell in cells[2:]]


def test_tables_are_as_the_code_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    """`make docs` would change no page."""
    status = docs_tables.main(["--check"])
    assert status == 0, f"run `make docs`: {capsys.readouterr().out}"


def test_stale_pages_are_found_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page whose table is not the code's fails the check, is filled without it, and is right then."""
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- options:tcp -->\nstale\n<!-- end -->\nafter `<!-- causes -->`\n")
    assert docs_tables.main(["--check"], page.parent) == 1
    assert "page.md: not as the code has it" in capsys.readouterr().out
    assert "stale" in page.read_text()
    assert docs_tables.main([], page.parent) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- options:tcp -->\n| option |")
    assert "stale" not in text
    assert text.endswith("<!-- end -->\nafter `<!-- causes -->`\n")
    assert docs_tables.main(["--check"], page.parent) == 0


def test_unknown_mark_is_told(tmp_path: Path) -> None:
    """A mark that means nothing stops the generator instead of leaving an empty table."""
    (tmp_path / "page.md").write_text("<!-- option:tcp -->\n<!-- end -->\n")
    with pytest.raises(KeyError, match="option:tcp"):
        docs_tables.main([], tmp_path)


@pytest.mark.parametrize("name", schemes.BUILT_IN)
def test_every_scheme_has_a_page_with_its_options(name: str) -> None:
    """The page of a scheme has the table of its options, row for row, and the index leads to it."""
    page = docs_tables.page_of(name, DOCS)
    assert page, f"no page under docs/schemes has <!-- options:{name} -->"
    scheme = schemes.load(name)
    assert scheme is not None
    listed = first_column(DOCS / "schemes" / page, f"options:{name}") if scheme.options else []
    assert listed == [f"#{option.name}" for option in scheme.options]
    assert f"[`{name}`]({page})" in (DOCS / "schemes/index.md").read_text()


def test_help_docs_and_table_list_the_same_schemes() -> None:
    """`--help`, the index and the scheme table agree, and each scheme says what it proves and what not."""
    help_text = run("--help", command=GATE).stdout
    (line,) = [line for line in help_text.splitlines() if line.startswith("Schemes: ")]
    told = line.removeprefix("Schemes: ").partition(".")[0].split(", ")
    assert told == list(schemes.BUILT_IN)
    assert first_column(DOCS / "schemes/index.md", "schemes") == told
    for name in told:
        scheme = schemes.load(name)
        assert scheme is not None
        assert scheme.name == name
        assert scheme.proves
        assert scheme.not_proves
        assert scheme.example.startswith(f"{name}://")


def test_examples_of_schemes_are_targets() -> None:
    """The example in each row of the scheme table is understood."""
    for name in schemes.BUILT_IN:
        scheme = schemes.load(name)
        assert scheme is not None
        cli.understand([scheme.example], {})


def test_help_docs_and_table_list_the_same_options() -> None:
    """The gate's options and their variables are in `--help` and on its page, in the same order."""
    help_text = run("--help", command=GATE).stdout
    wanted = [f"--{option.name}" for option in cli.OPTIONS]
    told = re.findall(r"^  (?:-\w, |    )(--[a-z-]+)", help_text, re.MULTILINE)
    assert [option for option in told if option not in ("--help", "--version")] == wanted
    page = DOCS / "gate.md"
    listed = [cell.split(", ")[-1] for cell in first_column(page, "gate")]
    assert listed == wanted
    for option in cli.OPTIONS:
        assert f"[{cli.variable(option)}]" in help_text
        assert f"`{cli.variable(option)}`" in page.read_text()
    common = first_column(DOCS / "schemes/index.md", "options:common")
    assert common == [f"#{option.name}" for option in COMMON]


def test_exit_statuses_are_on_the_page() -> None:
    """Every exit status that `--help` names is explained on the gate's page, and no other."""
    told = run("--help", command=GATE).stdout.partition("exit status:")[2]
    statuses = set(re.findall(r"128\+N|\b\d+\b", told))
    page = (DOCS / "gate.md").read_text()
    listed = set(re.findall(r"^\| (\d+|128\+N) \|", page, re.MULTILINE))
    assert listed == statuses


def test_verbs_are_on_the_page_and_in_the_help() -> None:
    """The toolbox's page and its help list every verb there is."""
    told = run("--help", command=TOOLBOX).stdout
    listed = [verb.removeprefix("precheck ") for verb in first_column(DOCS / "toolbox.md", "verbs")]
    assert listed == list(VERBS)
    assert re.findall(r"^  ([a-z]+) ", told, re.MULTILINE) == list(VERBS)


def test_causes_are_the_closed_list() -> None:
    """Each cause is explained once, in the order of the list, in whole sentences, with what to do."""
    assert tuple(causes.CAUSES) == model.CAUSES
    for advice in causes.CAUSES.values():
        for text in advice:
            assert text.endswith(".")
            assert text.count("`") % 2 == 0
            assert text == " ".join(text.split())
    page = (DOCS / "causes.md").read_text()
    assert tuple(re.findall(r"^## (.+)$", page, re.MULTILINE)) == model.CAUSES


def shown(page: str, command: str) -> str:
    """What a page shows below a command."""
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (block,) = [str(block) for block in blocks if block.startswith(f"$ {command}")]
    return block.partition("\n")[2]


def test_check_prints_what_its_page_shows() -> None:
    """The example of `precheck check` is what it prints."""
    targets = ("localhost", "127.0.0.1:1", "any(127.0.0.1:1, localhost)")
    done = run("check", *targets, command=TOOLBOX)
    assert done.stdout == shown("toolbox.md", "precheck check localhost")


def test_explain_prints_what_its_page_shows(tmp_path: Path) -> None:
    """Each line of the example of `precheck explain` is one that it prints."""
    search = "shop.svc.cluster.local svc.cluster.local cluster.local"
    (tmp_path / "pod-resolv.conf").write_text(
        f"nameserver 10.96.0.10\nsearch {search}\noptions ndots:5\n"
    )
    arguments = ("explain", "--resolv-conf", "pod-resolv.conf", "mysql:3306")
    with Gate(*arguments, command=TOOLBOX, cwd=tmp_path) as program:
        printed = program.wait(30.0).stdout.splitlines()
    for line in shown("toolbox.md", "precheck explain").splitlines():
        assert line in printed or line == "  ..."


# What every connection, name and handshake can say.
OF_CONNECTIONS = {
    *("name-not-found", "no-addresses", "resolver-failure", "resolver-timeout", "wildcard"),
    *("refused", "unreachable", "connect-timeout", "closed-early", "no-reply", "protocol", "local"),
    *("tls-expired", "tls-name", "tls-untrusted", "tls-client-cert", "tls-plaintext"),
    # Said by the engine, of any target.
    *("lost", "not-ready"),
}
PACKAGE = Path(schemes.__file__).parent


def causes_in(module: Path, seen: set[Path]) -> set[str]:
    """The causes that stand in a probe's module and in the codecs it imports."""
    if module in seen:
        return set()
    seen.add(module)
    tree = ast.parse(module.read_text())
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in CAUSES
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for path in (base, *(base / alias.name for alias in node.names)):
            file = path.with_suffix(".py")
            if file.is_relative_to(PACKAGE / "codecs") and file.exists():
                found |= causes_in(file, seen)
    return found


@pytest.mark.parametrize(
    "name", [name for name in schemes.BUILT_IN if docs_tables.scheme(name).cost]
)
def test_causes_of_services_are_those_of_the_code(name: str) -> None:
    """The causes that a service's row lists are those that its code can give, no more and no less."""
    listed = set(docs_tables.scheme(name).causes)
    written = causes_in(PACKAGE / "probes" / f"{schemes.BUILT_IN[name]}.py", set())
    assert listed <= written
    assert written - OF_CONNECTIONS <= listed
