"""What the pages offer, and the lines that they show."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.cli import build_parser
from core_ui import markup, snippets
from core_ui.pages.running import lines_of
from core_ui.sessions import Variant
from core_ui.similarities import Similarities, compare_steps
from tests.test_package import run_python

#: A tiny model of each other kind.
KINDS = {"reranker": "reranker-bert", "sparse": "splade", "multi_vector": "colbert"}
TEXTS = ["one text", "another, <b>longer</b> & bold", "the third"]


@pytest.fixture(scope="module")
def tiny(tiny_model: Callable[[str], Path]) -> Variant:
    return Variant(str(tiny_model("bert-cls")), backend="torch", file_name="model.safetensors")


def run(python: str) -> str:
    """What the lines print."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(python, "shown", "exec"), {})
    return said.getvalue()


def test_the_python_that_is_shown_does_what_it_says(
    tiny: Variant,
    tiny_kind: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("\n".join(TEXTS) + "\n")
    assert run(snippets.describe(tiny)).startswith("torch 32 ")
    printed = run(snippets.compare((tiny, tiny), "texts.txt"))
    assert printed.count("[[") == 2
    for kind, name in KINDS.items():
        one = Variant(str(tiny_kind(name)), backend="torch", kind=kind)
        assert run(snippets.describe(one)).startswith("torch ")
        assert run(snippets.compare((one,), "texts.txt")).count("[") == 1 + len(TEXTS)
    said = run(snippets.make("optimize", tiny, "bf16", "made"))
    assert "model_bf16.safetensors" in said
    assert "cosine mean" in said
    run(snippets.save(Variant("made", "", "torch", "model_bf16.safetensors"), "saved"))
    assert Path("saved", "modules.json").is_file()


def test_texts_end_where_the_commands_end_them(tmp_path: Path) -> None:
    texts = ["one\u2028two\x85three", "four\x0cfive"]
    assert lines_of("\r\n".join(texts) + "\n\n") == texts
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts) + "\n", "utf-8")
    (line,) = [line for line in snippets.compare((), str(file)).split("\n") if "texts = " in line]
    found: dict[str, Any] = {"Path": Path}
    exec(line, found)
    assert found["texts"] == texts


@pytest.mark.parametrize(
    ("python", "function"),
    [
        (snippets.make("export", Variant("a/b", "v1", "onnx"), None, "t"), "core.export"),
        (snippets.make("quantize", Variant("a"), "static", "t", "c.txt"), "core.quantize"),
        (snippets.tune("a/b", "v1", "t.txt", minutes=1, min_recall=0.9), "core.tune"),
        (snippets.push("a/model.onnx", "a/b", "", create_pr=True), "create_pr=True"),
        (snippets.push("a/model.onnx", "a/b", "text.md", create_pr=False), "text=Path('text.md')"),
        (snippets.describe(Variant("a", kind="reranker")), "core.load_reranker('a')"),
        (snippets.describe(Variant("a", kind="multi_vector")), "core.load_multi_vector('a')"),
        (snippets.load_pushed(Variant("x", "", "onnx", "f"), "a/b", "7"), "refs/pr/7"),
        (snippets.load_pushed(Variant("x", "", "onnx", "f"), "a/b", ""), "core.load('a/b'"),
    ],
)
def test_lines_that_take_longer_are_python(python: str, function: str) -> None:
    compile(python, "shown", "exec")
    assert function in python
    assert "''" not in python  # what is empty is left out


def test_shell_lines_are_quoted_and_known_to_the_command_line() -> None:
    steps = [
        ["encode", *Variant("a b", "r", "onnx", "f;g").words(), "--input", "t.txt", "--json"],
        ["push", "made/onnx/model.onnx", "a/b", "--create-pr", "--text", "text.md"],
        ["save", "a b", "c", "--backend", "tuned"],
        *compare_steps((Variant("a", "", "onnx"),), Path("/"), "t.txt"),
    ]
    lines = snippets.shell_lines(steps)
    parser: argparse.ArgumentParser = build_parser()
    for line, step in zip(lines.splitlines(), steps, strict=True):
        words = shlex.split(line)
        assert words == ["core", *(word for word in step if word != "--json")]
        parser.parse_args(words[1:])


