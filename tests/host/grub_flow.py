"""Runs in a mount namespace of its own: a trial's loader side with Debian's real GRUB tools.

Argument: a folder for fixed places. Prints one JSON object with what was seen.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from trialboot.content import file_sha256, read_tree
from trialboot.core.bootset import BootSet, tree_identity
from trialboot.core.facts import EntryId
from trialboot.core.grub import parse_menu
from trialboot.core.menu import (
    BOOT_NEXT,
    KNOWN_GOOD,
    OWN_BLOCK,
    Menu,
    Resolved,
    next_entry,
    wanted_entry,
)
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.writers.vault import bootsets, parts

PACKAGING = Path(__file__).parents[2] / "packaging"
RELEASES = ("6.1.0-56-amd64", "6.12.117-amd64")
PROBE = r"""#!/bin/sh
# Answers as grub-probe does for /dev/sda2 with ext4.
for word; do
    case "$word" in
    --target=*) target="${word#--target=}" ;;
    -t) next=1 ;;
    *) [ -z "$next" ] || target="$word"; next= ;;
    esac
done
case "$target" in
device) echo /dev/sda2 ;;
fs_uuid) echo 5f0c6b3e-1111-2222-3333-444455556666 ;;
fs) echo ext2 ;;
partmap) echo gpt ;;
compatibility_hint) echo hd0,gpt2 ;;
hints_string) echo --hint-bios=hd0,gpt2 ;;
esac
"""
DEFAULTS = """GRUB_DEFAULT="1>2"
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet panic=10"
GRUB_CMDLINE_LINUX="dyndbg=\\"file x.c +p\\""
GRUB_TERMINAL=console
GRUB_SAVEDEFAULT=true
"""


MOUNTS, DEVICE = "/proc/self/mountinfo", "/sys/dev/block/8:2"


class OnSda2(Host):
    """The machine, whose /boot lies on /dev/sda2 with ext4 as `PROBE` says: here it is not."""

    ground: ClassVar[Path]

    def path(self, absolute: str) -> Path:
        """Give the place of a path; what tells of mounts and devices is ours."""
        here = super().path(absolute)
        return self.ground / here.name if absolute in {MOUNTS, DEVICE} else here


def on_sda2(work: Path) -> Host:
    """Give the machine so; what it tells lies in a folder of ours."""
    (work / Path(DEVICE).name).mkdir()
    (work / Path(MOUNTS).name).write_text("22 1 8:2 / / rw - ext4 /dev/sda2 rw\n", "ascii")
    OnSda2.ground = work
    return OnSda2()


def sh(*argv: str) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout


def furnish(work: Path) -> None:
    """Give this namespace a /boot, /etc/default, /etc/grub.d and grub-probe of its own."""
    for place in ("/boot", "/usr/lib/trialboot"):
        Path(place).mkdir(exist_ok=True)
        sh("mount", "-t", "tmpfs", "none", place)
    Path("/boot/grub").mkdir()
    for release in RELEASES:
        Path(f"/boot/vmlinuz-{release}").write_text(f"kernel {release}", encoding="utf-8")
        Path(f"/boot/initrd.img-{release}").write_text(f"initrd {release}", encoding="utf-8")
    sh("cp", "-r", str(PACKAGING / "initramfs"), "/usr/lib/trialboot/initramfs")
    (work / "default/grub.d").mkdir(parents=True)
    (work / "default/grub").write_text(DEFAULTS, encoding="utf-8")
    sh("cp", str(PACKAGING / "grub/trialboot.cfg"), str(work / "default/grub.d"))
    sh("cp", "-r", "/etc/grub.d", str(work / "grub.d"))
    sh("cp", str(PACKAGING / "grub/09_trialboot"), str(work / "grub.d"))
    (work / "probe").write_text(PROBE, encoding="utf-8")
    (work / "probe").chmod(0o755)
    sh("mount", "--bind", str(work / "default"), "/etc/default")
    sh("mount", "--bind", str(work / "grub.d"), "/etc/grub.d")
    sh("mount", "--bind", str(work / "probe"), "/usr/sbin/grub-probe")


def told(menu: Menu) -> list[str]:
    answers = (next_entry(menu), wanted_entry(menu))
    return [a.entry.entry if isinstance(a, Resolved) else a.why for a in answers]


def arm(grub: Grub, work: Path) -> dict[str, object]:
    """Keep the old kernel's boot set, make it the default, and boot the candidate once."""
    firmware = work / "firmware"
    firmware.mkdir()
    (firmware / "fw.bin").write_text("old", encoding="utf-8")
    kernel, initrd = (f"/boot/{name}-{RELEASES[0]}" for name in ("vmlinuz", "initrd.img"))
    boot_set = BootSet(
        release=RELEASES[0],
        kernel=file_sha256(Path(kernel)),
        initrd=file_sha256(Path(initrd)),
        modules="m",
        firmware=tree_identity(read_tree(firmware)),
        command_line='root=UUID=x ro "dyndbg=file x.c +p" quiet a;b panic=10',
    )
    sources = bootsets.Sources(kernel=kernel, initrds=(initrd,), firmware=str(firmware))
    bootsets.keep(grub.host, boot_set, sources)
    grub.install(parts.boot_files(grub.host, boot_set.fingerprint))
    candidate = EntryId(told(grub.state())[1])
    grub.point(default=KNOWN_GOOD, once=candidate)
    return {"candidate": candidate, "fingerprint": boot_set.fingerprint}


