"""Is the torch backend right on a GPU, and how fast? One command for a bare machine: `make gpu`.

Read it from `run`, which goes through the sections; docs/performance.md says what each of them is.
"""
