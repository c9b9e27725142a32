"""`model_card_data` and the README.md that is written with a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from core.sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from tests.conftest import copy_model
from tests.hub.loopback import LoopbackHub

REPO = "acme/described"
FACTS: dict[str, Any] = {
    "language": "de",
    "license": "apache-2.0",
    "model_name": "A model: of ours",
    "model_id": "acme/ours",
    "task_name": "finding duplicates",
    "tags": ["sentence-transformers", "our-tag"],
    "train_datasets": [{"name": "Own"}, {"name": "NLI", "id": "nyu-mll/glue"}],
}


@pytest.fixture(params=[SentenceTransformerModelCardData, SimpleNamespace], ids=["ours", "another"])
def described(request: pytest.FixtureRequest, tiny: Path) -> SentenceTransformer:
    """The tiny model with facts for its card, in our class or in one with the same attributes."""
    data = request.param(**FACTS)
    return SentenceTransformer(str(tiny), backend="onnx", model_card_data=data)


def header(card: str) -> dict[str, Any]:
    found: dict[str, Any] = ModelCard(card).data.to_dict()  # type: ignore[no-untyped-call]
    return found


def check(card: str) -> None:
    facts = header(card)
    assert (facts["language"], facts["license"]) == (["de"], "apache-2.0")
    assert (facts["tags"], facts["datasets"]) == (FACTS["tags"], ["nyu-mll/glue"])
    assert facts["pipeline_tag"] == "feature-extraction"
    assert "# A model: of ours\n" in card
    assert "for finding duplicates." in card
    assert 'core.load("acme/ours", backend="onnx")' in card


def test_facts_go_into_the_card_of_a_saved_model(
    described: SentenceTransformer, tmp_path: Path
) -> None:
    described.save_pretrained(str(tmp_path / "saved"))
    check((tmp_path / "saved" / "README.md").read_text())


def test_facts_go_into_the_card_of_a_pushed_model(
    described: SentenceTransformer, hub: LoopbackHub
) -> None:
    described.push_to_hub(REPO)
    store = hub.store(REPO)
    check(store.read(store.entries(store.resolve("main"))["README.md"]).decode())


def test_a_model_without_facts_has_a_card_of_its_own(
    onnx: SentenceTransformer, tmp_path: Path
) -> None:
    assert isinstance(onnx.model_card_data, SentenceTransformerModelCardData)
    onnx.save(str(tmp_path / "saved"), model_name="acme/named")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "sentence-transformers" in header(card)["tags"]
    assert 'SentenceTransformer("acme/named", backend="onnx")' in card
    assert "prompt" not in card  # empty ones are not worth a row


def test_facts_last_as_long_as_the_call(described: SentenceTransformer, tmp_path: Path) -> None:
    described.save(str(tmp_path / "saved"))
    described.embedding_model.save(tmp_path / "plain")
    assert "license" not in header((tmp_path / "plain" / "README.md").read_text())


def test_no_card_is_written_where_none_is_wanted(
    onnx: SentenceTransformer, tiny: Path, tmp_path: Path
) -> None:
    onnx.save(str(tmp_path / "bare"), create_model_card=False)
    assert not (tmp_path / "bare" / "README.md").exists()
    own = copy_model(tiny, tmp_path / "own")
    (own / "README.md").write_text("hand-written")
    onnx.save(str(own), create_model_card=False)
    assert (own / "README.md").read_text() == "hand-written"


def test_a_model_s_own_card_is_kept(tiny: Path, tmp_path: Path) -> None:
    own = copy_model(tiny, tmp_path / "own")
    (own / "README.md").write_text("hand-written")
    data = SentenceTransformerModelCardData(license="mit")
    SentenceTransformer(str(own), backend="onnx", model_card_data=data).save(str(tmp_path / "new"))
    assert (tmp_path / "new" / "README.md").read_text() == "hand-written"
