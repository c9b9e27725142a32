"""The job with Spark, on a Spark of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import assert_embedded
from pyspark.sql import SparkSession
from spark_job import embed


def test_the_job_embeds_every_row(
    source: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # of the workers
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    local = builder.config("spark.driver.bindAddress", "127.0.0.1")
    with local.config("spark.driver.host", "127.0.0.1").getOrCreate():
        embed(str(source), str(tmp_path / "out"), model)
    assert_embedded(source, tmp_path / "out", model)
