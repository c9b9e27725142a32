"""The PyTorch backend of core."""
