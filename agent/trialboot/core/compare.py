"""What the next boot changes, row by row, from what this host uses now."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from trialboot.core.carriers import MERGED, carriers
from trialboot.core.change import Ahead, Area, BootDetail, Change, InUse, Risk, ordered
from trialboot.core.facts import Driver, Module, ModuleFile, Setting, Unknown

MISSING: Final = "missing"
KEXEC: Final = "kexec"
ONE_SHOT: Final = "one-shot"
USED: Final = "this host uses it"
NOT_KNOWN: Final = "whether this host uses it is not known"
SIGNED_ONLY: Final = "the next kernel takes signed modules only"

_COMPRESSIONS: Final = ("", ".zst", ".xz")
_ENFORCED: Final = ("MODULE_SIG_FORCE", "y")
# How modules are checked when they are loaded: no program of a CNI feels that.
_NOT_FELT: Final = frozenset({"MODVERSIONS", "MODULE_SIG", "MODULE_SIG_FORCE"})
# Every module that a CPU feature asks for answers to the CPU's one alias: it is no driver's.
_CPU: Final = "cpu:"
# Changed again by kubelet and CNI while they run, or of no use to a network.
_NETWORK_SETTINGS: Final = ("net.", "kernel.unprivileged_bpf", "kernel.panic")


def changes(
    before: BootDetail, after: BootDetail, use: InUse, ahead: Ahead | None = None
) -> tuple[Change, ...]:
    """List what booting `after` instead of `before` changes, most dangerous first."""
    rows = [
        *_kernel(before, after),
        *_modules(before, after, use),
        *_drivers(before, after, use),
        *_firmware(before, after, use.modules),
        *_initrd(before, after),
        *_microcode(before, after),
        *_command_line(before, after),
        *_options(before, after),
        *_dkms(before, after, use),
    ]
    if ahead and rows:
        # What was stale when it proved itself is no change of the next boot.
        rows += _stale(after.boot_set.release, ahead.stale)
        rows += _fallen_back(ahead.fell_back)
    if ahead:
        rows += _ahead(ahead, use)
    return ordered(tuple(rows))


def objections(rows: Iterable[Change]) -> tuple[str, ...]:
    """Say why a boot set must not be tried: the pre-checks that failed.

    Only what is certain counts: a module that this node's network uses now and that the next
    kernel has neither as a file, nor built in, nor under another name.
    """
    return tuple(
        f"{row.subject} is missing from the next kernel ({row.why}); "
        "is a package such as linux-modules-extra missing?"
        for row in rows
        if row.area is Area.MODULES and row.after == MISSING and row.risk is Risk.DANGER
    )


def _row(  # noqa: PLR0917  a table of rows: the columns have one order
    area: Area, subject: str, before: str, after: str, risk: Risk, why: str = ""
) -> Change:
    return Change(area=area, subject=subject, before=before, after=after, risk=risk, why=why)


# --- kernel, initrd, command line -------------------------------------------------------------


def _kernel(before: BootDetail, after: BootDetail) -> Iterator[Change]:
    old, new = before.boot_set, after.boot_set
    if old.release != new.release:
        yield _row(Area.KERNEL, "release", old.release, new.release, Risk.CAUTION)
    elif old.kernel != new.kernel:
        builds = (before.build, after.build)
        told = builds if all(builds) and builds[0] != builds[1] else ("as before", "rebuilt")
        yield _row(Area.KERNEL, f"image of {new.release}", *told, Risk.CAUTION)


def _initrd(before: BootDetail, after: BootDetail) -> Iterator[Change]:
    old, new = before.boot_set, after.boot_set
    if old.release == new.release and old.initrd != new.initrd:
        subject = f"initrd of {new.release}"
        yield _row(Area.INITRD, subject, "as before", "rebuilt", Risk.CAUTION)


def _microcode(before: BootDetail, after: BootDetail) -> Iterator[Change]:
    if isinstance(before.microcode, Unknown) or isinstance(after.microcode, Unknown):
        return
    old, new = dict(before.microcode), dict(after.microcode)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            told = (old.get(name, "absent")[:12], new.get(name, "absent")[:12])
            yield _row(Area.MICROCODE, name.rpartition("/")[2], *told, Risk.CAUTION)


def _command_line(before: BootDetail, after: BootDetail) -> Iterator[Change]:
    old, new = before.boot_set.command_line, after.boot_set.command_line
    if old != new:
        yield _row(Area.COMMAND_LINE, "command line", old, new, Risk.CAUTION)


def _options(before: BootDetail, after: BootDetail) -> Iterator[Change]:
    if before.boot_set.kernel == after.boot_set.kernel:
        return
    if isinstance(before.options, Unknown) or isinstance(after.options, Unknown):
        return
    old, new = dict(before.options), dict(after.options)
    for name in sorted({*old, *new}):
        then, now = old.get(name, "n"), new.get(name, "n")
        if then != now:
            lost = then in {"y", "m"} and now == "n" and name not in _NOT_FELT
            why = "a CNI may need it" if lost else ""
            yield _row(Area.OPTIONS, name, then, now, _risk(lost, Risk.CAUTION), why)


def _risk(applies: bool, risk: Risk) -> Risk:  # noqa: FBT001  reads as «this risk, if»
    return risk if applies else Risk.NOTICE


# --- modules ----------------------------------------------------------------------------------


def _modules(before: BootDetail, after: BootDetail, use: InUse) -> Iterator[Change]:
    if before.boot_set.modules == after.boot_set.modules:
        return
    if isinstance(use.modules, Unknown):
        why = f"not known: {use.modules.why}"
        yield _row(Area.MODULES, "modules in use", "loaded", why, Risk.CAUTION)
        return
    gone = _gone(after, use.modules, use)
    other = [*gone, *_other_files(before, after, use.modules)]
    yield from other
    if not other and before.boot_set.release == after.boot_set.release:
        yield _row(Area.MODULES, "module tree", "as before", "other files", Risk.CAUTION)


def _gone(after: BootDetail, loaded: tuple[Module, ...], use: InUse) -> list[Change]:
    there = {*after.modules.names, *after.modules.builtin}
    interfaces = () if isinstance(use.interfaces, Unknown) else use.interfaces
    carrying = carriers(loaded, interfaces)
    answers = _answers(after.modules.drivers)
    rows = []
    for module in loaded:
        if module.name in there:
            continue
        instead = answers.get(module.name, ()) or _merged(module.name, there)
        if instead:
            told = f"is {' or '.join(instead)} now"
            rows.append(_row(Area.MODULES, module.name, "loaded", told, Risk.CAUTION))
            continue
        why, ours = carrying.get(module.name, ("", False))
        risk = Risk.DANGER if ours else Risk.CAUTION
        rows.append(_row(Area.MODULES, module.name, "loaded", MISSING, risk, why))
    # Those that something hangs on are named first: they are what an admin must read.
    return sorted(rows, key=lambda row: (row.risk is not Risk.DANGER, not row.why))


def _merged(name: str, there: set[str]) -> tuple[str, ...]:
    return (MERGED[name],) if MERGED.get(name) in there else ()


def _answers(drivers: tuple[Driver, ...] | Unknown) -> Mapping[str, tuple[str, ...]]:
    """Tell which modules answer to an alias; a module's own name is one that libkmod looks up."""
    if isinstance(drivers, Unknown):
        return {}
    return {driver.alias: driver.modules for driver in drivers}


