"""Confinement of a worker: no new privileges, no network, no program, no file but what Python itself reads.

Hostile bytes are parsed by C++ in a worker, so the worker counts as compromised from its first request on. Linux offers
three restrictions that a process can put on itself irrevocably and without privileges: `no_new_privs`, a seccomp filter
of system calls, and a Landlock rule set of files. No maintained library on PyPI has all three, so they are set through
`ctypes`, as prctl(2), seccomp(2) and landlock(7) describe. A restriction that the system lacks is reported.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _TSYNC = 1, 1
_LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same number on every architecture
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3

# Denied system calls: the network, other processes, programs, kernel administration.
_DENIED = {
    "x86_64": {
        "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "accept4": 288,
        "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "ptrace": 101, "kill": 62, "tkill": 200,
        "rt_sigqueueinfo": 129, "pidfd_open": 434, "pidfd_send_signal": 424, "process_vm_readv": 310,
        "process_vm_writev": 311, "io_uring_setup": 425, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298,
        "mount": 165, "unshare": 272, "setns": 308, "add_key": 248, "request_key": 249, "keyctl": 250,
        "init_module": 175, "finit_module": 313, "kexec_load": 246,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "socketpair": 199, "accept4": 242,
        "execve": 221, "execveat": 281, "ptrace": 117, "kill": 129, "tkill": 130, "rt_sigqueueinfo": 138,
        "pidfd_open": 434, "pidfd_send_signal": 424, "process_vm_readv": 270, "process_vm_writev": 271,
        "io_uring_setup": 425, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241, "mount": 40, "unshare": 97,
        "setns": 268, "add_key": 217, "request_key": 218, "keyctl": 219, "init_module": 105, "finit_module": 273,
        "kexec_load": 104,
    },
}  # fmt: skip
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_PACKAGE_FOLDERS = ("site-packages", "dist-packages", "lib-dynload")
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/dev/urandom")


def confine(readable: Iterable[Path] = ()) -> list[str]:
    """Restrict this process for the rest of its life.

    Args:
        readable: files and folders that may still be read, beside what Python's own modules need; those that do not
            exist are left out.

    Returns:
        Restrictions that could not be set, one line each; empty where all are set.
    """
    if sys.platform != "linux":
        return [f"{sys.platform} has no locks that this release knows: workers run with the server's rights."]
    libc = ctypes.CDLL(None, use_errno=True)
    missing = []
    folders = [*_python_folders(), *(path for path in readable if path.exists())]
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        missing.append(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    locks: list[tuple[str, Callable[[], None]]] = [
        ("files (Landlock)", lambda: _restrict_files(libc, folders)),
        ("network and programs (seccomp)", lambda: _filter_calls(libc)),
    ]
    for name, lock in locks:
        try:
            lock()
        except OSError as error:
            missing.append(f"{name}: {error.strerror}")
    return missing


def _python_folders() -> list[Path]:
    """Folders from which modules and shared libraries are loaded later.

    Of the folders that Python searches, only those where packages are installed: the search path also names the
    folder where the server was started, which may hold its data and keys. Of all others, the packages in use alone.
    """
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    named += [name for name in sys.path if Path(name).name in _PACKAGE_FOLDERS]
    for name, module in tuple(sys.modules.items()):
        if "." not in name:
            named += getattr(module, "__path__", None) or [getattr(module, "__file__", None) or ""]
    found = {Path(name).resolve() for name in (*named, *_SYSTEM) if name}
    return [path for path in found if path.exists() and path != Path("/")]


def _restrict_files(libc: ctypes.CDLL, readable: Iterable[Path]) -> None:
    create, add, restrict = _LANDLOCK
    version = libc.syscall(create, None, 0, 1)
    if version < 1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # Every right over files that this version of Landlock knows is taken away; TCP and signals too, from 4 and 6 on.
    files = (1 << (13, 14, 15, 15, 16)[min(version, 5) - 1]) - 1
    attributes = struct.pack("<QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(create, attributes, size, 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        for path in readable:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
            try:
                if libc.syscall(add, ruleset, 1, struct.pack("<Qi", rights, descriptor), 0) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(descriptor)
        if libc.syscall(restrict, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(ruleset)


def _filter_calls(libc: ctypes.CDLL) -> None:
    machine = platform.machine()
    if machine not in _DENIED or sys.byteorder != "little":
        raise OSError(errno.ENOSYS, f"this release has no filter for {machine}")
    allow, deny, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
    load, equal, at_least, leave = 0x20, 0x15, 0x35, 0x06
    numbers = sorted(_DENIED[machine].values())
    steps = [
        (load, 0, 0, 4),
        (equal, 1, 0, _AUDIT_ARCH[machine]),
        (leave, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, len(numbers) + 1, 0, _X32),
    ]
    steps += [(equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(leave, 0, 0, allow), (leave, 0, 0, deny)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code))
    if libc.syscall(_SECCOMP_CALL[machine], _SECCOMP_SET_MODE_FILTER, _TSYNC, program) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
