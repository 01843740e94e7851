"""A filter of system calls for a process that decodes what a stranger sent: Linux on x86-64 and arm64, without a library.

What is denied fails with EPERM, so that a decoder which only tries goes on; a call by another architecture's numbers ends the
process. What is left: reading and writing what is open, memory, threads of its own, time, and limits on itself. Calls that
are newer than this list fail with ENOSYS, as on an older kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from struct import Struct

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_DENIED = {
    # New processes and other programs.
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281), "setsid": (112, 157),
    "setpgid": (109, 154), "unshare": (272, 97), "setns": (308, 268), "personality": (135, 92),
    # Other processes.
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "sched_setaffinity": (203, 122), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # Sockets, and other ways to others.
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendmsg": (46, 211), "sendmmsg": (307, 269), "shmget": (29, 194),
    "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
    "mq_unlink": (241, 181), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Files: their names, contents, owners, modes and times.
    "creat": (85, -1), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47), "rename": (82, -1),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1),
    "link": (86, -1), "linkat": (265, 37), "unlink": (87, -1), "unlinkat": (263, 35), "symlink": (88, -1),
    "symlinkat": (266, 36), "mknod": (133, -1), "mknodat": (259, 33), "chmod": (90, -1), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1),
    "fchownat": (260, 54), "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "flock": (73, 32), "sync": (162, 81),
    "syncfs": (306, 267), "inotify_init": (253, -1), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    # Ways into the kernel that no decoder takes.
    "splice": (275, 76), "tee": (276, 77), "vmsplice": (278, 75), "modify_ldt": (154, -1), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "io_setup": (206, 0), "io_submit": (209, 2),
    # The machine.
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "fanotify_init": (300, 262), "setuid": (105, 146),
    "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143), "setresuid": (117, 147),
    "setresgid": (119, 149), "setgroups": (116, 159), "capset": (126, 91),
}
"""System calls by their numbers on x86-64 and arm64; -1 where an architecture has no such call."""

_CLONE, _CLONE3, _TGKILL, _PRLIMIT = (56, 220), (435, 435), (234, 131), (302, 261)
_SETPRIORITY, _PRCTL, _OPEN, _OPENAT, _OPENAT2 = (141, 140), (157, 167), (2, -1), (257, 56), (437, 437)
_FCNTL, _IOCTL = (72, 25), (16, 29)
_LAST_KNOWN = 467
_FCNTL_DENIED = (6, 7, 8, 10, 15, 37, 38, 1024, 1026)
"""Locks and leases on files, and who gets which signal when something can be read: any process, and any signal."""
_IOCTL_ALLOWED = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
"""Is it a terminal, how much can be read, whether to wait, whether programs inherit it. Others change files or send signals."""
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_PTRACER = 1, 4, 0x59616D61
_X32 = 0x40000000

_INSTRUCTION = Struct("=HBBI")
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_DENY, _UNKNOWN_CALL = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_SET_MODE_FILTER, _FLAG_ALL_THREADS = 1, 1
_SECCOMP_CALL = (317, 277)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_system_calls(*, opens_files: bool) -> bool:
    """Put the filter on all threads of this process, for good. False where the system has none.

    It takes `no_new_privs`, which has to be set before. opens_files: whether files may still be opened, for reading.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if platform.system() != "Linux" or architecture is None:
        return False
    code = _program(*architecture, opens_files=opens_files)
    program = _Program(len(code) // _INSTRUCTION.size, code)
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SECCOMP_CALL[architecture[1]]
    return bool(libc.syscall(number, _SET_MODE_FILTER, _FLAG_ALL_THREADS, ctypes.byref(program)) == 0)


def _program(audit: int, place: int, *, opens_files: bool) -> bytes:
    """The filter's instructions. place: which of the two numbers of each call is this machine's."""
    code = [
        _step(_LOAD, _ARCHITECTURE_AT), _step(_EQUAL, audit, 1, 0), _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
    ]
    if place == 0:
        code += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    code += [_step(_AT_LEAST, _LAST_KNOWN + 1, 0, 1), _step(_RETURN, _UNKNOWN_CALL)]
    pid = os.getpid()
    # What depends on an argument: the call, the argument's place, the test, the value, and whether passing it allows or denies.
    code += _on_argument(_CLONE[place], 0, _ANY_BIT, _CLONE_THREAD, allow=True)
    code += _on_argument(_TGKILL[place], 0, _EQUAL, pid, allow=True)
    code += _on_argument(_PRLIMIT[place], 0, _EQUAL, 0, allow=True)
    code += _on_argument(_SETPRIORITY[place], 0, _ANY_BIT, 0xFFFFFFFF, allow=False, goes_on=True)  # groups, users
    code += _on_argument(_SETPRIORITY[place], 1, _EQUAL, 0, allow=True)
    for call, flags in ((_OPEN[place], 1), (_OPENAT[place], 2)):
        code += _on_argument(call, flags, _ANY_BIT, _WRITING, allow=False) if opens_files else _deny(call)
    for command in _FCNTL_DENIED:
        code += _on_argument(_FCNTL[place], 1, _EQUAL, command, allow=False, goes_on=True)
    for command in _IOCTL_ALLOWED:
        code += _on_argument(_IOCTL[place], 1, _EQUAL, command, allow=True, goes_on=True)
    code += _deny(_IOCTL[place])
    for option in (_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_PTRACER):
        code += _on_argument(_PRCTL[place], 0, _EQUAL, option, allow=False, goes_on=True)
    for unknown in (_CLONE3[place], _OPENAT2[place]):  # libraries then use the older call, whose arguments can be read
        code += [_step(_EQUAL, unknown, 0, 1), _step(_RETURN, _UNKNOWN_CALL)]
    for numbers in _DENIED.values():
        code += _deny(numbers[place])
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _deny(call: int) -> list[bytes]:
    return [] if call < 0 else [_step(_EQUAL, call, 0, 1), _step(_RETURN, _DENY)]


def _on_argument(call: int, argument: int, test: int, value: int, *, allow: bool, goes_on: bool = False) -> list[bytes]:
    """Allow, or deny, a call where an argument passes a test, and do the opposite where it does not."""
    if call < 0:
        return []
    passed, failed = (_ALLOW, _DENY) if allow else (_DENY, _ALLOW)
    low_word = _ARGUMENTS_AT + 8 * argument
    if goes_on:
        return [_step(_EQUAL, call, 0, 4), _step(_LOAD, low_word), _step(test, value, 0, 1), _step(_RETURN, passed),
                _step(_LOAD, _NUMBER_AT)]
    return [_step(_EQUAL, call, 0, 4), _step(_LOAD, low_word), _step(test, value, 0, 1), _step(_RETURN, passed),
            _step(_RETURN, failed)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, value)
