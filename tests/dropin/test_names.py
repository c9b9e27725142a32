"""Import paths and attributes of the reference: here, or an error that says where."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import core
import core.sentence_transformers as dropin
from core.errors import UnsupportedOperation
from core.plugin.plugin import BACKEND_GROUP
from core.plugin.registry import registry
from core.sentence_transformers import SentenceTransformer, SimilarityFunction, util
from tests.checkpoint.dialects import build_dialect

#: Import path in the reference, older ones included, to names that code takes from there.
PATHS = {
    "backend": [
        "export_dynamic_quantized_onnx_model",
        "export_optimized_onnx_model",
        "export_static_quantized_openvino_model",
    ],
    "model_card": ["SentenceTransformerModelCardData"],
    "multi_vector_encoder": ["MultiVectorEncoder", "maxsim", "maxsim_pairwise"],
    "quantization": ["quantize_embeddings"],
    "similarity_functions": ["SimilarityFunction"],
    "util": ["cos_sim", "dot_score", "pytorch_cos_sim", "semantic_search", "batch_to_device"],
    "util.quantization": ["quantize_embeddings"],
    "util.retrieval": ["semantic_search"],
    "util.similarity": ["SimilarityFunction", "pairwise_cos_sim", "maxsim", "mean_maxsim_pairwise"],
    "util.tensor": [
        "normalize_embeddings",
        "select_max_active_dims",
        "to_scipy_coo",
        "truncate_embeddings",
        "batch_to_device",
    ],
}
SUBMODULES = [
    "SentenceTransformer",
    "base",
    "datasets",
    "evaluation",
    "losses",
    "models",
    "readers",
    "sentence_transformer",
    "trainer",
    "training_args",
]
#: `__all__` of sentence-transformers 6.2, without what core.sentence_transformers has.
NAMES = [
    "CrossEncoderModelCardData",
    "CrossEncoderTrainer",
    "CrossEncoderTrainingArguments",
    "DefaultBatchSampler",
    "InputExample",
    "LoggingHandler",
    "MultiDatasetDefaultBatchSampler",
    "MultiVectorEncoderModelCardData",
    "MultiVectorEncoderTrainer",
    "MultiVectorEncoderTrainingArguments",
    "ParallelSentencesDataset",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
    "SentencesDataset",
    "SparseEncoderModelCardData",
    "SparseEncoderTrainer",
    "SparseEncoderTrainingArguments",
    "mine_hard_negatives",
    "resolve_ids",
]
A = np.array([[1, 2, 3], [0, 1, -1]], dtype=np.float32)
B = np.array([[1, 1, 0], [2, 0, 1], [-1, 0.5, 0]], dtype=np.float32)
#: What sentence-transformers 6.2 prints for them.
SIMILARITIES = {
    "cos_sim": [[0.56694669, 0.59761429, 0.0], [0.5, -0.31622776, 0.31622776]],
    "dot_score": [[3.0, 5.0, 0.0], [1.0, -1.0, 0.5]],
    "euclidean_sim": [[-3.16227770, -3.0, -3.90512490], [-1.41421354, -3.0, -1.5]],
    "manhattan_sim": [[-4.0, -5.0, -6.5], [-2.0, -5.0, -2.5]],
}


@pytest.mark.parametrize("path", PATHS)
def test_the_reference_s_import_paths_lead_to_the_same_things(path: str) -> None:
    module = importlib.import_module(f"core.sentence_transformers.{path}")
    for name in PATHS[path]:
        found = getattr(module, name)
        places = [place for place in (dropin, util) if name in place.__all__]
        assert places
        assert all(getattr(place, name) is found for place in places)


def test_util_is_there_once_the_package_is_imported() -> None:
    code = "import core.sentence_transformers as st; print(st.util.cos_sim([1, 0], [1, 0]).shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "(1, 1)" in done.stdout or "[1, 1]" in done.stdout, done.stderr


def test_a_circular_import_is_called_so(tmp_path: Path) -> None:
    """As of a file of the user's that has the name of a package which core imports."""
    (tmp_path / "tokenizers.py").write_text(
        "from core.sentence_transformers import SentenceTransformer", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "tokenizers.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "circular import" in done.stderr
    assert "is a class" not in done.stderr


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_that_are_not_here_say_where_they_are(name: str) -> None:
    with pytest.raises(ImportError, match=r"core\.sentence_transformers") as raised:
        importlib.import_module(f"core.sentence_transformers.{name}")
    assert isinstance(raised.value, UnsupportedOperation)
    with pytest.raises(ImportError, match=rf"core\.sentence_transformers.*{name}"):
        importlib.import_module(f"core.sentence_transformers.{name}.CosineSimilarityLoss")
    assert importlib.util.find_spec("core.sentence_transformers.nonsense") is None


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_here_say_where_they_are(name: str) -> None:
    with pytest.raises(ImportError, match=f"Import {name} from sentence_transformers"):
        getattr(dropin, name)


def test_other_names() -> None:
    assert dropin.__version__ == "6.2.0"
    with pytest.raises(AttributeError, match="nonsense"):
        dropin.nonsense  # noqa: B018
    with pytest.raises(ImportError, match=r"util\.paraphrase_mining from sentence_transformers"):
        util.paraphrase_mining  # noqa: B018
    with pytest.raises(AttributeError, match="nonsense"):
        util.nonsense  # noqa: B018


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_are_the_reference_s(name: str) -> None:
    expected = torch.tensor(SIMILARITIES[name])
    every, pairwise = getattr(util, name), getattr(util, f"pairwise_{name}")
    torch.testing.assert_close(every(A, torch.from_numpy(B)), expected)
    torch.testing.assert_close(pairwise(A, B[:2]), expected.diagonal())
    function = {"cos_sim": "cosine", "dot_score": "dot"}.get(name, name.removesuffix("_sim"))
    assert SimilarityFunction.to_similarity_fn(function) is every
    assert SimilarityFunction.to_similarity_pairwise_fn(SimilarityFunction(function)) is pairwise
    with pytest.raises(ValueError, match="'cosine', 'dot'"):
        SimilarityFunction.to_similarity_fn("nonsense")


def test_search_finds_what_the_reference_finds() -> None:
    best = [
        [{"corpus_id": 1, "score": 0.59761429}, {"corpus_id": 0, "score": 0.56694669}],
        [{"corpus_id": 0, "score": 0.5}, {"corpus_id": 2, "score": 0.31622776}],
    ]
    for size in (1, 2, 10):
        found = util.semantic_search(A, B, top_k=2, query_chunk_size=size, corpus_chunk_size=size)
        assert [[hit["corpus_id"] for hit in hits] for hits in found] == [[1, 0], [0, 2]]
        for hits, expected in zip(found, best, strict=True):
            scores = [hit["score"] for hit in hits]
            assert scores == pytest.approx([hit["score"] for hit in expected])
    one = util.semantic_search(
        torch.from_numpy(A[0]),
        torch.from_numpy(B),
        top_k=5,
        score_function=util.dot_score,
        corpus_chunk_size=2,
    )
    assert one == [
        [
            {"corpus_id": 1, "score": 5.0},
            {"corpus_id": 0, "score": 3.0},
            {"corpus_id": 2, "score": 0.0},
        ]
    ]
    assert util.semantic_search(A, B[:0]) == [[], []]


def test_small_changes_to_embeddings() -> None:
    unit = util.normalize_embeddings(torch.from_numpy(A))
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(2))
    assert util.normalize_embeddings(torch.ones(3).half()).dtype == torch.float16
    np.testing.assert_array_equal(util.truncate_embeddings(A, 2), A[:, :2])
    moved = util.batch_to_device({"a": torch.ones(1), "b": "text"}, torch.device("cpu"))
    assert moved == {"a": torch.ones(1), "b": "text"}


