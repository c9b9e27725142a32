"""Who may import whom, as far as import-linter's contracts in pyproject.toml do not say it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import core
import core.toolkit

ROOT = Path(__file__).parents[1]
BACKENDS = ("torch_backend", "onnx_backend", "openvino_backend")
#: Faces that are distributions of their own: folder below plugins/ to package.
OWN_FACES = {"server": "core_server", "ui": "core_ui", "ray": "core_ray"}
PACKAGES = {
    "core": ROOT,
    **{name: ROOT / "plugins" / name / "src" for name in BACKENDS},
    **{name: ROOT / "plugins" / folder / "src" for folder, name in OWN_FACES.items()},
}
FIRST_PARTY = tuple(PACKAGES)
#: What a package outside `core` may import of it.
FACES = ("core", "core.errors", "core.toolkit")
#: The one import upwards: `Artifact.load`.
DOOR = ("core.artifacts.artifact", "core")


@functools.cache
def modules_of(package: str) -> dict[str, ast.Module]:
    """Dotted name to source, of every module of a package of this repository."""
    found = {}
    for path in sorted((PACKAGES[package] / package).rglob("*.py")):
        parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports_of(tree: ast.AST) -> Iterator[tuple[ast.stmt, str, tuple[str, ...]]]:
    """(statement, module, names) of every import below a node, TYPE_CHECKING blocks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node, node.module or "", tuple(alias.name for alias in node.names)


def graph_of(package: str) -> dict[str, set[str]]:
    trees = modules_of(package)
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        targets = set()
        for _, module, names in imports_of(tree):
            full = {f"{module}.{given}" for given in names} & set(trees)
            targets |= full or ({module} & set(trees))
        graph[name] = {target for target in targets - {name} if (name, target) != DOOR}
    return graph


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Modules that import each other, directly or through others."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        return seen

    reached = {name: reach(name) for name in graph}
    inside = [name for name in graph if name in reached[name]]
    return sorted(
        {tuple(n for n in inside if n in reached[name] and name in reached[n]) for name in inside}
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other(package: str) -> None:
    assert circles(graph_of(package)) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}
    assert circles(graph) == [("a", "b", "c")]


def outside_sources() -> list[Path]:
    """Backends, faces of their own, examples and what `core new-backend` writes."""
    places = [PACKAGES[name] / name for name in (*BACKENDS, *OWN_FACES.values())]
    places += [*(ROOT / "examples").glob("*/src"), ROOT / "examples" / "ecosystem"]
    found = [path for place in places for path in place.rglob("*.py")]
    return [*found, *(ROOT / "core" / "scaffold" / "template").rglob("src/**/*.py.template")]