def _other_files(
    before: BootDetail, after: BootDetail, loaded: tuple[Module, ...]
) -> Iterator[Change]:
    old = {file.name: file for file in before.modules.used}
    new = {file.name: file for file in after.modules.used}
    same_release = before.boot_set.release == after.boot_set.release
    forced = not isinstance(after.options, Unknown) and _ENFORCED in after.options
    for module in loaded:
        if module.name in new:
            was = old.get(module.name)
            yield from _other_file(module, was, new[module.name], same_release=same_release)
            yield from _signature(was, new[module.name], forced=forced)


def _other_file(
    module: Module, old: ModuleFile | None, new: ModuleFile, *, same_release: bool
) -> Iterator[Change]:
    version = module.version or (old.version if old else "")
    if version and new.version and version != new.version:
        yield _row(Area.MODULES, f"{module.name} version", version, new.version, Risk.CAUTION)
    elif same_release and _identity(module, old, new):
        yield _row(Area.MODULES, module.name, "as loaded", "rebuilt", Risk.CAUTION)
    if old:
        for name in sorted({*old.parameters} - {*new.parameters}):
            subject = f"{module.name} parameter {name}"
            yield _row(Area.MODULES, subject, "there", "gone", Risk.NOTICE)


def _identity(module: Module, old: ModuleFile | None, new: ModuleFile) -> bool:
    """Tell whether a file is surely another one than what is loaded (build-id, srcversion)."""
    pairs = (
        (module.build_id or (old.build_id if old else ""), new.build_id),
        (module.srcversion or (old.srcversion if old else ""), new.srcversion),
    )
    return any(then and now and then != now for then, now in pairs)


