"""What every Python does that a test starts: this folder is on their path.

When Python ends it searches all objects for garbage. With PyTorch and transformers imported that is
a quarter of the processor time that loading and running a tiny model takes.
"""

import atexit
import gc

atexit.register(gc.freeze)
