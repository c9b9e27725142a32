"""Which instructions this machine's processor has."""

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


def instruction_set(text: str) -> frozenset[str]:
    """Flags of the first processor in the text of /proc/cpuinfo."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.lower().split())
    return frozenset()


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
