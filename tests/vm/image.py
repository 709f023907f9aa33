"""Builds the disk that test machines boot, from Debian's packages, once a recipe.

``python3 -m tests.vm.image`` prints where it is. Needs no loop device and mounts nothing on this
machine: mmdebstrap makes the tree, mke2fs the file system, and one boot installs GRUB.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import accelerator, command, pki, qemu
from tests.vm.command import Progress
from tests.vm.errors import InfrastructureError

_HERE = Path(__file__).parent
_GUEST = _HERE / "guest"
_SUITES = ("bookworm", "bookworm-updates", "bookworm-security")

# The guest's fstab names the same two: change both.
ROOT_UUID = "5f7a1b00-0000-4000-8000-747269616c62"
ESP_UUID = "7B07-0071"
USUAL = "6.12"

_MIB = 1 << 20
_ESP_START, _ESP_SIZE = 1 * _MIB, 48 * _MIB
_ROOT_START, _ROOT_SIZE = _ESP_START + _ESP_SIZE, 3584 * _MIB
_PROVISION_SECONDS = 240.0
_OLD_IMAGES = 2

_BUILDER_PACKAGES = ("gcc", "make", "dpkg-dev", "apt-utils")
_GUEST_PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "iproute2", "ca-certificates", "qemu-guest-agent"),
    *("python3", "python3-dbus", "python3-systemd", "python3-pyroute2", "python3-yaml"),
    *("python3-prometheus-client", "python3-psutil", "initramfs-tools", "zstd", "dosfstools"),
    *("grub-pc-bin", "grub-efi-amd64-bin", "grub2-common"),
)
# Settings of this machine's apt that decide whether it reaches its mirror at all.
_APT_SETTINGS = (
    *("Acquire::http::Proxy", "Acquire::https::Proxy"),
    *("Acquire::Check-Valid-Until", "Acquire::Check-Date"),
)


@dataclass(frozen=True)
class Image:
    """A built disk and what belongs to it. Never written to: machines boot overlays of it."""

    folder: Path
    kernels: Mapping[str, str]

    @property
    def disk(self) -> Path:
        """The qcow2 file that overlays are backed by."""
        return self.folder / "disk.qcow2"

    @property
    def pki(self) -> Path:
        """Folder of the test cluster's certificates and keys."""
        return self.folder / "pki"

    @property
    def uuid(self) -> str:
        """UUID of the root file system."""
        return ROOT_UUID

    def kernel(self, series: str) -> Path:
        """The kernel of a series, for a boot without boot loader."""
        return self.folder / f"vmlinuz-{self.kernels[series]}"

    def initrd(self, series: str) -> Path:
        """The initrd that goes with :meth:`kernel`."""
        return self.folder / f"initrd.img-{self.kernels[series]}"

    def accelerator(self) -> str:
        """Say "kvm" or "tcg", whichever runs this image's kernel here."""
        return accelerator.accelerator(self.kernel(USUAL), cache())


def cache() -> Path:
    """Where images are kept, outside the repository."""
    folder = os.environ.get("TRIALBOOT_CACHE") or Path.home() / ".cache" / "trialboot"
    return Path(folder).absolute()


def build() -> Image:
    """Return the image of the present recipe, building it first where it is not cached."""
    cache().mkdir(parents=True, exist_ok=True)
    folder = cache() / f"image-{_image_key()}"
    with _alone():
        if not folder.exists():
            _build_image(folder)
    kernels = json.loads((folder / "kernels.json").read_text())
    return Image(folder, kernels)


