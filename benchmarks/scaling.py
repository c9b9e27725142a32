"""How cost grows: with the number of texts, their length, the batch budget, and the workers."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts
from benchmarks.process import environment
from benchmarks.systems import ROOT, WORK, _exported, prepare_model

BACKENDS = ("onnx", "openvino", "torch")
_DEVICES = {"onnx": "cpu", "openvino": "CPU", "torch": "cpu"}
Say = Callable[..., None]


def scaling(*, quick: bool, say: Say) -> dict[str, Any]:
    """Every curve; times are medians of interleaved rounds."""
    import core

    model = prepare_model()
    loaded = {}
    for backend in BACKENDS:
        file = "model.safetensors" if backend == "torch" else _exported(model, backend)
        loaded[backend] = core.load(
            model, backend=backend, device=_DEVICES[backend], file_name=file
        )
        loaded[backend].encode(["warm up"] * 3 + ["and another"])
    rounds = 3 if quick else 5
    found: dict[str, Any] = {}
    found["budget"] = _budgets(loaded, rounds, quick, say)
    found["number"] = _numbers(loaded, rounds, quick, say)
    for one in loaded.values():
        one.close()
    found["length"] = _lengths(rounds, 2_048 if quick else 8_192, say)
    found["stream"] = stream_memory(model, "onnx", 15_000 if quick else 60_000, say)
    found["stream_tiny"] = stream_memory(
        _small_model(), "onnx", 200_000 if quick else 1_000_000, say
    )
    return found


def _time(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _interleaved(acts: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, all of them once a round."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            seconds[name].append(_time(act))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _budgets(loaded: dict[str, Any], rounds: int, quick: bool, say: Say) -> list[dict[str, Any]]:
    say("scaling: batch budget and workers")
    rows = texts.workloads(0.3 if quick else 0.6)["mixed"]
    acts: dict[str, Callable[[], Any]] = {}
    budgets = (
        (128, 512, 2_048, 8_192) if quick else (64, 128, 256, 512, 1_024, 2_048, 4_096, 16_384)
    )
    for backend, model in loaded.items():
        for workers in (1, 2):
            if workers > model.runtime.max_workers:
                continue
            for budget in budgets:

                def act(model: Any = model, workers: int = workers, budget: int = budget) -> None:
                    model.encode(rows, batch_tokens=budget, workers=workers)

                acts[json.dumps([backend, workers, budget])] = act
    return [
        dict(zip(("backend", "workers", "budget"), json.loads(name), strict=True))
        | {"texts_per_second": len(rows) / seconds}
        for name, seconds in _interleaved(acts, rounds).items()
    ]


def _numbers(loaded: dict[str, Any], rounds: int, quick: bool, say: Say) -> list[dict[str, Any]]:
    say("scaling: number of texts")
    found = []
    for count in (1, 3, 10, 30, 100, 300, 1_000, *(() if quick else (10_000,))):
        rows = list(texts.stream(count))

        def act_of(model: Any, rows: list[str] = rows) -> Callable[[], Any]:
            return lambda: model.encode(rows)

        acts = {backend: act_of(model) for backend, model in loaded.items()}
        for backend, seconds in _interleaved(
            acts, max(rounds, 300 // count if count < 100 else 1)
        ).items():
            found.append({"backend": backend, "texts": count, "seconds": seconds})
    return found


def _small_model(layers: int = 2, hidden: int = 32, positions: int = 512) -> Path:
    """A BERT of random weights behind MiniLM's tokenizer: for what MiniLM cannot show."""
    import shutil

    folder = WORK / f"bert-{layers}x{hidden}-{positions}"
    if (folder / "onnx" / "model.onnx").exists():
        return folder
    import torch
    import transformers

    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns(
        "onnx", "openvino", "torch", "model*.safetensors", "quantized*"
    )
    shutil.copytree(prepare_model(), folder, ignore=ignored)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=max(hidden // 32, 1),
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
    )
    transformers.BertModel(config).save_pretrained(folder)
    for name, changes in {
        "sentence_bert_config.json": {"max_seq_length": positions},
        "tokenizer_config.json": {"model_max_length": positions},
        "1_Pooling/config.json": {"word_embedding_dimension": hidden},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))
    _exported(folder, "onnx")
    return folder


def _lengths(rounds: int, longest: int, say: Say) -> list[dict[str, Any]]:
    """Seconds for one text of each length, on a model of MiniLM's size without its limit."""
    import core

    say("scaling: length of a text")
    folder = _small_model(layers=6, hidden=384, positions=8_192)
    found = []
    words = texts.words()
    with core.load(folder, backend="onnx", file_name="onnx/model.onnx") as model:
        length = 4
        while length <= longest:
            text = " ".join(words[: length * 2])
            model.max_seq_length = length
            tokens = len(model.tokenize(text)["input_ids"][0])
            repeats = max(3, min(30, 4_096 // length)) if length < 4_096 else 1
            seconds = statistics.median(_time(partial(model.encode, text)) for _ in range(repeats))
            found.append({"tokens": tokens, "seconds": seconds})
            length *= 2
    return found


_STREAM = """
import json, sys, time
import core
from benchmarks import texts
from benchmarks.worker import memory
path, backend, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
trace, start = [], time.perf_counter()
done = 0
with core.load(path, backend=backend, device="cpu", export=False) as model:
    for rows in model.encode_stream(texts.stream(count)):
        done += len(rows)
        trace.append([done, memory()["now"], time.perf_counter() - start])
print(json.dumps({"trace": trace, "peak": memory()["peak"]}))
"""


def stream_memory(model: Path, backend: str, count: int, say: Say) -> dict[str, Any]:
    """Resident memory, in megabytes, while `count` texts run through `encode_stream`."""
    say(f"scaling: {count:,} texts streamed through {model.name}")
    command = [sys.executable, "-c", _STREAM, str(model), backend, str(count)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    trace = np.array(found["trace"])
    first = trace[np.searchsorted(trace[:, 0], min(10_000, trace[-1, 0])), 1]
    found |= {
        "texts": int(trace[-1, 0]),
        "growth_after_10000": float(trace[:, 1].max() - first),
        "texts_per_second": float(trace[-1, 0] / trace[-1, 2]),
    }
    # A thousand points draw as well as all of them.
    found["trace"] = trace[:: max(len(trace) // 1_000, 1)].round(3).tolist()
    return found
