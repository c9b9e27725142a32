"""Named configurations: what `optimize` and `quantize` make, the default first."""

from __future__ import annotations

OPTIMIZE_CONFIGS = {
    "compile": "torch.compile, applied whenever the file is loaded",
    "fp16": "weights in float16, for a GPU",
    "bf16": "weights in bfloat16; on a CPU for those with avx512_bf16 or amx_bf16",
}
QUANTIZE_CONFIGS = {
    "int8": "dynamic int8 for a CPU, smoothed, with a scale for each token",
}
CALIBRATED_CONFIGS = ("int8",)
#: Instructions that multiply a dtype, on x86 and on ARM.
INSTRUCTIONS = {
    "float16": ("avx512_fp16", "avx512fp16", "amx_fp16", "asimdhp"),
    "bfloat16": ("avx512_bf16", "avx512bf16", "amx_bf16", "bf16"),
}
NEEDS = {
    "fp16": ("cuda", "mps", "xpu", *INSTRUCTIONS["float16"]),
    "bf16": ("cuda", "mps", "xpu", *INSTRUCTIONS["bfloat16"]),
}
