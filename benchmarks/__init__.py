"""Speed and size of this library and of others, measured side by side.

`make bench` or `python -m benchmarks.run`; docs/performance.md explains the results.
"""
