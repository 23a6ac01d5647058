"""The system calls that a generated program may use, as a seccomp filter (Linux, x86-64 and AArch64).

Everything that is not listed fails with EPERM: sockets, processes, signals to processes, tracing, mounts, keys, shared
memory, and system calls of future kernels. Without namespaces, programs cannot open files for writing or start threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

#: The numbers of each call on x86-64 and AArch64; None where an architecture has no such call.
_READING: dict[str, tuple[int | None, int | None]] = {
    # files
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "pipe": (22, None),
    "dup": (32, 23),
    "dup2": (33, None),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "getdents": (78, None),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "readlink": (89, None),
    "umask": (95, 166),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "getdents64": (217, 61),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "statx": (332, 291),
    "close_range": (436, 436),
    "faccessat2": (439, 439),
    # waiting
    "poll": (7, None),
    "select": (23, None),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "epoll_create": (213, None),
    "clock_nanosleep": (230, 115),
    "epoll_wait": (232, None),
    "epoll_ctl": (233, 21),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "epoll_pwait2": (441, 441),
    "wait4": (61, 260),
    "waitid": (247, 95),
    # memory
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "msync": (26, 227),
    "mincore": (27, 232),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    # threads
    "sched_yield": (24, 124),
    "arch_prctl": (158, None),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_getaffinity": (204, 123),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "getcpu": (309, 168),
    "rseq": (334, 293),
    # a process's own signals
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # information
    "getpid": (39, 172),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "getpgrp": (111, None),
    "getgroups": (115, 158),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getpriority": (140, 141),
    "time": (201, None),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "getrandom": (318, 278),
    # exiting
    "exit": (60, 93),
    "exit_group": (231, 94),
}
#: Calls that change files, allowed only for a program with its own file system.
_WRITING: dict[str, tuple[int | None, int | None]] = {
    "open": (2, None),
    "sendfile": (40, 71),
    "flock": (73, 32),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "rename": (82, None),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "creat": (85, None),
    "link": (86, None),
    "unlink": (87, None),
    "symlink": (88, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "openat": (257, 56),
    "mkdirat": (258, 34),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "utimensat": (280, 88),
    "fallocate": (285, 47),
    "renameat2": (316, 276),
    "copy_file_range": (326, 285),
}
_OPEN, _OPENAT = _WRITING["open"], _WRITING["openat"]
_CLONE, _CLONE3 = (56, 220), (435, 435)
_FCNTL, _IOCTL, _PRCTL, _PRLIMIT = (72, 25), (16, 29), (157, 167), (302, 261)

#: AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Offsets in ``struct seccomp_data``; the low half of an argument comes first on both architectures.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
#: Instructions of a filter: load a word, compare, and, return.
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x10000
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: F_DUPFD to F_SETLKW and F_DUPFD_CLOEXEC, but not F_SETOWN, which lets a file send signals to a process.
_FCNTLS = (*range(8), 1030)
#: TCGETS, FIONREAD, FIONCLEX and FIOCLEX: is it a terminal, how much is there, is it inherited?
_IOCTLS = (0x5401, 0x541B, 0x5450, 0x5451)
#: PR_SET_NAME, PR_GET_NAME and PR_SET_VMA: names of threads and of memory.
_PRCTLS = (15, 16, 0x53564D41)
_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def supported() -> bool:
    """Whether this module knows the system call numbers of this machine."""
    return platform.system() == "Linux" and platform.machine() in _ARCHITECTURES and struct.calcsize("P") == 8


def restrict(library: ctypes.CDLL, is_alone: bool) -> None:
    """Install the filter in the calling process, irrevocably.

    ``is_alone``: whether the process has its own file system and process namespace. If not, it can neither write nor
    start threads, which would count toward its user's process limit.
    """
    code = b"".join(_instructions(is_alone))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    if library.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def _instructions(is_alone: bool) -> Iterator[bytes]:
    column = list(_ARCHITECTURES).index(platform.machine())
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_EQUAL, _ARCHITECTURES[platform.machine()], 1, 0)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    for numbers in (*_READING.values(), *(_WRITING.values() if is_alone else ())):
        if numbers[column] is not None:
            yield from _when(numbers[column], [_instruction(_RETURN, _ALLOW)])
    if is_alone:
        # threads, but no processes
        yield from _when(_CLONE[column], _allow_if(0, _CLONE_THREAD, (_CLONE_THREAD,)))
    # clone3 passes its flags in memory, where a filter cannot read them; libraries fall back to clone
    yield from _when(_CLONE3[column], [_instruction(_RETURN, _ERROR | errno.ENOSYS)])
    yield from _when(_FCNTL[column], _allow_if(1, 0xFFFFFFFF, _FCNTLS))
    yield from _when(_IOCTL[column], _allow_if(1, 0xFFFFFFFF, _IOCTLS))
    yield from _when(_PRCTL[column], _allow_if(0, 0xFFFFFFFF, _PRCTLS))
    # only the limits of the process itself, not those of others
    yield from _when(_PRLIMIT[column], _allow_if(0, 0xFFFFFFFF, (0,)))
    if not is_alone:
        yield from _when(_OPEN[column], _allow_if(1, _WRITE_FLAGS, (0,)))
        yield from _when(_OPENAT[column], _allow_if(2, _WRITE_FLAGS, (0,)))
    yield _instruction(_RETURN, _ERROR | errno.EPERM)


def _when(number: int | None, block: list[bytes]) -> Iterator[bytes]:
    """Instructions that run the block, which must return, if the call has this number."""
    if number is not None:
        yield _instruction(_EQUAL, number, 0, len(block))
        yield from block


def _allow_if(argument: int, mask: int, values: tuple[int, ...]) -> list[bytes]:
    """Instructions that allow the call if the masked low half of an argument is one of the values."""
    block = [_instruction(_LOAD, _ARGUMENTS + 8 * argument), _instruction(_AND, mask)]
    for value in values:
        block += [_instruction(_EQUAL, value, 0, 1), _instruction(_RETURN, _ALLOW)]
    return [*block, _instruction(_RETURN, _ERROR | errno.EPERM)]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
