"""Rewriting ONNX graphs: what only this runtime needs."""
