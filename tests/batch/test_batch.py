"""`core.embed_dataset` and `core batch`: what is written, resumed and refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import core
from core.batch.job import Job
from core.batch.rows import Part
from core.cli import main
from core.errors import CoreError, OptionError
from tests.conftest import Exports, as_another_user

TEXTS = [f"text {i} about {'many ' * (i % 7)}things" for i in range(120)]
IDS = [f"row-{i}" for i in range(120)]


@pytest.fixture(scope="module")
def folder(exports: Exports) -> Path:
    return exports("bert-mean", "onnx")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[core.EmbeddingModel]:
    with core.load(folder, backend="onnx", device="cpu") as loaded:
        yield loaded


def write_source(target: Path, suffix: str) -> Path:
    """120 rows with ids in two files of a kind; text files have no ids."""
    target.mkdir()
    for name, rows in (("a", range(70)), ("b", range(70, 120))):
        file = target / f"{name}{suffix}"
        if suffix == ".parquet":
            columns = {
                "n": list(rows),
                "id": [IDS[i] for i in rows],
                "text": [TEXTS[i] for i in rows],
            }
            pq.write_table(pa.table(columns), file, row_group_size=23)
        elif suffix == ".jsonl":
            lines = [json.dumps({"text": TEXTS[i], "id": IDS[i]}) for i in rows]
            file.write_text("\n\n".join(lines), "utf-8")
        else:
            file.write_text("\n".join(TEXTS[i] for i in rows) + "\n", "utf-8")
    return target


def read(target: Path) -> tuple[list[Any], Any]:
    """Ids and embeddings of a finished job."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted(target.glob("*.parquet"))])
    return table["id"].to_pylist(), table["embedding"].to_pylist()


def digests(target: Path) -> dict[str, str]:
    return {
        path.relative_to(target).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".txt"])
