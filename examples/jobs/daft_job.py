"""Embed the texts of Parquet files with Daft: `python daft_job.py SOURCE TARGET MODEL`."""

from __future__ import annotations

import os
import sys
from typing import Any

import daft
from daft import DataType, Series

CPUS = int(os.environ.get("CPUS_PER_MODEL", "1"))


@daft.cls(cpus=CPUS, use_process=True, max_concurrency=(os.cpu_count() or 1) // CPUS or 1)
class Embed:
    """A model, loaded once in each process that Daft starts."""

    def __init__(self, model: str, backend: str = "onnx") -> None:
        os.environ["CORE_NUM_THREADS"] = str(CPUS)  # what Daft gave this process
        import core

        self.model = core.load(model, backend=backend)

    @daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=4096)
    def __call__(self, texts: Series) -> Any:
        return list(self.model.encode(texts.to_pylist(), show_progress_bar=False))


def embed(source: str, target: str, model: str) -> None:
    """Read `id` and `text`, write `id` and `embedding`. Every node needs core and the model."""
    rows = daft.read_parquet(source)
    rows.select("id", Embed(model)(rows["text"]).alias("embedding")).write_parquet(target)


if __name__ == "__main__":
    embed(*sys.argv[1:4])
