"""What the matrix of faults and hosts reads and is made of, without a machine."""

from __future__ import annotations

from pathlib import Path

from tests.vm import matrix
from tests.vm.faults import FAULTS
from tests.vm.hosts import HOSTS, LAYOUTS
from tests.vm.matrix import Seen, kernel_starts
from tests.vm.test_matrix import CELLS, SMOKE

_SERIAL = """\
Loading Linux 7.2 ...
[    0.000000] Linux version 7.2 (builder@host) (gcc 14) #1 SMP
[    0.000000] Command line: BOOT_IMAGE=/boot/vmlinuz-7.2 root=/dev/vda2 ro panic=5
[    2.100000] Kernel panic - not syncing: sysrq triggered crash
[    0.000000] Linux version 6.12 (builder@host) (gcc 12) #1 SMP
[    0.000000] Command line: BOOT_IMAGE=/boot/trialboot/x/vmlinuz ro trialboot.boot=0123
"""


def test_each_start_of_a_kernel_is_told_with_its_entry() -> None:
    assert kernel_starts(_SERIAL) == ["7.2 candidate", "6.12 known-good"]


def test_a_kernel_that_dies_before_its_command_line_counts() -> None:
    died = "[    0.0] Linux version 7.2 (builder)\n"
    assert kernel_starts(died + _SERIAL) == ["7.2 candidate", "7.2 candidate", "6.12 known-good"]


def test_the_table_has_a_line_for_each_cell(tmp_path: Path) -> None:
    Seen(host="lvm", fault="panic-early", starts=["7.2 candidate"], why="it hangs").keep(tmp_path)
    Seen(host="grub-bios", fault="nothing", phase="steady", fine=True, why="").keep(tmp_path)
    first, second = matrix.table(tmp_path).splitlines()[2:]
    assert first.startswith("| grub-bios | nothing |")
    assert "as it should" in first
    assert "**it hangs**" in second


def test_every_host_has_a_layout_and_cells_and_every_fault_is_played() -> None:
    cells = {(cell.host.name, cell.fault.name) for cell in CELLS}
    assert cells >= SMOKE
    assert {host for host, _ in cells} == set(HOSTS)
    assert {fault for _, fault in cells} == set(FAULTS)
    for host in HOSTS.values():
        assert not host.disks or Path(LAYOUTS, f"{host.name}.sh").exists()
