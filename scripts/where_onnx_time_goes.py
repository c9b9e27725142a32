"""Where ONNX Runtime spends its time on one batch of an encoder.

    python scripts/where_onnx_time_goes.py MODEL [--file onnx/model.onnx] [--rows 1] [--tokens 15]
        [--threads 2]

Prints, for a batch of `rows` texts of `tokens` tokens: the time of the model's run, the time of
its products with weights alone (a graph of nothing else, of the sizes in config.json), what a large
square product reaches, and the run's time by operator, from ONNX Runtime's own profile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_CALLS = 200
_SQUARE = 1_536


def session(model: str | bytes, threads: int, profile: str = "") -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def products(sizes: list[tuple[int, int]]) -> bytes:
    """A graph that multiplies its input `x` by a weight of each size, one after the other."""
    draw = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for number, size in enumerate(sizes):
        weight = draw.standard_normal(size, dtype=np.float32) / np.float32(np.sqrt(size[0]))
        weights.append(numpy_helper.from_array(weight, f"weight{number}"))
        nodes.append(helper.make_node("MatMul", [value, f"weight{number}"], [f"value{number}"]))
        value = f"value{number}"
    shapes = [("x", ["rows", sizes[0][0]]), (value, ["rows", sizes[-1][1]])]
    given, found = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes)
    graph = helper.make_graph(nodes, "products", [given], [found], weights)
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def layer_sizes(config: dict[str, Any]) -> list[tuple[int, int]]:
    """Sizes of all products with weights of a BERT, as a chain whose ends fit."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    layer = [*[(hidden, hidden)] * 4, (hidden, wide), (wide, hidden)]
    return layer * int(config["num_hidden_layers"])


def milliseconds(run: Callable[[], Any]) -> float:
    """The median of many calls."""
    taken = []
    for number in range(_CALLS + _CALLS // 10):
        start = time.perf_counter()
        run()
        if number >= _CALLS // 10:
            taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def by_operator(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Microseconds and calls by operator in a profile."""
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
            calls[event["args"]["op_name"]] += 1
    return spent, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a BERT's directory with an ONNX file")
    parser.add_argument("--file", default="onnx/model.onnx")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    file = str(given.model / given.file)
    for name in (given.file, "config.json"):
        if not (given.model / name).is_file():
            parser.error(
                f"{given.model} has no {name}. Name a BERT's directory with an ONNX file; "
                "`core export MODEL --backend onnx --target DIRECTORY` makes one."
            )
    draw = np.random.default_rng(0)
    ids = draw.integers(1_000, 20_000, (given.rows, given.tokens))
    whole = session(file, given.threads)
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feed = {e.name: values.get(e.name, np.zeros_like(ids)) for e in whole.get_inputs()}
    total = milliseconds(lambda: whole.run(None, feed))
    print(f"the model's run: {total:.2f} ms")

    sizes = layer_sizes(json.loads((given.model / "config.json").read_text()))
    alone = session(products(sizes), given.threads)
    x = draw.standard_normal((ids.size, sizes[0][0]), dtype=np.float32)
    taken = milliseconds(lambda: alone.run(None, {"x": x}))
    work = 2 * ids.size * sum(a * b for a, b in sizes)
    size = 4 * sum(a * b for a, b in sizes)
    print(
        f"its products with weights alone: {taken:.2f} ms, {work / taken / 1e6:.0f} GFLOP/s on "
        f"{size / 1e6:.0f} MB of weights"
    )
    square = session(products([(_SQUARE, _SQUARE)]), given.threads)
    x = draw.standard_normal((_SQUARE, _SQUARE), dtype=np.float32)
    taken = milliseconds(lambda: square.run(None, {"x": x}))
    print(f"a product of {_SQUARE:,} x {_SQUARE:,}: {2 * _SQUARE**3 / taken / 1e6:.0f} GFLOP/s")

    with tempfile.TemporaryDirectory() as folder:
        profiled = session(file, given.threads, str(Path(folder) / "profile"))
        for _ in range(_CALLS):
            profiled.run(None, feed)
        spent, calls = by_operator(Path(profiled.end_profiling()))
    print(f"by operator, of {sum(spent.values()) / _CALLS / 1e3:.2f} ms while profiled:")
    for name, microseconds in spent.most_common(12):
        share = microseconds / sum(spent.values())
        print(f"  {name:<26} {calls[name] / _CALLS:5.0f} calls {share:6.1%}")
    print(f"  all together               {sum(calls.values()) / _CALLS:5.0f} calls")


if __name__ == "__main__":
    main()
