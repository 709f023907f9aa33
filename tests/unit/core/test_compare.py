"""What the next boot will change, row by row: each area, each danger, and what is not known."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.samples import boot_set
from trialboot.core.change import Ahead, Area, BootDetail, Change, InUse, Risk, ordered
from trialboot.core.compare import MISSING, NOT_KNOWN, USED, changes, objections
from trialboot.core.facts import (
    Dkms,
    Driver,
    Interface,
    Module,
    ModuleFile,
    ModuleTree,
    Setting,
    Tree,
    Unknown,
)

BLIND = Unknown("no permission")
NIC = Module(name="mlx5_core", firmware=("mellanox/a.bin", "mellanox/b.bin"))
VXLAN = Module(name="vxlan")
SOUND_CARD = Module(name="snd")
USE = InUse(
    modules=(NIC, VXLAN, SOUND_CARD),
    interfaces=(
        Interface(name="eth0", driver="mlx5_core", bus="0000:3b:00.0", default_route=True),
        Interface(name="flannel.1", driver="vxlan"),
    ),
)
TREE = ModuleTree(
    release="6.1-old",
    names=("mlx5_core", "snd", "vxlan"),
    builtin=("ext4",),
    drivers=(Driver(alias="pci:v15b3", modules=("mlx5_core",)),),
)
BEFORE = BootDetail(
    boot_set=boot_set(),
    firmware=Tree(files=(("mellanox/a.bin.zst", "1" * 64), ("other.bin", "2" * 64))),
    modules=TREE,
    options=(("BPF_SYSCALL", "y"), ("NET_SCH_FQ", "m")),
    microcode=(("kernel/x86/microcode/GenuineIntel.bin", "1" * 64),),
    build="#1 SMP Debian 6.1.1-1",
)
NEXT = replace(
    BEFORE,
    boot_set=replace(BEFORE.boot_set, release="6.2-new", kernel="k", initrd="i", modules="m"),
    modules=replace(TREE, release="6.2-new"),
)


def rows(then: BootDetail, use: InUse = USE, ahead: Ahead | None = None) -> list[Change]:
    return list(changes(BEFORE, then, use, ahead))


def told(found: list[Change]) -> list[tuple[str, str, str, str, str]]:
    return [(str(r.area), r.subject, r.before, r.after, str(r.risk)) for r in found]


def of(area: Area, found: list[Change]) -> list[tuple[str, str, str, str]]:
    return [(r.subject, r.before, r.after, str(r.risk)) for r in found if r.area is area]


def test_the_same_boot_set_changes_nothing() -> None:
    assert rows(BEFORE) == []
    assert rows(BEFORE, InUse(modules=BLIND)) == []
    assert rows(BEFORE, USE, Ahead()) == []


# --- kernel, initrd, command line ---------------------------------------------------------------

KERNEL = {
    "another kernel": (NEXT, ("release", "6.1-old", "6.2-new")),
    "rebuilt under its name": (
        replace(
            BEFORE,
            boot_set=replace(BEFORE.boot_set, kernel="k"),
            build="#1 SMP Debian 6.1.2-1",
        ),
        ("image of 6.1-old", "#1 SMP Debian 6.1.1-1", "#1 SMP Debian 6.1.2-1"),
    ),
    "rebuilt, and the banner does not tell": (
        replace(BEFORE, boot_set=replace(BEFORE.boot_set, kernel="k")),
        ("image of 6.1-old", "as before", "rebuilt"),
    ),
    "rebuilt, banner unread": (
        replace(BEFORE, boot_set=replace(BEFORE.boot_set, kernel="k"), build=""),
        ("image of 6.1-old", "as before", "rebuilt"),
    ),
}


@pytest.mark.parametrize(("then", "row"), KERNEL.values(), ids=KERNEL)
def test_a_kernel_is_another_one_by_release_or_by_content(
    then: BootDetail, row: tuple[str, str, str]
) -> None:
    assert of(Area.KERNEL, rows(then)) == [(*row, "caution")]


def test_an_initrd_is_rebuilt_where_its_kernel_is_the_same() -> None:
    rebuilt = replace(BEFORE, boot_set=replace(BEFORE.boot_set, initrd="i"))
    row = ("initrd", "initrd of 6.1-old", "as before", "rebuilt", "caution")
    assert told(rows(rebuilt)) == [row]
    assert of(Area.INITRD, rows(NEXT)) == []


def test_microcode_is_told_by_what_the_initrd_holds() -> None:
    amd = ("kernel/x86/microcode/AuthenticAMD.bin", "3" * 64)
    intel = ("kernel/x86/microcode/GenuineIntel.bin", "2" * 64)
    then = replace(BEFORE, microcode=(amd, intel))
    assert of(Area.MICROCODE, rows(then)) == [
        ("AuthenticAMD.bin", "absent", "3" * 12, "caution"),
        ("GenuineIntel.bin", "1" * 12, "2" * 12, "caution"),
    ]
    assert rows(replace(BEFORE, microcode=BLIND)) == []
    assert list(changes(replace(BEFORE, microcode=BLIND), then, USE)) == []


def test_a_command_line_is_told_whole() -> None:
    then = replace(BEFORE, boot_set=replace(BEFORE.boot_set, command_line="rw quiet"))
    assert told(rows(then)) == [("command_line", "command line", "ro", "rw quiet", "caution")]


def test_kernel_options_that_a_cni_needs_are_compared_between_kernels() -> None:
    then = replace(NEXT, options=(("BPF_SYSCALL", "n"), ("NETKIT", "y"), ("NET_SCH_FQ", "y")))
    assert of(Area.OPTIONS, rows(then)) == [
        ("BPF_SYSCALL", "y", "n", "caution"),
        ("NETKIT", "n", "y", "notice"),
        ("NET_SCH_FQ", "m", "y", "notice"),
    ]
    signed = replace(BEFORE, options=(("MODULE_SIG", "y"), ("MODVERSIONS", "y")))
    found = changes(signed, replace(NEXT, options=()), USE)
    assert {row.risk for row in found if row.area is Area.OPTIONS} == {Risk.NOTICE}
    assert of(Area.OPTIONS, rows(replace(NEXT, options=BLIND))) == []
    assert of(Area.OPTIONS, list(changes(replace(BEFORE, options=BLIND), then, USE))) == []
    # The same image has the same options, whatever a file beside it says.
    assert rows(replace(BEFORE, options=())) == []


# --- modules ------------------------------------------------------------------------------------


def without(*names: str, drivers: tuple[Driver, ...] | Unknown = TREE.drivers) -> BootDetail:
    left = tuple(name for name in TREE.names if name not in names)
    return replace(NEXT, modules=replace(NEXT.modules, names=left, drivers=drivers))


def test_missing_modules_are_told_with_what_hangs_on_them() -> None:
    found = [r for r in rows(without("mlx5_core", "snd", "vxlan")) if r.area is Area.MODULES]
    assert [(r.subject, r.after, str(r.risk), r.why) for r in found] == [
        ("mlx5_core", MISSING, "danger", "drives eth0, which the default route needs"),
        ("vxlan", MISSING, "danger", "drives flannel.1"),
        ("snd", MISSING, "caution", ""),
    ]


def test_missing_modules_of_the_network_speak_against_the_boot_set() -> None:
    assert objections(rows(without("snd"))) == ()
    assert objections(rows(without("snd", "vxlan"))) == (
        (
            "vxlan is missing from the next kernel (drives flannel.1); "
            "is a package such as linux-modules-extra missing?"
        ),
    )


def test_what_is_built_in_or_has_another_name_is_not_missing() -> None:
    builtin = without("vxlan")
    builtin = replace(builtin, modules=replace(builtin.modules, builtin=("vxlan",)))
    assert of(Area.MODULES, rows(builtin)) == []
    renamed = without("vxlan", drivers=(Driver(alias="vxlan", modules=("vxlan2",)),))
    assert of(Area.MODULES, rows(renamed)) == [("vxlan", "loaded", "is vxlan2 now", "caution")]
    assert objections(rows(renamed)) == ()


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("nft_counter", "nf_tables"),  # Linux 5.15 -> 6.8: Ubuntu 22.04's own step
        ("nft_objref", "nf_tables"),  # 6.1 -> 6.12: Debian 12 -> 13
        ("nf_log_common", "nf_log_syslog"),
        ("nf_flow_table_ipv4", "nf_flow_table_inet"),
    ],
)
def test_a_module_that_became_part_of_another_is_not_missing(name: str, now: str) -> None:
    use = replace(USE, modules=(Module(name=name, references=40),))
    there = replace(NEXT, modules=replace(NEXT.modules, names=(now,)))
    assert of(Area.MODULES, rows(there, use)) == [(name, "loaded", f"is {now} now", "caution")]
    assert objections(rows(there, use)) == ()
    assert len(objections(rows(NEXT, use))) == 1


def test_missing_modules_are_told_where_drivers_or_interfaces_are_not_known() -> None:
    blind = InUse(modules=USE.modules, interfaces=BLIND)
    found = of(Area.MODULES, rows(without("vxlan", drivers=BLIND), blind))
    assert found == [("vxlan", "loaded", MISSING, "caution")]


def test_unread_modules_are_said_to_be_unknown() -> None:
    found = of(Area.MODULES, rows(NEXT, InUse(modules=BLIND)))
    assert found == [("modules in use", "loaded", "not known: no permission", "caution")]


def test_other_files_in_the_same_module_tree_are_a_change() -> None:
    then = replace(BEFORE, boot_set=replace(BEFORE.boot_set, modules="m"))
    assert told(rows(then)) == [("modules", "module tree", "as before", "other files", "caution")]
    assert of(Area.MODULES, rows(NEXT)) == []


def with_files(detail: BootDetail, *files: ModuleFile) -> BootDetail:
    return replace(detail, modules=replace(detail.modules, used=files))


REBUILT = replace(BEFORE, boot_set=replace(BEFORE.boot_set, modules="m"))
FILE = ModuleFile(name="vxlan", path="vxlan.ko", signed=True, parameters=("udp_port", "x"))
FILES = {
    "a newer version": (
        *(NEXT, replace(FILE, version="1"), replace(FILE, version="2")),
        [("vxlan version", "1", "2", "caution")],
    ),
    "a version that is new": (NEXT, FILE, replace(FILE, version="2"), []),
    "rebuilt, by build-id": (
        *(REBUILT, replace(FILE, build_id="aa"), replace(FILE, build_id="bb")),
        [("vxlan", "as loaded", "rebuilt", "caution")],
    ),
    "rebuilt, by srcversion": (
        *(REBUILT, replace(FILE, srcversion="a"), replace(FILE, srcversion="b")),
        [("vxlan", "as loaded", "rebuilt", "caution")],
    ),
    "another kernel has other builds anyway": (
        *(NEXT, replace(FILE, build_id="aa"), replace(FILE, build_id="bb")),
        [],
    ),
    "a parameter is gone": (
        *(NEXT, FILE, replace(FILE, parameters=("x",))),
        [("vxlan parameter udp_port", "there", "gone", "notice")],
    ),
    "no longer signed": (
        *(NEXT, FILE, replace(FILE, signed=False)),
        [("vxlan signature", "signed", "not signed", "notice")],
    ),
    "never signed": (NEXT, replace(FILE, signed=False), replace(FILE, signed=False), []),
    "new here": (NEXT, None, FILE, []),
}


@pytest.mark.parametrize(("then", "old", "new", "found"), FILES.values(), ids=FILES)
def test_files_of_loaded_modules_are_compared(
    then: BootDetail, old: ModuleFile | None, new: ModuleFile, found: list[tuple[str, ...]]
) -> None:
    before = with_files(BEFORE, *([old] if old else []))
    assert of(Area.MODULES, list(changes(before, with_files(then, new), USE))) == found


def test_what_is_loaded_counts_before_what_its_file_says() -> None:
    loaded = InUse(modules=(replace(VXLAN, build_id="aa", version="1"),))
    then = with_files(REBUILT, replace(FILE, build_id="bb"))
    before = with_files(BEFORE, replace(FILE, build_id="bb"))
    found = of(Area.MODULES, list(changes(before, then, loaded)))
    assert found == [("vxlan", "as loaded", "rebuilt", "caution")]
    newer = with_files(NEXT, replace(FILE, version="2"))
    found = of(Area.MODULES, list(changes(BEFORE, newer, loaded)))
    assert found == [("vxlan version", "1", "2", "caution")]


def test_unsigned_modules_are_a_danger_where_signatures_are_demanded() -> None:
    then = with_files(NEXT, replace(FILE, signed=False))
    before = with_files(BEFORE, FILE)
    forced = replace(then, options=(("MODULE_SIG_FORCE", "y"),))
    (row,) = [r for r in changes(before, forced, USE) if r.subject == "vxlan signature"]
    assert (row.risk, row.why) == (Risk.DANGER, "the next kernel takes signed modules only")
    never = with_files(BEFORE, replace(FILE, signed=False))
    (row,) = [r for r in changes(never, forced, USE) if r.subject == "vxlan signature"]
    assert (row.before, row.after, row.risk) == ("not signed", "not signed", Risk.DANGER)
    (row,) = [r for r in changes(before, replace(then, options=BLIND), USE) if "sig" in r.subject]
    assert row.risk is Risk.NOTICE


def test_a_device_that_changes_its_driver_is_told_by_its_alias() -> None:
    def then(*modules: str) -> BootDetail:
        return without(drivers=(Driver(alias="pci:v15b3", modules=modules),))

    assert of(Area.DRIVERS, rows(then("mlx6"))) == [("pci:v15b3", "mlx5_core", "mlx6", "caution")]
    assert of(Area.DRIVERS, rows(then())) == [("pci:v15b3", "mlx5_core", "no driver", "danger")]
    assert of(Area.DRIVERS, rows(without(drivers=BLIND))) == []


def test_a_cpu_has_no_driver_that_could_be_switched() -> None:
    cpu = "cpu:type:x86,ven0000fam0006mod0055:feature:,0081"
    before = replace(BEFORE, modules=replace(TREE, drivers=(driver(cpu, "mlx5_core"),)))
    then = without(drivers=(driver(cpu, "intel_uncore"),))
    assert of(Area.DRIVERS, list(changes(before, then, USE))) == []


def driver(alias: str, *modules: str) -> Driver:
    return Driver(alias=alias, modules=modules)


def test_a_driver_that_is_built_in_or_not_loaded_is_no_switch() -> None:
    none = Driver(alias="pci:v15b3", modules=())
    builtin = without("mlx5_core", drivers=(none,))
    modules = replace(builtin.modules, builtin=("ext4", "mlx5_core"))
    assert of(Area.DRIVERS, rows(replace(builtin, modules=modules))) == []
    idle = replace(USE, modules=(VXLAN,))
    assert of(Area.DRIVERS, rows(without(drivers=(none,)), idle)) == []
    assert of(Area.DRIVERS, rows(without(drivers=(none,)), InUse(modules=BLIND))) == []
    both = Driver(alias="pci:v15b3", modules=("mlx5_core", "other"))
    assert of(Area.DRIVERS, rows(without(drivers=(both,)))) == []


def test_module_packages_that_dkms_has_not_built_are_told() -> None:
    zfs, old = Dkms(name="zfs", version="2", release="6.1-old"), "6.1-old"
    nvidia = Dkms(name="nvidia", version="1", release=old)
    built = (
        *(nvidia, zfs, Dkms(name="nvidia", version="2", release="6.2-new")),
        *(Dkms(name="drbd", version="9", release=old), Dkms(name="x", version="1", release="5")),
        Dkms(name="drbd", version="9", release="6.2-new"),
    )
    found = of(Area.DKMS, rows(NEXT, replace(USE, dkms=built)))
    assert found == [("nvidia", "1", "2", "caution"), ("zfs", "2", "not built", "caution")]
    assert of(Area.DKMS, rows(NEXT, replace(USE, dkms=BLIND))) == []


# --- firmware -----------------------------------------------------------------------------------


def firmware(*files: tuple[str, str]) -> BootDetail:
    return replace(BEFORE, firmware=Tree(files=tuple(sorted(files))))


OTHER = ("other.bin", "2" * 64)
FIRMWARE = {
    "what this host uses": (
        firmware(("mellanox/a.bin.zst", "3" * 64), OTHER),
        [("mellanox/a.bin.zst", "1" * 12, "3" * 12, "caution", USED)],
    ),
    "what nobody asks for": (
        firmware(("mellanox/a.bin.zst", "1" * 64), ("other.bin", "3" * 64), ("x", "4" * 64)),
        [("other.bin", "2" * 12, "3" * 12, "notice", ""), ("x", "absent", "new", "notice", "")],
    ),
    "lost": (firmware(OTHER), [("mellanox/a.bin.zst", "there", "gone", "danger", USED)]),
    "compressed in another way": (
        firmware(("mellanox/a.bin.xz", "3" * 64), OTHER),
        [
            ("mellanox/a.bin.xz", "absent", "new", "caution", USED),
            ("mellanox/a.bin.zst", "there", "gone, mellanox/a.bin.xz is taken", "caution", USED),
        ],
    ),
    "newly found": (
        firmware(("mellanox/a.bin.zst", "1" * 64), ("mellanox/b.bin", "3" * 64), OTHER),
        [("mellanox/b.bin", "absent", "new", "caution", USED)],
    ),
    "an update before it": (
        firmware(("mellanox/a.bin.zst", "1" * 64), ("updates/mellanox/a.bin", "3" * 64), OTHER),
        [("updates/mellanox/a.bin", "absent", "new", "caution", USED)],
    ),
    "a form that the kernel takes last": (
        firmware(("mellanox/a.bin.zst", "1" * 64), ("mellanox/a.bin.xz", "3" * 64), OTHER),
        [("mellanox/a.bin.xz", "absent", "new", "notice", "")],
    ),
}


@pytest.mark.parametrize(("then", "found"), FIRMWARE.values(), ids=FIRMWARE)
def test_firmware_is_judged_by_the_file_that_the_kernel_takes(
    then: BootDetail, found: list[tuple[str, ...]]
) -> None:
    assert sorted(
        (r.subject, r.before, r.after, str(r.risk), r.why) for r in rows(then)
    ) == sorted(found)


SILENT = Module(name="ice", firmware=Unknown("ice.ko: no such file"))


@pytest.mark.parametrize("modules", [BLIND, (NIC, SILENT)])
def test_firmware_in_use_is_not_known_where_a_module_does_not_tell(
    modules: tuple[Module, ...] | Unknown,
) -> None:
    (row,) = rows(firmware(OTHER), InUse(modules=modules))
    assert (row.risk, row.why) == (Risk.CAUTION, NOT_KNOWN)


PATHS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"))


@given(PATHS, PATHS)
def test_a_firmware_row_stands_for_each_file_that_differs(
    old: dict[str, str], new: dict[str, str]
) -> None:
    before, then = firmware(*old.items()), firmware(*new.items())
    differ = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    assert [r.subject for r in changes(before, then, USE)] == sorted(differ)


# --- what the next start does beside ------------------------------------------------------------


def beside(**parts: object) -> list[tuple[str, str, str, str, str]]:
    return told(rows(BEFORE, USE, Ahead(**parts)))  # type: ignore[arg-type]  # by name


def test_another_loader_may_be_first() -> None:
    assert beside(kexec_staged=True) == [
        ("loader", "kexec", "nothing staged", "a kernel is staged", "danger")
    ]
    row = ("loader", "UEFI BootNext", "this loader", "Boot0003 «Windows»", "danger")
    assert beside(boot_next="Boot0003 «Windows»") == [row]
    assert beside(boot_next=BLIND) == []
    row = ("loader", "one-shot", "none", "«Linux 6.0»", "danger")
    assert beside(once="Linux 6.0") == [row]


def test_a_default_that_names_nothing_is_told_where_something_else_changes() -> None:
    lost = Ahead(fell_back="«gone» names nothing")
    row = ("default", "an entry by name", "the first one", "caution")
    assert of(Area.LOADER, rows(NEXT, USE, lost)) == [row]
    assert rows(BEFORE, USE, lost) == []


def test_a_stale_initrd_is_told_where_something_else_changes() -> None:
    stale = Ahead(stale=("the package firmware-x", "/etc/modprobe.d/a.conf"))
    told_as = "older than the package firmware-x, /etc/modprobe.d/a.conf"
    row = ("initrd of 6.2-new", "up to date", told_as, "caution")
    assert of(Area.INITRD, rows(NEXT, USE, stale)) == [row]
    assert of(Area.INITRD, rows(NEXT, USE, Ahead(stale=BLIND))) == []
    assert rows(BEFORE, USE, stale) == []


def test_waiting_firmware_is_told() -> None:
    assert beside(waiting=(("eth0", "1.0", "1.2"),)) == [
        ("devices", "eth0", "1.0", "1.2", "caution")
    ]


def setting(kind: str, subject: str, value: str) -> Setting:
    return Setting(kind=kind, subject=subject, value=value, source="/etc/x.conf")


def test_settings_are_compared_with_those_of_this_boot() -> None:
    then = (
        setting("sysctl", "net.ipv4.ip_forward", "1"),
        setting("file", "/etc/fstab", "a" * 64),
        setting("blacklist", "pcspkr", ""),
    )
    now = (
        setting("sysctl", "net.ipv4.ip_forward", "0"),
        setting("sysctl", "vm.swappiness", "1"),
        setting("file", "/etc/fstab", "b" * 64),
        setting("blacklist", "vxlan", ""),
        setting("blacklist", "floppy", ""),
    )
    assert beside(settings_then=then, settings_now=now) == [
        ("settings", "blacklist vxlan", "not set", "set", "caution"),
        ("settings", "sysctl net.ipv4.ip_forward", "1", "0", "caution"),
        ("settings", "blacklist floppy", "not set", "set", "notice"),
        ("settings", "blacklist pcspkr", "set", "not set", "notice"),
        ("settings", "file /etc/fstab", "a" * 12, "b" * 12, "notice"),
        ("settings", "sysctl vm.swappiness", "not set", "1", "notice"),
    ]
    assert beside(settings_then=then, settings_now=then) == []
    fstab = ("settings", "file /etc/fstab")
    assert beside(settings_now=then[1:2]) == [(*fstab, "absent", "new", "notice")]
    assert beside(settings_then=then[1:2]) == [(*fstab, "there", "gone", "notice")]


def test_settings_that_cannot_be_read_are_no_change() -> None:
    assert beside(settings_now=BLIND) == beside(settings_then=BLIND) == []
    blind = InUse(modules=BLIND)
    now = (setting("blacklist", "vxlan", ""),)
    (found,) = rows(BEFORE, blind, Ahead(settings_now=now))
    assert found.risk is Risk.NOTICE


def test_rows_come_most_dangerous_first() -> None:
    every = tuple(
        Change(area=area, subject="x", before="a", after="b", risk=risk)
        for area in reversed(Area)
        for risk in reversed(Risk)
    )
    found = ordered(every)
    assert [row.risk for row in found] == [risk for risk in Risk for _ in Area]
    assert [row.area for row in found] == [*Area] * len(Risk)
