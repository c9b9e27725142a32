"""Embed the texts of Parquet files with Spark: `spark-submit spark_job.py SOURCE TARGET MODEL`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pandas as pd
from pyspark import TaskContext
from pyspark.sql import SparkSession


def embed(source: str, target: str, model: str, backend: str = "onnx") -> None:
    """Read `id` and `text`, write `id` and `embedding`. Every node needs core and the model."""

    def embedded(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        context = TaskContext.get()
        os.environ["CORE_NUM_THREADS"] = str(context.cpus() if context else 1)
        import core  # after the number of threads: what Spark gave this task

        with core.load(model, backend=backend) as loaded:  # once a partition
            for batch in batches:
                vectors = loaded.encode(batch["text"].tolist(), show_progress_bar=False)
                yield pd.DataFrame({"id": batch["id"], "embedding": list(vectors)})

    spark = SparkSession.builder.appName("embed").getOrCreate()
    rows = spark.read.parquet(source).select("id", "text")
    columns = "id string, embedding array<float>"
    rows.mapInPandas(embedded, columns).write.parquet(target)


if __name__ == "__main__":
    embed(*sys.argv[1:4])
