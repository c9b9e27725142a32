"""The GPU: what it is, how much of its memory is in use, how busy it was."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.gpu.plan import Setting
from benchmarks.gpu.section import NotHereError, Row
from benchmarks.results import versions

_DISTRIBUTIONS = (
    "torch", "transformers", "tokenizers", "numpy", "huggingface_hub", "pluggy", "safetensors",
    "sentence-transformers", "flash-attn", "triton", "onnx", "onnxruntime", "onnxruntime-gpu",
)  # fmt: skip
_SAMPLE_MS = 100


def rows(setting: Setting) -> Iterator[Row]:
    """What the figures were measured on."""
    import torch

    if setting.on_gpu and not torch.cuda.is_available():
        raise NotHereError(
            f"PyTorch {torch.__version__} sees no CUDA device (built for CUDA "
            f"{torch.version.cuda}). For a dry run: --device cpu --tiny."
        )
    row: Row = {
        "device": setting.device,
        "versions": versions(_DISTRIBUTIONS),
        "CUDA": torch.version.cuda,
        "varlen_attn": importlib.util.find_spec("torch.nn.attention.varlen") is not None,
        "flash-attn": has_flash_attention(),
    }
    if setting.on_gpu:
        torch.zeros(1, device=setting.device)
        found = torch.cuda.get_device_properties(torch.device(setting.device))
        row |= {
            "name": found.name,
            "memory_gb": found.total_memory / 1e9,
            "capability": f"{found.major}.{found.minor}",
            "multiprocessors": found.multi_processor_count,
            "count": torch.cuda.device_count(),
            "driver": _ask_driver("driver_version"),
        }
    yield row


def has_flash_attention() -> bool:
    """Whether the flash-attention package is installed; transformers then takes its kernels."""
    try:
        return bool(version("flash-attn"))
    except PackageNotFoundError:
        return False


def _ask_driver(*fields: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return found.stdout.strip().replace("\n", "; ")


def numbered(device: str) -> Any:
    """The `torch.device` with its number, which some functions of CUDA ask for."""
    import torch

    found = torch.device(device)
    return found if found.index is not None else torch.device(found.type, 0)


def synchronize(device: str) -> None:
    """Wait for everything that was given to the device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(torch.device(device))


def allocated(device: str) -> int:
    """Bytes of the device's memory that tensors hold; 0 on a CPU."""
    import torch

    if not device.startswith("cuda"):
        return 0
    return int(torch.cuda.memory_allocated(torch.device(device)))


def peak_over(device: str, act: Callable[[], Any]) -> int | None:
    """The most bytes that tensors held during a call, beyond those before; None on a CPU."""
    import torch

    if not device.startswith("cuda"):
        act()
        return None
    before = allocated(device)
    torch.cuda.reset_peak_memory_stats(torch.device(device))
    act()
    return int(torch.cuda.max_memory_allocated(torch.device(device))) - before


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals: kernels of several streams overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


def profiled(device: str, act: Callable[[], Any]) -> tuple[float, int, float]:
    """(share of a call's time in which a kernel ran, kernels, seconds of the call).

    From the profiler's record of every kernel; copies and fills do not count. On a CPU, torch's
    operators stand for kernels.
    """
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.startswith("cuda")
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    wanted = "CUDA" if on_gpu else "CPU"
    with profile(activities=[activity]) as profiler:
        start = time.perf_counter()
        act()
        synchronize(device)
        seconds = time.perf_counter() - start
    kernels = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == wanted and not event.name.startswith(("Memcpy", "Memset"))
    ]
    return covered(kernels) / 1e6 / seconds, len(kernels), seconds


def utilization(device: str, act: Callable[[], Any], seconds: float) -> list[int]:
    """What the driver says of itself while a call is repeated, in percent.

    Of each tenth of a second, the share in which a kernel ran. Empty on a CPU, and where there is
    no nvidia-smi.
    """
    program = shutil.which("nvidia-smi")
    if program is None or not device.startswith("cuda"):
        return []
    index = device.partition(":")[2] or "0"
    command = [
        program, f"--id={index}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits",
        f"--loop-ms={_SAMPLE_MS}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            act()
    finally:
        process.terminate()
        said, _ = process.communicate()
    found = []
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            found.append(int(line))
    return found[len(found) // 3 :]  # the first were taken while it began
