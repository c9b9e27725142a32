"""`SentenceTransformer`: arguments old and new, return types, settings, what is not here."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core.sentence_transformers as dropin
from core.errors import CoreError, OptionError, UnsupportedOperation
from core.sentence_transformers import SentenceTransformer, SimilarityFunction
from tests.conftest import copy_model

TEXTS = ["one text", "another, longer text about vectors and their neighbors", ""]

#: Of sentence-transformers 6.2, without `self`: positional order, then keyword-only names.
ENCODE = [
    "inputs",
    "prompt_name",
    "prompt",
    "batch_size",
    "show_progress_bar",
    "output_value",
    "precision",
    "convert_to_numpy",
    "convert_to_tensor",
    "device",
    "normalize_embeddings",
    "truncate_dim",
    "pool",
    "chunk_size",
]
PUSH = [
    "repo_id",
    "token",
    "private",
    "safe_serialization",
    "commit_message",
    "local_model_path",
    "exist_ok",
    "replace_model_card",
    "train_datasets",
    "revision",
    "create_pr",
]
EXPORT = ["model_name_or_path", "push_to_hub", "create_pr", "file_suffix"]
SIGNATURES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "SentenceTransformer.encode": (
        ENCODE,
        {
            "batch_size": 32,
            "show_progress_bar": None,
            "output_value": "sentence_embedding",
            "precision": "float32",
            "convert_to_numpy": True,
            "convert_to_tensor": False,
            "normalize_embeddings": False,
        },
    ),
    "SentenceTransformer.encode_query": (ENCODE, {"batch_size": 32, "convert_to_numpy": True}),
    "SentenceTransformer.encode_document": (ENCODE, {"batch_size": 32, "chunk_size": None}),
    "SentenceTransformer.encode_multi_process": (
        [
            "sentences",
            "pool",
            "prompt_name",
            "prompt",
            "batch_size",
            "chunk_size",
            "show_progress_bar",
            "precision",
            "normalize_embeddings",
            "truncate_dim",
        ],
        {"batch_size": 32},
    ),
    "SentenceTransformer.push_to_hub": (PUSH, {"exist_ok": False, "create_pr": False}),
    "SentenceTransformer.save_pretrained": (
        ["path", "model_name", "create_model_card", "train_datasets", "safe_serialization"],
        {"create_model_card": True, "safe_serialization": True},
    ),
    "export_optimized_onnx_model": (
        ["model", "optimization_config", *EXPORT],
        {"push_to_hub": False, "create_pr": False, "file_suffix": None},
    ),
    "export_dynamic_quantized_onnx_model": (
        ["model", "quantization_config", *EXPORT],
        {"push_to_hub": False, "create_pr": False, "file_suffix": None},
    ),
    "export_static_quantized_openvino_model": (
        [
            "model",
            "quantization_config",
            "model_name_or_path",
            "dataset_name",
            "dataset_config_name",
            "dataset_split",
            "column_name",
            "push_to_hub",
            "create_pr",
            "file_suffix",
        ],
        {"dataset_name": None, "file_suffix": "qint8_quantized"},
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_stand_in_the_reference_s_order_with_its_defaults(name: str) -> None:
    function: Any = dropin
    for part in name.split("."):
        function = getattr(function, part)
    parameters = inspect.signature(function).parameters
    positional = [
        p.name
        for p in parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    ]
    expected, defaults = SIGNATURES[name]
    assert positional == expected
    assert {n: parameters[n].default for n in defaults} == defaults


def test_the_constructor_takes_every_keyword_of_the_reference() -> None:
    expected = [
        "modules",
        "device",
        "prompts",
        "default_prompt_name",
        "cache_folder",
        "trust_remote_code",
        "revision",
        "local_files_only",
        "token",
        "use_auth_token",
        "model_kwargs",
        "processor_kwargs",
        "config_kwargs",
        "model_card_data",
        "backend",
        "similarity_fn_name",
        "truncate_dim",
        "tokenizer_kwargs",
    ]
    parameters = inspect.signature(SentenceTransformer).parameters
    assert set(expected) | {"model_name_or_path"} == set(parameters)
    assert parameters["backend"].default == "torch"


def test_encode_returns_what_the_reference_returns(model: SentenceTransformer) -> None:
    arrays = model.encode(TEXTS)
    assert isinstance(arrays, np.ndarray)
    assert arrays.dtype == np.float32
    assert arrays.shape == (3, 32)
    assert model.encode(TEXTS[0]).shape == (32,)
    np.testing.assert_allclose(model.encode(TEXTS[0]), arrays[0], atol=1e-5)
    tensor = model.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), arrays, atol=1e-6)
    rows = model.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert all(isinstance(row, torch.Tensor) for row in rows)
    one = model.encode(TEXTS[0], convert_to_numpy=False)
    assert isinstance(one, torch.Tensor)
    assert one.shape == (32,)


def test_positional_arguments_mean_what_they_mean_in_the_reference(
    model: SentenceTransformer,
) -> None:
    prompted = model.encode(TEXTS, None, "query: ", 1, False, "sentence_embedding", "float32")
    plain = model.encode(["query: " + text for text in TEXTS])
    np.testing.assert_allclose(prompted, plain, atol=1e-5)
    queries = model.encode_query(TEXTS, None, "query: ", 2)
    np.testing.assert_allclose(queries, plain, atol=1e-5)


def test_output_values(model: SentenceTransformer) -> None:
    tokens = model.encode(TEXTS, output_value="token_embeddings")
    counts = model.tokenize(TEXTS)["attention_mask"].sum(dim=1).tolist()
    assert [tuple(t.shape) for t in tokens] == [(count, 32) for count in counts]
    assert all(isinstance(t, torch.Tensor) for t in tokens)
    everything = model.encode(TEXTS, output_value=None)
    means = torch.stack([item["token_embeddings"].mean(dim=0) for item in everything])
    sentences = torch.stack([item["sentence_embedding"] for item in everything])
    torch.testing.assert_close(means, sentences, atol=1e-5, rtol=0)
    np.testing.assert_allclose(sentences.numpy(), model.encode(TEXTS), atol=1e-5)
    assert [len(item["input_ids"]) for item in everything] == counts
    assert set(everything[0]) == {
        "input_ids",
        "attention_mask",
        "modality",
        "token_embeddings",
        "sentence_embedding",
    }
    single = model.encode(TEXTS[1], output_value=None)
    torch.testing.assert_close(single["input_ids"], everything[1]["input_ids"])


def test_older_names_are_understood(tiny: Path, model: SentenceTransformer) -> None:
    np.testing.assert_array_equal(model.encode(sentences=TEXTS), model.encode(inputs=TEXTS))
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == 32
    assert model.get_max_seq_length() == model.max_seq_length == 128
    short = SentenceTransformer(
        str(tiny),
        backend="onnx",
        tokenizer_kwargs={"model_max_length": 4, "padding_side": "left"},
        use_auth_token=False,
    )
    assert short.max_seq_length == 4
    assert short.tokenize([TEXTS[1]])["input_ids"].shape == (1, 4)
    with pytest.raises(OptionError, match="older name of processor_kwargs"):
        SentenceTransformer(
            str(tiny), tokenizer_kwargs={"model_max_length": 4}, processor_kwargs={"use_fast": True}
        )
    for name in ("torch_dtype", "dtype"):
        for value in (torch.bfloat16, "bfloat16"):
            loaded = SentenceTransformer(str(tiny), device="cpu", model_kwargs={name: value})
            assert loaded.dtype == torch.bfloat16


def test_empty_input_gives_an_empty_result(model: SentenceTransformer) -> None:
    assert len(model.encode([])) == 0
    assert len(model.encode([], convert_to_tensor=True)) == 0
    assert model.encode([], convert_to_numpy=False) == []
    assert model.encode([], output_value="token_embeddings") == []
    assert model.encode([], output_value=None) == []
    assert model.tokenize([]) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "float8"}, "precision"),
        ({"nonsense": 1}, "nonsense"),
        ({"processing_kwargs": {"text": {"max_length": 3}}}, "max_seq_length"),
        ({"prompt_name": "missing"}, "missing"),
        ({"output_value": "pooled"}, "output_value"),
    ],
)
def test_what_the_reference_refuses_with_a_value_error_is_one(
    model: SentenceTransformer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(TEXTS, **options)


def test_prompts_are_chosen_as_in_the_reference(tiny_model: Callable[[str], Path]) -> None:
    model = SentenceTransformer(
        str(tiny_model("bert-prompts")),
        device="cpu",
        prompts={"extra": "x: ", "none": None},  # type: ignore[dict-item]
    )
    # As sentence-transformers 6.2 and 5.7 print it for the same files and arguments.
    assert model.prompts == {
        "query": "query: ",
        "document": "",
        "extra": "x: ",
        "none": "",
        "passage": "passage: ",
    }
    assert model.similarity_fn_name == "dot"

    def same(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, atol=1e-5)

    same(model.encode_query(TEXTS), model.encode(TEXTS, prompt_name="query"))
    same(model.encode_document(TEXTS), model.encode(TEXTS, prompt=""))
    assert not np.allclose(model.encode_document(TEXTS), model.encode_query(TEXTS))
    same(model.encode_query(TEXTS, prompt="x: "), model.encode(TEXTS, prompt_name="extra"))
    # A given prompt wins over a name, a name over the default, and "" is a prompt.
    same(model.encode(TEXTS, prompt="x: ", prompt_name="query"), model.encode(TEXTS, prompt="x: "))
    model.default_prompt_name = "query"
    same(model.encode(TEXTS), model.encode(TEXTS, prompt_name="query"))
    same(model.encode(TEXTS, prompt=""), model.encode(TEXTS, prompt_name="none"))
    assert not np.allclose(model.encode(TEXTS), model.encode(TEXTS, prompt=""))
    same(model.encode_document(TEXTS), model.encode(TEXTS, prompt=""))
    model.prompts = {"passage": "passage: "}
    same(model.encode_document(TEXTS), model.encode(TEXTS, prompt_name="passage"))


def test_every_model_has_the_prompts_query_and_document(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu", default_prompt_name="document")
    assert model.prompts == {"query": "", "document": ""}
    assert model.default_prompt_name == "document"
    plain = model.encode(TEXTS, prompt="")
    for name in ("query", "document"):
        np.testing.assert_allclose(model.encode(TEXTS, prompt_name=name), plain, atol=1e-5)
    np.testing.assert_allclose(model.encode(TEXTS), plain, atol=1e-5)
    with pytest.raises(ValueError, match="'missing' is not one of the model's prompts: 'query'"):
        SentenceTransformer(str(tiny), device="cpu", default_prompt_name="missing")


def test_similarity_gives_tensors(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu")
    embeddings = model.encode(TEXTS)
    late = {SimilarityFunction.MAXSIM, SimilarityFunction.MEAN_MAXSIM}
    for function in set(SimilarityFunction) - late:
        model.similarity_fn_name = function
        assert model.similarity_fn_name == function.value
        matrix = model.similarity(embeddings, torch.from_numpy(embeddings))
        pairs = model.similarity_pairwise(embeddings, list(torch.from_numpy(embeddings)))
        assert isinstance(matrix, torch.Tensor)
        assert matrix.shape == (3, 3)
        torch.testing.assert_close(matrix.diagonal(), pairs, atol=1e-4, rtol=0)
    model.similarity_fn_name = None
    assert model.similarity_fn_name == "cosine"
    for function in late:  # of vectors of tokens
        with pytest.raises(ValueError, match="similarity_fn_name"):
            model.similarity_fn_name = function
    names = ["cosine", "dot", "euclidean", "manhattan", "maxsim", "meanmaxsim"]
    assert SimilarityFunction.possible_values() == names


def test_truncation_for_a_while(model: SentenceTransformer) -> None:
    full = model.encode(TEXTS)
    for truncate in (model.truncate_embeddings, model.truncate_sentence_embeddings):
        with truncate(8):
            assert model.get_embedding_dimension() == 8
            np.testing.assert_array_equal(model.encode(TEXTS), full[:, :8])
        assert model.truncate_dim is None
    with pytest.raises(RuntimeError, match="inside"), model.truncate_embeddings(8):
        raise RuntimeError("inside")
    assert model.truncate_dim is None


@pytest.mark.slow
def test_dtypes_and_devices_by_methods(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu", truncate_dim=16)
    full = model.encode(TEXTS)
    model.prompts["mine"] = "m: "
    assert model.half().dtype == torch.float16
    assert model.bfloat16().dtype == torch.bfloat16
    rough = model.encode(TEXTS)
    assert rough.dtype == np.float32  # numpy has no bfloat16
    assert not np.array_equal(rough, full)
    np.testing.assert_allclose(rough, full, atol=0.1)
    assert model.float().eval().to("cpu").cpu().to(torch.float32) is model
    np.testing.assert_array_equal(model.encode(TEXTS), full)
    assert model.prompts == {"query": "", "document": "", "mine": "m: "}
    assert model.device == torch.device("cpu")
    before = model.embedding_model
    assert not before.closed
    model.to("cpu", torch.float32).to(device=torch.device("cpu"))
    assert model.embedding_model is before
    with pytest.raises(CoreError, match="cuda"):
        model.cuda()
    np.testing.assert_array_equal(model.encode(TEXTS), full)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_results_keep_the_dtype_that_torch_computes_in(tiny: Path, dtype: torch.dtype) -> None:
    model = SentenceTransformer(str(tiny), device="cpu", model_kwargs={"dtype": dtype})
    array = np.float16 if dtype == torch.float16 else np.float32
    assert model.encode(TEXTS).dtype == model.encode(TEXTS[0]).dtype == array
    assert model.encode(TEXTS, normalize_embeddings=True).dtype == array
    assert model.encode(TEXTS, precision="ubinary").dtype == np.uint8
    assert model.encode(TEXTS, convert_to_tensor=True).dtype == dtype
    assert model.encode(TEXTS, convert_to_numpy=False)[0].dtype == dtype
    assert model.encode(TEXTS, output_value="token_embeddings")[0].dtype == dtype
    assert model.encode(TEXTS[0], output_value=None)["sentence_embedding"].dtype == dtype
    assert model.similarity(model.encode(TEXTS), model.encode(TEXTS)).dtype == torch.float32
    # core's own results stay float32.
    assert model.embedding_model.encode(TEXTS).dtype == np.float32


def test_converting_leaves_an_embedding_model_that_others_hold_usable(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu")
    held = model.embedding_model
    expected = held.encode(TEXTS)
    model.half()
    assert model.embedding_model is not held
    np.testing.assert_array_equal(held.encode(TEXTS), expected)


def test_backends_that_compute_their_file_say_so(onnx: SentenceTransformer) -> None:
    assert onnx.float() is onnx
    for cast in (onnx.half, onnx.bfloat16):
        with pytest.raises(UnsupportedOperation, match=r"core\.optimize"):
            cast()
    assert onnx.dtype == "float32"


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_tensors_can_be_moved_to_the_device_of_any_model(
    backend: str, request: pytest.FixtureRequest
) -> None:
    device = request.getfixturevalue(backend).device
    assert device == torch.device("cpu")
    assert device in {torch.device("cpu"): 1}
    assert (str(device), device.type, device.index) == ("cpu", "cpu", None)
    assert torch.zeros(1).to(device).device == device


@pytest.mark.slow
def test_a_device_is_a_name_where_torch_is_not_imported(tiny: Path) -> None:
    code = f"""
