"""Linux namespaces that give a generated program its own file system, network and processes.

Root creates them directly, and the program runs as a user that owns nothing. An ordinary user needs a user namespace,
which some distributions disable.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

_NEW_MOUNTS, _NEW_GROUPS, _NEW_UTS = 0x00020000, 0x02000000, 0x04000000
_NEW_IPC, _NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_MNT_DETACH = 2
#: ``pivot_root`` has no function in the C library.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPBSET_DROP, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
#: Version of the structures that capset takes.
_CAPABILITIES_3 = 0x20080522
#: The first user id that systemd reserves for services with dynamic users, and the number of these ids.
_FIRST_USER, _USERS = 61184, 4336
#: The program's working folder, the only one that it can write to.
WORK = "/sandbox"
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
#: How the kernel escapes a space, tab, newline or backslash in the path of a mount.
_ESCAPED = re.compile(r"\\([0-7]{3})")
_OTHER_PACKAGES = ("site-packages", "dist-packages")


def enter(library: ctypes.CDLL) -> None:
    """Move this process, or its next child, into new namespaces; raises OSError if the system does not allow it."""
    user, group = os.getuid(), os.getgid()
    flags = _NEW_MOUNTS | _NEW_GROUPS | _NEW_UTS | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK
    _check(library.unshare(flags | (0 if user == 0 else _NEW_USER)), "unshare")
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount(library, None, "/", None, _MS_REC | _MS_PRIVATE)


def furnish(library: ctypes.CDLL, root: str, folder: int, user: int, group: int) -> None:
    """Create a file system at ``root``: Python's library, read-only, and a working folder of ``folder`` MiB."""
    _mount(library, "tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,nr_inodes=1k,mode=755")
    folders = _outermost(_libraries())
    for path in folders:
        target = f"{root}{path}"
        Path(target).mkdir(parents=True, exist_ok=True)
        _mount(library, path, target, None, _MS_BIND | _MS_REC)
    for path in sys.path:
        for name in _OTHER_PACKAGES:
            if Path(f"{root}{path}/{name}").is_dir():
                _mount(library, "tmpfs", f"{root}{path}/{name}", "tmpfs", _MS_RDONLY, "size=4k,mode=755")
    _read_only(library, root)
    for path in folders:
        if not os.statvfs(f"{root}{path}").f_flag & os.ST_RDONLY:
            raise OSError(errno.EPERM, f"{path} cannot be mounted read-only")
    Path(f"{root}{WORK}").mkdir()
    size = f"size={folder}m,nr_inodes=1k,mode=700,uid={user},gid={group}"
    _mount(library, "tmpfs", f"{root}{WORK}", "tmpfs", _MS_NOSUID | _MS_NODEV, size)


def settle(library: ctypes.CDLL, root: str) -> None:
    """Make ``root`` the root of this process, so that it no longer sees any other files of the machine."""
    os.chdir(root)
    _check(library.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(library.umount2(b".", _MNT_DETACH), "umount")
    _mount(library, None, "/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(WORK)


def nobody() -> tuple[int, int]:
    """The user and group that a program runs as: the current ones, or a user without files instead of root."""
    if os.getuid() != 0:
        return os.getuid(), os.getgid()
    user = _FIRST_USER + os.getpid() % _USERS
    return user, user


def give_up_rights(library: ctypes.CDLL, user: int, group: int) -> None:
    """Switch to this user, without any capabilities."""
    for capability in range(64):
        library.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    library.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(library.syscall(_CAPSET[os.uname().machine], header, none), "capset")


def _libraries() -> Iterable[str]:
    """Folders of Python's library and of the shared libraries that it may load."""
    yield from (path for path in (*sys.path, f"{sys.base_prefix}/lib", *_SYSTEM) if Path(path).is_dir())
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {Path(line.split(maxsplit=5)[5]) for line in lines if " /" in line}
    yield from sorted({str(path.parent) for path in mapped if ".so" in path.name and path.is_file()})


def _outermost(paths: Iterable[str]) -> list[str]:
    """The folders that are not inside another one of ``paths``."""
    names = sorted(dict.fromkeys(os.path.normpath(path) for path in paths))
    return [path for path in names if not any(path.startswith(f"{above}/") for above in names)]


def _read_only(library: ctypes.CDLL, root: str) -> None:
    """Remount every file system below ``root`` read-only, keeping its flags."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for place in (_ESCAPED.sub(lambda match: chr(int(match[1], 8)), line.split()[4]) for line in lines):
        if place.startswith(f"{root}/"):
            flags = os.statvfs(place).f_flag & (_MS_NOSUID | _MS_NODEV | os.ST_NOEXEC)
            flags |= os.statvfs(place).f_flag & (os.ST_NOATIME | os.ST_NODIRATIME | os.ST_RELATIME)
            _mount(library, None, place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | flags)


def _mount(
    library: ctypes.CDLL, source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    status = library.mount(*texts, ctypes.c_ulong(flags), None if data is None else data.encode())
    _check(status, f"mount {target}")


def _check(status: int, action: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{action}: {os.strerror(number)}")