def _signature(old: ModuleFile | None, new: ModuleFile, *, forced: bool) -> Iterator[Change]:
    signed = bool(old and old.signed)
    if new.signed or not (signed or forced):
        return
    then = "signed" if signed else "not signed"
    why = SIGNED_ONLY if forced else ""
    risk = Risk.DANGER if forced else Risk.NOTICE
    yield _row(Area.MODULES, f"{new.name} signature", then, "not signed", risk, why)


def _drivers(before: BootDetail, after: BootDetail, use: InUse) -> Iterator[Change]:
    """Tell devices whose loaded driver answers no longer.

    A driver that is built in has no alias before Linux 6.17: where the loaded one is in the next
    kernel at all, it is there for its device.
    """
    if isinstance(use.modules, Unknown):
        return
    loaded = {module.name for module in use.modules}
    builtin = set(after.modules.builtin)
    old, new = _answers(before.modules.drivers), _answers(after.modules.drivers)
    for alias in sorted({*old} & {*new}):
        driving = [name for name in old[alias] if name in loaded]
        lost = [name for name in driving if name not in {*new[alias], *builtin}]
        # Names without a colon are modules that were looked up, told among the modules.
        if lost and ":" in alias and not alias.startswith(_CPU):
            risk = Risk.CAUTION if new[alias] else Risk.DANGER
            told = ", ".join(new[alias]) or "no driver"
            yield _row(Area.DRIVERS, alias, ", ".join(driving), told, risk)


def _dkms(before: BootDetail, after: BootDetail, use: InUse) -> Iterator[Change]:
    old, new = before.boot_set.release, after.boot_set.release
    if isinstance(use.dkms, Unknown):
        return
    built = {(package.name, package.release): package.version for package in use.dkms}
    for name in sorted({package.name for package in use.dkms}):
        then, now = built.get((name, old)), built.get((name, new))
        if then and not now:
            why = f"dkms has not built it for {new}"
            yield _row(Area.DKMS, name, then, "not built", Risk.CAUTION, why)
        elif then and now and then != now:
            yield _row(Area.DKMS, name, then, now, Risk.CAUTION)


# --- firmware ---------------------------------------------------------------------------------


def _firmware(
    before: BootDetail, after: BootDetail, loaded: tuple[Module, ...] | Unknown
) -> Iterator[Change]:
    old, new = dict(before.firmware.files), dict(after.firmware.files)
    differing = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    if not differing:
        return
    used = _found(old, before.boot_set.release, loaded)
    then = _found(new, after.boot_set.release, loaded)
    for path in differing:
        before_after = _contents(path, old, new, _instead(path, used, then))
        yield _row(Area.FIRMWARE, path, *before_after, *_risk_of(path, used, then))


def _contents(
    path: str, old: Mapping[str, str], new: Mapping[str, str], instead: str
) -> tuple[str, str]:
    if path not in old:
        return "absent", "new"
    if path in new:
        return old[path][:12], new[path][:12]
    return "there", f"gone, {instead} is taken" if instead else "gone"


def _instead(
    path: str, used: Mapping[str, str] | Unknown, then: Mapping[str, str] | Unknown
) -> str:
    """Name the file that the kernel takes where it took this one; empty where it takes none."""
    if isinstance(used, Unknown) or isinstance(then, Unknown):
        return ""
    return next((then[asked] for asked in used if used[asked] == path and asked in then), "")


def _risk_of(
    path: str, used: Mapping[str, str] | Unknown, then: Mapping[str, str] | Unknown
) -> tuple[Risk, str]:
    if isinstance(used, Unknown) or isinstance(then, Unknown):
        return Risk.CAUTION, NOT_KNOWN
    for asked, found in used.items():
        if found == path:
            return (Risk.CAUTION if asked in then else Risk.DANGER), USED
    return (Risk.CAUTION, USED) if path in then.values() else (Risk.NOTICE, "")


