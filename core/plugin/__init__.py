"""Backends and wrapping plugins: found, checked and put into one call."""
