"""Which int8 preset this processor runs best, from its instruction set."""

from __future__ import annotations

import platform

from core.machine.processor import processor_flags

#: Preset to the instructions it is for: any one of them.
INSTRUCTIONS = {
    "avx512_vnni": ("avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni"),
    "avx512": ("avx512f",),
    "avx2": ("avx2",),
}


def choose_preset(flags: frozenset[str] | None = None, machine: str | None = None) -> str:
    """The preset for a processor; for this one without arguments.

    Processors with VNNI multiply signed weights exactly and fastest; without it sums of products of
    signed weights can saturate. The preset "avx2" has unsigned weights for that reason.
    """
    kind = (machine or platform.machine()).lower()
    if kind.startswith(("arm", "aarch")):
        return "arm64"
    known = processor_flags() if flags is None else flags
    for preset, any_of in INSTRUCTIONS.items():
        if known.intersection(any_of):
            return preset
    return "avx2"


def better_preset(
    preset: str, flags: frozenset[str] | None = None, machine: str | None = None
) -> str | None:
    """The preset to use instead where the processor lacks the instructions of this one."""
    best = choose_preset(flags, machine)
    order = ("avx2", "avx512", "avx512_vnni")
    if (preset == "arm64") != (best == "arm64"):
        return best
    if preset in order and best in order and order.index(preset) > order.index(best):
        return best
    return None
