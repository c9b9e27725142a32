"""What is the same on every backend: saved records, calibration texts, outputs of graphs."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.errors import ModelFormatError, OptionError
from core.files.weights import write_safetensors
from core.plugin.known_backends import INSTALL_COMMANDS, KNOWN_FILES
from core.toolkit import (
    GraphOutput,
    calibration_batches,
    choose_outputs,
    choose_samples,
)
from tests.conftest import ROOT, Exports, copy_model

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

BACKENDS = ("torch", "onnx", "openvino")
#: What makes a file with a sidecar on each backend.
MAKE: dict[str, Callable[[core.EmbeddingModel, Path], core.Artifact]] = {
    "torch": lambda model, target: model.optimize("fp16", target),
    "onnx": lambda model, target: model.optimize("O1", target),
    "openvino": lambda model, target: model.optimize("fp16", target),
}


@pytest.fixture(scope="module")
def everywhere(exports: Exports) -> Path:
    """A tiny BERT with a file for every backend. Read only."""
    return exports("bert-mean", "onnx", "openvino")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keep_source", [True, False])
def test_a_saved_artifact_keeps_its_record(
    everywhere: Path, tmp_path: Path, backend: str, keep_source: bool
) -> None:
    folder = Path(shutil.copytree(everywhere, tmp_path / "model"))
    with core.load(folder, backend=backend, device="cpu") as model:
        artifact = MAKE[backend](model, folder)
    with core.load(folder, backend=backend, device="cpu", file_name=artifact.file_name) as model:
        options = core.SaveOptions(keep_source=keep_source)
        core.hooks(backend).save(model=model, target=tmp_path / "saved", options=options)
        expected = model.encode(["a fox"])
    record = tmp_path / "saved" / f"{artifact.file_name}.json"
    assert json.loads(record.read_text())["config"] == dict(artifact.config)
    with core.load(
        tmp_path / "saved", backend=backend, device="cpu", file_name=artifact.file_name
    ) as again:
        np.testing.assert_array_equal(again.encode(["a fox"]), expected)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_artifact_from_the_cache_is_saved_with_its_record(
    tiny_model: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    with core.load(tiny_model("bert-cls"), backend=backend) as model:
        name = model.file_name
        model.save(tmp_path / "saved")
    assert (tmp_path / "saved" / f"{name}.json").is_file()


def test_only_the_files_of_other_backends_are_left_out(everywhere: Path, tmp_path: Path) -> None:
    with core.load(everywhere, backend="onnx") as model:
        options = core.SaveOptions(keep_source=False)
        core.hooks("onnx").save(model=model, target=tmp_path / "saved", options=options)
    names = {p.relative_to(tmp_path / "saved").as_posix() for p in (tmp_path / "saved").rglob("*")}
    assert "onnx/model.onnx" in names
    assert not {n for n in names if n.endswith((".safetensors", ".xml", ".bin"))}
    assert {"config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"} <= names


def test_calibration_sees_the_default_prompt(everywhere: Path) -> None:
    with core.load(everywhere, backend="onnx") as model:
        model.prompts, model.default_prompt_name = {"p": "query: "}, "p"
        (batch,) = calibration_batches(model, ["fox"])
        ids = model.tokenize(["query: fox"])["input_ids"]
    np.testing.assert_array_equal(batch.input_ids, ids)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_calibration_texts_are_prompted_on_both_backends(
    everywhere: Path, tmp_path: Path, backend: str
) -> None:
    """The prompt moves the ranges: with it in the texts and without it the files are equal."""
    config = "static"
    texts = [f"text number {i} about foxes" for i in range(8)]
    files: list[bytes] = []
    for prompts, given in (({"p": "query: "}, texts), ({}, [f"query: {t}" for t in texts])):
        target = tmp_path / str(len(files))
        with core.load(everywhere, backend=backend, prompts=prompts) as model:
            model.default_prompt_name = next(iter(prompts), None)
            artifact = model.quantize(config, target, calibration=given)
        files.append(_weights(artifact))
    assert files[0] == files[1]


def _weights(artifact: core.Artifact) -> bytes:
    """Weights and ranges: the ONNX file, or the .bin file (an .xml file has numbered names)."""
    return (artifact.root / artifact.all_files[-1]).read_bytes()


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_num_samples_spreads_over_the_texts(everywhere: Path, tmp_path: Path, backend: str) -> None:
    config = "static"
    texts = [f"a text of its own, number {i}" for i in range(9)]
    spread = choose_samples(texts, 3)
    assert spread == [texts[0], texts[4], texts[8]]
    made: list[bytes] = []
    for given, samples in ((texts, 3), (spread, None)):
        target = tmp_path / str(len(made))
        with core.load(everywhere, backend=backend) as model:
            artifact = model.quantize(config, target, calibration=given, num_samples=samples)
        made.append(_weights(artifact))
    assert made[0] == made[1]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_static_int8_has_texts_of_its_own(everywhere: Path, tmp_path: Path, backend: str) -> None:
    config = "static"
    with core.load(everywhere, backend=backend) as model:
        artifact = model.quantize(config, tmp_path, num_samples=8)
    assert artifact.config["texts"] == 8
    assert artifact.config["own_texts"] is True
    assert artifact.verification is not None
    assert artifact.verification.mean_cosine > 0.9


def test_samples_are_spread_evenly() -> None:
    assert choose_samples(list("abcdefghij"), 4) == ["a", "d", "g", "j"]
    assert choose_samples(["a", "b"], 5) == ["a", "b"]
    assert choose_samples(["a", "b"], 1) == ["a"]
    assert choose_samples(None, 3) == choose_samples(None, 3)
    with pytest.raises(OptionError, match="holds no texts"):
        choose_samples([], 3)


def output(*names: str, rank: int | None = None) -> GraphOutput:
    return GraphOutput(names, rank)


@pytest.mark.parametrize(
    ("outputs", "tokens", "sentence"),
    [
        ([output("last_hidden_state", rank=3)], 0, None),
        ([output("sentence_embedding", rank=2), output("token_embeddings", rank=3)], 1, 0),
        ([output("hidden", rank=3)], 0, None),
        ([output("a", rank=3), output("b", rank=3)], None, None),
        ([output("a", rank=3), output("last_hidden_state", rank=3)], 1, None),
        ([output("pooler_output", rank=2)], None, None),
        ([output("logits", rank=2)], None, None),
        ([output("text_embeds", rank=2)], None, 0),
        ([output("text_embeds", rank=2), output("last_hidden_state", rank=3)], 1, None),
        ([output("last_hidden_state")], 0, None),
        ([output("last_hidden_state", rank=2), output("x", rank=3)], 1, None),
        ([output("12", "sentence_embedding", rank=2)], None, 0),
        ([], None, None),
    ],
)
def test_one_rule_says_what_an_output_is(
    outputs: list[GraphOutput], tokens: int | None, sentence: int | None
) -> None:
    assert choose_outputs(outputs) == (tokens, sentence)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_pooler_is_not_taken_for_the_sentence(
    everywhere: Path, tmp_path: Path, backend: str
) -> None:
    """Both backends read the same ONNX file and refuse it in the same case."""
    folder = _with_output(everywhere, tmp_path, "pooler_output")
    file_name = "onnx/model.onnx"
    with pytest.raises(ModelFormatError, match="pooler_output"):
        core.load(folder, backend=backend, file_name=file_name)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_sentence_output_of_another_width_is_refused(
    everywhere: Path, tmp_path: Path, backend: str
) -> None:
    folder = _with_output(everywhere, tmp_path, "sentence_embedding", width=5)
    with pytest.raises(ModelFormatError, match="5 dimensions"):
        core.load(folder, backend=backend, file_name="onnx/model.onnx")


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("stated", [True, False])
def test_logits_are_not_taken_for_embeddings(
    everywhere: Path, tmp_path: Path, backend: str, stated: bool
) -> None:
    """A classifier's five scores under a name of sentence embeddings; or as wide as nothing."""
    folder = _with_output(everywhere, tmp_path, "embeddings", width=5, stated=stated)
    with pytest.raises(ModelFormatError, match=r"5 dimensions.*says 32"):
        core.load(folder, backend=backend, file_name="onnx/model.onnx").encode(["a fox"])


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("modes", [("cls_token",), ("cls_token", "mean_tokens")])
@pytest.mark.parametrize("truncate", [None, 8])
def test_what_a_pooled_output_leaves_of_the_chain_is_run(
    everywhere: Path,
    tmp_path: Path,
    backend: str,
    stated: bool,
    modes: tuple[str, ...],
    truncate: int | None,
) -> None:
    """The graph gives what the Dense takes: [n, 16] comes out, not what went in."""
    folder = Path(shutil.copytree(everywhere, tmp_path / "model"))
    width = 32 * len(modes)
    _pool_and_project(folder, modes, width)
    with core.load(folder, backend="torch", device="cpu", truncate_dim=truncate) as model:
        expected = model.encode(["a fox", "the lazy dog"])
    folder = _with_output(folder, tmp_path / "graph", "sentence_embedding", modes, stated=stated)
    with core.load(
        folder, backend=backend, file_name="onnx/model.onnx", truncate_dim=truncate
    ) as model:
        assert model.dimension == (truncate or 16)
        actual = model.encode(["a fox", "the lazy dog"])
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_finished_output_is_not_projected_again(
    everywhere: Path, tmp_path: Path, backend: str, stated: bool
) -> None:
    folder = Path(shutil.copytree(everywhere, tmp_path / "model"))
    _pool_and_project(folder, ("cls_token",), 32)
    folder = _with_output(folder, tmp_path / "graph", "sentence_embedding", width=16, stated=stated)
    with core.load(folder, backend=backend, file_name="onnx/model.onnx") as model:
        assert model.encode(["a fox"]).shape == (1, 16)


