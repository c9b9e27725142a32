"""The flow chart of docs/choosing.md, with the speeds of a run in it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from html import escape
from typing import Any

#: The chart's answers, and the systems whose speeds stand in them.
_SYSTEMS = {
    "onnx": "core onnx fp32",
    "openvino": "core openvino fp32",
    "torch": "core torch fp32",
    "int8": "core onnx int8",
}
_WIDTH, _HEIGHT, _LINE = 860, 470, 20
#: Key: middle and top of the box, its width, whether it is a question.
_BOXES = {
    "where": (430, 15, 230, True),
    "gpu": (180, 110, 320, False),
    "exact": (610, 110, 330, True),
    "int8": (320, 245, 330, False),
    "torch?": (690, 245, 290, True),
    "fast": (560, 370, 250, False),
    "torch": (745, 370, 110, False),
    "check": (215, 370, 390, False),
}
_ARROWS = (
    ("where", "gpu", "on a GPU"),
    ("where", "exact", "on a CPU"),
    ("exact", "int8", "yes"),
    ("exact", "torch?", "no"),
    ("torch?", "fast", "no"),
    ("torch?", "torch", "yes"),
    ("int8", "check", "then"),
)


def flowchart(systems: Mapping[str, Any]) -> str:
    """An SVG drawing; speeds are geometric means over the lengths, against the reference.

    Raises:
        KeyError: A system the chart names was not measured.
    """
    for name in _SYSTEMS.values():
        if not systems[name]["ratio"]:
            raise KeyError(name)
    speed = {
        key: statistics.geometric_mean(systems[name]["ratio"].values())
        for key, name in _SYSTEMS.items()
    }
    cosine = systems[_SYSTEMS["int8"]]["cosine"]["mean"]
    text = {
        "where": ["Where does it run?"],
        "gpu": [
            "NVIDIA: torch, float16 or bfloat16; or onnx-gpu, O4",
            "Apple: torch (mps). Intel: openvino (gpu)",
            "not measured here",
        ],
        "exact": ["May embeddings drift a little?", f"(int8: mean cosine {cosine:.3f} to float32)"],
        "int8": ["onnx, quantize", f"{speed['int8']:.1f} times sentence-transformers"],
        "torch?": ["Must PyTorch be installed anyway,", "and is its speed enough?"],
        "fast": [f"openvino {speed['openvino']:.1f} times,", f"onnx {speed['onnx']:.1f} times"],
        "torch": ["torch", f"{speed['torch']:.1f} times"],
        "check": [
            "Compare on your own data. Too much drift: openvino",
            "int8-weights, or static int8 with your own texts",
        ],
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle">',
        "<title>Choosing a backend</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    bottoms = {key: _BOXES[key][1] + _LINE * len(text[key]) + 16 for key in text}
    for start, end, label in _ARROWS:
        x1, y1 = _BOXES[start][0], bottoms[start]
        x2, y2 = _BOXES[end][0], _BOXES[end][1]
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#546e7a"/>')
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        parts.append(
            f'<rect x="{x - 34}" y="{y - 10}" width="68" height="19" fill="white"/>'
            f'<text x="{x}" y="{y + 4}" fill="#37474f">{escape(label)}</text>'
        )
    for key, (x, top, width, question) in _BOXES.items():
        fill, radius = ("#e3f2fd", 22) if question else ("#f1f8e9", 4)
        parts.append(
            f'<rect x="{x - width / 2}" y="{top}" width="{width}" height="{bottoms[key] - top}" '
            f'rx="{radius}" fill="{fill}" stroke="#546e7a"/>'
        )
        for number, line in enumerate(text[key]):
            parts.append(
                f'<text x="{x}" y="{top + 22 + _LINE * number}" fill="black">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"
