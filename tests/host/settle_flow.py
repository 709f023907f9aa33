"""Runs in a mount namespace of its own: what a reader that replays no journal sees of a rename.

Arguments: an ext4 image and a folder to mount it on. Prints what lies in the image, twice.
"""

import json
import subprocess
import sys
from pathlib import Path

from trialboot.host import write_durably
from trialboot.loaders.ground import settle


def seen(image: str) -> str:
    """Read the file as GRUB would: from the blocks, without the journal."""
    argv = ["debugfs", "-R", "cat /file", image]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    image, place = sys.argv[1:]
    mount = ["mount", "-o", "loop", image, place]
    subprocess.run(mount, check=True)
    write_durably(Path(place) / "file", b"new")
    before, note, after = seen(image), settle(Path(place)), seen(image)
    print(json.dumps({"before": before, "note": note, "after": after}))