def test_every_row_is_embedded_in_its_place(
    suffix: str, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", suffix)
    id_column = None if suffix == ".txt" else "id"
    report = core.embed_dataset(
        source, tmp_path / "out", model, id_column=id_column, rows_per_part=32
    )
    ids, embeddings = read(tmp_path / "out")
    assert ids == (list(range(120)) if suffix == ".txt" else IDS)
    np.testing.assert_allclose(embeddings, model.encode(TEXTS), atol=1e-5)
    assert (report.rows, report.parts, report.made, report.failed) == (120, 5, 5, ())
    schema = pq.read_schema(tmp_path / "out" / "part-00000.parquet")
    assert schema.field("embedding").type == pa.list_(pa.float32(), model.dimension)
    told = json.loads(schema.metadata[b"core"])
    assert told["fingerprint"] == report.fingerprint
    assert told["model"]["backend"] == "onnx"


def test_rows_are_numbered_through_all_files(model: core.EmbeddingModel, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", ".jsonl")
    core.embed_dataset(source, tmp_path / "out", model, rows_per_part=50)
    assert read(tmp_path / "out")[0] == list(range(120))


def test_whole_numbers_and_other_types_stay_ids(model: core.EmbeddingModel, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", ".parquet")
    core.embed_dataset(source, tmp_path / "out", model, id_column="n")
    assert read(tmp_path / "out")[0] == list(range(120))
    lines = tmp_path / "n.jsonl"
    lines.write_text('{"text": "a", "id": 7}\n{"text": "b", "id": 5}\n', "utf-8")
    core.embed_dataset(lines, tmp_path / "out2", model, id_column="id")
    assert read(tmp_path / "out2")[0] == [7, 5]


def test_options_of_encode_and_precisions_are_kept(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", ".txt")
    core.embed_dataset(source, tmp_path / "out", model, precision="ubinary", prompt="query: ")
    _, embeddings = read(tmp_path / "out")
    expected = model.encode(TEXTS, precision="ubinary", prompt="query: ")
    np.testing.assert_array_equal(np.array(embeddings, expected.dtype), expected)


def test_a_second_run_makes_what_is_missing_and_the_same_bytes(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", ".jsonl")

    def run() -> core.DatasetReport:
        return core.embed_dataset(source, tmp_path / "out", model, rows_per_part=32)

    run()
    whole = digests(tmp_path / "out")
    assert run().made == 0
    (tmp_path / "out/_core/parts/00001.json").unlink()  # killed after the part, before its record
    (tmp_path / "out/part-00003.parquet").unlink()
    (tmp_path / "out/.part-00003.parquet.1234.partial").write_bytes(b"PAR1")
    report = run()
    assert (report.made, report.rows_made, report.rows) == (2, 32 + 32, 120)
    assert digests(tmp_path / "out") == whole


@pytest.mark.slow
def test_a_job_killed_at_any_moment_ends_as_if_undisturbed(folder: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", ".parquet")
    words = ["batch", str(source), "--model", str(folder), "--backend", "onnx"]
    words += ["--id-column", "id", "--rows-per-part", "10"]
    assert main([*words[:2], str(tmp_path / "calm"), *words[2:]]) == 0
    command = [sys.executable, "-m", "core", *words[:2], str(tmp_path / "killed"), *words[2:]]
    records = tmp_path / "killed/_core/parts"
    for finished in (0, 2, 5, 9):  # parts that are there when it is killed
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(records.glob("*.json"))) <= finished:
            time.sleep(0.002)
        process.kill()
        process.wait()
    before = len(list(records.glob("*.json")))
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["made"] == 12 - before
    assert digests(tmp_path / "killed") == digests(tmp_path / "calm")


def test_another_job_is_refused_with_both_fingerprints(
    model: core.EmbeddingModel, exports: Exports, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", ".jsonl")
    first = core.embed_dataset(source, tmp_path / "out", model).fingerprint
    before = digests(tmp_path / "out")

    def refused(match: str, used: Any = model, **options: Any) -> None:
        with pytest.raises(OptionError, match=match) as caught:
            core.embed_dataset(source, tmp_path / "out", used, **options)
        assert first in str(caught.value)
        assert digests(tmp_path / "out") == before

    refused("options.normalize_embeddings was None and is True", normalize_embeddings=True)
    refused("id_column was None and is 'id'", id_column="id")
    refused("rows_per_part was 20000 and is 9", rows_per_part=9)
    threads = {"session_options": {"intra_op_num_threads": 1}}
    refused(
        "model.model_kwargs.session_options was None and is {'intra_op_num_threads': 1}",
        exports("bert-mean", "onnx"), backend="onnx", device="cpu", model_kwargs=threads,
    )  # fmt: skip
    other = exports("bert-cls", "onnx")
    refused("model.files was .* and is ", other, backend="onnx", device="cpu")
    refused("model.backend was 'onnx' and is 'torch'", other, backend="torch", device="cpu")
    with (source / "b.jsonl").open("a") as file:
        file.write('\n{"text": "more", "id": "x"}\n')
    refused("source was ")
    report = core.embed_dataset(source, tmp_path / "out", model, overwrite=True)
    assert (report.rows, report.made) == (121, 2)
    assert report.fingerprint != first


def test_settings_of_a_loaded_model_belong_to_the_job(folder: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", ".txt")
    with core.load(folder, backend="onnx", device="cpu") as own:
        core.embed_dataset(source, tmp_path / "out", own)
        own.max_seq_length = 8
        with pytest.raises(OptionError, match=r"model\.settings was"):
            core.embed_dataset(source, tmp_path / "out", own)


WRONG = [
    ('{"id": "r1", "text": null}', "it is null"),
    ('{"id": "r1", "text": 5}', "it is 5, not a string"),
    ('{"id": "r1", "text": "half \\ud800"}', r"it has the lone surrogate '\\ud800' at character 5"),
    ('{"id": "\\ud800", "text": "x"}', "its 'id' has the lone surrogate"),
    ('{"id": "r1"}', "it has no field 'text'"),
    ('{"id": "r1", "text": ', "it is not JSON"),
    ('{"id": 3, "text": "x"}', "its 'id' is 3, where the first row has a string"),
    ("[1]", r"it is \[1\], not a string"),
]


@pytest.mark.parametrize(("line", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_a_row_that_is_no_text_goes_where_on_error_says(
    line: str, reason: str, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    rows = ['{"id": "r0", "text": "one"}', line, '{"id": "r2", "text": "three"}']
    source.write_text("\n".join(rows), "utf-8")
    with pytest.raises(CoreError, match=rf"{reason}.*on_error='skip'"):
        core.embed_dataset(source, tmp_path / "fail", model, id_column="id")
    skipped = core.embed_dataset(source, tmp_path / "skip", model, id_column="id", on_error="skip")
    ids, embeddings = read(tmp_path / "skip")
    assert ids == ["r0", "r2"]
    np.testing.assert_allclose(embeddings, model.encode(["one", "three"]), atol=1e-5)
    (failed,) = skipped.failed
    assert failed.row == 1
    nulled = core.embed_dataset(source, tmp_path / "null", model, id_column="id", on_error="null")
    ids, embeddings = read(tmp_path / "null")
    assert len(ids) == 3
    assert embeddings[1] is None
    np.testing.assert_allclose(embeddings[2], model.encode("three"), atol=1e-5)
    assert nulled.failed == skipped.failed
    # The records keep what failed for a later run.
    again = core.embed_dataset(source, tmp_path / "null", model, id_column="id", on_error="null")
    assert (again.made, again.failed) == (0, nulled.failed)


def test_a_row_of_a_file_whose_name_is_not_utf_8_fails_alone(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    name = os.fsdecode(b"\xff.jsonl")
    (source / name).write_text('{"text": "one"}\n{"text": 2}\n')
    for made in (1, 0):
        found = core.embed_dataset(source, tmp_path / "out", model, on_error="skip")
        assert (found.rows, found.made) == (1, made)
        assert [row.file for row in found.failed] == [name]


@pytest.mark.parametrize("first", ["", "not JSON\n", '{"id": null, "text": "x"}\n', "[" * 100_000])
@pytest.mark.parametrize("ids", [[7, 5], ["a", "b"]])
def test_ids_are_what_the_first_row_that_has_one_says(
    first: str, ids: list[Any], model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jsonl").write_text(first)
    (source / "b.jsonl").write_text("\n".join(json.dumps({"id": i, "text": "x"}) for i in ids))
    report = core.embed_dataset(
        source, tmp_path / "out", model, id_column="id", on_error="skip", rows_per_part=2
    )
    assert [row.file for row in report.failed] == ["a.jsonl"] * bool(first)
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == ids


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("null", "its 'id' is None, neither a string nor"),
        ("1.5", "its 'id' is 1.5, neither"),
        (str(2**63), "its 'id' is 9223372036854775808, neither a string nor an integer of 64 bits"),
    ],
)
def test_ids_of_another_kind_are_called_so(
    given: str, why: str, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{{"id": {given}, "text": "x"}}\n{{"id": 1, "text": 5}}')
    with pytest.raises(CoreError, match=why):
        core.embed_dataset(tmp_path / "rows.jsonl", tmp_path / "out", model, id_column="id")


def test_a_job_that_a_row_ended_goes_on_when_told_what_becomes_of_it(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": 2}\n{"text": "three"}', "utf-8")

    def run(on_error: str) -> core.DatasetReport:
        return core.embed_dataset(
            tmp_path / "rows.jsonl", tmp_path / "out", model, on_error=on_error, rows_per_part=1
        )

    with pytest.raises(CoreError, match="What is finished is kept: go on with on_error='skip'"):
        run("fail")
    report = run("skip")
    assert (report.made, [failed.row for failed in report.failed]) == (2, [1])
    assert read(tmp_path / "out")[0] == [0, 2]
    assert run("skip").made == 0
    for other in ("fail", "null"):
        with pytest.raises(OptionError, match=f"on_error was 'skip' and is '{other}'"):
            run(other)


def test_nulls_of_parquet_and_parts_without_a_text(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    table = pa.table({"text": pa.array(["a", None, None, None, "b"]), "id": [1, 2, 3, 4, 5]})
    pq.write_table(table, tmp_path / "rows.parquet")

    def run(on_error: str) -> list[Any]:
        target = tmp_path / on_error
        core.embed_dataset(
            tmp_path / "rows.parquet", target, model, id_column="id", on_error=on_error,
            rows_per_part=2,
        )  # fmt: skip
        return read(target)[0]

    assert run("skip") == [1, 5]
    assert run("null") == [1, 2, 3, 4, 5]


def test_bytes_that_are_no_text_are_a_row_that_fails(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    (tmp_path / "rows.txt").write_bytes(b"\xef\xbb\xbffirst\n\xff\xfe\nlast")
    report = core.embed_dataset(tmp_path / "rows.txt", tmp_path / "out", model, on_error="skip")
    assert [row.id for row in report.failed] == [1]
    ids, embeddings = read(tmp_path / "out")
    assert ids == [0, 2]
    np.testing.assert_allclose(embeddings, model.encode(["first", "last"]), atol=1e-5)


def test_an_empty_line_is_skipped_after_a_byte_order_mark_too(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf\n{"text": "a"}\n\n{"text": "b"}\n')
    core.embed_dataset(tmp_path / "rows.jsonl", tmp_path / "out", model)
    ids, embeddings = read(tmp_path / "out")
    assert ids == [0, 1]
    np.testing.assert_allclose(embeddings, model.encode(["a", "b"]), atol=1e-5)


NOT_UTF8 = pa.StringArray.from_buffers(
    3, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffc")
)


@pytest.mark.parametrize("given", [NOT_UTF8, NOT_UTF8.dictionary_encode()], ids=["", "repeated"])
def test_a_string_of_parquet_that_is_not_utf_8_is_a_row_that_fails(
    given: pa.Array, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"text": given, "id": ["x", "y", "z"]}), tmp_path / "rows.parquet")
    pq.write_table(pa.table({"text": ["a", "b", "c"], "id": given}), tmp_path / "ids.parquet")
    with pytest.raises(CoreError, match=r"id 'y' \(row 1\): it is not UTF-8.*on_error='skip'"):
        core.embed_dataset(tmp_path / "rows.parquet", tmp_path / "no", model, id_column="id")
    for name, rest, why in (("rows", ["x", "z"], "it is"), ("ids", ["a", "c"], "its 'id' is")):
        source, target = tmp_path / f"{name}.parquet", tmp_path / name
        report = core.embed_dataset(source, target, model, id_column="id", on_error="skip")
        assert [row.reason for row in report.failed] == [f"{why} not UTF-8"]
        ids, embeddings = read(target)
        assert ids == rest
        np.testing.assert_allclose(embeddings, model.encode(["a", "c"]), atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        pa.array([1, 2, 3_000_000_001], pa.time64("ns")),
        pa.array([1, 2, 3], pa.timestamp("ns")),
        pa.array([1, 2**62, 3], pa.timestamp("us")),
        pa.array([1, 2, 3], pa.timestamp("us", "Nowhere/Land")),
        pa.array([1, 2**30, 3], pa.date32()),
        pa.array([1, 2, 3], pa.duration("ns")),
        pa.array([1, 2, 1], pa.timestamp("ns")).dictionary_encode(),
    ],
    ids=lambda given: str(given.type),
)
def test_ids_that_python_has_no_value_for_stay_what_they_are(
    given: pa.Array, model: core.EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # with it pyarrow has nanoseconds
    ids = given.dictionary_decode() if isinstance(given, pa.DictionaryArray) else given
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", None, "c"], "id": given}), rows)

    def run() -> core.DatasetReport:
        return core.embed_dataset(rows, tmp_path / "out", model, id_column="id", on_error="null")

    report = run()
    assert pq.read_table(tmp_path / "out")["id"].combine_chunks().equals(ids)
    assert [row.row for row in report.failed] == [1]
    assert run().failed == report.failed


def test_urls_of_fsspec_are_read_and_written(model: core.EmbeddingModel, tmp_path: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/job/in/rows.txt", "\n".join(TEXTS[:50]).encode())
    source, target = "memory://job/in", "memory://job/out"
    report = core.embed_dataset(source, target, model, rows_per_part=20)
    assert (report.rows, report.parts) == (50, 3)
    system.rm("/job/out/part-00001.parquet")
    assert core.embed_dataset(source, target, model, rows_per_part=20).made == 1
    names = sorted(name.rpartition("/out/")[2] for name in system.find("/job/out"))
    assert [name for name in names if name.startswith("part")] == [
        f"part-0000{i}.parquet" for i in range(3)
    ]
    with system.open("/job/out/part-00002.parquet") as file:
        embeddings = pq.read_table(file)["embedding"].to_pylist()
    np.testing.assert_allclose(embeddings, model.encode(TEXTS[40:50]), atol=1e-5)
    system.rm("/job", recursive=True)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("nowhere", {}, "There is no source .*nowhere"),
    ("empty", {}, "has no file that ends in .parquet, .jsonl, .txt; it has nothing"),
    ("page.md", {}, "page.md' is a file that ends in none of .parquet, .jsonl, .txt"),
    ("mixed", {}, "mixes formats"),
    ("blank.jsonl", {}, "has no rows"),
    ("a.jsonl", {"text_column": "body"}, "the first row has no field 'body'; it has 'text', 'id'"),
    ("a.jsonl", {"id_column": "key"}, "the first row has no field 'key'"),
    ("a.parquet", {"text_column": "body"}, "has no column 'body'; it has 'n', 'id', 'text'"),
    ("a.parquet", {"text_column": "n"}, "column 'n' holds int64, not strings"),
    ("a.txt", {"id_column": "id"}, "has no column 'id': leave out id_column"),
    ("broken.parquet", {}, "cannot be read as Parquet"),
    ("twice.parquet", {}, "has 2 columns 'text'"),
    ("names.parquet", {}, "cannot be read as Parquet"),
    (
        "a.txt",
        {"on_error": "Skip"},
        "on_error must be one of fail, skip, null.*mean 'skip'",
    ),
    ("a.txt", {"rows_per_part": 0}, "rows_per_part must be"),
    ("a.txt", {"text_column": ""}, "text_column must be the name of a column"),
    ("a.txt", {"overwrite": "yes"}, "overwrite must be True or False"),
    ("a.txt", {"precision": "int8"}, "takes its ranges from all embeddings"),
    ("a.txt", {"bakend": "onnx"}, "does not take 'bakend'"),
    ("a.txt", {"token_pooling": 2}, "does not take 'token_pooling'"),
    ("a.txt", {"backend": "onnx"}, "the model is loaded already"),
    ("a.txt", {"truncate_dim": 10_000}, "truncate_dim"),
    ("a.txt", {"prompt_name": "none"}, "prompt"),
    ("a.txt", {"prompt": "\udcff"}, "prompt has the lone surrogate"),
    ("nosuch://x/y", {}, "cannot be opened"),
]


@pytest.mark.parametrize(("name", "options", "match"), BAD, ids=[match for *_, match in BAD])
def test_bad_input_says_what_to_do_and_writes_nothing(
    name: str, options: dict[str, Any], match: str, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    for suffix in (".parquet", ".jsonl", ".txt"):
        made = write_source(tmp_path / f"made{suffix}", suffix)
        (made / f"a{suffix}").rename(tmp_path / f"a{suffix}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed/a.txt").write_text("x")
    (tmp_path / "mixed/b.jsonl").write_text('"x"')
    (tmp_path / "page.md").write_text("x")
    (tmp_path / "blank.jsonl").write_text("\n \n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no footer")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    named = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "names.parquet").write_bytes(named.replace(b"text", b"\xff\xfext"))
    source = name if "://" in name else tmp_path / name
    with pytest.raises(CoreError, match=match):
        core.embed_dataset(source, tmp_path / "out", model, **options)
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert not (tmp_path / "out/_core/job.json").exists()


class NoCredentials(MemoryFileSystem):  # type: ignore[misc]
    """As one whose library raises errors of its own."""

    protocol = "nocredentials"

    def isfile(self, path: str) -> bool:
        raise LookupError(f"no credentials for {path}")


def test_what_a_file_system_raises_is_said(model: core.EmbeddingModel, tmp_path: Path) -> None:
    fsspec.register_implementation("nocredentials", NoCredentials, clobber=True)
    (tmp_path / "no.zip").write_bytes(b"no archive")
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(OptionError, match=r"no\.zip' cannot be opened: File is not a zip file"):
        core.embed_dataset(f"zip://a.txt::{tmp_path / 'no.zip'}", tmp_path / "out", model)
    with pytest.raises(CoreError, match=r"source 'nocredentials://a' cannot be listed: .*no cr"):
        core.embed_dataset("nocredentials://a", tmp_path / "out", model)
    with pytest.raises(CoreError, match=r"target 'nocredentials://a' cannot be listed: .*no cr"):
        core.embed_dataset(tmp_path / "a.txt", "nocredentials://a", model)


def test_a_target_that_holds_something_else_is_left_alone(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", ".txt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.md").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OptionError, match=r"holds other files \(notes\.md\)"):
            core.embed_dataset(source, tmp_path / "out", model, overwrite=overwrite)
    with pytest.raises(OptionError, match="is a file: give a directory"):
        core.embed_dataset(source, tmp_path / "out/notes.md", model)
    with pytest.raises(OptionError, match="is the source"):
        core.embed_dataset(source, source, model)
    assert (tmp_path / "out/notes.md").read_text() == "mine"


def test_starting_anew_removes_no_file_of_anybody_else(
    model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", ".txt")
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-00000-5f1c.snappy.parquet").write_bytes(b"of Spark")
    with pytest.raises(OptionError, match=r"holds other files \(part-00000-5f1c\.snappy\.parquet"):
        core.embed_dataset(source, out, model, overwrite=True)
    job = tmp_path / "job"
    core.embed_dataset(source, job, model, rows_per_part=40)
    mine = ("notes.md", "part-00000-5f1c.snappy.parquet", "part-old/part-00000.parquet")
    (job / "part-old").mkdir()
    for name in mine:
        (job / name).write_bytes(b"mine")
    report = core.embed_dataset(source, job, model, overwrite=True)
    assert (report.parts, report.made) == (2, 2)
    assert sorted(path.name for path in job.glob("part-0000?.parquet")) == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    assert {(directory / name).read_bytes() for directory in (job,) for name in mine} == {b"mine"}
    assert (out / "part-00000-5f1c.snappy.parquet").read_bytes() == b"of Spark"


@pytest.mark.parametrize("suffix", [".parquet", ".txt"])
@pytest.mark.parametrize("way", ["source/out", "source/../source/out", "link/out"])
def test_a_target_inside_its_source_is_no_part_of_it(
    suffix: str, way: str, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", suffix)
    (tmp_path / "link").symlink_to("source")
    first = core.embed_dataset(source, f"{tmp_path}/{way}", model)
    again = core.embed_dataset(source, f"{tmp_path}/{way}", model)
    assert (first.rows, again.rows, again.made) == (120, 120, 0)


def test_a_path_with_colons_is_that_path(
    model: core.EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them separate file systems in an URL of fsspec."""
    monkeypatch.chdir(tmp_path)
    source = write_source(tmp_path / "a::b", ".txt")
    assert core.embed_dataset("a::b", "out::1", model).rows == 120
    assert core.embed_dataset(source, tmp_path / "out::1", model).made == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a::b", "out::1"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".txt"])
@pytest.mark.parametrize("kept", [120, 70])
def test_a_source_that_changes_while_it_is_read_is_an_error(
    suffix: str,
    kept: int,
    model: core.EmbeddingModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_source(tmp_path / "source", suffix)
    make_part = Job.make_part

    def changing(self: Job, part: Part, *rest: Any) -> Any:
        made = make_part(self, part, *rest)
        if suffix == ".parquet":
            texts = pa.table({"text": [f"other {text}" for text in TEXTS[:kept]]})
            pq.write_table(texts, source / "a.parquet")
        else:
            path = source / f"a{suffix}"
            path.write_bytes(path.read_bytes().replace(b"text ", b"TEXT ")[: kept * 20])
        return made

    monkeypatch.setattr(Job, "make_part", changing)
    with pytest.raises(CoreError, match=rf"a\{suffix} has changed since the job began"):
        core.embed_dataset(source, tmp_path / "out", model, rows_per_part=40)
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["part-00000.parquet"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"fingerprint": 5}', '{"model": []}', '{"rows": Infinity, "failed": []}'],
)
def test_a_damaged_description_is_an_error(
    content: str, model: core.EmbeddingModel, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", ".txt")
    core.embed_dataset(source, tmp_path / "out", model)
    (tmp_path / "out/_core/job.json").write_text(content)
    with pytest.raises(CoreError, match=r"job\.json|is of another job"):
        core.embed_dataset(source, tmp_path / "out", model)
    (tmp_path / "out/_core/job.json").unlink()
    core.embed_dataset(source, tmp_path / "out2", model)
    (tmp_path / "out2/_core/parts/00000.json").write_text(content)
    with pytest.raises(CoreError, match=r"00000\.json"):
        core.embed_dataset(source, tmp_path / "out2", model)


def test_two_processes_do_not_write_one_target(model: core.EmbeddingModel, tmp_path: Path) -> None:
    import fcntl

    source = write_source(tmp_path / "source", ".txt")
    (tmp_path / "out/_core").mkdir(parents=True)
    descriptor = os.open(tmp_path / "out/_core", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(CoreError, match="is being written by another process"):
            core.embed_dataset(source, tmp_path / "out", model)
    finally:
        os.close(descriptor)
    assert core.embed_dataset(source, tmp_path / "out", model).made == 2


FULL = """
import resource, sys
import core
core.load(sys.argv[3], backend="onnx", device="cpu").encode("warm")
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))
try:
    core.embed_dataset(sys.argv[1], sys.argv[2], sys.argv[3], backend="onnx", device="cpu",
                       rows_per_part=int(sys.argv[4]))
except core.CoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_what_is_finished_outlives_a_full_disk(folder: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", ".txt")
    lines = (source / "a.txt").read_text().splitlines()
    (source / "a.txt").write_text("\n".join(lines[:10]))  # a small part before a large one
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(source), str(out), str(folder), "70"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cannot be written (part-00001.parquet)" in done.stdout
    assert not list(out.rglob("*.partial"))
    first = (out / "part-00000.parquet").read_bytes()
    with core.load(folder, backend="onnx", device="cpu") as own:
        report = core.embed_dataset(source, out, own, rows_per_part=70)
    assert (report.rows, report.made) == (60, 1)
    assert (out / "part-00000.parquet").read_bytes() == first


def test_a_target_that_cannot_be_written_keeps_what_it_has(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own can be entered by its owner alone
        place = Path(name)
        shutil.copytree(folder, place / "model")
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
        (place / "rows.txt").write_text("\n".join(TEXTS))
        with core.load(place / "model", backend="onnx", device="cpu") as model:

            def run(target: str) -> core.DatasetReport:
                return core.embed_dataset(
                    place / "rows.txt", place / target, model, rows_per_part=50
                )

            run("out")
            whole = digests(place / "out")
            (place / "out/part-00001.parquet").unlink()
            before = digests(place / "out")
            places = [place / "out", place / "out/_core", place / "out/_core/parts", place]
            with as_another_user(*places, mode=0o555):
                for target in ("out", "new"):
                    with pytest.raises(CoreError, match=r"cannot be written.*denied"):
                        run(target)
            assert digests(place / "out") == before
            assert not (place / "new").exists()
            assert run("out").made == 1
            assert digests(place / "out") == whole


def test_the_command_says_what_it_made_and_what_failed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "a", "id": 1}\n{"text": null, "id": 2}\n', "utf-8")
    words = ["batch", str(source), str(tmp_path / "out"), "--model", str(folder)]
    words += ["--backend", "onnx", "--id-column", "id"]
    assert main(words) == 1
    assert "id 2 (row 1): it is null" in (shown := capsys.readouterr().err)
    assert "--on-error skip" in shown
    assert "another job, to be started anew with --overwrite" in shown
    assert main([*words, "--on-error", "skip"]) == 0
    both = capsys.readouterr()
    assert "not embedded: id 2 (row 1): it is null" in both.err
    assert "1 rows, parts: 1, of which this run made 1" in both.out
    assert main([*words, "--on-error", "skip", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["made"], report["rows"], len(report["failed"])) == (0, 1, 1)
    assert main([*words, "--on-error", "skip", "--set", "provider=CPUExecutionProvider"]) == 2
    shown = capsys.readouterr().err
    assert "--set provider was not given and is 'CPUExecutionProvider'. Finish it as" in shown
    assert main([*words, "--set", "provider"]) == 2
    assert "--set takes name=value, not 'provider'" in capsys.readouterr().err
    assert main([*words, "--set", "provder=x"]) == 2
    assert "provder" in capsys.readouterr().err
    assert main([*words, "--normalize", "--prompt", "x", "--on-error", "skip"]) == 2
    shown = capsys.readouterr().err
    assert "--normalize was not given and is given; --prompt was not given and is 'x'." in shown
    assert "--overwrite" in shown
    assert main([*words, "--max-active-dims", "3"]) == 2
    assert "--max-active-dims is not for this kind of model." in capsys.readouterr().err
    assert main([*words, "--ray", "local"]) != 0
    assert "core[ray]" in capsys.readouterr().err


def test_without_pyarrow_it_says_what_to_install(
    model: core.EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CoreError, match=r"pip install core\[batch\]"):
        core.embed_dataset(tmp_path, tmp_path / "out", model)


def test_memory_does_not_grow_with_the_source(
    model: core.EmbeddingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is given a window at a time, whatever a part holds."""
    (tmp_path / "rows.txt").write_text("x\n" * 10_000)
    given: list[int] = []
    encode: Callable[..., Any] = core.Hooks.encode

    def watch(self: Any, model: Any, texts: Any, options: Any = None) -> Any:
        given.append(len(texts))
        return encode(self, model, texts, options)

    monkeypatch.setattr(core.Hooks, "encode", watch)
    core.embed_dataset(tmp_path / "rows.txt", tmp_path / "out", model)
    assert sum(given) == 10_000
    assert max(given) <= 4_096