import sys
from core.sentence_transformers import SentenceTransformer
device = SentenceTransformer({str(tiny)!r}, backend="onnx").device
assert "torch" not in sys.modules
print(device, device.type, device.index, device == "cpu", {{device: 1}}["cpu"])
import torch
print(device == torch.device("cpu"), device != torch.device("cpu"), torch.zeros(1).to(device))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["cpu cpu None True 1", "True False tensor([0.])"]


def test_settings_can_be_changed(onnx: SentenceTransformer, tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), backend="onnx")
    model.max_seq_length = 5
    cut = model.encode(TEXTS[1])
    np.testing.assert_allclose(cut, model.encode(TEXTS[1] + " and more"), atol=1e-6)
    assert np.abs(cut - onnx.encode(TEXTS[1])).max() > 1e-3
    assert len(model.encode(TEXTS[1], output_value=None)["input_ids"]) == 5
    assert len(onnx.encode(TEXTS[1], output_value=None)["input_ids"]) > 5
    assert model.tokenizer.model_max_length == 5
    assert model.tokenizer(TEXTS[1], truncation=True)["input_ids"] == (
        model.tokenize([TEXTS[1]])["input_ids"][0].tolist()
    )
    assert (model.get_backend(), model.modalities) == ("onnx", ["text"])


