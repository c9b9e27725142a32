"""Every code block of the README and of docs/ runs, in order, in one fresh directory per page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.cli import build_parser
from tests.conftest import ROOT
from tests.docs.blocks import CONSOLE, PYTHON, SHELL, Block, read_blocks
from tests.docs.shell import run_lines
from tests.hub.loopback import LoopbackHub

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
#: It installs packages: tests/plugins/test_docs.py runs it in an environment of its own.
INSTALLING = ROOT / "docs/plugins.md"
#: Shown, not run: data, diagrams and output.
SHOWN = ("", "text", "json", "jsonl", "toml", "ini", "yaml", "diff", "makefile", "mermaid")
#: One reason is enough for a block; these words alone are not a reason.
_SHORTEST_REASON = 10


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; `cd` and `export` lines of the page end with the test."""
    import os

    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    variables = dict(os.environ)
    yield folder
    os.environ.clear()
    os.environ.update(variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != INSTALLING],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_page(page: Path, fresh: Path, hub: LoopbackHub) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in read_blocks(page):
        _run(block, fresh, namespace)


def _run(block: Block, folder: Path, namespace: dict[str, Any]) -> None:
    if block.reason is not None:
        assert len(block.reason) >= _SHORTEST_REASON, f"{block}: why is it not run?"
        return
    if block.title is not None:
        target = folder / block.title
        assert target.resolve().is_relative_to(folder), f"{block}: {block.title} leads elsewhere"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.code, encoding="utf-8")
    elif block.language in PYTHON:
        # Lines are numbered as in the page, for tracebacks.
        source = "\n" * (block.line - 1) + block.code
        exec(compile(source, str(block.page), "exec"), namespace)
    elif block.language in SHELL:
        run_lines(block.code, str(block))
    elif block.language in CONSOLE:
        run_lines(block.code, str(block), console=True)
    else:
        assert block.language in SHOWN, f"{block}: what is a block of {block.language!r}?"


def test_the_page_that_is_left_out_above_runs_elsewhere() -> None:
    assert INSTALLING in PAGES
    assert "docs/plugins.md" in (ROOT / "tests/plugins/test_docs.py").read_text()


def test_pages_are_found_with_their_blocks_links_and_tests() -> None:
    """What the tests here look for is there: none of their loops is empty everywhere."""
    assert len(PAGES) > 10
    assert sum(block.language in PYTHON for page in PAGES for block in read_blocks(page)) > 10
    assert sum(block.language in SHELL for page in PAGES for block in read_blocks(page)) > 10
    assert sum("://" not in link for page in PAGES for link in links(page)) > 10
    assert sum(len(named_tests(page)) for page in PAGES) > 10


def links(page: Path) -> list[str]:
    """Where a page's links lead, code blocks left out."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def named_tests(page: Path) -> list[tuple[str, str]]:
    """File and name of every test that a page names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page.read_text())


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", *ROOT.glob("examples/**/README.md")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}, which does not exist"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name} links to {link}: no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as both GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), flags=re.MULTILINE)
    plain = [re.sub(r"[`*]", "", heading).lower() for heading in headings]
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip()) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_that_a_page_names_exist(page: Path) -> None:
    for path, name in named_tests(page):
        assert f"def {name}(" in (ROOT / path).read_text(), f"{page.name} names {path}::{name}"


def commands_of_examples() -> Iterator[tuple[str, str]]:
    """(folder, command) of every line of an example's README that calls `core`."""
    for readme in sorted(ROOT.glob("examples/*/README.md")):
        for line in readme.read_text(encoding="utf-8").splitlines():
            if line.startswith("    core "):
                yield readme.parent.name, line.strip()


@pytest.mark.parametrize(("folder", "command"), list(commands_of_examples()))
def test_commands_of_the_examples_have_arguments_that_exist(folder: str, command: str) -> None:
    _, *words = shlex.split(command, comments=True)
    _, unknown = build_parser(words[0]).parse_known_args(words)
    assert [word for word in unknown if word.startswith("-")] == [], folder