def made(place: str) -> str:
    sh("grub-mkconfig", "-o", place)
    return Path(place).read_text(encoding="utf-8")


def saves_by_itself(menu: str) -> bool:
    """Tell whether GRUB saves what somebody picks: 00_header's function is called in entries."""
    return any(line.strip() == "savedefault" for line in menu.splitlines())


def without(path: Path) -> str:
    """Have the menu made while a file that our entry needs is away."""
    path.rename("/boot/away")
    menu = made("/boot/grub/other.cfg")
    Path("/boot/away").rename(path)
    return menu


def not_run(script: Path) -> str:
    """Have the menu made while a script is switched off."""
    script.chmod(0o644)
    menu = made("/boot/grub/other.cfg")
    script.chmod(0o755)
    return menu


def without_marks(menu: str) -> list[str]:
    """Give the lines of a menu, but for those that tell where our script began and ended."""
    return [line for line in menu.splitlines() if line and "09_trialboot" not in line]


def carried(carrier: str) -> list[str]:
    """Have the menu made for a carrier; give what GRUB's own check says, and what we read."""
    script, other = Path("/boot/trialboot/known-good.sh"), "/boot/grub/other.cfg"
    before = script.read_text(encoding="utf-8")
    words = f"CARRIER={shlex.quote(carrier)}\nCARRIER_UUID=7B07-0071\n"
    script.write_text(before + words, encoding="utf-8")
    menu = parse_menu(made(other), {})
    script.write_text(before, encoding="utf-8")
    known = menu.carrier if isinstance(menu, Menu) else None
    return [sh("grub-script-check", other), f"{known.kind}:{known.folder}" if known else ""]


def environment() -> list[str]:
    return sh("grub-editenv", "/boot/grub/grubenv", "list").splitlines()


def flow(work: Path) -> dict[str, object]:
    grub, cfg = Grub(on_sda2(work)), Path("/boot/grub/grub.cfg")
    own = made(str(cfg))
    seen: dict[str, object] = {"own": own, "before": told(grub.state())}
    seen |= arm(grub, work)
    seen |= {"armed": told(grub.state()), "listed": environment()}
    sh("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")
    sh("grub-editenv", "/boot/grub/grubenv", "set", "theirs=a b=c")
    seen["once_gone"] = told(grub.state())
    seen["arguments"] = next(e.arguments for e in grub.state().entries if e.entry == KNOWN_GOOD)
    ours = cfg.read_text(encoding="utf-8")
    seen["saves_by_itself"] = [saves_by_itself(menu) for menu in (own, ours)]
    seen["idempotent"] = made(str(cfg)) == ours
    kept = Path(f"/boot/trialboot/{seen['fingerprint']}")
    for name in ("vmlinuz", "initrd.img", "firmware.cpio"):
        seen[f"without {name}"] = without(kept / name) == own
    switched_off = not_run(Path("/etc/grub.d/09_trialboot"))
    seen["not run"] = without_marks(switched_off) == without_marks(own)
    seen["carried"] = [carried(f"{kind}:/boot/x y") for kind in (BOOT_NEXT, OWN_BLOCK)]
    grub.remove()
    seen["removed"] = cfg.read_text(encoding="utf-8") == own
    seen["left"] = environment()
    seen["folder"] = sorted(path.name for path in Path("/boot/grub").iterdir())
    return seen


if __name__ == "__main__":
    furnish(Path(sys.argv[1]))
    print(json.dumps(flow(Path(sys.argv[1]))))
