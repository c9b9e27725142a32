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
import pyarrow.parquet as pq
import pytest
import ray

import core
import core_ray

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


def test_an_actor_computes_with_the_cpus_it_was_given(cluster: None, folder: Path) -> None:
    @ray.remote(num_cpus=1)
    class Probe:
        def threads(self) -> tuple[str, int]:
            core_ray.Embed(str(folder), load={"backend": "onnx"})
            from core.toolkit import available_cpus

            return os.environ["CORE_NUM_THREADS"], available_cpus()

    assert ray.get(Probe.remote().threads.remote()) == ("1", 1)


@pytest.mark.parametrize("as_table", [False, True])
def test_batches_of_every_format(
    as_table: bool, folder: Path, model: core.EmbeddingModel, texts: list[str]
) -> None:
    embed = core_ray.Embed(str(folder), column="body", output="vector", load={"backend": "onnx"})
    batch: Any = {"body": np.array(texts[:20], object), "n": np.arange(20)}
    table = embed(pa.table(dict(batch)) if as_table else batch)
    assert table.column_names == ["body", "n", "vector"]
    np.testing.assert_allclose(table["vector"].to_pylist(), model.encode(texts[:20]), atol=1e-5)


def test_wrong_arguments_and_batches_say_so(folder: Path) -> None:
    with pytest.raises(core.OptionError, match="kind must be one of"):
        core_ray.Embed(str(folder), kind="dense")
    with pytest.raises(core.OptionError, match=r"reads 2 column\(s\)"):
        core_ray.Embed(str(folder), kind="reranker")
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


DRIVER = """
import sys, core_ray
core_ray.embed_dataset(sys.argv[1], sys.argv[2], sys.argv[3], address="local", actors=2,
                       backend="onnx", id_column="id", rows_per_part=500, show_progress_bar=False)
"""


def test_killed_at_any_moment_the_result_is_that_of_an_undisturbed_run(
    folder: Path, texts: list[str], tmp_path: Path
) -> None:
    """The driver, an actor or the node's daemon is killed, `$KILLS` times in all."""
    source = write(tmp_path / "rows.parquet", texts[:8_000])
    chance = random.Random(1)

    def start(target: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(source), str(target), str(folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    calm = tmp_path / "calm"
    assert start(calm).wait() == 0
    disturbed = tmp_path / "disturbed"
    records = disturbed / "_core/parts"
    kills = 0
    wanted = int(os.environ.get("KILLS", "6"))
    while True:
        process = start(disturbed)
        before = len(list(records.glob("*.json")))
        while process.poll() is None:
            finished = len(list(records.glob("*.json")))
            if kills < wanted and finished > before:
                time.sleep(chance.uniform(0, 0.3))
                kind = ("driver", "ray::_Worker", "raylet")[kills % 3]
                _kill(process, kind)
                kills += 1
                before = finished
            time.sleep(0.01)
        if process.returncode == 0:
            break
        _reap(process)
        if kills >= wanted:
            wanted = kills
    assert kills > 0
    assert digests(disturbed) == digests(calm)


def _kill(process: subprocess.Popen[bytes], kind: str) -> None:
    if kind == "driver":
        process.kill()
        return
    listed = subprocess.run(
        ["ps", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        pid, session, words = line.split(None, 2)
        if session == str(process.pid) and kind in words:
            os.kill(int(pid), signal.SIGKILL)
            return


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
