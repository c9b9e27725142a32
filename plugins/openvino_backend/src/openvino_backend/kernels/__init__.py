"""Kernels and their caches: what only this runtime needs."""
