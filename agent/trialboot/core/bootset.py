"""What one boot loads, and the fingerprint that tells two boot sets apart by content."""

import hashlib
from dataclasses import astuple, dataclass
from typing import Final, NewType

from trialboot.core.facts import Tree, Unknown

Fingerprint = NewType("Fingerprint", str)
"""SHA-256, in hex, over a boot set's identities. Its first 12 digits name it to people."""

SHOWN_DIGITS: Final = 12
_ANY_NAME: Final = "surrogatepass"
"""Names and command lines may hold bytes that are no UTF-8: PEP 383 makes surrogates of them."""

# vt.handoff= is Ubuntu's GRUB speaking to Plymouth: some entries have it, some have not.
_NOT_PART: Final = ("BOOT_IMAGE=", "initrd=", "vt.handoff=", "trialboot.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSet:
    """Kernel image, initrd, module tree, firmware tree and command line, each by identity."""

    release: str
    """The kernel release, `uname -r`: also the name of its module tree."""
    kernel: str
    """SHA-256 of the kernel image."""
    initrd: str
    """SHA-256 of the initrd; empty where the entry names none."""
    modules: str
    """Identity of the module tree (`tree_identity`)."""
    firmware: str
    """Identity of the firmware tree (`tree_identity`)."""
    command_line: str
    """The kernel's command line without what only says where things lie (`plain_command_line`)."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Hash over the identities, not the paths: a copy of a boot set is that boot set."""
        identities = "\0".join(astuple(self)).encode("utf-8", _ANY_NAME)
        return Fingerprint(hashlib.sha256(identities).hexdigest())


def tree_identity(tree: Tree) -> str:
    """Hash a tree's paths and contents into one identity."""
    digest = hashlib.sha256()
    for path, content in tree.files:
        digest.update(f"{path}\0{content}\n".encode("utf-8", _ANY_NAME))
    return digest.hexdigest()


def plain_command_line(command_line: str) -> str:
    """Drop the words that a loader or trialboot adds to say where things lie.

    `BOOT_IMAGE=` and `initrd=` name files, `trialboot.*` a kept boot set, `vt.handoff=` a screen:
    none of them makes another boot set. Everything else does, in its order.
    """
    words = command_line.split()
    return " ".join(word for word in words if not word.startswith(_NOT_PART))


def shown(fingerprint: str) -> str:
    """Shorten a fingerprint for people."""
    return fingerprint[:SHOWN_DIGITS]


def word_of(command_line: str, key: str) -> str | Unknown:
    """Give the value of `key=` on a command line; the last one wins, as in the kernel."""
    found = [w.partition("=")[2] for w in command_line.split() if w.startswith(f"{key}=")]
    return found[-1] if found else Unknown(f"{key}= is not on the command line")
