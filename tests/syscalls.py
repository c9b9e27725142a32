"""A process that dies when it addresses another machine, from whatever language or thread.

    python -c "from tests.syscalls import forbid_connections; forbid_connections(); ..."

The kernel watches (seccomp, https://docs.kernel.org/userspace-api/seccomp_filter.html): what is
started later, threads and processes, is watched too, and nothing can take it back. Looking up a
name counts, for it addresses a name server. A filter sees numbers, not what pointers point to: an
Internet address is known by its length. Linux only; no privileges are needed.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: a word of seccomp_data, a comparison, a verdict
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.ENOSYS
_NUMBER, _ARGUMENTS = 0, 16  # offsets in seccomp_data
_LENGTHS = (16, 28)  # of sockaddr_in and sockaddr_in6; of those of local sockets: 110


class _Call(NamedTuple):
    number: dict[str, int]
    argument: int  # which holds the address's length


_CALLS = (_Call({"x86_64": 42, "aarch64": 203}, 2), _Call({"x86_64": 44, "aarch64": 206}, 5))
_IO_URING_SETUP = 425  # it could connect without one of these calls


def forbid_connections() -> None:
    """From here on the kernel kills this process (SIGSYS) when it connects or sends anywhere."""
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
            (_RETURN, 0, 0, _KILL),
        ]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    kept = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("HxxxxxxP", len(program), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, filters)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl failed")
