"""One virtual machine of a test: its disks, its QEMU, its console, and a way to command it.

with Machine(image, folder, api_port=port) as machine:
    machine.start()
    machine.wait_agent()
    assert machine.exec("uname -r").stdout.startswith("6.12")
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tests.vm import command, qemu
from tests.vm.agent import Agent, Completed
from tests.vm.errors import AgentGone, CommandFailed, InfrastructureError
from tests.vm.image import Image

Firmware = Literal["bios", "uefi", "secure"]

# UEFI that starts nothing but what Microsoft's keys have signed, as machines are shipped.
_SECURE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
_SECURE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
# Variables that only the firmware itself may write, and SMM, in which it does.
_SECURE = (
    *("-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"),
    *("-global", "ICH9-LPC.disable_s3=1"),
)

# An idle machine boots in 15 to 35 s; one that other tests share took 157 s.
BOOT_SECONDS = 300.0
_VARIABLES = "variables.fd"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_DIRECT = "console=tty0 console=ttyS0,115200 net.ifnames=0 mitigations=off panic=5"
# CSI and OSC sequences, then the rest of what moves a cursor.
_ESCAPES = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>()][0-9A-B]?|\x1b[a-zA-Z]",
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x7f]")


@dataclass(frozen=True)
class Extra:
    """One more disk. The guest knows it as /dev/disk/by-id/virtio-NAME."""

    name: str
    path: Path
    form: Literal["qcow2", "raw"] = "raw"
    read_only: bool = False

    def words(self) -> list[str]:
        """QEMU's words for it. Nothing on it outlives a crash of this machine."""
        how = f"file={self.path},format={self.form},if=none,id={self.name},cache=unsafe"
        how += ",readonly=on" if self.read_only else ""
        return ["-drive", how, "-device", f"virtio-blk-pci,drive={self.name},serial={self.name}"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a machine has besides the disks that it boots."""

    firmware: Firmware = "bios"
    watchdog: bool = False
    """An i6300esb, which resets the machine; the guest's 6.1 has no driver for it."""
    serial_number: str = ""
    """The guest reads it in /sys/class/dmi/id/product_serial, in the initrd already."""
    extras: tuple[Extra, ...] = ()

    def words(self) -> list[str]:
        """QEMU's words for all but the firmware."""
        words = [word for extra in self.extras for word in extra.words()]
        if self.watchdog:
            words += ["-device", "i6300esb", "-action", "watchdog=reset"]
        if self.serial_number:
            words += ["-smbios", f"type=1,serial={self.serial_number}"]
        return words


class Machine:
    """A machine that boots overlays of disks; what it writes is gone with its folder."""

    def __init__(
        self,
        image: Image,
        folder: Path,
        *,
        backing: Path | None = None,
        api_port: int | None = None,
        hardware: Hardware = Hardware(),
    ) -> None:
        """Boot the image's disk, or what another machine of the same image saved as ``backing``.

        The guest's 10.0.2.100:6443 leads to ``api_port`` of this host's 127.0.0.1.
        """
        self.image = image
        self.folder = folder
        self._hardware = hardware
        self._api_port = api_port
        self._process: subprocess.Popen[bytes] | None = None
        # The path of a socket may have 108 characters: folders of pytest are longer than that.
        self._sockets = Path(tempfile.mkdtemp(prefix="trialboot-"))
        self._agent = Agent(self._sockets / "agent")
        folder.mkdir(parents=True, exist_ok=True)
        self.disks = _overlays([image.disk] if backing is None else _saved(backing), folder)
        if backing is not None and (backing / _VARIABLES).exists():
            shutil.copyfile(backing / _VARIABLES, folder / _VARIABLES)

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self) -> Machine:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def start(self, kernel: str | None = None, firmware: Firmware | None = None) -> None:
        """Switch the machine on: by its boot loader, or straight into the kernel of a series."""
        if self.running():
            raise InfrastructureError("the machine runs already: power_off() or kill() it first")
        words = [
            *qemu.machine(self.image.accelerator()),
            *(word for disk in self.disks for word in qemu.disk(disk, "qcow2", "writeback")),
            *self._hardware.words(),
            *qemu.serial(self.serial_path),
            *self._lines(),
            *self._network(),
        ]
        if (firmware or self._hardware.firmware) == "uefi":
            words += qemu.uefi(self._variables())
        if firmware == "secure":
            words += self._secure()
        if kernel is not None:
            words += self._direct(kernel)
        self._process = command.start(words, self.folder / "qemu.log")

    def running(self) -> bool:
        """Say whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def power_off(self, timeout: float = 90.0) -> None:
        """Shut the guest down in order and wait for its end."""
        self._agent.shut_down()
        if self._process is not None and not command.ended(self._process, timeout):
            raise InfrastructureError(f"the guest did not power off\n{self._tail()}")

    def kill(self) -> None:
        """Cut the power. What the guest had not flushed to its disk is lost."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def reset(self) -> None:
        """Press the reset button."""
        self.qmp("system_reset")

    def save(self, to: Path) -> Path:
        """Keep what a machine that was powered off boots from, as backing of other machines."""
        if self.running():
            raise InfrastructureError("save() copies disks at rest: power_off() first")
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        for disk in self.disks:
            command.output("cp", "--sparse=always", "--reflink=auto", disk, to, timeout=300)
        if (self.folder / _VARIABLES).exists():
            shutil.copyfile(self.folder / _VARIABLES, to / _VARIABLES)
        return to

    # --- waiting --------------------------------------------------------------------------------

    def wait_agent(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until the guest's agent answers."""
        until = time.monotonic() + timeout
        while not self._agent.present():
            self._check_alive("before its agent answered")
            if time.monotonic() > until:
                raise InfrastructureError(f"no agent after {timeout:.0f} s\n{self._tail()}")
            time.sleep(0.2)

    def boot_id(self) -> str:
        """The id of the guest's present boot."""
        return self.read(_BOOT_ID).strip()

    def wait_reboot(self, old_boot_id: str, timeout: float = BOOT_SECONDS) -> str:
        """Wait for another boot than the one that is named, and return its id."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            self._check_alive("while it should reboot")
            with contextlib.suppress(AgentGone, CommandFailed):
                if self._agent.present() and (now := self.boot_id()) != old_boot_id:
                    return now
            time.sleep(0.2)
        raise InfrastructureError(f"no new boot after {timeout:.0f} s\n{self._tail()}")

    def reboot(self, timeout: float = BOOT_SECONDS) -> str:
        """Reboot the guest in order and return the id of the new boot."""
        before = self.boot_id()
        # The answer may never come; the new boot id is the answer.
        with contextlib.suppress(AgentGone, CommandFailed):
            self.exec("systemctl --no-block reboot", check=False)
        return self.wait_reboot(before, timeout)

    # --- commanding -----------------------------------------------------------------------------

    def exec(
        self,
        line: str,
        *,
        given: bytes = b"",
        timeout: float = 120.0,
        check: bool = True,
    ) -> Completed:
        """Run a shell command in the guest. Fails the test when it fails, unless told not to."""
        completed = self._agent.run(line, given, timeout)
        if check and completed.code:
            raise CommandFailed(
                f"exit {completed.code}: {line}\n{completed.stdout}{completed.stderr}",
            )
        return completed

    def read(self, path: str) -> str:
        """The text of a file in the guest."""
        return self.exec(f"cat -- {shlex.quote(path)}").stdout

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write a file in the guest, its folders made where they are missing."""
        name = shlex.quote(path)
        given = content.encode() if isinstance(content, str) else content
        draft = f"{name}.draft"
        self.exec(
            f'mkdir -p -- "$(dirname -- {name})" && cat > {draft}'
            f" && chmod {mode:o} {draft} && mv -f -- {draft} {name}",
            given=given,
        )

    def exists(self, path: str) -> bool:
        """Say whether a path exists in the guest, dangling links included."""
        name = shlex.quote(path)
        return self.exec(f"test -e {name} || test -L {name}", check=False).code == 0

    def qmp(self, name: str, **arguments: object) -> Any:
        """Give QEMU itself an order."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(20)
            line.connect(str(self._sockets / "qmp"))
            with line.makefile("rw") as talk:
                json.loads(talk.readline())
                _order(talk, "qmp_capabilities", {})
                return _order(talk, name, arguments)

    # --- evidence -------------------------------------------------------------------------------

    @property
    def serial_path(self) -> Path:
        """The file that keeps the serial console of all boots."""
        return self.folder / "serial"

    def serial(self) -> str:
        """All that was said on the serial console, without what moves cursors."""
        if not self.serial_path.exists():
            return ""
        return plain(self.serial_path.read_bytes().decode(errors="replace"))

    def _tail(self) -> str:
        last = "\n".join(self.serial().splitlines()[-25:])
        return f"read {self.serial_path}, which ends:\n{last}"

    def _check_alive(self, when: str) -> None:
        if self.running():
            return
        log = self.folder / "qemu.log"
        said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise InfrastructureError(f"QEMU ended {when}: {said.strip() or 'the guest powered off'}")

    # --- the command line -----------------------------------------------------------------------

    def _lines(self) -> list[str]:
        """The agent's line and QEMU's own."""
        return [
            *("-qmp", f"unix:{self._sockets}/qmp,server=on,wait=off"),
            *("-chardev", f"socket,id=agent,path={self._sockets}/agent,server=on,wait=off"),
            *("-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
        ]

    def _network(self) -> list[str]:
        """A network that leads nowhere but to the test's API server."""
        net = "user,id=net,restrict=on"
        if self._api_port is not None:
            command.require("socat")
            # Its complaints would reach the guest as if the API server had sent them.
            target = f"socat -lf /dev/null STDIO TCP:127.0.0.1:{self._api_port}"
            net += f",guestfwd=tcp:10.0.2.100:6443-cmd:{target}"
        return ["-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile="]

    def _variables(self) -> Path:
        """UEFI variables, kept over reboots and restarts of this machine."""
        own = self.folder / _VARIABLES
        if not own.exists():
            _, empty = qemu.firmware()
            shutil.copyfile(empty, own)
        return own

    def _secure(self) -> list[str]:
        for part in (_SECURE_CODE, _SECURE_VARIABLES):
            if not part.exists():
                raise InfrastructureError(f"no {part}: apt-get install ovmf")
        own = self.folder / "secure-variables.fd"
        if not own.exists():
            shutil.copyfile(_SECURE_VARIABLES, own)
        return [
            *_SECURE,
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_SECURE_CODE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={own}"),
        ]

    def _direct(self, series: str) -> list[str]:
        line = f"root=UUID={self.image.uuid} ro {_DIRECT}"
        return qemu.direct(self.image.kernel(series), self.image.initrd(series), line)


def _saved(folder: Path) -> list[Path]:
    """The disks that a machine saved, in their order."""
    return sorted(folder.glob("*.qcow2"))


def _overlays(backings: Sequence[Path], folder: Path) -> list[Path]:
    """An overlay of each disk, made where it is not there yet."""
    overlays = [folder / backing.name for backing in backings]
    for backing, overlay in zip(backings, overlays, strict=True):
        if not overlay.exists():
            command.output(
                *("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"),
                *("-b", backing.absolute(), overlay),
            )
    return overlays


def _order(talk: Any, name: str, arguments: dict[str, Any]) -> Any:
    talk.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    talk.flush()
    # Events come between an order and its answer.
    for line in talk:
        reply = json.loads(line)
        if "error" in reply:
            raise InfrastructureError(f"QEMU refused {name}: {reply['error']['desc']}")
        if "return" in reply:
            return reply["return"]
    raise InfrastructureError(f"QEMU ended at {name}")


def plain(text: str) -> str:
    """Strip what a terminal would not show."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).replace("\r", "")
