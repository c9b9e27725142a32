"""One system under measurement, in a process and an interpreter of its own.

Started by benchmarks/process.py with a system's description as JSON; then reads one JSON command a
line and answers each with one line. Imports nothing of this repository, so that it runs in every
peer's environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Texts, and how many of them in a batch; None leaves that to the system.
Encode = Callable[[list[str], "int | None"], Any]


def open_core(spec: dict[str, Any]) -> Encode:
    import core

    model = core.load(
        spec["path"],
        backend=spec["backend"],
        device=spec.get("device"),
        file_name=spec.get("file_name"),
        export=False,
        model_kwargs=spec.get("model_kwargs"),
    )
    return lambda texts, batch: model.encode(texts, batch_size=batch)


def open_sentence_transformers(spec: dict[str, Any]) -> Encode:
    from sentence_transformers import SentenceTransformer

    arguments = {**spec.get("model_kwargs", {})}
    if spec.get("file_name"):
        arguments["file_name"] = spec["file_name"]
    model = SentenceTransformer(
        spec["path"], backend=spec["backend"], device="cpu", model_kwargs=arguments
    )

    def encode(texts: list[str], batch: int | None) -> Any:
        chosen = {} if batch is None else {"batch_size": batch}
        return model.encode(texts, show_progress_bar=False, **chosen)

    return encode


def open_fastembed(spec: dict[str, Any]) -> Encode:
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="benchmark/minilm",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="benchmark/minilm"),
        dim=384,
        model_file=spec["file_name"],
    )
    model = TextEmbedding("benchmark/minilm", specific_model_path=spec["path"])
    # Its default of 256 texts per batch is slower here; 32 is what the others default to.
    return lambda texts, batch: np.array(list(model.embed(texts, batch_size=batch or 32)))


def open_embed_anything(spec: dict[str, Any]) -> Encode:
    # It takes names on the Hub only: benchmarks/hub.py answers for the Hub.
    os.environ |= {"HF_HOME": spec["cache"], "HF_ENDPOINT": spec["endpoint"]}
    import asyncio
    import inspect

    import embed_anything
    import numpy as np

    if "file_name" in spec:
        model = embed_anything.EmbeddingModel.from_pretrained_onnx(
            embed_anything.WhichModel.Bert,
            hf_model_id=spec["model_id"],
            path_in_repo=spec["file_name"],
        )
    else:
        model = embed_anything.EmbeddingModel.from_pretrained_hf(model_id=spec["model_id"])

    def encode(texts: list[str], batch: int | None) -> Any:
        config = embed_anything.TextEmbedConfig(batch_size=batch or 32)
        found = embed_anything.embed_query(texts, embedder=model, config=config)
        if inspect.isawaitable(found):

            async def wait() -> Any:
                return await found

            found = asyncio.run(wait())
        return np.array([item.embedding for item in found], dtype=np.float32)

    return encode


def product_session(weight: Any) -> Any:
    """An ONNX Runtime session that multiplies its input `a` by a constant square matrix."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    square = [len(weight)] * 2
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "weight"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, square)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, square)],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    options = onnxruntime.SessionOptions()
    # Threads that spin on would take time from the system that is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def open_sgemm(spec: dict[str, Any]) -> Encode:
    """Not a model: the machine's own limit, in GFLOP/s of float32 matrix products.

    The best of three libraries: on some processors numpy's and torch's reach half of what ONNX
    Runtime's does, and a limit that a whole model exceeds is not a limit.
    """
    import numpy as np
    import torch

    size = 1_536
    a, b = (np.random.default_rng(i).random((size, size), dtype=np.float32) for i in (0, 1))
    out, ta, tb = np.empty_like(a), torch.from_numpy(a), torch.from_numpy(b)
    session = product_session(b)
    products = (
        lambda: np.matmul(a, b, out=out),
        lambda: torch.mm(ta, tb),
        lambda: session.run(None, {"a": a}),
    )

    def measure(texts: list[str], batch: int | None) -> Any:
        best = 0.0
        for product in products:
            for _ in range(6):
                start = time.perf_counter()
                product()
                best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
        return best

    return measure


OPEN = {
    "core": open_core,
    "sentence-transformers": open_sentence_transformers,
    "fastembed": open_fastembed,
    "embed-anything": open_embed_anything,
    "sgemm": open_sgemm,
}


def memory() -> dict[str, float]:
    """Resident memory now and at its highest, in megabytes (10^6 bytes)."""
    fields = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            fields[name] = int(value.split()[0]) * 1024 / 1e6
    return {"now": fields.get("VmRSS", 0.0), "peak": fields.get("VmHWM", 0.0)}


def installed_size(requirements: list[str]) -> dict[str, Any]:
    """Megabytes of the files of the named distributions and of all they require."""
    from importlib.metadata import PackageNotFoundError, distribution

    from pip._vendor.packaging.requirements import Requirement

    sizes: dict[str, float] = {}
    seen = set()
    todo = list(requirements)
    while todo:
        wanted = Requirement(todo.pop())
        key = (wanted.name.lower().replace("_", "-"), tuple(sorted(wanted.extras)))
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            continue
        paths = (Path(str(found.locate_file(file))) for file in found.files or ())
        sizes[key[0]] = sum(p.stat().st_size for p in paths if p.is_file()) / 1e6
        for text in found.requires or ():
            needed = Requirement(text)
            extras = [*wanted.extras, ""]
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                todo.append(text.partition(";")[0])
    return {"megabytes": sum(sizes.values()), "distributions": sizes}


def read(file: str) -> Any:
    return json.loads(Path(file).read_text())


def latency(encode: Encode, texts: list[str]) -> list[float]:
    seconds = []
    for text in texts:
        start = time.perf_counter()
        encode([text], None)
        seconds.append(time.perf_counter() - start)
    return seconds


def answer(command: dict[str, Any], encode: Encode, texts: dict[str, list[str]]) -> Any:
    kind = command["do"]
    if kind == "encode":
        rows = texts[command["workload"]]
        if "rows" in command:
            rows = [rows[i] for i in command["rows"]]
        start = time.perf_counter()
        encode(rows, command.get("batch"))
        return {"seconds": time.perf_counter() - start}
    if kind == "latency":
        return {"seconds": latency(encode, texts[command["workload"]][: command["count"]])}
    if kind == "value":
        return {"value": encode([], None)}
    if kind == "save":
        import numpy as np

        rows = texts[command["workload"]] if "workload" in command else read(command["texts"])
        np.save(command["file"], np.asarray(encode(rows, None), dtype=np.float32))
        return {}
    return {"memory": memory()}


def main() -> None:
    spec = json.loads(sys.argv[1])
    # Standard output carries answers only; whatever a library prints goes to standard error.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: Any) -> None:
        print(json.dumps(value), file=channel, flush=True)

    if spec.get("measure") == "size":
        say(installed_size(spec["distributions"]))
        return
    start = time.perf_counter()
    encode = OPEN[spec["kind"]](spec)
    loaded = time.perf_counter() - start
    if spec.get("measure") == "cold":
        encode(["The first text that this process embeds."], None)
        say({"loaded": loaded})
        return
    texts = read(spec["texts"])
    say({"loaded": loaded, "memory": memory()})
    for line in sys.stdin:
        say(answer(json.loads(line), encode, texts))


if __name__ == "__main__":
    main()
