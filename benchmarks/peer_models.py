"""Models in the formats of sentence-transformers, made by its own exporters.

Runs in a peer's interpreter: `python peer_models.py onnx|openvino SOURCE TARGET`.
"""

from __future__ import annotations

import sys


def main(backend: str, source: str, target: str) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(source, backend=backend, device="cpu")
    model.save_pretrained(target)
    if backend == "onnx":
        from sentence_transformers.backend import (
            export_dynamic_quantized_onnx_model,
            export_optimized_onnx_model,
        )

        export_optimized_onnx_model(model, "O3", target)
        export_dynamic_quantized_onnx_model(model, "avx2", target)


if __name__ == "__main__":
    main(*sys.argv[1:])
