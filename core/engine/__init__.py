"""Texts to arrays: batches, runtimes, what happens to their results."""