@contextmanager
def _alone() -> Iterator[None]:
    """Let a second builder wait for the first, then find its image."""
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Fill a folder under another name: it gets its own only when it is whole."""
    draft = folder.with_name(f"draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    yield draft
    draft.rename(folder)


# --- keys ---------------------------------------------------------------------------------------


def _key(files: Sequence[Path], *words: str) -> str:
    recipe = hashlib.sha256("\0".join(words).encode())
    for path in files:
        recipe.update(f"\0{path.relative_to(_HERE)}\0{path.stat().st_mode:o}\0".encode())
        recipe.update(path.read_bytes())
    return recipe.hexdigest()[:16]


def _guest_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts)


def _parts_key() -> str:
    files = [_GUEST / "parts.sh", *_guest_files(_GUEST / "module")]
    return _key(files, *_BUILDER_PACKAGES)


def _image_key() -> str:
    recipes = [_HERE / name for name in ("image.py", "pki.py", "qemu.py")]
    return _key([*recipes, *_guest_files(_GUEST)], _parts_key())


# --- Debian roots -------------------------------------------------------------------------------


def _debootstrap(progress: Progress, target: Path, packages: Sequence[str], *hooks: str) -> None:
    progress.run(
        *("mmdebstrap", "--variant=minbase"),
        *("--skip=cleanup/apt/lists,cleanup/reproducible", "--dpkgopt=force-unsafe-io"),
        *('--aptopt=Acquire::Languages "none"', *_host_settings()),
        # A mirror may lag behind; what is built here only serves tests.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *("--dpkgopt=path-exclude=/usr/share/man/*", "--include=" + ",".join(packages)),
        *(f"--customize-hook={hook}" for hook in hooks),
        *("bookworm", str(target), *_host_mirrors()),
    )


def _host_settings() -> list[str]:
    """What this machine's apt needs to reach its mirror, for the apt in the new root."""
    if shutil.which("apt-config") is None:
        return []
    lines = command.output("apt-config", "dump").splitlines()
    wanted = (line.rstrip(";") for line in lines if line.startswith(_APT_SETTINGS))
    return [f"--aptopt={line}" for line in wanted]


def _host_mirrors() -> list[str]:
    """The mirrors of this machine where it runs the same Debian, else mmdebstrap's default."""
    if shutil.which("apt-get") is None:
        return []
    form = "$(RELEASE) $(REPO_URI)"
    lines = command.output("apt-get", "indextargets", "--format", form).splitlines()
    known = dict(line.split(" ", 1) for line in lines if " " in line)
    if "bookworm" not in known:
        return []
    return [f"deb {known[suite]} {suite} main" for suite in _SUITES if suite in known]


# --- parts: kernels, repository, module ---------------------------------------------------------


def _parts(progress: Progress) -> Path:
    folder = cache() / f"parts-{_parts_key()}"
    if not folder.exists():
        with _draft(folder) as draft:
            _build_parts(progress, draft)
    return folder


def _build_parts(progress: Progress, draft: Path) -> None:
    progress.say("making a throw-away Debian with a compiler")
    _debootstrap(
        *(progress, Path("/dev/null"), _BUILDER_PACKAGES),
        f'copy-in "{_GUEST}/module" /',
        f'copy-in "{_GUEST}/parts.sh" /',
        'chroot "$1" sh /parts.sh',
        f'sync-out /parts "{draft}"',
    )


def _series(parts: Path) -> dict[str, str]:
    lines = (parts / "kernels").read_text().splitlines()
    return dict(line.split() for line in lines)


# --- the image ----------------------------------------------------------------------------------


def _build_image(folder: Path) -> None:
    log = cache() / "build.log"
    log.unlink(missing_ok=True)
    progress = Progress(log)
    progress.say(f"building the test image; everything said goes to {log}")
    parts = _parts(progress)
    with _draft(folder) as draft:
        kernels = _series(parts)
        (draft / "kernels.json").write_text(json.dumps(kernels))
        pki.make(draft / "pki")
        _unpack_debian(progress, draft, parts)
        _lay_out_disk(progress, draft)
        _provision(progress, Image(draft, kernels))
        _compress(progress, draft)
    _prune(folder)
    progress.say("the image is ready")


def _prune(newest: Path) -> None:
    """Forget images of old recipes; a few stay for whoever switches between branches."""
    images = (path for path in cache().glob("image-*") if path != newest)
    for path in sorted(images, key=lambda path: path.stat().st_mtime)[:-_OLD_IMAGES]:
        shutil.rmtree(path, ignore_errors=True)


def _unpack_debian(progress: Progress, draft: Path, parts: Path) -> None:
    progress.say("unpacking Debian 12")
    _write_overlay(draft / "overlay.tar", draft / "pki")
    _debootstrap(
        *(progress, draft / "root.tar", _GUEST_PACKAGES),
        f'tar-in "{draft}/overlay.tar" /',
        'mkdir -p "$1/srv/repo" "$1/parts"',
        f'sync-in "{parts}/repo" /srv/repo',
        f'sync-in "{parts}" /parts',
        'rm -rf "$1/parts/repo"',
        'chroot "$1" sh /install.sh',
    )


