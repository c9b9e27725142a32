"""Every way to a faster model that the reference documents, by its names, one test each.

Files are real, runtimes are real, and the Hub is the loopback one: what is pushed as a pull
request is loaded from it, merged in the git repository, and loaded again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.cli import main
from core.errors import ArtifactNotFound, OptionError
from core.sentence_transformers import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from tests.conftest import copy_model, one_is_quick
from tests.dropin.ways import LEVELS, PRESETS, REPO, STATIC_CONFIGS, TEXTS, cosines, merge
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub


def embed(name: str, **arguments: Any) -> np.ndarray:
    model = SentenceTransformer(name, **arguments)
    result: np.ndarray = model.encode(TEXTS)
    model.embedding_model.close()
    return result


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_a_model_loads_by_name_with_each_backend(
    repository: LoopbackHub, model: SentenceTransformer, backend: str
) -> None:
    np.testing.assert_allclose(embed(REPO, backend=backend), model.encode(TEXTS), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_by_model_kwargs_and_by_method_agree(tiny: Path, dtype: str) -> None:
    loaded = SentenceTransformer(str(tiny), device="cpu", model_kwargs={"torch_dtype": dtype})
    cast = SentenceTransformer(str(tiny), device="cpu")
    cast = cast.half() if dtype == "float16" else cast.bfloat16()
    assert loaded.embedding_model.dtype == cast.embedding_model.dtype == dtype
    np.testing.assert_array_equal(loaded.encode(TEXTS), cast.encode(TEXTS))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_model_without_the_file_is_exported_with_advice_and_saved_with_it(
    tiny_model: Callable[[str], Path],
    hub: LoopbackHub,
    model: SentenceTransformer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backend: str,
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "exports"))
    plain = copy_model(tiny_model("bert-mean"), tmp_path / "plain")
    with caplog.at_level(logging.WARNING, logger="core"):
        exported = SentenceTransformer(str(plain), backend=backend)
    assert "save" in caplog.text
    np.testing.assert_allclose(exported.encode(TEXTS), model.encode(TEXTS), atol=1e-4)

    exported.save_pretrained(str(tmp_path / "saved"))
    file = "onnx/model.onnx" if backend == "onnx" else "openvino/openvino_model.xml"
    assert (tmp_path / "saved" / file).is_file()
    kept = embed(str(tmp_path / "saved"), backend=backend, model_kwargs={"export": False})
    np.testing.assert_array_equal(kept, exported.encode(TEXTS))

    hub.create(REPO).add({**folder_files(plain), "README.md": b"hand-written"})
    url = exported.push_to_hub(REPO, create_pr=True)
    assert url == f"{hub.url}/{REPO}/discussions/1"
    arguments = {"backend": backend, "model_kwargs": {"export": False}}
    with pytest.raises(ArtifactNotFound, match="export=False"):
        embed(REPO, **arguments)
    pushed = embed(REPO, revision="refs/pr/1", **arguments)
    np.testing.assert_array_equal(pushed, kept)
    merge(hub, 1)
    np.testing.assert_array_equal(embed(REPO, **arguments), kept)


@pytest.mark.parametrize("level", one_is_quick("O1", LEVELS))
def test_optimized_to_a_directory_and_to_the_hub(
    repository: LoopbackHub,
    onnx: SentenceTransformer,
    model: SentenceTransformer,
    local: Path,
    level: str,
) -> None:
    file = f"onnx/model_{level}.onnx"
    arguments = {"backend": "onnx", "model_kwargs": {"file_name": file}}
    export_optimized_onnx_model(onnx, level, str(local))
    written = embed(str(local), **arguments)
    np.testing.assert_allclose(written, model.encode(TEXTS), atol=LEVELS[level])

    source = SentenceTransformer(REPO, backend="onnx")
    export_optimized_onnx_model(source, level, REPO, push_to_hub=True, create_pr=True)
    with pytest.raises(ArtifactNotFound, match=f"model_{level}"):
        embed(REPO, **arguments)
    np.testing.assert_allclose(embed(REPO, revision="refs/pr/1", **arguments), written, atol=1e-6)
    merge(repository, 1)
    np.testing.assert_allclose(embed(REPO, **arguments), written, atol=1e-6)


@pytest.mark.parametrize("preset", one_is_quick("avx2", PRESETS))
def test_dynamic_int8_to_a_directory_and_to_the_hub(
    repository: LoopbackHub,
    onnx: SentenceTransformer,
    model: SentenceTransformer,
    local: Path,
    preset: str,
) -> None:
    file = f"onnx/model_{PRESETS[preset]}.onnx"
    arguments = {"backend": "onnx", "model_kwargs": {"file_name": file.removeprefix("onnx/")}}
    export_dynamic_quantized_onnx_model(onnx, preset, str(local))
    written = embed(str(local), **arguments)
    assert not np.array_equal(written, onnx.encode(TEXTS))
    assert cosines(written, model.encode(TEXTS)).min() > 0.9

    export_dynamic_quantized_onnx_model(onnx, preset, REPO, push_to_hub=True, create_pr=True)
    pulled = embed(REPO, revision="refs/pr/1", **arguments)
    np.testing.assert_allclose(pulled, written, atol=1e-6)
    merge(repository, 1)
    np.testing.assert_allclose(embed(REPO, **arguments), written, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("config", STATIC_CONFIGS)
def test_static_int8_for_openvino_to_a_directory_and_to_the_hub(
    repository: LoopbackHub,
    openvino: SentenceTransformer,
    model: SentenceTransformer,
    local: Path,
    config: str,
) -> None:
    file = "openvino/openvino_model_qint8_quantized.xml"
    arguments = {"backend": "openvino", "model_kwargs": {"file_name": file}}
    given = STATIC_CONFIGS[config]
    export_static_quantized_openvino_model(openvino, given, str(local))
    assert (local / file).with_suffix(".bin").is_file()
    written = embed(str(local), **arguments)
    assert not np.array_equal(written, openvino.encode(TEXTS))
    assert cosines(written, model.encode(TEXTS)).min() > 0.8
    if config != "none":
        record = json.loads((local / (file + ".json")).read_text())
        assert record["config"]["num_samples"] == 24

    export_static_quantized_openvino_model(openvino, given, REPO, push_to_hub=True, create_pr=True)
    pulled = embed(REPO, revision="refs/pr/1", **arguments)
    assert cosines(pulled, written).min() > 0.999
    merge(repository, 1)
    np.testing.assert_array_equal(embed(REPO, **arguments), pulled)


def test_a_suffix_of_one_s_own_and_a_commit_instead_of_a_pull_request(
    repository: LoopbackHub, onnx: SentenceTransformer, local: Path
) -> None:
    export_optimized_onnx_model(onnx, "O1", str(local), False, False, "mine")
    assert (local / "onnx/model_mine.onnx").is_file()
    export_dynamic_quantized_onnx_model(onnx, "avx2", REPO, True, file_suffix="mine")
    file = {"file_name": "onnx/model_mine.onnx"}
    assert embed(REPO, backend="onnx", model_kwargs=file).shape == (3, 32)


def test_wrong_models_and_configurations_are_refused(
    onnx: SentenceTransformer, model: SentenceTransformer, tmp_path: Path
) -> None:
    place = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="load it with backend='onnx'"):
        export_optimized_onnx_model(model, "O2", place)
    with pytest.raises(ValueError, match="'O4'"):
        export_optimized_onnx_model(onnx, "O5", place)
    with pytest.raises(ValueError, match="'avx512_vnni'"):
        export_dynamic_quantized_onnx_model(onnx, "sse2", place)
    with pytest.raises(OptionError, match="backend='openvino'"):
        export_static_quantized_openvino_model(onnx, None, place)
    with pytest.raises(OptionError, match="must be a SentenceTransformer"):
        export_optimized_onnx_model("all-MiniLM-L6-v2", "O2", place)
    assert not Path(place).exists()


def test_some_dataset_arguments_are_not_enough(
    openvino: SentenceTransformer, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="all four"):
        export_static_quantized_openvino_model(
            openvino, None, str(tmp_path), dataset_name="nyu-mll/glue", column_name="sentence"
        )


def test_provider_and_session_options(tiny: Path, onnx: SentenceTransformer) -> None:
    kwargs = {
        "provider": "CPUExecutionProvider",
        "file_name": "model.onnx",
        "subfolder": "onnx",
        "export": False,
    }
    np.testing.assert_allclose(
        embed(str(tiny), backend="onnx", model_kwargs=kwargs), onnx.encode(TEXTS), atol=1e-6
    )
    with pytest.raises(OptionError, match="NoSuchExecutionProvider"):
        embed(str(tiny), backend="onnx", model_kwargs={"provider": "NoSuchExecutionProvider"})
    with pytest.raises(OptionError, match="provider"):
        embed(str(tiny), backend="onnx", model_kwargs={"provder": "CPUExecutionProvider"})


def test_ov_config_as_a_dictionary_and_as_a_file(
    tiny: Path, openvino: SentenceTransformer, tmp_path: Path
) -> None:
    config = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for given in (config, str(tmp_path / "config.json")):
        found = embed(str(tiny), backend="openvino", model_kwargs={"ov_config": given})
        np.testing.assert_allclose(found, openvino.encode(TEXTS), atol=1e-5)


def test_a_misspelled_file_is_an_error_that_lists_what_is_there(tiny: Path) -> None:
    for backend, there in (("onnx", "onnx/model.onnx"), ("openvino", "openvino_model.xml")):
        with pytest.raises(ArtifactNotFound, match=there):
            embed(str(tiny), backend=backend, model_kwargs={"file_name": "model_03.onnx"})


@pytest.mark.slow
def test_the_same_from_the_command_line(
    repository: LoopbackHub, local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Optimize, quantize to a directory, quantize to the Hub; each loads by the drop-in names."""
    for arguments in (
        ["optimize", str(local), "-b", "onnx", "--config", "O3"],
        ["quantize", str(local), "-b", "onnx", "--config", "avx2", "--file-name", "model.onnx"],
        ["quantize", REPO, "-b", "onnx", "--config", "avx2", "--push-to-hub", REPO, "--create-pr"],
    ):
        assert main([*arguments, "--json"]) == 0
    reports = capsys.readouterr().out
    assert f"{repository.url}/{REPO}/discussions/1" in reports
    for name in ("model_O3.onnx", "model_quint8_avx2.onnx"):
        assert embed(str(local), backend="onnx", model_kwargs={"file_name": name}).shape == (3, 32)
    pulled = embed(
        REPO,
        backend="onnx",
        revision="refs/pr/1",
        model_kwargs={"file_name": "onnx/model_quint8_avx2.onnx"},
    )
    assert pulled.shape == (3, 32)
