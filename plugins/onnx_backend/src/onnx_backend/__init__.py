"""The ONNX Runtime backend of core."""
