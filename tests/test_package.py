"""What importing costs, and what the public namespace holds."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import core

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "onnxruntime", "onnx", "openvino", "huggingface_hub", "nncf")


def run_python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_core_imports_no_runtime() -> None:
    loaded = json.loads(run_python("import core, sys, json; print(json.dumps(list(sys.modules)))"))
    roots = {name.partition(".")[0] for name in loaded}
    assert not roots & {*HEAVY, "numpy", "tokenizers", "pluggy"}
    assert "core" in roots


def test_naming_a_backend_imports_no_other_runtime(minilm: Path) -> None:
    code = (
        "import core, sys, json; core.hooks('torch');"
        "print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    roots = set(json.loads(run_python(code)))
    assert "torch_backend" in roots
    assert not roots & {*HEAVY, "onnx_backend", "openvino_backend"}


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in core.__all__:
        assert getattr(core, name) is not None
    assert len(core.__all__) == len(set(core.__all__)) > 30
    assert set(core.__all__) <= set(dir(core))


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = core.no_such_name


def test_functions_are_not_shadowed_by_modules() -> None:
    code = (
        "import core, importlib, pkgutil;"
        "[importlib.import_module(f'core.{m.name}') for m in pkgutil.iter_modules(core.__path__)"
        " if m.name != '__main__'];"
        "print(callable(core.backends), callable(core.hooks), callable(core.load),"
        " callable(core.export), callable(core.optimize), callable(core.quantize),"
        " callable(core.save))"
    )
    assert set(run_python(code).split()) == {"True"}


def test_errors_form_one_tree() -> None:
    assert issubclass(core.BackendNotFound, core.PluginError)
    assert issubclass(core.BackendLoadError, core.PluginError)
    assert issubclass(core.ArtifactNotFound, core.ModelError)
    assert issubclass(core.OptionError, ValueError)
    public = [getattr(core, name) for name in core.__all__]
    errors = [one for one in public if isinstance(one, type) and issubclass(one, Exception)]
    assert len(errors) > 8
    assert all(issubclass(error, core.CoreError) for error in errors)


def test_extras_are_those_of_the_design() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = metadata["project"]
    wanted = {
        "torch",
        "onnx",
        "onnx-gpu",
        "openvino",
        "quantize",
        "optimum",
        "plot",
        "server",
        "chat",
        "all",
    }
    assert set(project["optional-dependencies"]) == wanted
    runtimes = ("torch", "transformers", "onnx", "openvino", "sentence")
    assert not [d for d in project["dependencies"] if d.startswith(runtimes)]
    assert project["dynamic"] == ["version"]  # one place: core/version.py
    assert metadata["tool"]["hatch"]["version"]["path"] == "core/version.py"
    assert version("core") == core.__version__