def test_texts_of_users_are_escaped() -> None:
    found = Similarities(np.eye(3, dtype=np.float32), "<b>", has_roles=True)
    for html in (
        markup.heat_map(TEXTS[1], TEXTS, found),
        markup.neighbours(TEXTS, ("<b>", "b"), found, found),
        markup.table("<b>", ["<b>"], [["<b>"]]),
        markup.facts("<b>", {"<b>": "<b>"}),
        markup.status("<b>"),
        markup.log(["<b>"]),
        markup.note("<b>"),
        markup.code("<b>", "<b>"),
    ):
        assert "<b>" not in html
        assert "&lt;b&gt;" in html


def test_neighbours_are_the_nearest_others() -> None:
    one = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]], np.float32)
    other = np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]], np.float32)
    both = [Similarities(scores, "cosine", has_roles=False) for scores in (one, other)]
    html = markup.neighbours(["a", "b", "c"], ("source", "result"), *both)
    assert "the same for 0 of 3 texts" in html
    assert "b (0.900)" in html
    assert "c (0.900)" in html
    assert one[0, 0] == 1  # the caller's stay


def test_scores_of_any_range_are_colored() -> None:
    scores = np.array([[9, 5], [5, -1e9]], np.float32)  # a text without vectors is no other's
    html = markup.heat_map("a", ["a", ""], Similarities(scores, "maxsim", has_roles=True))
    assert "a: MaxSim, each row a query, each column a document" in html
    colors = re.findall(r"rgb\(([\d,]+)\)", html)
    assert colors == ["255,140,30", "255,255,255", "255,255,255", "255,255,255"]
    same = Similarities(np.ones((2, 2), np.float32), "score", has_roles=True)
    assert markup.heat_map("a", ["a", "b"], same).count("rgb(255,140,30)") == 4


@pytest.mark.parametrize(
    ("verification", "shown"),
    [
        (core.Verification, "cosine mean 0.5000, 1st percentile 0.5000, minimum 0.5000"),
        (core.ScoreVerification, "score difference at most 0.5000, rank correlation 0.5000"),
        (core.SparseVerification, "overlap of dimensions mean 0.5000, minimum 0.5000"),
        (core.VectorVerification, "MaxSim difference at most 0.5000, rank correlation 0.5000"),
    ],
)
def test_the_proof_is_in_the_measure_of_the_kind(verification: Any, shown: str) -> None:
    record = dict.fromkeys((field.name for field in fields(verification)), 0.5)
    assert shown in markup.verification(record)


def test_a_record_of_somebody_else_is_no_proof() -> None:
    assert markup.verification({"mean_cosine": "much", "else": 1}) == "-"
    assert markup.verification(None) == "-"


def test_nothing_to_show_shows_nothing() -> None:
    assert markup.table("caption", ["a"], []) == markup.log([]) == markup.code("", "") == ""
    assert [markup.size(n) for n in (None, 900, 2_500_000)] == ["?", "0.9 kB", "2.5 MB"]


def test_a_backend_of_somebody_else_appears_with_its_configurations() -> None:
    """In a process of its own: backends stay registered, and gradio leaves event loops open."""
    said = run_python(
        """
import os, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import core
class Plugin:
    SPEC_VERSION = 1
    QUANTIZE_CONFIGS = {"tiny": "four bits, of somebody else", "own": "eight"}
    CALIBRATED_CONFIGS = ("own",)
    @core.hookimpl
    def load(self, source, options): raise NotImplementedError
    @core.hookimpl
    def encode(self, model, texts, options): raise NotImplementedError
    @core.hookimpl
    def quantize(self, model, target, options): raise NotImplementedError
core.register_backend("others", Plugin())
from core_ui.pages import make
print(make.working_backends(), make.operations("others"), make._choices("others", "quantize"))
print(make.default_target("/models/a/", "others", "tiny"))
print(make.operations("onnx"), *make.configurations("onnx", "optimize"))
"""
    )
    assert "'others'" in said
    assert "['quantize'] [('tiny: four bits, of somebody else', 'tiny'), ('own: eight'" in said
    assert "a-others-tiny" in said
    assert "['quantize', 'optimize', 'export']" in said
    assert "O3" in said
