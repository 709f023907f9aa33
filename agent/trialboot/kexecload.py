"""kexec_file_load(2) by ctypes: stages a kernel in memory, or takes it out again.

What is staged is started by reboot(2) with LINUX_REBOOT_CMD_KEXEC, and is gone after any other
reboot. Number and flags: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/linux/kexec.h.
"""

import ctypes
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.syscall.argtypes = (
    *(ctypes.c_long, ctypes.c_int, ctypes.c_int),
    *(ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong),
)
_NUMBERS: Final = {"x86_64": 320}
_UNLOAD: Final = 0x1
_NO_INITRAMFS: Final = 0x4


def stage(kernel: Path, initrds: Sequence[Path], command_line: str) -> None:
    """Have the kernel keep another one, its initrds one behind the other. Raises `OSError`."""
    with ExitStack() as files:
        image = os.open(kernel, os.O_RDONLY | os.O_CLOEXEC)
        files.callback(os.close, image)
        if not initrds:
            _load(image, -1, command_line, _NO_INITRAMFS)
            return
        archive = files.enter_context(joined(initrds))
        _load(image, archive.fileno(), command_line, 0)


def unstage() -> None:
    """Have it keep none. Raises `OSError`."""
    _load(-1, -1, "", _UNLOAD)


def joined(initrds: Sequence[Path]) -> BinaryIO:
    """Open the only initrd, or several as one, each filled up to four bytes for the next.

    Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    first, *others = initrds
    if not others:
        return first.open("rb")
    archive = os.fdopen(os.memfd_create("initrds", os.MFD_CLOEXEC), "w+b", buffering=0)
    for initrd in initrds:
        with initrd.open("rb") as file:
            shutil.copyfileobj(file, archive)
        archive.write(bytes(-archive.tell() % 4))
    return archive


def _load(kernel: int, initrd: int, command_line: str, flags: int) -> None:
    number = _NUMBERS.get(os.uname().machine)
    if number is None:
        raise OSError(f"the number of kexec_file_load(2) is not known on {os.uname().machine}")
    line = os.fsencode(command_line) + b"\0"
    if _LIBC.syscall(number, kernel, initrd, len(line), line, flags) < 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), "kexec_file_load(2)")