def _write_overlay(path: Path, certificates: Path) -> None:
    """Collect what is laid over Debian: the rootfs folder, the recipes, the kubelet's files."""
    with tarfile.open(path, "w") as tar:
        for file in _guest_files(_GUEST / "rootfs"):
            tar.add(file, str(file.relative_to(_GUEST / "rootfs")), filter=_owned_by_root)
        for name in ("install.sh", "provision.sh"):
            tar.add(_GUEST / name, name, filter=_owned_by_root)
        _add_text(tar, pki.KUBELET_CONF, pki.kubelet_conf(certificates))
        _add_text(tar, pki.CLIENT_FILE, pki.client_pem(certificates))
        link = tarfile.TarInfo(pki.CLIENT_LINK.lstrip("/"))
        link.type, link.linkname = tarfile.SYMTYPE, pki.CLIENT_FILE
        tar.addfile(link)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    # A checkout's umask must not decide who may read the guest's files.
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode, entry.mtime = len(text), 0o600, int(time.time())
    tar.addfile(entry, io.BytesIO(text.encode()))


def _lay_out_disk(progress: Progress, draft: Path) -> None:
    """Write partition table and root file system. The ESP is made by the provisioning boot."""
    progress.say("writing the root file system")
    raw = draft / "disk.raw"
    with raw.open("wb") as disk:
        disk.truncate(_ROOT_START + _ROOT_SIZE)
        disk.write(_partition_table())
    # Devices are the kernel's to make; without them the tree needs no privilege to unpack.
    script = f"""
        set -e; cd "{draft}"; mkdir root
        tar -x -C root --numeric-owner --exclude='./dev/*' -f root.tar
        mke2fs -q -F -t ext4 -L root -U {ROOT_UUID} -O ^orphan_file -m 0 -d root \
            -E offset={_ROOT_START},lazy_itable_init=0,lazy_journal_init=0 \
            disk.raw {_ROOT_SIZE // 1024}k
        cp root/boot/vmlinuz-* root/boot/initrd.img-* .
        rm -rf root
    """
    progress.run(*_as_root(), "sh", "-c", script)
    (draft / "root.tar").unlink()
    (draft / "overlay.tar").unlink()


def _as_root() -> list[str]:
    """Who unpacks a tree must be root, or root of a user namespace as mmdebstrap makes them."""
    return [] if os.geteuid() == 0 else ["mmdebstrap", "--unshare-helper"]


def _partition_table() -> bytes:
    """A master boot record with an active root partition behind an ESP."""
    partitions = _partition(0xEF, _ESP_START, _ESP_SIZE, active=False)
    partitions += _partition(0x83, _ROOT_START, _ROOT_SIZE, active=True)
    identity = struct.pack("<IH", 0x7B007B00, 0)
    return bytes(440) + identity + partitions.ljust(64, b"\0") + b"\x55\xaa"


def _partition(kind: int, start: int, size: int, *, active: bool) -> bytes:
    # Heads and cylinders mean nothing since LBA; this value says so.
    no_chs = b"\xfe\xff\xff"
    flag = b"\x80" if active else b"\0"
    return flag + no_chs + bytes([kind]) + no_chs + struct.pack("<II", start // 512, size // 512)


def _provision(progress: Progress, image: Image) -> None:
    """Boot once without a boot loader, to install one."""
    how = image.accelerator()
    progress.say(f"provisioning boot under {how}")
    console = image.folder / "provisioning.console"
    line = f"root=UUID={ROOT_UUID} rw console=ttyS0 panic=-1 mitigations=off"
    line += f" init=/provision.sh -- {ESP_UUID.replace('-', '')}"
    words = [
        *qemu.machine(how),
        *qemu.disk(image.folder / "disk.raw", "raw", "unsafe"),
        *qemu.serial(console),
        *qemu.direct(image.kernel(USUAL), image.initrd(USUAL), line),
        "-no-reboot",
    ]
    process = command.start(words, image.folder / "provisioning.log")
    finished = command.ended(process, _PROVISION_SECONDS)
    if not finished:
        process.kill()
        process.wait()
    if "PROVISIONED" not in console.read_text(errors="replace"):
        kept = shutil.copy(console, cache() / "provisioning.console")
        raise InfrastructureError(f"the boot loaders were not installed: read {kept}")


def _compress(progress: Progress, draft: Path) -> None:
    progress.say("converting to qcow2")
    raw, disk = draft / "disk.raw", draft / "disk.qcow2"
    command.output(
        "qemu-img",
        "convert",
        "-W",
        "-O",
        "qcow2",
        raw,
        disk,
        timeout=300,
    )
    raw.unlink()


def main() -> int:
    """Print the path of the image's disk."""
    try:
        image = build()
    except InfrastructureError as error:
        print(f"tests.vm.image: {error}", file=sys.stderr)
        return 1
    print(image.disk)
    return 0


if __name__ == "__main__":
    sys.exit(main())