@pytest.mark.parametrize(
    "name",
    [
        "_first_module",
        "add_adapter",
        "apply",
        "compile",
        "double",
        "fit",
        "forward",
        "get_sentence_features",
        "merge",
        "parameters",
        "register_forward_hook",
        "set_pooling_include_prompt",
        "state_dict",
    ],
)
def test_what_is_not_here_says_so_when_touched(model: SentenceTransformer, name: str) -> None:
    for touched in (model, SentenceTransformer):
        assert not hasattr(touched, name)
        with pytest.raises(UnsupportedOperation, match=rf"{name} is not in core\. \w+"):
            getattr(touched, name)


def test_training_and_modules_say_so(model: SentenceTransformer, onnx: SentenceTransformer) -> None:
    with pytest.raises(UnsupportedOperation, match="sentence_transformers"):
        model.train()
    assert model.train(False) is model
    with pytest.raises(UnsupportedOperation, match=r"model\.max_seq_length"):
        model[0]
    with pytest.raises(UnsupportedOperation, match=r"model\.encode"):
        model(model.tokenize(TEXTS))
    with pytest.raises(UnsupportedOperation, match="cannot be replaced"):
        model.tokenizer = None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        model.nonsense  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="CrossEncoderTrainer from sentence_transformers"):
        from core.sentence_transformers import CrossEncoderTrainer  # noqa: F401
    with pytest.raises(OptionError, match="loaded from files"):
        SentenceTransformer(modules=[])
    assert isinstance(model.transformers_model, torch.nn.Module)
    assert onnx.transformers_model is None


