"""The examples, installed as pip installs them, run their own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CACHE, ROOT, Exports, build_tiny_model, run_pip, with_path

EXAMPLES = ("ctranslate2_backend", "embedding_cache", "http_backend")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all three, which every process below has on its path."""
    folder = tmp_path_factory.mktemp("examples")
    packages = [str(ROOT / "examples" / name) for name in EXAMPLES]
    options = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder))
    run_pip(Path(sys.executable), *options, *packages)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes_its_tests(name: str, site: Path, exports: Exports) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": with_path(site),
        "OMP_NUM_THREADS": "1",
        "CT2_MODEL": str(build_tiny_model("bert-mean")),
        # Its server and its tests start in a fraction of the time that they take with torch.
        "HTTP_BACKEND_MODEL": str(exports("bert-mean", "onnx")),
        "HTTP_BACKEND_SERVES": "onnx",
        "CORE_CACHE": str(CACHE / "test-core"),
    }
    if name != "embedding_cache":
        # It would answer for the backend under test.
        environment["CORE_DISABLE_PLUGINS"] = "embedding-cache"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"],
        cwd=ROOT / "examples" / name,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
