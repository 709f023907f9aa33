"""What leaves a trial that stands still, and what starts a daemon that waits for too long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.unit.loaders.host_folder import OLD, SIMPLE, Node
from tests.unit.workers.standing import stand
from trialboot.core.facts import EntryId
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.loaders.grub import Grub
from trialboot.workers import late_start, standstill

REBOOT = "systemctl --force reboot"
START_ANYWAY = "systemctl start --no-block --job-mode=ignore-dependencies trialbootd.service"
LEAVE = "systemctl start --no-block trialboot-standstill.service"


@dataclass
class Systemd:
    """Answers systemctl, and remembers what it was asked to do."""

    beside: Callable[..., str]
    properties: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    dead: bool = False

    def __call__(self, argv: Sequence[str], **options: object) -> str:
        if argv[0] != "systemctl":
            return self.beside(argv, **options)
        if self.dead:
            raise HostError("«systemctl» ended with 1")
        if argv[1] != "show":
            self.done.append(" ".join(argv))
            return ""
        name, *unit = [word for word in argv[2:] if word != "--value"]
        return self.properties.get(" ".join([name.partition("=")[2], *unit]), "") + "\n"


@dataclass
class Standing:
    """A host on trial that came to a standstill, with a clock that is only counted."""

    node: Node
    systemd: Systemd
    waited: list[float] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    @property
    def host(self) -> Host:
        return replace(self.node.host, run=self.systemd, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.meanwhile()

    def leave(self) -> list[str]:
        standstill.work(self.host)
        return self.systemd.done


def line_of(node: Node, entry: str) -> str:
    """Give the command line that GRUB hands over for an entry."""
    found = next(known for known in Grub(node.host).state().entries if known.entry == entry)
    return f"BOOT_IMAGE={found.kernel} {found.arguments}"


@pytest.fixture
def standing(tmp_path: Path) -> Standing:
    """A candidate that has consumed its one-shot and came up in emergency mode."""
    node = stand(tmp_path)
    node.write("/proc/version", "Linux version 6.12.117-amd64 (x) (gcc) #1 SMP\n")
    node.write("/proc/cmdline", f"{line_of(node, SIMPLE)}\n")
    node.write("/proc/stat", "btime 1\n")
    node.write("/proc/uptime", "100.00 1.00\n")
    node.write("/proc/sys/kernel/random/boot_id", "b\n")
    node.write("/proc/sys/kernel/tainted", "0\n")
    return Standing(node, Systemd(node.mkconfig))


# --- leaving ------------------------------------------------------------------------------------


def test_it_says_how_to_stop_it_waits_and_reboots(
    standing: Standing, capsys: pytest.CaptureFixture[str]
) -> None:
    record = (standing.node.root / "var/lib/trialboot/decision.json").read_bytes()
    assert standing.leave() == [REBOOT]
    assert standing.waited == [standstill.GRACE]
    told = capsys.readouterr().out
    assert "in 60 s the machine reboots into the known-good" in told
    assert "systemctl stop trialboot-standstill.service" in told
    # Nothing is written: the known-good draws the conclusion.
    assert (standing.node.root / "var/lib/trialboot/decision.json").read_bytes() == record


def test_a_candidate_whose_initrd_and_menu_were_made_anew_is_left(standing: Standing) -> None:
    standing.node.write("/boot/initrd.img-6.12.117-amd64", "made anew")
    for file in ("boot/grub/grub.cfg", "proc/cmdline"):
        place = standing.node.root / file
        place.write_text(place.read_text().replace(" quiet panic=10", " panic=10"))
    assert standing.leave() == [REBOOT]


def test_what_changes_while_it_waits_is_heeded(
    standing: Standing, capsys: pytest.CaptureFixture[str]
) -> None:
    standing.meanwhile = lambda: standing.node.write(
        "/etc/trialboot/trialboot.toml", 'mode = "observe"\n'
    )
    assert standing.leave() == []
    assert "no reboot: trialboot is not armed" in capsys.readouterr().out


def _observe(standing: Standing) -> None:
    standing.node.write("/etc/trialboot/trialboot.toml", 'mode = "observe"\n')


def _odd_configuration(standing: Standing) -> None:
    standing.node.write("/etc/trialboot/trialboot.toml", "mode =\n")


def _no_record(standing: Standing) -> None:
    (standing.node.root / "var/lib/trialboot/decision.json").unlink()


def _odd_record(standing: Standing) -> None:
    standing.node.write("/var/lib/trialboot/decision.json", "{")


def _no_loader(standing: Standing) -> None:
    (standing.node.root / "boot/grub/grub.cfg").unlink()


def _once_more(standing: Standing) -> None:
    Grub(standing.node.host).boot_once(EntryId(SIMPLE))


def _damaged(standing: Standing) -> None:
    for kernel in standing.node.root.glob("boot/trialboot/*/vmlinuz"):
        kernel.write_text("damaged")


def _up(standing: Standing) -> None:
    standing.systemd.properties["FinishTimestampMonotonic"] = "123"


def _target_reached(standing: Standing) -> None:
    """As while trialboot-boot-check.service waits for the verdict."""
    name = "ActiveEnterTimestampMonotonic default.target"
    standing.systemd.properties.update({name: "123", "FinishTimestampMonotonic": "0"})


def _no_systemd(standing: Standing) -> None:
    standing.systemd.dead = True


def _judged(standing: Standing) -> None:
    standing.systemd.properties["ActiveState trialbootd.service"] = "active"


def _password(standing: Standing) -> None:
    standing.node.write("/run/systemd/ask-password/ask.x", "[Ask]\n")


def _strange_block(standing: Standing) -> None:
    block = standing.node.root / "boot/grub/grubenv"
    block.unlink()
    block.mkdir()


def _another_picked(standing: Standing) -> None:
    """In ARMED or TRIAL: the known-good ended in emergency mode too, and nothing was concluded."""
    standing.node.write("/proc/version", "Linux version 6.1.0-56-amd64 (x) (gcc) #1 SMP\n")
    standing.node.write("/proc/cmdline", f"{line_of(standing.node, OLD)}\n")


def _line_edited(standing: Standing) -> None:
    standing.node.write("/proc/cmdline", f"{line_of(standing.node, SIMPLE)} nomodeset\n")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_observe, "trialboot is not armed"),
        (_odd_configuration, "trialboot.toml"),
        (_no_record, "there is no record"),
        (_odd_record, "the record cannot be read"),
        (_no_loader, "the boot loader cannot be read"),
        (_strange_block, "the boot loader cannot be read"),
        (_once_more, "is to be booted once more"),
        (_damaged, "the known-good is not whole"),
        (_up, "this boot had come up"),
        (_target_reached, "this boot had come up"),
        (_no_systemd, "ended with 1"),
        (_judged, "trialbootd runs"),
        (_password, "a password is asked for"),
        (_another_picked, f"«{OLD}» runs, which is not on trial"),
        (_line_edited, "what runs is not known to be the candidate"),
    ],
)
def test_where_something_speaks_against_it_it_says_so_and_does_nothing(
    standing: Standing,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Standing], None],
    why: str,
) -> None:
    change(standing)
    assert standing.leave() == []
    assert standing.waited == []
    assert why in capsys.readouterr().out


# --- starting late ------------------------------------------------------------------------------


def late(standing: Standing, **properties: str) -> list[str]:
    names = {
        "daemon": "ActiveState trialbootd.service",
        "job": "Job trialbootd.service",
        "base": "ActiveState sysinit.target",
        "finished": "FinishTimestampMonotonic",
    }
    standing.systemd.properties = {names[key]: value for key, value in properties.items()}
    late_start.work(standing.host)
    return standing.systemd.done


def test_a_daemon_that_waits_for_others_is_started_past_them(standing: Standing) -> None:
    assert late(standing, daemon="inactive", job="12", base="active") == [START_ANYWAY]


@pytest.mark.parametrize(
    "properties",
    [
        {"daemon": "active", "job": "", "base": "active"},
        # The operator stopped it, or it has died.
        {"daemon": "inactive", "job": "", "base": "active", "finished": "0"},
        # Its record is on a file system that is still waited for.
        {"daemon": "inactive", "job": "12", "base": "inactive", "finished": "0"},
    ],
)
def test_else_nothing_is_done_early_in_a_boot(
    standing: Standing, properties: dict[str, str]
) -> None:
    assert late(standing, **properties) == []


@pytest.mark.parametrize("base", ["active", "inactive"])
def test_a_boot_that_never_ends_stands_still(standing: Standing, base: str) -> None:
    standing.node.write("/proc/uptime", "1801.00 1.00\n")
    assert late(standing, daemon="failed", base=base, finished="0") == [LEAVE]


@pytest.mark.parametrize("finished", ["123", ""])
def test_one_that_has_ended_does_not_however_long_it_is_up(
    standing: Standing, finished: str
) -> None:
    standing.node.write("/proc/uptime", "1801.00 1.00\n")
    standing.systemd.dead = not finished
    if finished:
        assert late(standing, daemon="failed", base="active", finished=finished) == []
    else:
        late_start.work(standing.host)
        assert standing.systemd.done == []