@pytest.mark.parametrize("path", outside_sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_outside_core_import_its_two_faces_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".template":
        text = text.replace("<<", "").replace(">>", "")
    allowed: tuple[str, ...] = FACES
    if "ecosystem" in path.parts:  # users' programs, which may use the drop-in
        allowed = (*FACES, "core.sentence_transformers")
    for _, module, names in imports_of(ast.parse(text)):
        if module.split(".")[0] == "core":
            assert module in allowed, f"{path}: {module}"
            if module == "core":
                assert set(names) <= set(core.__all__), f"{path}: {names}"
            if module == "core.toolkit":
                assert set(names) <= set(core.toolkit.__all__), f"{path}: {names}"


def hidden_imports(package: str) -> Iterator[str]:
    """Imports of this repository's modules inside functions."""
    for name, tree in modules_of(package).items():
        if name.startswith(("core.cli", "core.__main__")) or name.endswith(
            ("_backend.plugin", ".command")
        ):
            continue  # the command line and backends stay quick to name, and Ctrl-C is caught
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for _, module, _ in imports_of(function):
                if module.split(".")[0] in FIRST_PARTY and (name, module) != DOOR:
                    yield f"{name}.{function.name} imports {module}"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_of_our_own_stand_at_the_top(package: str) -> None:
    assert list(hidden_imports(package)) == []


def test_no_room_takes_the_name_of_something_public() -> None:
    rooms = {name.split(".")[1] for name in modules_of("core") if "." in name}
    assert rooms & (set(core.__all__) - {"__version__"}) == set()


def test_backends_have_one_shape() -> None:
    shared = {"plugin", "device", "session", "files", "export", "optimize", "quantize"}
    optional = {"graph", "modules", "presets", "calibration", "optimum", "int8"}
    own = {
        # What PyTorch needs to read weights, know encoders and heads, run `torch.compile` and be
        # traced.
        "torch_backend": {
            "weights",
            "compiled",
            "configuration",
            "encoders",
            "heads",
            "pooled_logits",
            "traceable",
            "masks",
            "relative_positions",
            "kernels",
            # Batches without padding, and what a GPU needs: how much at once, in which precision.
            "packed",
            "budget",
            "transfers",
            "precision",
        },
        # Reading an untrusted file without onnx; hushing the tools.
        "onnx_backend": {"quiet", "rewriting"},
        # Imports without usage statistics; weight compression; hushing nncf; what a file needs of
        # the processor.
        "openvino_backend": {"imports", "compress", "quiet", "kernels", "rewriting", "processor"},
    }
    for package, extra in own.items():
        found = {name.split(".")[1] for name in modules_of(package) if "." in name}
        assert shared <= found, f"{package} lacks {shared - found}"
        assert found <= shared | optional | extra, f"{package}: {found - shared - optional - extra}"


#: What `core.toolkit` offers. A name that is taken away breaks backends of other people.
TOOLKIT = """
ACTIVATIONS ChannelRanges DATASET_ARGUMENTS DTYPE_PRECISIONS Dense Elementwise GRAPH_INPUTS
GraphArray
GraphBuilder GraphOutput HeldFiles INT8_INSTRUCTIONS LEADING_ELSEWHERE LayerNorm Module Normalize
OnnxFile POOLING_MODES Pooling QUANTIZED_OPERATORS Reduction SENTENCE_OUTPUTS SIDECAR_SUFFIX
SETTINGS_WITHOUT_EFFECT THREADS_VARIABLE TOKEN_OUTPUTS Tokenizer VECTOR_OUTPUTS abandon_in_forks
announce append_modules append_token_modules arrow_column artifact_name
as_numpy available_cpus calibration_batches check_exporter check_fetched check_inputs check_labels
check_names check_positive check_relative check_safetensors check_sizes check_token_width
check_tokens_shape check_vector_width choose_logits choose_outputs choose_samples
choose_varied_samples choose_vectors clean_configuration
compare copy_file cpu_batch_tokens cut_batches
derived_name expand_home explain_surroundings external_files has_floor installed_versions
keep_sensitive_layers modules_after
modules_after_vectors open_source pad plain_folder pools_prompt probe_texts process_wide
processor_flags
processor_vendor quiet_transformers read_onnx_file read_weights round_weights run_modules
run_sentence_modules run_token_modules follows_pooling scores_of smoothing_factors
stderr_is_terminal suggestion temporary_directory unit_length write_safetensors
MaskedLanguageHead Moments Scoring SpladePooling WeightRounder moment_parts logits_batch_tokens
DENSE GraphHeads HEAD_OUTPUTS SPARSE TokenHeads finish_head run_outputs
"""


def test_the_toolkit_offers_these_names() -> None:
    listed = TOOLKIT.split()
    assert sorted(core.toolkit.__all__) == sorted(listed)
    assert len(set(listed)) == len(listed)
    for name in listed:
        assert hasattr(core.toolkit, name)
    public = {name for name in vars(core.toolkit) if not name.startswith("_")}
    assert public - {"annotations"} == set(listed)  # nothing is there by accident
    assert "::: core.toolkit" in (ROOT / "docs/reference.md").read_text(encoding="utf-8")
