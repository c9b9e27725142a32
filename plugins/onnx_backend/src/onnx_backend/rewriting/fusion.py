"""Switches of ONNX Runtime's transformer fusions, named as Optimum's configuration does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Switch to the attribute of `FusionOptions` it sets, and whether it sets it or clears it.
FUSION_SWITCHES = {
    "disable_gelu_fusion": ("enable_gelu", False),
    "disable_layer_norm_fusion": ("enable_layer_norm", False),
    "disable_attention_fusion": ("enable_attention", False),
    "disable_rotary_embeddings": ("enable_rotary_embeddings", False),
    "disable_skip_layer_norm_fusion": ("enable_skip_layer_norm", False),
    "disable_bias_skip_layer_norm_fusion": ("enable_bias_skip_layer_norm", False),
    "disable_bias_gelu_fusion": ("enable_bias_gelu", False),
    "disable_embed_layer_norm_fusion": ("enable_embed_layer_norm", False),
    "disable_embed_layer_norm": ("enable_embed_layer_norm", False),
    "enable_gelu_approximation": ("enable_gelu_approximation", True),
    "enable_gemm_fast_gelu_fusion": ("enable_gemm_fast_gelu", True),
    "use_multi_head_attention": ("use_multi_head_attention", True),
}


def fusion_options(switches: Mapping[str, bool], raw_mask: bool) -> Any:
    """`FusionOptions` of ONNX Runtime for an encoder.

    With `raw_mask` fused attention takes the attention mask itself. ONNX Runtime's default, the
    index of each row's last token, is wrong for rows padded on the left.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    # Fused embeddings exist for CPU and CUDA only and are as fast unfused; Optimum leaves them too.
    options.enable_embed_layer_norm = False
    for name, on in switches.items():
        attribute, value = FUSION_SWITCHES[name]
        if on:
            setattr(options, attribute, value)
        elif attribute == "enable_embed_layer_norm":
            options.enable_embed_layer_norm = True
    if raw_mask:
        options.use_raw_attention_mask(True)
    return options
