"""What one boot loads, and the fingerprint that tells two boot sets apart by content."""

import hashlib
import re
from collections.abc import Sequence
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
_WORDS: Final = re.compile(r"""(?:\\["'\\]|"(?:\\.|[^"\\])*"|\S)+""")
"""Words of a command line; what is in quotes may hold blanks, as many as it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSet:
    """Kernel image, initrd, module tree, firmware tree and command line, each by identity."""

    release: str
    """The kernel release, `uname -r`: also the name of its module tree."""
    kernel: str
    """SHA-256 of the kernel image."""
    initrd: str
    """SHA-256 of the initrd, of several `initrd_identity`; empty where the entry names none."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBoot:
    """What a boot loader needs of a kept boot set, so that none knows the vault's names."""

    boot_set: BootSet
    kernel: str
    """A path of the host, as those of the initrds are; all on a file system that it reads."""
    initrds: tuple[str, ...] = ()
    """In the order of loading. The last is ours, where there is a tree to bind."""
    words: tuple[str, ...] = ()
    """`trialboot.*`: which boot set this is, and where its trees lie."""

    @property
    def command_line(self) -> str:
        """Give the whole command line of the known-good entry."""
        return " ".join((self.boot_set.command_line, *self.words)).strip()


def initrd_identity(initrds: Sequence[str]) -> str:
    """Give one identity for all initrds of an entry: the loader joins them, in their order."""
    if len(initrds) < 2:  # noqa: PLR2004  one is its own identity
        return "".join(initrds)
    return hashlib.sha256("\n".join(initrds).encode()).hexdigest()


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
    words = _WORDS.findall(command_line)
    return " ".join(word for word in words if not word.startswith(_NOT_PART))


def shown(fingerprint: str) -> str:
    """Shorten a fingerprint for people."""
    return fingerprint[:SHOWN_DIGITS]


def without_word(command_line: str, key: str) -> str:
    """Give a command line without its words `key=`."""
    return " ".join(w for w in command_line.split() if not w.startswith(f"{key}="))


def word_of(command_line: str, key: str) -> str | Unknown:
    """Give the value of `key=` on a command line; the last one wins, as in the kernel."""
    found = [w.partition("=")[2] for w in command_line.split() if w.startswith(f"{key}=")]
    return found[-1] if found else Unknown(f"{key}= is not on the command line")