def test_evaluators_are_called_with_the_model(model: SentenceTransformer, tmp_path: Path) -> None:
    def evaluator(given: SentenceTransformer, output_path: str | None) -> dict[str, Any]:
        return {"dimension": given.encode("one").shape[0], "path": output_path}

    assert model.evaluate(evaluator, str(tmp_path)) == {"dimension": 32, "path": str(tmp_path)}


@pytest.mark.slow
def test_several_processes(onnx: SentenceTransformer) -> None:
    texts = [f"text number {i}" for i in range(40)]
    alone = onnx.encode(texts)
    pool = onnx.start_multi_process_pool(["cpu", "cpu"])
    try:
        assert len(pool.pids) == 2
        np.testing.assert_allclose(onnx.encode(texts, pool=pool), alone, atol=1e-5)
        np.testing.assert_allclose(
            onnx.encode_multi_process(texts, pool, chunk_size=8, normalize_embeddings=True),
            onnx.encode(texts, normalize_embeddings=True),
            atol=1e-5,
        )
        packed = onnx.encode(texts, pool=pool, precision="ubinary")
        np.testing.assert_array_equal(packed, onnx.encode(texts, precision="ubinary"))
        with pytest.raises(ValueError, match="chunk_size must be 1 or more, not 0"):
            onnx.encode(texts, pool=pool, chunk_size=0)
    finally:
        onnx.stop_multi_process_pool(pool)
    with pytest.raises(CoreError, match="cuda"):
        onnx.encode(texts, device=["cuda:7"])


