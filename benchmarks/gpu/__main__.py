"""`python -m benchmarks.gpu`, on a machine where core is not installed."""

from __future__ import annotations

import sys

from benchmarks.gpu.bare import findable

with findable():
    from benchmarks.gpu.run import main

    sys.exit(main())
