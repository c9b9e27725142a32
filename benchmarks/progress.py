"""What a run is doing, a line at a time."""

from __future__ import annotations

import sys
import time
from typing import Any


def say(*words: Any) -> None:
    """A line of progress on standard error."""
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)
