"""The child's part of the sandbox: gives everything up, then runs the code that it reads. Standard library only.

Run as a script. Order matters: namespaces, then limits, then Landlock, then the filter of system calls, which forbids
what came before. Source: landlock(7), seccomp(2), user_namespaces(7), and Linux's include/uapi/linux: landlock.h,
seccomp.h, filter.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from typing import Any

_NEW_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000  # CLONE_NEWUSER, NEWNET, NEWIPC, NEWUTS
_NO_NEW_PRIVILEGES, _SECCOMP = 38, 22  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on all architectures
_READ = 0b1101  # EXECUTE, READ_FILE, READ_DIR of LANDLOCK_ACCESS_FS
_ALL_FILES = (1 << 13) - 1  # all of version 1; TRUNCATE (14) and IOCTL_DEV (15) are added where they are known
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # SECCOMP_RET_ALLOW, ERRNO(EPERM), KILL_PROCESS
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    # socket socketpair connect bind listen accept accept4 sendto sendmsg, ptrace, process_vm_*, mount family,
    # namespaces, keys, bpf, perf, modules, clocks, io_uring, pidfd, userfaultfd, kill family
    "x86_64": (
        *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307, 299),
        *(101, 310, 311, 165, 166, 155, 161, 272, 308, 428, 429, 430, 431, 432, 442),
        *(248, 249, 250, 321, 298, 175, 313, 176, 246, 320, 227, 164, 425, 426, 427, 434, 438, 424, 323, 62, 200, 234),
    ),
    "aarch64": (
        *(198, 199, 203, 202, 206, 211, 200, 201, 242, 269, 243),
        *(117, 270, 271, 40, 39, 41, 51, 97, 268, 428, 429, 430, 431, 432, 442),
        *(217, 218, 219, 280, 241, 105, 273, 106, 104, 294, 112, 170, 425, 426, 427, 434, 438, 424, 282, 129, 130, 131),
    ),
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def give_up_files(readable: list[str], folder: str) -> None:
    """Leave only some trees to read and one to write."""
    version = _checked(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1), "landlock")
    handled = _ALL_FILES | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    attributes = ctypes.create_string_buffer(struct.pack("<Q", handled), 8)
    rules = _checked(_libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(8), 0), "landlock")
    for path, allowed in [*((path, _READ) for path in readable), (folder, handled & ~1)]:
        if not os.path.isdir(path):  # noqa: PTH112 (pathlib costs more than the rest of this script)
            continue
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, at), 12)
        _checked(_libc.syscall(_LANDLOCK_ADD, rules, 1, rule, 0), "landlock rule")
        os.close(at)
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, rules, 0), "landlock")


def give_up_calls() -> None:
    """Leave no system call that reaches the network, other processes or the kernel's settings."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(f"no filter for {machine}")
    refused = _REFUSED[machine]
    statement, jump_equal, jump_greater = 0x06, 0x15, 0x35
    program = [(0x20, 0, 0, 4), (jump_equal, 1, 0, _ARCHITECTURES[machine]), (statement, 0, 0, _KILL), (0x20, 0, 0, 0)]
    program += [(jump_greater, 0, 1, 0x40000000), (statement, 0, 0, _KILL)]  # the second set of numbers of x86
    for number in refused:
        program += [(jump_equal, 0, 1, number), (statement, 0, 0, _REFUSE)]
    program.append((statement, 0, 0, _ALLOW))
    code = b"".join(struct.pack("<HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(buffer))
    filter_ = ctypes.create_string_buffer(header, len(header))
    _checked(_libc.prctl(_SECCOMP, 2, filter_, 0, 0), "seccomp")


def limit(order: dict[str, Any]) -> None:
    """Bound processor time, memory, files and processes."""
    seconds = int(order["seconds"]) + 1
    bounds = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: order["memory_bytes"],
        resource.RLIMIT_FSIZE: order["file_bytes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if os.getuid():  # of root's processes there are many that are not ours
        bounds[resource.RLIMIT_NPROC] = 64
    for what, most in bounds.items():
        resource.setrlimit(what, (most, most))


def main() -> None:
    """Give everything up, then run what is read."""
    order = json.loads(sys.argv[1])
    with os.fdopen(0, "rb") as given:
        code = given.read().decode()
    strong = order["isolation"] == "strong"
    if strong:
        _checked(_libc.unshare(_NEW_NAMESPACES), "namespaces")
    limit(order)
    _checked(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "privileges")
    if strong:
        give_up_files(order["readable"], order["folder"])
        give_up_calls()
    sys.argv = ["program"]
    exec(compile(code, "program", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
