"""The wheels in fresh environments."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from tests.conftest import make_environment


def test_wheels_hold_types_licence_and_templates(wheels: Path) -> None:
    (core_wheel,) = wheels.glob("core-0*.whl")
    names = zipfile.ZipFile(core_wheel).namelist()
    assert "core/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "plugins", "benchmarks"))]


def test_a_bare_core_is_light_and_tells_how_to_get_a_backend(wheels: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "bare", "core", wheels=wheels)
    listing = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze"],
        capture_output=True, text=True, check=True,
    ).stdout.lower()  # fmt: skip
    for heavy in ("torch", "transformers", "onnx", "openvino"):
        assert heavy not in listing

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(python.parent / "core"), *arguments],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, text = run("backends")
    assert code == 0
    assert "pip install core[torch]" in text
    code, text = run("encode", "some-model", "text")
    assert code == 1
    assert "No backend is installed" in text
    assert "pip install core[onnx]" in text
    code, text = run("encode", "some-model", "text", "--backend", "openvino")
    assert code == 1
    assert "`pip install core[openvino]`" in text
