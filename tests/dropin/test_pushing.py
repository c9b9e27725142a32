"""`push_to_hub` and `cache_folder` with the reference's parameters, on the loopback Hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import OptionError
from core.sentence_transformers import SentenceTransformer
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

REPO = "acme/pushed"


def card(hub: LoopbackHub, revision: str = "main") -> bytes:
    store = hub.store(REPO)
    return store.read(store.entries(store.resolve(revision))["README.md"])


def test_a_model_card_is_kept_unless_told_otherwise(
    hub: LoopbackHub, model: SentenceTransformer
) -> None:
    hub.create(REPO).add({"README.md": b"hand-written"})
    with pytest.raises(OptionError, match="exist_ok=True"):
        model.push_to_hub(REPO)
    url = model.push_to_hub(REPO, exist_ok=True, commit_message="Add weights")
    assert url == f"{hub.url}/{REPO}/commit/{hub.store(REPO).resolve('main')}"
    assert hub.store(REPO).message("main").startswith("Add weights")
    assert card(hub) == b"hand-written"
    model.push_to_hub(REPO, exist_ok=True, replace_model_card=True)
    assert b"SentenceTransformer" in card(hub)


def test_another_directory_can_be_pushed_and_a_branch_named(
    hub: LoopbackHub, onnx: SentenceTransformer, tiny: Path
) -> None:
    onnx.push_to_hub(REPO, None, True, local_model_path=str(tiny), revision="dev")
    assert REPO in hub.private
    store = hub.store(REPO)
    assert "onnx/model.onnx" in store.entries(store.resolve("dev"))
    again = SentenceTransformer(REPO, revision="dev", backend="onnx")
    np.testing.assert_array_equal(again.encode("one"), onnx.encode("one"))
    with pytest.raises(OptionError, match="safe_serialization"):
        onnx.push_to_hub(REPO, safe_serialization=False)


def test_the_cache_folder_is_used(
    hub: LoopbackHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create(REPO).add(folder_files(tiny))
    SentenceTransformer(REPO, backend="onnx", cache_folder=str(tmp_path / "given"))
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "variable"))
    SentenceTransformer(REPO, backend="onnx", token="hf_loopback")
    for name in ("given", "variable"):
        assert (tmp_path / name / "models--acme--pushed").is_dir()
    offline = SentenceTransformer(REPO, backend="onnx", local_files_only=True)
    assert offline.encode("one").shape == (32,)
