"""`core_ray` on a Ray of this machine: the results of one process, through every disturbance."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray

import core
import core_ray
from core.toolkit import arrow_column

pytestmark = pytest.mark.filterwarnings("ignore")


def write(path: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(len(texts))], "text": texts}), path)
    return path


def read(target: Path) -> Any:
    return pa.concat_tables([pq.read_table(file) for file in sorted(target.glob("*.parquet"))])


def digests(target: Path) -> dict[str, str]:
    return {
        path.relative_to(target).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob("*")
        if path.is_file()
    }


def test_map_batches_adds_a_column_of_fixed_size_lists(
    cluster: None, folder: Path, model: core.EmbeddingModel, texts: list[str], tmp_path: Path
) -> None:
    rows = [{"n": i, "text": text} for i, text in enumerate(texts[:500])]
    embedded = ray.data.from_items(rows).map_batches(
        core_ray.Embed,
        fn_constructor_kwargs={
            "model": str(folder), "load": {"backend": "onnx"}, "normalize_embeddings": True,
        },
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
        batch_size=200,
    )  # fmt: skip
    embedded.write_parquet(str(tmp_path / "out"))
    table = read(tmp_path / "out").sort_by("n")
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), model.dimension)
    expected = model.encode(texts[:500], normalize_embeddings=True)
    np.testing.assert_allclose(table["embedding"].to_pylist(), expected, atol=1e-5)


#: Model, its kind, columns it reads, and the type of the column it adds.
KINDS = {
    "splade": ("sparse", "text", "list<item: struct<index: int32, value: float>>"),
    "colbert": ("multi_vector", "text", "list<item: fixed_size_list<item: float>[16]>"),
    "reranker-bert": ("reranker", ("query", "text"), "float"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_its_column(name: str, models: Path) -> None:
    kind, columns, expected = KINDS[name]
    embed = core_ray.Embed(str(models / name), column=columns, load={"backend": "onnx"})
    batch = pa.table({"query": ["a fox?", "a dog?"], "text": ["blue fox", "a green house"]})
    table = embed(batch)
    output = "score" if kind == "reranker" else "embedding"
    assert table.column_names == ["query", "text", output]
    assert str(table.schema.field(output).type) == expected
    with getattr(core, f"load_{kind}")(models / name, backend="onnx") as model:
        if kind == "reranker":
            rows = list(zip(batch["query"].to_pylist(), batch["text"].to_pylist(), strict=True))
            result = model.predict(rows)
        else:
            result = model.encode(batch["text"].to_pylist())
    assert table[output].combine_chunks().equals(pa.chunked_array([arrow_column(result)]).chunk(0))
    assert embed(batch.slice(0, 0)).schema == table.schema  # a block that a filter left empty


def leaves(table: pa.Table) -> list[Any]:
    """The numbers of all embeddings; of sparse ones, their dimensions too."""
    column = table["embedding"].combine_chunks()
    while not pa.types.is_struct(column.type) and pa.types.is_nested(column.type):
        column = column.flatten()
    return column.flatten() if pa.types.is_struct(column.type) else [column]


def test_jobs_of_other_kinds(cluster: None, models: Path, texts: list[str], tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", texts[:300])
    options: dict[str, Any] = {"backend": "onnx", "id_column": "id", "rows_per_part": 100}
    for name in ("splade", "colbert"):
        core_ray.embed_dataset(source, tmp_path / name, str(models / name), **options)
        core.embed_dataset(source, tmp_path / f"{name}-here", str(models / name), **options)
        made, expected = read(tmp_path / name), read(tmp_path / f"{name}-here")
        assert made.schema == expected.schema
        assert made["id"].equals(expected["id"])
        assert pc.list_value_length(made["embedding"]).equals(
            pc.list_value_length(expected["embedding"])
        )
        for numbers, others in zip(leaves(made), leaves(expected), strict=True):
            np.testing.assert_allclose(numbers, others, atol=1e-5)
    with pytest.raises(core.OptionError, match="is a reranker, which reads pairs"):
        core_ray.embed_dataset(source, tmp_path / "out", str(models / "reranker-bert"), **options)


def test_an_actor_computes_with_the_cpus_it_was_given(cluster: None, folder: Path) -> None:
    @ray.remote(num_cpus=1)
    class Probe:
        def threads(self) -> tuple[str, int]:
            core_ray.Embed(str(folder), load={"backend": "onnx"})
            from core.toolkit import available_cpus

            return os.environ["CORE_NUM_THREADS"], available_cpus()

    assert ray.get(Probe.remote().threads.remote()) == ("1", 1)


@pytest.mark.parametrize("asked", [None, False])
def test_actors_share_weights_where_the_file_can(
    asked: bool | None, cluster: None, folder: Path
) -> None:
    @ray.remote(num_cpus=1)
    class Probe:
        def kwargs(self, folder: str) -> dict[str, Any]:
            own = {} if asked is None else {"model_kwargs": {"share_weights": asked}}
            embed = core_ray.Embed(folder, load={"backend": "onnx", **own})
            return dict(embed._model.model_kwargs)

    probe = Probe.remote()  # type: ignore[attr-defined]
    assert ray.get(probe.kwargs.remote(str(folder))) == {"share_weights": asked is None}


@pytest.mark.parametrize("as_table", [False, True])
def test_batches_of_every_format(
    as_table: bool, folder: Path, model: core.EmbeddingModel, texts: list[str]
) -> None:
    embed = core_ray.Embed(str(folder), column="body", output="vector", load={"backend": "onnx"})
    batch: Any = {"body": np.array(texts[:20], object), "n": np.arange(20)}
    table = embed(pa.table(dict(batch)) if as_table else batch)
    assert table.column_names == ["body", "n", "vector"]
    np.testing.assert_allclose(table["vector"].to_pylist(), model.encode(texts[:20]), atol=1e-5)


def test_wrong_arguments_and_batches_say_so(folder: Path, models: Path) -> None:
    with pytest.raises(core.OptionError, match="kind must be one of"):
        core_ray.Embed(str(folder), kind="dense")
    with pytest.raises(core.OptionError, match=r"reads 2 column\(s\)"):
        core_ray.Embed(str(models / "reranker-bert"))
    with pytest.raises(core.OptionError, match="does not take 'max_active_dims'"):
        core_ray.Embed(str(folder), load={"backend": "onnx"}, max_active_dims=3)
    embed = core_ray.Embed(str(folder), load={"backend": "onnx"})
    with pytest.raises(core.OptionError, match=r"no column 'text'; it has 'body'"):
        embed({"body": np.array(["a"], object)})
    with pytest.raises(core.OptionError, match="Input 1 is NoneType"):
        embed({"text": np.array(["a", None], object)})
    for bad in ({"num_cpus": -1}, {"num_gpus": "1"}, {"actors": 0}):
        with pytest.raises(core.OptionError, match=next(iter(bad))):
            core_ray.Runner(**bad)  # type: ignore[arg-type]


def test_20_000_texts_are_those_of_one_process(
    cluster: None, folder: Path, model: core.EmbeddingModel, texts: list[str], tmp_path: Path
) -> None:
    source = write(tmp_path / "rows.parquet", texts)
    report = core_ray.embed_dataset(
        source, tmp_path / "out", str(folder), actors=2, backend="onnx", id_column="id",
        rows_per_part=2_500, show_progress_bar=False,
    )  # fmt: skip
    assert (report.rows, report.parts, report.made) == (20_000, 8, 8)
    table = read(tmp_path / "out")
    assert table["id"].to_pylist() == [f"r{i}" for i in range(20_000)]
    found = table["embedding"].combine_chunks().flatten().to_numpy().reshape(20_000, -1)
    np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)
    # One process goes on where the cluster ended, and finds nothing to do.
    again = core.embed_dataset(
        source, tmp_path / "out", str(folder), backend="onnx", id_column="id",
        rows_per_part=2_500, show_progress_bar=False,
    )  # fmt: skip
    assert (again.made, again.fingerprint) == (0, report.fingerprint)


def test_errors_of_the_actors_arrive(cluster: None, folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"text": "a", "id": 1}\n{"text": null, "id": 2}\n')
    options: dict[str, Any] = {"backend": "onnx", "id_column": "id", "actors": 1}
    with pytest.raises(core.CoreError, match=r"id 2 \(row 1\): it is null"):
        core_ray.embed_dataset(lines, tmp_path / "out", str(folder), **options)
    report = core_ray.embed_dataset(
        lines, tmp_path / "out", str(folder), **options, on_error="skip", overwrite=True
    )
    assert [row.id for row in report.failed] == [2]
    with pytest.raises(core.CoreError, match="nowhere"):
        core_ray.embed_dataset(lines, tmp_path / "out2", str(tmp_path / "nowhere"), **options)
    with core.load(folder, backend="onnx") as loaded, pytest.raises(core.OptionError, match="name"):
        core_ray.embed_dataset(lines, tmp_path / "out3", loaded)  # type: ignore[arg-type]


#: A job that notes every part that an actor begins.
DRIVER = """
import sys
import core.batch.embed, core_ray
from core.batch.job import Job

