"""ONNX and OpenVINO files on a Hub: what a load transfers, what a push uploads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import core
from core.cli import main
from core.errors import ArtifactNotFound
from tests.conftest import Exports, copy_model
from tests.hub.conftest import folder_files
from tests.hub.loopback import LoopbackHub

TEXTS = ["one text", "another, longer text about vectors"]
NEEDED_BY_ONNX = {
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "config.json",
    "1_Pooling/config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def exported(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert-cls with torch weights, three ONNX files and placeholders for OpenVINO's."""
    folder = copy_model(exports("bert-cls", "onnx"), tmp_path_factory.mktemp("exported") / "model")
    with core.load(str(folder), backend="onnx") as model:
        core.optimize(model, "O2")
        core.quantize(model, "avx2")
    (folder / "openvino").mkdir()
    for name in ("openvino_model.xml", "openvino_model.bin"):
        (folder / "openvino" / name).write_bytes(bytes(1_000_000))
    return folder


@pytest.fixture
def published(hub: LoopbackHub, exported: Path) -> LoopbackHub:
    hub.create("acme/tiny").add(folder_files(exported))
    return hub


def fetched(hub: LoopbackHub) -> dict[str, int]:
    """Name to bytes of every file that was transferred."""
    names = [r.path.partition("/resolve/")[2].partition("/")[2] for r in hub.downloads()]
    assert len(names) == len(set(names))
    return dict(zip(names, (r.sent for r in hub.downloads()), strict=True))


def test_an_onnx_load_transfers_one_onnx_file_and_no_weights(
    published: LoopbackHub, exported: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with core.load("acme/tiny", backend="onnx") as model:
        assert model.file_name == "onnx/model.onnx"
        with core.load(str(exported), backend="onnx") as local:
            assert np.array_equal(model.encode(TEXTS), local.encode(TEXTS))
    transferred = fetched(published)
    assert {"onnx/model.onnx"} < set(transferred) <= {"onnx/model.onnx", *NEEDED_BY_ONNX}
    everything = folder_files(exported)
    assert transferred == {name: len(everything[name]) for name in transferred}
    # Of several candidates one has the default's name: nothing to tell.
    assert caplog.text == ""


def test_a_named_file_is_the_only_onnx_file_transferred(published: LoopbackHub) -> None:
    with core.load("acme/tiny", backend="onnx", file_name="model_O2.onnx") as model:
        assert model.encode(TEXTS).shape == (2, 32)
    onnx = [name for name in fetched(published) if name.endswith(".onnx")]
    assert onnx == ["onnx/model_O2.onnx"]


def test_a_missing_onnx_file_lists_the_others_and_exports_nothing(published: LoopbackHub) -> None:
    with pytest.raises(ArtifactNotFound, match=r"model_O3.onnx'.*Did you mean.*onnx/model_O2.onnx"):
        core.load("acme/tiny", backend="onnx", file_name="model_O3.onnx")
    assert not [name for name in fetched(published) if name.endswith((".onnx", ".safetensors"))]


def test_offline_the_same_onnx_file_is_loaded(published: LoopbackHub) -> None:
    with core.load("acme/tiny", backend="onnx", file_name="model_O2.onnx") as model:
        expected = model.encode(TEXTS)
    published.fail(".", status=500)
    with core.load(
        "acme/tiny", backend="onnx", file_name="model_O2.onnx", local_files_only=True
    ) as model:
        assert np.array_equal(model.encode(TEXTS), expected)


def test_optimising_a_hub_model_pushes_one_file_under_onnx(
    published: LoopbackHub, exported: Path
) -> None:
    store = published.store("acme/tiny")
    with core.load("acme/tiny", backend="onnx") as model:
        artifact = core.optimize(model, "O3", push_to_hub=True, create_pr=True)
        expected = model.encode(TEXTS)
    assert artifact.url == f"{published.url}/acme/tiny/discussions/1"
    before, after = (set(store.entries(store.resolve(r))) for r in ("main", "refs/pr/1"))
    assert after - before == {"onnx/model_O3.onnx", "onnx/model_O3.onnx.json"}
    assert before - after == set()
    text = store.message("refs/pr/1")
    assert "optimize with the onnx backend" in text
    assert 'file_name="onnx/model_O3.onnx", revision="refs/pr/1"' in text
    # What the text says, done.
    with core.load(
        "acme/tiny", backend="onnx", file_name="onnx/model_O3.onnx", revision="refs/pr/1"
    ) as tried:
        assert np.allclose(tried.encode(TEXTS), expected, atol=1e-4)


def test_info_of_a_repository_downloads_no_weights(
    published: LoopbackHub, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "acme/tiny", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert not [n for n in fetched(published) if n.endswith((".onnx", ".safetensors", ".bin"))]
    assert info["commit"] == published.store("acme/tiny").resolve("main")
    assert info["modules"] == ["Transformer (bert)", "Pooling (cls)", "Normalize"]
    assert info["dimension"] == 32
    found = {a["file"]: a for a in info["artifacts"]}
    for name in ("model.safetensors", "onnx/model.onnx", "onnx/model_quint8_avx2.onnx"):
        assert found[name]["size"] == (exported / name).stat().st_size
    assert found["onnx/model.onnx"]["default"]
    assert found["onnx/model.onnx"]["precision"] == "fp32"
    assert found["onnx/model_quint8_avx2.onnx"]["precision"] != "fp32"
    assert found["onnx/model.onnx"]["verification"]["min_cosine"] > 0.9999
    openvino = found["openvino/openvino_model.xml"]
    assert (openvino["backend"], openvino["size"]) == ("openvino", 2_000_000)


def test_info_of_a_directory_is_the_same_as_of_its_repository(
    published: LoopbackHub, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "acme/tiny", "--json"]) == 0
    remote = json.loads(capsys.readouterr().out)
    assert main(["info", str(exported), "--json"]) == 0
    local = json.loads(capsys.readouterr().out)
    for key in ("model", "commit"):
        remote.pop(key)
        local.pop(key)
    assert remote == local
    assert main(["info", str(exported)]) == 0
    shown = capsys.readouterr().out
    assert "Transformer (bert) > Pooling (cls) > Normalize" in shown
    assert "onnx/model.onnx *" in shown