def test_pickles_load_again(onnx: SentenceTransformer) -> None:
    copy = pickle.loads(pickle.dumps(onnx))
    np.testing.assert_array_equal(copy.encode(TEXTS), onnx.encode(TEXTS))


@pytest.mark.slow
def test_saved_models_keep_settings_and_other_backends(
    onnx: SentenceTransformer, model: SentenceTransformer, tmp_path: Path
) -> None:
    onnx.save_pretrained(str(tmp_path / "saved"))
    model.save(str(tmp_path / "older"), safe_serialization=True)
    for folder in ("saved", "older"):
        for backend in ("torch", "onnx", "openvino"):
            again = SentenceTransformer(str(tmp_path / folder), backend=backend, device="cpu")
            np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=1e-4)
    with pytest.raises(OptionError, match="safe_serialization"):
        model.save(str(tmp_path / "pickled"), safe_serialization=False)


@pytest.mark.slow
def test_without_torch_and_sentence_transformers(tiny: Path, tmp_path: Path) -> None:
    """Encoding on ONNX imports neither; similarity then gives arrays."""
    folder = copy_model(tiny, tmp_path / "tiny")
    code = f"""
import sys
for name in ("torch", "sentence_transformers", "transformers"):
    sys.modules[name] = None
from core.sentence_transformers import SentenceTransformer, export_optimized_onnx_model
model = SentenceTransformer({str(folder)!r}, backend="onnx")
embeddings = model.encode(["one", "two"])
print(model.similarity(embeddings, embeddings).shape)
print(model.encode(["one"], output_value="token_embeddings")[0].shape[1])
export_optimized_onnx_model(model, "O2", {str(folder)!r})
try:
    model.encode("one", convert_to_tensor=True)
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["(2, 2)", "32"]
    assert "pip install core[torch]" in done.stdout
    assert (folder / "onnx" / "model_O2.onnx").is_file()
