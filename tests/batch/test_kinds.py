"""`core.embed_dataset` and `core batch` with models of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import core
from core.cli import main
from core.errors import CoreError, OptionError

TEXTS = ["one", "the blue fox", "", "a river runs by the house " * 5, "one", "never", "slowly", "x"]
#: Texts whose row is null; with parts of two rows, the second part has no text at all.
NULLS = (2, 3, 7)

#: Model, its kind, what it is asked for, and the types of the columns after `id`.
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, str]]] = {
    "sparse": (
        "splade", "sparse", {"max_active_dims": 5},
        {"embedding": "list<element: struct<index: int32, value: float>>"},
    ),
    "multi-vector": (
        "colbert", "multi_vector", {"task": "document"},
        {"embedding": "list<element: fixed_size_list<element: float>[16]>"},
    ),
    "reranker": ("reranker-bert", "reranker", {}, {"score": "float"}),
    "labels": (
        "reranker-labels", "reranker", {"apply_softmax": True},
        {"score": "fixed_size_list<element: float>[3]"},
    ),
    "several": (
        "bge-m3", "embedding", {"outputs": ("dense", "sparse", "multi_vector")},
        {
            "dense": "fixed_size_list<element: float>[32]",
            "sparse": "list<element: struct<index: int32, value: float>>",
            "multi_vector": "list<element: fixed_size_list<element: float>[32]>",
        },
    ),
}  # fmt: skip


def write_source(target: Path) -> Path:
    """Rows with ids; a reranker reads both of their texts."""
    rows = [
        {"id": f"r{i}", "text": None if i in NULLS else text, "query": "which animal?"}
        for i, text in enumerate(TEXTS)
    ]
    if target.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), target)
    else:
        target.write_text("\n".join(map(json.dumps, rows)))
    return target


def expected_rows(model: Any, options: dict[str, Any]) -> dict[str, list[Any]]:
    """What the model gives for each text alone, as Python has the columns."""
    pairs = model.kind == "reranker"
    run = model.predict if pairs else model.encode
    found: dict[str, list[Any]] = {}
    for i, text in enumerate(TEXTS):
        result = run([("which animal?", text) if pairs else text], **options)
        named = result if isinstance(result, dict) else {"score" if pairs else "embedding": result}
        for name, values in named.items():
            found.setdefault(name, []).append(None if i in NULLS else as_python(values))
    return found


def as_python(values: Any) -> Any:
    if isinstance(values, core.SparseEmbeddings):
        return dict(zip(values.indices.tolist(), values.values.tolist(), strict=True))
    return np.asarray(values[0], np.float32).tolist()


def assert_equal(found: Any, expected: Any) -> None:
    assert (found is None) == (expected is None)
    if expected is None:
        return
    if isinstance(expected, dict):
        found = {entry["index"]: entry["value"] for entry in found}
        # A value near nothing may be left out on one side.
        for index in {*found, *expected}:
            assert found.get(index, 0.0) == pytest.approx(expected.get(index, 0.0), abs=1e-4)
        return
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("case", CASES)
def test_a_column_is_what_the_kind_gives(
    case: str, suffix: str, tiny_kind: Any, tmp_path: Path
) -> None:
    name, kind, options, types = CASES[case]
    folder = tiny_kind(name)
    source = write_source(tmp_path / f"rows{suffix}")
    columns = ("query", "text") if kind == "reranker" else "text"

    def run() -> core.DatasetReport:
        return core.embed_dataset(
            source, tmp_path / "out", folder, backend="torch", device="cpu", id_column="id",
            text_column=columns, on_error="null", rows_per_part=2, **options,
        )  # fmt: skip

    report = run()
    assert (report.rows, report.parts) == (8, 4)
    assert [row.id for row in report.failed] == ["r2", "r3", "r7"]
    if kind == "reranker":
        assert "its 'text' is null" in report.failed[0].reason
    parts = [pq.read_table(tmp_path / f"out/part-0000{i}.parquet") for i in range(4)]
    for part in parts:  # that without any text, too
        assert {f.name: str(f.type) for f in part.schema} == {"id": "string", **types}
    table = pa.concat_tables(parts)
    assert table["id"].to_pylist() == [f"r{i}" for i in range(8)]
    load = getattr(core, "load" if kind == "embedding" else f"load_{kind}")
    with load(folder, backend="torch", device="cpu") as model:
        for column, rows in expected_rows(model, options).items():
            for found, wanted in zip(table[column].to_pylist(), rows, strict=True):
                assert_equal(found, wanted)
    assert run().made == 0


def test_the_command_runs_every_kind(
    tiny_kind: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_source(tmp_path / "rows.jsonl")

    def run(model: str, *words: str) -> int:
        common = ["batch", str(source), str(tmp_path / f"out-{model}"), "--model"]
        common += [str(tiny_kind(model)), "--backend", "torch", "--on-error", "skip"]
        return main([*common, *words])

    assert run("splade-bare-bert", "--kind", "sparse", "--max-active-dims", "3") == 0
    rows = pq.read_table(tmp_path / "out-splade-bare-bert")["embedding"].to_pylist()
    assert len(rows) == 5
    assert all(len(row) <= 3 for row in rows)
    assert run("colbert", "--task", "document", "--pool-factor", "2") == 0
    assert run("bge-m3", "--outputs", "dense", "sparse") == 0
    assert pq.read_table(tmp_path / "out-bge-m3").column_names == ["id", "dense", "sparse"]
    pairs = ("--text-column", "query", "--text-column", "text")
    capsys.readouterr()
    assert run("reranker-bert") == 2
    said = capsys.readouterr().err
    assert "is a reranker, which reads pairs" in said
    assert "--text-column query --text-column document" in said
    assert run("reranker-bert", *pairs) == 0
    assert run("colbert", *pairs, "--overwrite") == 2
    assert "reads one column, and text_column names 2" in capsys.readouterr().err.replace(
        "--text-column", "text_column"
    )


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("splade", {"normalize_embeddings": True}, "does not take 'normalize_embeddings'"),
    ("splade", {"max_length": 5}, "does not take 'max_length'"),
    ("splade", {"kind": "reranker"}, "is a sparse encoder, not a reranker"),
    ("splade", {"kind": "spars"}, "kind must be one of .*mean 'sparse'"),
    ("colbert", {"max_active_dims": 5}, "does not take 'max_active_dims'"),
    ("reranker-bert", {"activation_fn": abs}, "activation_fn of a job must be a name"),
    ("reranker-bert", {"text_column": ("query", "texts")}, "no field 'texts'"),
    ("reranker-bert", {"text_column": ("a", "b", "c")}, "of two for a reranker"),
    ("splade", {"outputs": ("dense",)}, "does not take 'outputs'"),
]


@pytest.mark.parametrize(("model", "options", "match"), WRONG, ids=[m for *_, m in WRONG])
def test_what_is_not_for_the_kind_is_refused_at_once(
    model: str,
    options: dict[str, Any],
    match: str,
    tiny_kind: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    source = write_source(tmp_path / "rows.jsonl")
    with pytest.raises(CoreError, match=match):
        core.embed_dataset(source, tmp_path / "out", tiny_kind(model), backend="torch", **options)
    assert not list(tmp_path.glob("out/*.parquet"))


def test_pairs_need_columns_and_a_line_that_has_none_fails(tiny_kind: Any, tmp_path: Path) -> None:
    folder = tiny_kind("reranker-bert")
    columns = ("query", "document")
    (tmp_path / "rows.txt").write_text("a line\n")
    with pytest.raises(OptionError, match=r"pairs come from \.parquet or \.jsonl"):
        core.embed_dataset(
            tmp_path / "rows.txt", tmp_path / "out", folder, backend="torch", text_column=columns
        )
    lines = ['{"query": "a", "document": "b"}', '"a"', '{"query": "a", "document": 5}', "null"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    report = core.embed_dataset(
        tmp_path / "rows.jsonl", tmp_path / "out", folder, backend="torch", text_column=columns,
        on_error="skip",
    )  # fmt: skip
    reasons = ["it is 'a', not an object", "its 'document' is 5, not a string", "it is null"]
    assert [row.reason for row in report.failed] == reasons
    assert report.rows == 1


def test_a_loaded_model_is_taken_as_what_it_is(tiny_kind: Any, tmp_path: Path) -> None:
    source = write_source(tmp_path / "rows.jsonl")
    folder = tiny_kind("splade-bare-bert")  # its own kind is another
    assert core.kind_of(folder) == "embedding"
    with core.load_sparse(folder, backend="torch", device="cpu") as model:
        with pytest.raises(OptionError, match="is loaded already, as 'sparse'"):
            core.embed_dataset(source, tmp_path / "out", model, kind="embedding")
        first = core.embed_dataset(source, tmp_path / "out", model, on_error="skip")
    again = core.embed_dataset(
        source, tmp_path / "out", folder, kind="sparse", backend="torch", device="cpu",
        on_error="skip",
    )  # fmt: skip
    assert (again.made, again.fingerprint) == (0, first.fingerprint)
    with pytest.raises(OptionError, match=r"model\.kind was 'sparse' and is 'embedding'"):
        core.embed_dataset(
            source, tmp_path / "out", folder, backend="torch", device="cpu", on_error="skip"
        )
