"""A process that dies when it, or one it started, addresses another machine, in any language.

    python -c "from tests.syscalls import forbid_connections; forbid_connections(); ..."

The kernel watches (seccomp, https://docs.kernel.org/userspace-api/seccomp_filter.html) all threads,
and what is started later, threads and processes; nothing can take it back. It tells a process of
its own, which ends the watched one: a forked process that only died itself would not be noticed.
Looking up a name counts, for it addresses a name server. A filter sees numbers, not what pointers
point to: an Internet address is known by its length. Linux 5.7 or newer; no privileges are needed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import signal
import struct
from typing import NamedTuple

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _ALL_THREADS, _NEW_LISTENER, _ALL_THREADS_OR_ERROR = 1, 1, 8, 16
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: a word of seccomp_data, a comparison, a verdict
_ALLOW, _TELL, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.ENOSYS
_NUMBER, _ARGUMENTS = 0, 16  # offsets in seccomp_data
_LENGTHS = (16, 28)  # of sockaddr_in and sockaddr_in6; of those of local sockets: 110


class _Call(NamedTuple):
    number: dict[str, int]
    argument: int  # which holds the address's length


_CALLS = (_Call({"x86_64": 42, "aarch64": 203}, 2), _Call({"x86_64": 44, "aarch64": 206}, 5))
_IO_URING_SETUP = 425  # it could connect without one of these calls


def forbid_connections() -> None:
    """From here on this process dies (SIGSYS) when it or one of its own connects anywhere."""
    program = [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for numbers, argument in _CALLS:
        program += [
            (_LOAD, 0, 0, _NUMBER),
            (_EQUAL, 0, 4, numbers[platform.machine()]),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
            (_EQUAL, 1, 0, _LENGTHS[0]),
            (_EQUAL, 0, 1, _LENGTHS[1]),
            (_RETURN, 0, 0, _TELL),
        ]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    kept = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("HxxxxxxP", len(program), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")
    flags = _ALL_THREADS | _NEW_LISTENER | _ALL_THREADS_OR_ERROR
    listener = libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, flags, filters)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp failed")
    watched = os.getpid()
    if os.fork() == 0:
        _watch(listener, watched, libc)
    os.close(listener)


def _watch(listener: int, watched: int, libc: ctypes.CDLL) -> None:
    """End the watched process at its first call that the filter tells of; end with it."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.closerange(0, listener)  # whoever reads what the watched process writes waits for no other
    if os.getppid() == watched:
        calls = select.poll()
        calls.register(listener, select.POLLIN)
        if calls.poll()[0][1] & select.POLLIN:
            os.kill(watched, signal.SIGSYS)
    os._exit(0)
