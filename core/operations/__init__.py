"""The six operations: what `core` does around each hook."""