def _pool_and_project(folder: Path, modes: tuple[str, ...], width: int) -> None:
    """A Dense to 16 dimensions after pooling with these modes."""
    flags = {f"pooling_mode_{mode}": mode in modes for mode in ("cls_token", "mean_tokens")}
    write = {
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **flags},
        "2_Dense/config.json": {
            "in_features": width,
            "out_features": 16,
            "bias": False,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(
                [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
            )
        ],
    }
    for name, content in write.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(json.dumps(content))
    weight = np.random.default_rng(0).normal(0, 0.2, (16, width)).astype(np.float32)
    write_safetensors(folder / "2_Dense/model.safetensors", {"linear.weight": weight})


def _with_output(
    model: Path,
    target: Path,
    name: str,
    modes: tuple[str, ...] = ("cls_token",),
    *,
    width: int | None = None,
    stated: bool = True,
) -> Path:
    """A copy of a model whose ONNX graph gives pooled tokens alone, cut to `width`.

    Without `stated` the graph leaves the size open.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = Path(shutil.copytree(model, target / "model"))
    path = folder / "onnx" / "model.onnx"
    loaded = onnx.load(str(path))
    graph = loaded.graph
    tokens, size = graph.output[0].name, width or 32 * len(modes)
    constants = {"first": 0, "starts": [0], "ends": [size], "last_axis": [1], "token_axis": [1]}
    for label, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), label))
    nodes = [
        helper.make_node("Gather", [tokens, "first"], ["cls_token"], axis=1),
        # The mean over the mask, as the Pooling module takes it.
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "token_axis"], ["mask_row"]),
        helper.make_node("MatMul", ["mask_row", tokens], ["summed_row"]),
        helper.make_node("Squeeze", ["summed_row", "token_axis"], ["summed"]),
        helper.make_node("ReduceSum", ["mask", "last_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["summed", "count"], ["mean_tokens"]),
        helper.make_node("Concat", list(modes), ["pooled"], axis=1),
        helper.make_node("Slice", ["pooled", "starts", "ends", "last_axis"], [name]),
    ]
    graph.node.extend(nodes)
    del graph.output[:]
    shape = ["batch", size if stated else "any"]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.save(loaded, str(path))
    return folder


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_that_is_not_told_of_padding_is_refused(
    everywhere: Path, tmp_path: Path, backend: str
) -> None:
    import onnx
    from onnx import helper, numpy_helper

    folder = Path(shutil.copytree(everywhere, tmp_path / "model"))
    table = numpy_helper.from_array(np.ones((400, 32), np.float32), "table")
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    ids = helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "t"])
    hidden = helper.make_tensor_value_info("last_hidden_state", 1, ["b", "t", 32])
    graph = helper.make_graph([node], "table", [ids], [hidden], [table])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "onnx/model.onnx")
    with pytest.raises(ModelFormatError, match="no attention_mask: padding would count as text"):
        core.load(folder, backend=backend, file_name="onnx/model.onnx")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"return_dict": False},
        {"output_hidden_states": True, "output_attentions": True},
        {"torchscript": True},
        {"use_cache": True},
        {"return_dict": False, "output_hidden_states": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_what_config_json_asks_to_be_returned_changes_nothing(
    tiny_model: Callable[[str], Path], tmp_path: Path, backend: str, settings: dict[str, Any]
) -> None:
    """sentence-transformers runs such models."""
    source = tiny_model("bert-mean")
    with core.load(source, backend="torch", device="cpu") as model:
        expected = model.encode(["a fox", "the lazy dog sleeps"])
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    if backend != "torch":
        core.export(folder, backend=backend)
    with core.load(folder, backend=backend, device="cpu") as model:
        np.testing.assert_allclose(
            model.encode(["a fox", "the lazy dog sleeps"]), expected, atol=1e-5
        )


def test_the_known_files_are_what_the_backends_declare() -> None:
    assert set(KNOWN_FILES) == set(INSTALL_COMMANDS) == set(BACKENDS)
    for name in BACKENDS:
        declared = core.hooks(name).capabilities.files
        assert dict(KNOWN_FILES[name]) == dict(declared)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_listed_configuration_is_known(
    everywhere: Path, tmp_path: Path, backend: str
) -> None:
    """An unlisted name is refused with the listed ones in the message."""
    capabilities = core.hooks(backend).capabilities
    with core.load(everywhere, backend=backend, device="cpu") as model:
        for operation, configs in (
            (model.optimize, capabilities.optimize_configs),
            (model.quantize, capabilities.quantize_configs),
        ):
            assert configs
            with pytest.raises(OptionError, match=next(iter(configs))) as caught:
                operation("no-such-config", tmp_path)
            for name in configs:
                assert name in str(caught.value)


IMPORTED_BY = {
    "core": (ROOT / "core", ROOT / "pyproject.toml"),
    "torch": (ROOT / "plugins/torch_backend/src", ROOT / "plugins/torch_backend/pyproject.toml"),
    "onnx": (ROOT / "plugins/onnx_backend/src", ROOT / "plugins/onnx_backend/pyproject.toml"),
    "openvino": (
        ROOT / "plugins/openvino_backend/src",
        ROOT / "plugins/openvino_backend/pyproject.toml",
    ),
}
#: Imported where they are installed: in `try`, or behind an option that says what to install.
OPTIONAL = {
    "torch",
    "transformers",
    "datasets",
    "optimum",
    "nncf",
    "pytest",
    "openvino_telemetry",
    "scipy",
    "jinja2",
    "flash_attn",
    "triton",  # comes with PyTorch for CUDA
}


@pytest.mark.parametrize("package", IMPORTED_BY)
def test_what_is_imported_is_declared(package: str) -> None:
    """Top-level imports outside functions and `try` need a line in the package's metadata."""
    source, metadata = IMPORTED_BY[package]
    project: dict[str, Any] = tomllib.loads(metadata.read_text())["project"]
    stated = [*project["dependencies"]]
    for extra in project.get("optional-dependencies", {}).values():
        stated += extra
    declared = {_plain(line) for line in stated}
    providers = packages_distributions()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top in sys.stdlib_module_names or top == "core" or top.endswith("_backend"):
                    continue
                if top in OPTIONAL - ({package} & OPTIONAL):
                    continue
                found = {_plain(d) for d in providers.get(top, [top])}
                assert found & declared, f"{path} imports {name}: declare {sorted(found)}"


def _plain(requirement: str) -> str:
    name = requirement
    for end in "[<>=!~ ;":
        name = name.split(end)[0]
    return name.replace("_", "-").lower()


@pytest.mark.parametrize("mode", ["cls", "lasttoken", "max", "mean", "weightedmean"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_text_without_tokens_embeds_to_zeros_in_any_batch(
    tiny_model: Callable[[str], Path], tmp_path: Path, backend: str, mode: str
) -> None:
    """No special tokens, so the empty text is a row of padding."""
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    pooling = {"embedding_dimension": 32, "pooling_mode": mode}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    with core.load(folder, backend=backend, device="cpu") as model:
        alone = model.encode([""])
        among = model.encode(["", "the quick brown fox", "fox", "  "])
    assert not alone.any()
    assert not among[[0, 3]].any()
    assert among[[1, 2]].any(axis=1).all()
