"""Which instructions and how much cache this machine's processor has."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

#: Instructions that multiply and add int8 in one step; without any of them int8 gains little.
INT8_INSTRUCTIONS = frozenset(
    {"avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni", "amx_int8", "asimddp", "i8mm"}
)

#: Instructions on vectors and matrices that runtimes choose their kernels by, as Linux and macOS
#: spell them.
VECTOR_INSTRUCTIONS = INT8_INSTRUCTIONS | {
    "avx", "avx10", "avx2", "avx512bf16", "avx512bw", "avx512dq", "avx512f", "avx512fp16",
    "avx512vl", "avx512_bf16", "avx512_fp16", "avx_ne_convert", "avx_vnni_int8", "amx_bf16",
    "amx_fp16", "amx_tile", "asimd", "asimdfhm", "asimdhp", "bf16", "f16c", "fma", "fphp", "neon",
    "sme", "sme2", "sse4_1", "sve", "sve2", "svebf16", "svei8mm",
}  # fmt: skip

#: Other systems' names of Linux's machine types.
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def machine_type() -> str:
    """The processor's family under Linux's name, whatever the system: "x86_64", "aarch64"."""
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)


def vector_flags() -> tuple[str, ...]:
    """Those of `processor_flags` that decide which kernels a runtime has, sorted."""
    return tuple(sorted(processor_flags() & VECTOR_INSTRUCTIONS))


def instruction_set(text: str) -> frozenset[str]:
    """Flags of the first processor in the text of /proc/cpuinfo."""
    return frozenset(_field(text, "flags", "features").lower().split())


def _field(text: str, *names: str) -> str:
    """The first value by any of these names in the text of /proc/cpuinfo."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            return value.strip()
    return ""


@cache
def processor_vendor() -> str:
    """The maker's name as /proc/cpuinfo has it: "GenuineIntel", "AuthenticAMD"; else empty."""
    if not _CPUINFO.is_file():
        return ""
    return _field(_CPUINFO.read_text(encoding="utf-8", errors="replace"), "vendor_id")


@cache
def processor_name() -> str:
    """The maker's words for it, as /proc/cpuinfo has them; else what the platform calls it."""
    if _CPUINFO.is_file():
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
        if name := _field(text, "model name"):
            return name
    return platform.processor() or platform.machine()


@cache
def processor_flags() -> frozenset[str]:
    """Flags of this machine's processor, lower case; empty where they cannot be read."""
    if _CPUINFO.is_file():
        return instruction_set(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return frozenset(found.stdout.lower().replace(".", "").split())
    return frozenset()


@cache
def cache_bytes(cpus: int, root: Path = Path("/")) -> int | None:
    """Bytes of level 2 and 3 cache for each of `cpus` busy cores; None where they cannot be read.

    A cache that several cores share is split among those of them that this process keeps busy.
    """
    total = 0
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size, sharing = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size", "shared_cpu_list")
            )
            if level in ("2", "3") and kind in ("Unified", "Data"):
                unit = {"K": 1_024, "M": 1_048_576}[size[-1:]]
                total += int(size[:-1]) * unit // min(_count(sharing), cpus)
        except (OSError, ValueError, KeyError):
            return None
    return total or None


def _count(ranges: str) -> int:
    """How many numbers a list like "0-3,8" has."""
    pairs = [part.split("-") for part in ranges.split(",")]
    return sum(int(pair[-1]) - int(pair[0]) + 1 for pair in pairs)
