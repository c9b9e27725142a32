"""Whatever is wrong, the error is a `CoreError` that names it and says how to fix it."""

from __future__ import annotations

import json
import pickle
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import EmbeddingModel, OptionError
from core.sentence_transformers import SentenceTransformer
from tests.conftest import Exports, copy_model, kept


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], Path]) -> Iterator[EmbeddingModel]:
    path = tiny_model("bert-prompts")
    with core.load(path, backend="torch", device="cpu") as loaded, kept(loaded):
        yield loaded


@pytest.fixture
def copy(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return copy_model(tiny_model("bert-cls"), tmp_path / "model")


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        (42, "int"),
        (None, "NoneType"),
        ({"a": "b"}, "dict"),
        (b"bytes", "bytes"),
        (["fine", None], r"Input 1 is NoneType"),
        (["fine", "fine", 3.5], r"Input 2 is float 3\.5"),
        ([["nested"]], r"Input 0 is list"),
        ([float("nan")], r"Input 0 is float nan"),
    ],
)
def test_inputs_that_are_no_strings(model: EmbeddingModel, texts: Any, pattern: str) -> None:
    with pytest.raises(core.OptionError, match=pattern):
        model.encode(texts)


class Frame:
    """Iterates as tables of pandas do: over the names of its columns."""

    iloc = None

    def __init__(self, *columns: str) -> None:
        self.columns = list(columns)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def keys(self) -> list[str]:
        return self.columns


class PolarsFrame(Frame):
    iloc = property()  # it does not have one

    def lazy(self) -> None: ...


class Dataset:
    """As the library datasets has it: rows that are dictionaries."""

    column_names = ("id", "text")

    def __iter__(self) -> Iterator[dict[str, str]]:
        yield {"id": "1", "text": "fox"}


class Arrow(Dataset):
    def to_pylist(self) -> None: ...


class Headers:
    """A mapping that does not say so, like email.message.Message."""

    def __iter__(self) -> Iterator[str]:
        return iter(["From", "To"])

    def keys(self) -> list[str]:
        return ["From", "To"]


