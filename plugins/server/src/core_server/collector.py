"""What Python's garbage collector looks at, and how often, while every thread waits for it.

A full collection visits every object there is: those of loaded libraries, and those of hundreds of
requests that wait. With both it takes 0.1 s, several times a minute under load, and finds hardly
anything: requests leave no circles behind. So what is loaded is set aside, and full collections
become rare; young objects are collected as before.
"""

from __future__ import annotations

import gc

#: Collections of young objects before a full one; about one in 50,000 requests at full load.
_YOUNG_BEFORE_FULL = 1_000


def set_aside() -> None:
    """Let collections pass over everything that lives now; for a process that only serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], _YOUNG_BEFORE_FULL)


def renew() -> None:
    """Collect what was set aside and lives no more, and set aside what lives now.

    Does nothing where nothing was set aside: the process does not only serve.
    """
    if gc.get_freeze_count():
        gc.unfreeze()
        set_aside()
