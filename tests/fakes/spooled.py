"""What the hooks left in a spool, taken as the daemon takes it: read, then removed."""

from trialboot.core.packagenote import Note
from trialboot.host import Host
from trialboot.readers.spool import read_notes, remove_notes


def take_notes(host: Host) -> tuple[Note, ...]:
    """Read all notes in the order they were left, and remove them."""
    spooled = read_notes(host)
    remove_notes(host, spooled.files)
    return spooled.notes