def test_attributes_of_a_reference_model(
    tiny: Path, model: SentenceTransformer, onnx: SentenceTransformer
) -> None:
    for one in (model, onnx):
        assert len(one) == 2
        assert one.config.hidden_size == 32
        assert type(one.processor) is type(one.tokenizer)
        assert one.get_model_kwargs() == []
        assert (one.supports("text"), one.supports("image")) == (True, False)
        assert one.training is False
        assert one._target_device == one.device
        assert one.share_memory() is one
    assert SentenceTransformer.load(str(tiny)).get_embedding_dimension() == 32


def test_static_embeddings_have_no_configuration(tmp_path: Path) -> None:
    folder = build_dialect("static-table", tmp_path / "static")
    model = SentenceTransformer(str(folder), device="cpu")
    assert (model.config, model.transformers_model) == (None, None)


class _Named:
    """A backend whose models are names, of two kinds."""

    SOURCE = "name"
    KINDS = ("embedding", "reranker")

    @core.hookimpl
    def load(self, source: core.Checkpoint) -> core.Model:
        if source.kind == "reranker":
            return core.Reranker(source, None)
        return core.EmbeddingModel(source, None, dimension=2)

    @core.hookimpl
    def encode(self, model: core.Model, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 2 if model.kind == "embedding" else 1), dtype=np.float32)


@pytest.mark.parametrize("kind", [SentenceTransformer, dropin.CrossEncoder])
def test_what_is_read_from_files_is_not_there_for_models_that_are_names(
    kind: type[SentenceTransformer],
) -> None:
    core.register_backend("named", _Named())
    try:
        model = kind("anything", backend="named")
        for ask in (lambda: model.tokenizer, lambda: model.config, lambda: len(model)):
            with pytest.raises(UnsupportedOperation, match="runs models by their names"):
                ask()
        loaded = getattr(model, "reranker", model.embedding_model)
        with pytest.raises(UnsupportedOperation, match="has no files to export"):
            core.export(loaded, backend="onnx")
    finally:
        registry.unregister(BACKEND_GROUP, "named")
