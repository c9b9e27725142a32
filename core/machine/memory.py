"""What a process has of the machine's memory."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource


def resident_bytes() -> int:
    """Bytes of this process in memory; the most there ever were where only that is known."""
    return _resident_bytes()


if sys.platform == "win32":

    class _Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = (
            ("size", ctypes.c_ulong),
            ("page_faults", ctypes.c_ulong),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 6),
        )

    def _resident_bytes() -> int:
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        counters = _Counters(size=ctypes.sizeof(_Counters))
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
        return int(counters.working_set)

else:

    def _resident_bytes() -> int:
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else most * 1_024
        return pages * os.sysconf("SC_PAGE_SIZE")
