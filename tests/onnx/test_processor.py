"""Which preset a processor gets, from what /proc/cpuinfo says of it."""

from __future__ import annotations

import pytest

from onnx_backend.presets import better_preset, choose_preset


@pytest.mark.parametrize(
    ("flags", "machine", "preset"),
    [
        ("sse4_2 avx2 fma", "x86_64", "avx2"),
        ("avx2 avx512f avx512bw", "x86_64", "avx512"),
        ("avx2 avx512f avx512_vnni", "x86_64", "avx512_vnni"),
        ("avx2 avx_vnni", "x86_64", "avx512_vnni"),
        ("", "AMD64", "avx2"),
        ("fp asimd asimddp", "aarch64", "arm64"),
        ("", "arm64", "arm64"),
    ],
)
def test_the_instruction_set_chooses(flags: str, machine: str, preset: str) -> None:
    known = frozenset(flags.split())
    assert choose_preset(known, machine) == preset
    assert better_preset(preset, known, machine) is None


def test_what_a_processor_lacks_is_replaced() -> None:
    avx2 = frozenset({"avx2"})
    assert better_preset("avx512_vnni", avx2, "x86_64") == "avx2"
    assert better_preset("arm64", avx2, "x86_64") == "avx2"
    assert better_preset("avx2", frozenset(), "aarch64") == "arm64"
    assert better_preset("avx2", frozenset({"avx512_vnni"}), "x86_64") is None