def _found(
    files: Mapping[str, str], release: str, loaded: tuple[Module, ...] | Unknown
) -> dict[str, str] | Unknown:
    """Find, for each name that a loaded module may ask for, the file that the kernel takes.

    It looks for the plain name in all folders before it looks for .zst, then .xz
    (drivers/base/firmware_loader/main.c: fw_path[], _request_firmware).
    """
    if isinstance(loaded, Unknown):
        return loaded
    found: dict[str, str] = {}
    for module in loaded:
        if isinstance(module.firmware, Unknown):
            return Unknown(f"{module.name}: {module.firmware.why}")
        for asked in module.firmware:
            place = next((path for path in _places(asked, release) if path in files), "")
            if place:
                found[asked] = place
    return found


def _places(asked: str, release: str) -> Iterator[str]:
    for ending in _COMPRESSIONS:
        for folder in (f"updates/{release}/", "updates/", f"{release}/", ""):
            yield f"{folder}{asked}{ending}"


# --- what the next start does beside ----------------------------------------------------------


def _ahead(ahead: Ahead, use: InUse) -> Iterator[Change]:
    if ahead.kexec_staged:
        why = "«systemctl reboot» may start that kernel; what it is cannot be told"
        yield _row(Area.LOADER, KEXEC, "nothing staged", "a kernel is staged", Risk.DANGER, why)
    if ahead.once:
        why = "it boots once; what is told here is for the boot after it"
        yield _row(Area.LOADER, ONE_SHOT, "none", f"«{ahead.once}»", Risk.DANGER, why)
    yield from _boot_next(ahead.boot_next)
    for name, running, stored in ahead.waiting:
        why = "trialboot cannot take it back"
        yield _row(Area.DEVICES, name, running, stored, Risk.CAUTION, why)
    yield from _settings(ahead.settings_then, ahead.settings_now, use.modules)


def _boot_next(boot_next: str | Unknown) -> Iterator[Change]:
    if boot_next and isinstance(boot_next, str):
        why = "UEFI starts it once, instead of this loader"
        yield _row(Area.LOADER, "UEFI BootNext", "this loader", boot_next, Risk.DANGER, why)


def _stale(release: str, younger: tuple[str, ...] | Unknown) -> Iterator[Change]:
    if isinstance(younger, Unknown) or not younger:
        return
    told = f"older than {', '.join(younger)}"
    yield _row(Area.INITRD, f"initrd of {release}", "up to date", told, Risk.CAUTION)


def _fallen_back(why: str) -> Iterator[Change]:
    if why:
        yield _row(Area.LOADER, "default", "an entry by name", "the first one", Risk.CAUTION, why)


def _settings(
    then: tuple[Setting, ...] | Unknown,
    now: tuple[Setting, ...] | Unknown,
    loaded: tuple[Module, ...] | Unknown,
) -> Iterator[Change]:
    if isinstance(then, Unknown) or isinstance(now, Unknown):
        return
    names = set() if isinstance(loaded, Unknown) else {module.name for module in loaded}
    old = {(setting.kind, setting.subject): setting for setting in then}
    new = {(setting.kind, setting.subject): setting for setting in now}
    for key in sorted({*old, *new}):
        was, then_set = old.get(key), new.get(key)
        if (was and was.value) == (then_set and then_set.value):
            continue
        kind, subject = key
        told = _values(kind, was, then_set)
        source = then_set.source if then_set else ""
        yield _row(
            Area.SETTINGS, f"{kind} {subject}", *told, _setting_risk(kind, subject, names), source
        )


def _setting_risk(kind: str, subject: str, loaded: set[str]) -> Risk:
    if kind == "blacklist":
        return _risk(subject.replace("-", "_") in loaded, Risk.CAUTION)
    return _risk(kind == "sysctl" and subject.startswith(_NETWORK_SETTINGS), Risk.CAUTION)


def _values(kind: str, was: Setting | None, now: Setting | None) -> tuple[str, str]:
    if kind != "file":
        return _value(was), _value(now)
    if was is None or now is None:
        return ("there", "gone") if was else ("absent", "new")
    return was.value[:12], now.value[:12]


def _value(setting: Setting | None) -> str:
    return "not set" if setting is None else setting.value or "set"