NOTED = sys.argv[4]

class Noted(Job):
    def make_part(self, part, *rest):
        with open(NOTED, "a") as file:
            file.write(f"{part.number}\\n")
        return super().make_part(part, *rest)

core.batch.embed.Job = Noted
core_ray.embed_dataset(sys.argv[1], sys.argv[2], sys.argv[3], address="local", actors=2,
                       backend="onnx", id_column="id", rows_per_part=250, show_progress_bar=False)
"""


def test_killed_at_random_moments_the_result_is_that_of_an_undisturbed_run(
    folder: Path, texts: list[str], tmp_path: Path
) -> None:
    """The driver, an actor or the node's daemon is killed, `$KILLS` times in all."""
    wanted = int(os.environ.get("KILLS", "6"))
    # Every run makes parts between two kills, and none may come to its end before the last.
    rows = 250 * 20 * wanted
    source = write(tmp_path / "rows.parquet", (texts * (rows // len(texts) + 1))[:rows])
    chance = random.Random(1)

    noted = tmp_path / "begun.txt"

    def start(target: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(source), str(target), str(folder), str(noted)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    calm = tmp_path / "calm"
    assert start(calm).wait() == 0
    noted.unlink()
    disturbed = tmp_path / "disturbed"
    records = disturbed / "_core/parts"
    kills: list[str] = []
    while True:
        process = start(disturbed)
        before, left = len(list(records.glob("*.json"))), chance.uniform(0, 6)
        early = time.monotonic() + (left if len(kills) % 4 == 3 else 600)
        while process.poll() is None:
            finished = len(list(records.glob("*.json")))
            if len(kills) < wanted and (finished > before or time.monotonic() > early):
                time.sleep(chance.uniform(0, 0.2) if finished > before else 0)
                kind = ("driver", "ray::_Worker", "raylet")[len(kills) % 3]
                if _kill(process, kind):
                    kills.append(kind)
                    early = time.monotonic() + 600
                before = finished
            time.sleep(0.01)
        if process.returncode == 0:
            break
        _reap(process)
    assert digests(disturbed) == digests(calm)
    begun = noted.read_text().split()
    again = len(begun) - len(set(begun))
    print(
        f"\n{len(kills)} kills ({', '.join(kills)}); {len(set(begun))} parts, begun again: {again}"
    )
    assert len(kills) == wanted
    # An actor that dies loses the part it was making: one, or with the driver or node both do.
    assert again <= sum(1 if kind == "ray::_Worker" else 2 for kind in kills)


def _kill(process: subprocess.Popen[bytes], kind: str) -> bool:
    """Whether there was such a process to kill."""
    if kind == "driver":
        process.kill()
        return True
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        pid, session, words = line.split(None, 2)
        if session == str(process.pid) and kind in words:
            os.kill(int(pid), signal.SIGKILL)
            return True
    return False


def _reap(process: subprocess.Popen[bytes]) -> None:
    """What a killed driver left of its cluster."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_command_runs_on_ray(folder: Path, texts: list[str], tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", texts[:300])
    words = ["batch", str(source), str(tmp_path / "out"), "--model", str(folder)]
    words += ["--ray", "local", "--backend", "onnx", "--id-column", "id", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "core", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 300
