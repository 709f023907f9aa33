"""`make demo`: the main job in a throw-away machine, told as it happens.

Builds the package and the machine, and plays the incident: a kernel update that refuses the CNI's
eBPF programs, and a node that goes back by itself. Ends with 0 only if every step was observed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.vm import image as images
from tests.vm import stories
from tests.vm.errors import InfrastructureError
from tests.vm.node import Node, Say, build_package, steady_disk, timeline

_RERUNS = 2
"""How often it begins anew where the emulator breaks a kernel, as the stories do."""


def main() -> int:
    """Play it once."""
    say = timeline(lambda line: print(line, flush=True))
    for left in range(_RERUNS, -1, -1):
        with tempfile.TemporaryDirectory(prefix="trialboot-demo-") as folder:
            try:
                _play(Path(folder), say)
            except InfrastructureError as error:
                print(error, file=sys.stderr)
                if left:
                    say("the emulator failed, and nothing that is shown here: from the beginning")
                    continue
            except AssertionError as error:
                print(error, file=sys.stderr)
            else:
                say("every step was observed; the machine is thrown away, this host is as it was")
                return 0
            break
    say("NOT observed; the demo ends here")
    return 1


def _play(folder: Path, say: Say) -> None:
    say("the disk image: Debian 12 with kernels 6.1, 6.12 and, in a repository, 7.x")
    image = images.build()
    say("the package: packaging/build-deb")
    package = build_package(folder / "deb")
    say(f"{package.name} is built; a machine is prepared with it (kept for the next time)")
    disk = steady_disk(image, package, say)
    with Node(image, folder / "node", disk) as node:
        say("the node is switched on")
        stories.incident(image, node, say)
        stories.assert_bootable_default(node)


if __name__ == "__main__":
    sys.exit(main())