CONTAINERS: dict[str, tuple[Any, str]] = {
    "pandas": (Frame("id", "text"), r"table.*'id', 'text'.*df\['text'\]\.tolist\(\)"),
    "pandas without text": (Frame("title", "x"), r"df\['title'\]\.tolist\(\)"),
    "polars": (PolarsFrame("a"), r"table\['a'\]\.to_list\(\)"),
    "datasets": (Dataset(), r"table\['text'\]\."),
    "arrow": (Arrow(), r"table\['text'\]\.to_pylist\(\)"),
    "mapping": ({"a": "b"}, "not dict|is a dictionary"),
    "items": ({"a": "b"}.items(), "not dict_items"),
    "set": ({"a"}, "not set"),
    "headers": (Headers(), "gives its keys"),
    "bytes": (memoryview(b"abc"), "not memoryview"),
    "two dimensions": (np.array([["a", "b"]]), r"2 dimensions.*\[1, 2\].*\[:, 0\]"),
    "no rows": (np.empty((0, 3), dtype=object), r"2 dimensions.*\[0, 3\]"),
    "no dimension": (np.array("text"), r"0 dimensions.*item\(\)"),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_containers_of_something_else_than_texts_are_refused(
    model: EmbeddingModel, case: str
) -> None:
    texts, says = CONTAINERS[case]
    for call in (model.encode, model.tokenize, model.encode_query, model.encode_stream):
        with pytest.raises(OptionError, match=says):
            call(texts)
    with pytest.raises(OptionError, match=says):
        SentenceTransformer.encode(_DropIn(model), texts)
    with pytest.raises(OptionError, match=says):
        SentenceTransformer.tokenize(_DropIn(model), texts)


class _DropIn(SentenceTransformer):
    """The drop-in around a model that is loaded already."""

    def __init__(self, model: EmbeddingModel) -> None:
        self.embedding_model = model


@pytest.mark.parametrize(
    "rows",
    [
        {"x": "fox", "y": "dog"}.values(),
        iter(["fox", "dog"]),
        np.array(["fox", "dog"]),
        np.array(["fox", "dog"], dtype=object),
        ("fox", "dog"),
        deque(["fox", "dog"]),
    ],
)
def test_rows_of_texts_may_come_in_any_order_keeping_container(
    model: EmbeddingModel, rows: Any
) -> None:
    np.testing.assert_array_equal(model.encode(rows), model.encode(["fox", "dog"]))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"prompt_name": "qurey"}, r"'qurey'.*'passage', 'query'"),
        ({"batchsize": 3}, r"'batchsize'.*Did you mean 'batch_size'"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"batch_size": -5}, "batch_size"),
        ({"batch_size": "8"}, "batch_size must be a positive integer"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"workers": True}, "workers"),
        ({"truncate_dim": 0}, "truncate_dim"),
        ({"precision": "int4"}, "precision must be one of.*'int4'"),
        ({"output_value": "all"}, "output_value must be one of"),
        ({"output_value": "token_embeddings", "precision": "int8"}, "sentence embeddings"),
        ({"prompt": 3}, "prompt must be a string"),
        ({"prompt": "a", "prompt_name": "query"}, "two prompts"),
        ({"prompt": "", "prompt_name": "query"}, "two prompts"),
        ({"normalize_embeddings": "false"}, "normalize_embeddings must be True or False"),
        ({"convert_to_tensor": "no"}, "convert_to_tensor must be True or False"),
        ({"show_progress_bar": "off"}, "show_progress_bar must be True or False"),
        ({"truncate_dim": 33}, "truncate_dim=33.* 32 dimensions"),
    ],
)
def test_options_that_cannot_be_used(
    model: EmbeddingModel, options: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(core.OptionError, match=pattern):
        model.encode(["text"], **options)


def test_stream_options(model: EmbeddingModel) -> None:
    with pytest.raises(core.OptionError, match="not one string"):
        model.encode_stream("text")
    with pytest.raises(core.OptionError, match="ranges"):
        model.encode_stream(["text"], precision="int8")
    with pytest.raises(core.OptionError, match="window"):
        model.encode_stream(["text"], window=0)
    with pytest.raises(core.OptionError, match=r"window must be a positive integer, not 2\.0"):
        model.encode_stream(["text"], window=2.0)  # type: ignore[arg-type]
    two = model.encode_stream(["a", "b", "c"], window=np.int64(2))  # type: ignore[arg-type]
    assert [len(part) for part in two] == [2, 1]
    stream = model.encode_stream(["fine", "fine", 7], window=2)  # type: ignore[list-item]
    next(stream)
    with pytest.raises(core.OptionError, match="Input 2 is int 7"):
        next(stream)


def test_a_path_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(core.ModelNotFound, match=re.escape(str(tmp_path / "absent"))):
        core.load(tmp_path / "absent", backend="torch")
    with pytest.raises(core.ModelNotFound, match="owner/name"):
        core.load("some/deep/path", backend="torch")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(core.ModelNotFound, match=r"holds no model.*notes\.txt"):
        core.load(tmp_path, backend="torch")
    with pytest.raises(core.ModelNotFound, match="is a file"):
        core.load(tmp_path / "notes.txt", backend="torch")


def test_a_link_that_leads_nowhere_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core.checkpoint.resolve.open_repository", lambda *_, **__: 1 / 0)
    Path("model").symlink_to("versions/7")
    with pytest.raises(core.ModelNotFound, match="'model' is a link to 'versions/7', where noth"):
        core.load("model", backend="torch")


@pytest.mark.parametrize("path", ["../outside", "/etc", "1_Pooling/../../outside", "C:\\outside"])
def test_modules_json_that_points_outside(copy: Path, path: str) -> None:
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["path"] = path
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(core.ModelFormatError, match="outside the model's directory"):
        core.load(copy, backend="torch")


def test_a_custom_module_is_named_and_not_run(copy: Path) -> None:
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "my_code.MyPooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "my_code.py").write_text("raise SystemExit('code of the model ran')")
    with pytest.raises(core.UnsupportedOperation, match=r"my_code\.MyPooling"):
        core.load(copy, backend="torch")


def test_code_of_the_model_needs_trust(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["model_type"] = "my_architecture"
    config["auto_map"] = {"AutoConfig": "code.C", "AutoModel": "code.M"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "code.py").write_text("raise SystemExit('code of the model ran')")
    with pytest.raises(core.UnsupportedOperation, match="trust_remote_code=True"):
        core.load(copy, backend="torch")


def test_missing_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(core.ArtifactNotFound, match=r"model\.safetensors.*config\.json"):
        core.load(copy, backend="torch")


def test_truncated_weights(copy: Path) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    path.unlink()
    for length in (0, 4, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(core.ModelFormatError, match=r"model\.safetensors.*whole safetensors"):
            core.load(copy, backend="torch")


def test_weights_of_another_model(copy: Path, tiny_model: Callable[[str], Path]) -> None:
    (copy / "model.safetensors").unlink()
    other = tiny_model("roberta") / "model.safetensors"
    (copy / "model.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(core.ModelFormatError, match=r"model\.safetensors"):
        core.load(copy, backend="torch")


def test_a_file_name_that_is_missing_lists_what_exists(minilm: Path) -> None:
    with pytest.raises(core.ArtifactNotFound, match=r"'modle\.safetensors'.*model\.safetensors"):
        core.load(minilm, backend="torch", file_name="modle.safetensors")


def test_unreadable_configuration(copy: Path) -> None:
    (copy / "modules.json").write_text("{not json")
    with pytest.raises(core.ModelFormatError, match=r"modules\.json is not readable JSON"):
        core.load(copy, backend="torch")
    (copy / "modules.json").write_text('{"a": 1}')
    with pytest.raises(core.ModelFormatError, match=r"modules\.json must hold a JSON array"):
        core.load(copy, backend="torch")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"device": "cuda:7"}, r"cuda.*Available here: .*cpu"),
        ({"device": "gpu"}, "'gpu' is not a PyTorch device"),
        ({"model_kwargs": {"dtype": "int3"}}, "dtype must be float32"),
        ({"model_kwargs": {"provider": "x"}}, "does not take 'provider'"),
        ({"model_kwargs": {"dtype": "float16", "torch_dtype": "float32"}}, "pass one of them"),
        ({"model_kwargs": {"attn_implementation": "magic"}}, "magic"),
        ({"truncate_dim": 0}, "truncate_dim"),
        ({"prompts": {"a": 1}}, "prompts"),
        ({"default_prompt_name": "no"}, "'no' is not one of the model's prompts"),
        ({"default_prompt_name": []}, "default_prompt_name must be a non-empty string or None"),
        ({"similarity_fn_name": "l2"}, "similarity_fn_name"),
        ({"similarity_fn_name": ["cosine"]}, "similarity_fn_name must be one of"),
        ({"model_kwargs": {"dtype": ["float32"]}}, "dtype must be float32"),
        ({"file_name": "a", "model_kwargs": {"file_name": "b"}}, "pass one of them"),
    ],
)
def test_load_arguments(
    tiny_model: Callable[[str], Path], arguments: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(core.OptionError, match=pattern):
        core.load(tiny_model("bert-mean"), backend="torch", **arguments)


def test_unknown_backends_are_told_from_missing_ones(minilm: Path) -> None:
    with pytest.raises(core.BackendNotFound, match=r"Did you mean 'torch'"):
        core.load(minilm, backend="troch")
    with pytest.raises(core.OptionError, match="A model is named"):
        core.load(None, backend="torch")  # type: ignore[arg-type]


def test_core_functions_want_models() -> None:
    with pytest.raises(core.OptionError, match=r"takes a model from core\.load"):
        core.optimize("name")  # type: ignore[arg-type]
    with pytest.raises(core.OptionError, match=r"takes a model from core\.load"):
        core.save(None, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trust_remote_code": "false"}, "trust_remote_code must be True or False"),
        ({"model_kwargs": ["a"]}, "model_kwargs must be a mapping"),
        ({"config_kwargs": 5}, "config_kwargs must be a mapping"),
        ({"config_kwargs": {1: 2}}, "config_kwargs must map names to values, and 1 is no name"),
        ({"model_kwargs": {None: 2}}, "model_kwargs must map names to values, and None is no name"),
        ({"truncate_dim": True}, "truncate_dim must be a positive integer"),
        ({"truncate_dim": 385}, "truncate_dim=385.* 384 dimensions"),
        ({"local_files_only": "false"}, "local_files_only must be True or False"),
        ({"export": "no"}, "export must be True, False or None"),
    ],
)
def test_values_of_another_type_are_refused(
    minilm: Path, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        core.load(minilm, backend="torch", device="cpu", **arguments)


def test_settings_of_a_loaded_model_are_checked(copy: Path) -> None:
    with core.load(copy, backend="torch", device="cpu") as model:
        for name in ("truncate_dim", "max_seq_length"):
            for wrong in (-5, 0, True, "8", 1.5):
                with pytest.raises(OptionError, match=f"{name} must be"):
                    setattr(model, name, wrong)
        with pytest.raises(OptionError, match="default_prompt_name must be"):
            model.default_prompt_name = []  # type: ignore[assignment]
        with pytest.raises(OptionError, match=r"truncate_dim=33.* 32 dimensions"):
            model.truncate_dim = 33
        with pytest.raises(OptionError, match=r"max_seq_length=513.* 512 tokens"):
            model.max_seq_length = 513
        model.max_seq_length = None
        assert model.tokenizer.max_length == 512
        for name, value in (("truncate_dim", np.int64(8)), ("max_seq_length", np.int64(9))):
            setattr(model, name, value)
        assert model.encode([]).shape == (0, 8)
        assert model.encode("text").shape == (8,)
        assert model.max_seq_length == 9


def test_prompts_that_are_changed_in_place_are_checked(copy: Path) -> None:
    with core.load(copy, backend="torch", device="cpu") as model:
        model.prompts["query"] = None  # type: ignore[assignment]
        with pytest.raises(OptionError, match="model's prompt 'query' must be a string, not None"):
            model.encode_query("text")


@pytest.mark.parametrize("name", ["push_to_hub", "create_pr"])
def test_switches_of_an_upload_are_switches(model: EmbeddingModel, name: str) -> None:
    wrong: dict[str, Any] = {"push_to_hub": "owner/name", name: 1}
    with pytest.raises(OptionError, match=f"{name} must be .*True"):
        core.optimize(model, "fp16", **wrong)
    if name == "create_pr":
        with pytest.raises(OptionError, match="create_pr must be True or False"):
            model.push_to_hub("owner/name", create_pr="false")  # type: ignore[arg-type]


def test_sets_are_no_sequence(model: EmbeddingModel) -> None:
    with pytest.raises(OptionError, match="not set"):
        model.encode({"a", "b"})  # type: ignore[arg-type]


def test_pickling_names_the_option_that_cannot_go(exports: Exports) -> None:
    import onnxruntime

    options = {"session_options": onnxruntime.SessionOptions()}
    with core.load(exports("bert-cls", "onnx"), backend="onnx", model_kwargs=options) as model:
        assert model.encode("text").shape == (32,)
        with pytest.raises(core.CoreError, match=r"session_options=.*cannot be pickled"):
            pickle.dumps(model)


def test_an_option_that_is_nearly_right_is_named(copy: Path) -> None:
    model = core.load(copy, backend="torch", device="cpu")
    with model, pytest.raises(OptionError, match="Did you mean 'min_cosine'"):
        model.quantize(mincosine=0.9)


@pytest.mark.slow
def test_the_backend_that_has_a_file_is_named(copy: Path, tmp_path: Path) -> None:
    artifact = core.export(copy, tmp_path / "onnx-only", backend="onnx")
    with pytest.raises(core.ArtifactNotFound, match="For backend='onnx' it has one"):
        core.load(artifact.root, backend="torch")


@pytest.mark.parametrize("name", ["min_cosine", "max_score_difference", "min_overlap"])
def test_thresholds_may_be_numbers_of_numpy(name: str) -> None:
    half, wrong = (dict[str, Any]({name: np.float32(value)}) for value in (0.5, -2))
    assert type(getattr(core.QuantizeOptions(**half), name)) is float
    with pytest.raises(OptionError, match=f"{name} must "):
        core.QuantizeOptions(**wrong)


def test_a_card_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(OptionError, match="title has half a character"):
        core.CardData(title="\ud800")
    with pytest.raises(OptionError, match="header must map names to values, and 1 is no name"):
        core.CardData(header={1: 2})  # type: ignore[dict-item]
