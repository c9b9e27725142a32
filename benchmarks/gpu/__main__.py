"""`python -m benchmarks.gpu`, on a machine where core is not installed."""

from __future__ import annotations

import sys

from benchmarks.gpu.bare import findable

if __name__ == "__main__":  # a section's process may import this
    with findable():
        from benchmarks.gpu.run import main, prepare

        prepare()
        sys.exit(main())
