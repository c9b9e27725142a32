"""The machine measured on, and how many operations the model really needs."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.machine.cpus import available_cpus


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system: what a reader needs to place the figures."""
    processor = ""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            processor = value.strip()
        elif name.strip() == "flags":
            flags = set(value.split())
    vectors = (
        "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16",
    )  # fmt: skip
    return {
        "processor": processor,
        "cores": available_cpus(),
        "vector instructions": [name for name in vectors if name in flags],
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def kind(described: Mapping[str, Any]) -> str:
    """The processor of a description: its name, and the best instructions that models use."""
    flags = set(described.get("vector instructions", ()))
    told = [
        name
        for name, any_of in (
            ("AMX", {"amx_int8", "amx_bf16"}),
            ("AVX-512", {"avx512f"}),
            ("VNNI", {"avx512_vnni", "avx_vnni"}),
            ("bfloat16", {"avx512_bf16", "amx_bf16"}),
        )
        if flags & any_of
    ] or [name for name in ("AVX2",) if "avx2" in flags]
    name = described["processor"] or "a CPU"
    return f"{name} with {', '.join(told)}" if told else str(name)


def slug(described: Mapping[str, Any]) -> str:
    """The same as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", kind(described).replace(" with", "").lower()).strip("-")


def load_average() -> float:
    """Processes that wanted to run in the last minute; above 0.3 before the start is not quiet."""
    return os.getloadavg()[0]


def useful_flops(model: Path, token_counts: Iterable[int]) -> float:
    """Multiplications and additions an encoder needs for texts of these token counts.

    Counted are the matrix products of a BERT layer on real tokens: four projections of the hidden
    size, two of the feed-forward layer, and two products of attention, each weight once and twice
    for multiply and add. Padding is not useful and does not count.
    """
    config = json.loads((model / "config.json").read_text())
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    weights = 4 * hidden * hidden + 2 * hidden * config["intermediate_size"]
    return float(sum(2 * layers * (n * weights + 2 * n * n * hidden) for n in token_counts))
