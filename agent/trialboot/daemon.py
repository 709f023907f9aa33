"""The resident daemon: it holds the trial, starts the workers and does what was decided.

Everything that reads hardware, netlink, firmware or the API server happens in oneshot units; this
process only waits for file descriptors. Restarting it at any instant loses nothing.
"""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from trialboot import journal, report
from trialboot.bus import Bus, Manager
from trialboot.config import Config, Mode, read_config
from trialboot.core.actions import Action, ForgetOnce, Keep, Mend, PinKnownGood, Unpin
from trialboot.core.facts import BootId, Unknown
from trialboot.core.node import Wish
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.reboot import against_reboot
from trialboot.core.trial import (
    AT_REST,
    Allowed,
    Booted,
    Damaged,
    Decision,
    Event,
    Judged,
    Phase,
    Policy,
    Retried,
    Seen,
    Trial,
    Unkept,
)
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import HostError, TrialbootError, VaultError
from trialboot.host import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    Host,
    watch_folders,
)
from trialboot.jobs import Jobs
from trialboot.judging import Judging
from trialboot.loop import Loop
from trialboot.packageruns import PackageRuns
from trialboot.readers import kernel
from trialboot.trial import advance, finish
from trialboot.writers import power, store

SNAPSHOT: Final = "trialboot-snapshot.service"
VERIFY: Final = "trialboot-verify.service"
PIN: Final = "trialboot-pin.service"
NODE: Final = "trialboot-node.service"
RENDER: Final = "trialboot-render.service"

QUIET_AFTER_PACKAGES: Final = 5.0
"""Seconds after its end in which a package run may go on: some make many cycles."""
LOOK_FOR_THE_DEAD: Final = 30.0
"""Seconds between two looks whether a package run that told no end is still alive."""
STIRRED_AT_MOST: Final = 120.0
"""Seconds for which files that change again and again put a snapshot off."""
_RENAMED: Final = IN_MOVED_TO
_WRITTEN: Final = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
WATCHED: Final = {
    # dpkg and rpm, for tools that run none of our hooks; dpkg renames its status file.
    "/var/lib/dpkg": _RENAMED,
    "/var/lib/rpm": IN_CLOSE_WRITE,
    "/usr/lib/sysimage/rpm": IN_CLOSE_WRITE,
    # What boot loaders read, whoever writes it.
    "/boot": _WRITTEN,
    "/boot/grub": _WRITTEN,
    "/boot/grub2": _WRITTEN,
    "/boot/loader": _WRITTEN,
    "/boot/loader/entries": _WRITTEN,
}
"""Folders whose changes ask for a snapshot, and which changes (inotify(7))."""
SNAPSHOT_AT_MOST: Final = 330.0
"""Seconds that a snapshot may take: the unit's own limit, and some. Its end may be lost."""
RENDER_AFTER: Final = 10.0
"""Seconds: one metrics page for a burst of changes."""
PIN_LIMIT: Final = 900.0
LAST_WORD: Final = 20.0
"""Seconds that a rollback waits for the API server to hear why."""
RETRY_FIRST, RETRY_MOST = 5.0, 300.0
NODE_MOST: Final = 60.0
"""Seconds between two tries to reach the API server, at the most."""
WATCHDOG: Final = 60.0


class Daemon:
    """The whole state of the process: one trial, its timers, and the units under way."""

    def __init__(self, host: Host, bus: Bus) -> None:
        self._host = host
        self._bus = bus
        self._config: Config = read_config(host)
        self.boot: BootId = kernel.read_boot_id(host)
        self._decision: Decision = store.load_decision(host)
        self._outlook: Outlook | None = None
        self._trouble: dict[str, str] = {}
        self._counters = _load_counters(host)
        self._loop = Loop(host)
        self._jobs = Jobs(host, bus, self._loop)
        self._judging = Judging(
            host, self._loop, start=lambda: self._start(VERIFY), held=self._holds_back
        )
        self._node_wait = RETRY_FIRST
        self._runs = PackageRuns(host, self.boot)
        self._stirred = 0.0
        self._files = -1
        self._pinning = False
        self._only_to_tell = False
        self._looking_until = 0.0
        self._look_again = False
        self._disturbed = False
        self._news = False
        self._stale = False
        self._stopping = False

    # --- life

    def run(self) -> None:
        """Work until told to stop."""
        self._open()
        self._write_state()
        journal.tell_supervisor("READY=1")
        self._finish()
        self._deliver()  # what an earlier boot wished and could not say
        self._look()
        while not self._stopping:
            self._turn()
        self._write_state()
        self._loop.close()

    def _open(self) -> None:
        self._bus.own_name()
        self._jobs.listen()
        self._manager = Manager(self._bus.connection, self._status, self._ask)
        self._loop.watch(self._bus.fileno(), lambda: None)
        self._loop.watch_signals(
            {
                signal.SIGTERM: self._stop,
                signal.SIGHUP: lambda: self._loop.set_timer("reload", 0),
            }
        )
        self._watch_files()
        self._loop.set_timer("watchdog", WATCHDOG)

    def _watch_files(self) -> None:
        host = self._host
        try:
            spool = watch_folders({host.path(store.SPOOL): IN_MOVED_TO})
            self._loop.drain(spool, self._take_notes)
        except HostError as error:
            self._trouble["spool"] = f"{error}; package runs are only seen at the next start"
        there = {host.path(path): mask for path, mask in WATCHED.items() if host.exists(path)}
        try:
            if there:
                self._files = watch_folders(there)
                self._loop.drain(self._files, self._stir)
        except HostError as error:
            self._trouble["files"] = f"{error}; changes without a package run are seen later"
        self._loop.set_timer("spool", 0)

    def _stop(self) -> None:
        self._stopping = True

    def _turn(self) -> None:
        """One turn of the loop: do what is due, hear what has arrived, then sleep."""
        self._act_on_timers()
        self._act_on_jobs()
        # Last of all: what came during a blocking call is queued in libdbus and wakes nobody.
        self._bus.pump()
        if not self._stopping:
            self._rest()

    def _rest(self) -> None:
        if self._jobs.any_ended():
            self._loop.wait(0.0)
        else:
            self._loop.sleep()

    def _act_on_timers(self) -> None:
        handlers: dict[str, Callable[[], object]] = {
            "watchdog": self._ping,
            "snapshot": self._look,
            "tell": self._look_to_tell,
            "verify": self._judging.begin,
            "network": self._judging.begin_at_rest,
            "node": self._deliver,
            "finish": self._finish,
            "retry": lambda: self._operator(Retried(at=self._now())),
            "allow": lambda: self._operator(Allowed(at=self._now())),
            "reload": self._reload,
            "render": lambda: self._start(RENDER),
            "spool": self._take_notes,
            "packages": self._look_for_the_dead,
        }
        for name in self._loop.take_due():
            handlers[name]()

    def _ping(self) -> None:
        journal.tell_supervisor("WATCHDOG=1")
        self._loop.set_timer("watchdog", WATCHDOG)

    # --- workers

    def _start(self, unit: str) -> bool:
        """Queue a unit's start; tell whether systemd took it."""
        try:
            self._jobs.start(unit)
        except HostError as error:
            self._note_trouble(unit, str(error))
            return False
        return True

    def _look(self) -> None:
        """Have a snapshot taken; one that is under way may have missed what asks for this one."""
        if self._is_looking():
            self._look_again = True
            return
        self._disturbed, self._news = bool(self._runs.manager), False
        if self._start(SNAPSHOT):
            self._looking_until = self._host.monotonic() + SNAPSHOT_AT_MOST
        else:
            self._loop.set_timer("snapshot", RETRY_MOST)

    def _is_looking(self) -> bool:
        return self._host.monotonic() < self._looking_until

    def _act_on_jobs(self) -> None:
        handlers = {
            SNAPSHOT: self._snapshot_done,
            VERIFY: self._verify_done,
            NODE: self._node_done,
        }
        ended = self._jobs.take_ended()
        for unit, result in ended.items():
            if unit in handlers:
                handlers[unit](result)
        stirring = self._judging.hear(ended, self._config.verify.units)
        if stirring:
            journal.noted(f"a job of {stirring} has ended: the network is verified once it rests")

    def _snapshot_done(self, result: str) -> None:
        only_to_tell, self._only_to_tell = self._only_to_tell, False
        self._looking_until = 0.0
        if self._look_again:
            self._look_again = False
            self._loop.set_timer("snapshot", 0)
        outlook = store.load(self._host, store.OUTLOOK, Outlook)
        if result != "done" or not isinstance(outlook, Outlook):
            self._worker_failed("snapshot", result, outlook)
            self._loop.set_timer("snapshot", RETRY_MOST)
            self._judging.begin_first()
            return
        self._trouble.pop("snapshot", None)
        self._outlook = outlook
        if not only_to_tell:
            self._tell_booted(outlook)
        if not only_to_tell and not self._disturbed:
            self._advance_by(outlook)
        self._judging.begin_first()
        self._write_state()
        if only_to_tell:
            report.write_notice(self._host, self._state())

    def _tell_booted(self, outlook: Outlook) -> None:
        self._advance(
            Booted(
                at=outlook.taken_at,
                boot=outlook.boot,
                running=outlook.running,
                once_pending=outlook.once_pending,
            )
        )

    def _advance_by(self, outlook: Outlook) -> None:
        """Decide by what was seen while no package run was at work: half-way it is neither."""
        at = outlook.taken_at
        self._stale = self._news
        self._check_controlled(outlook)
        self._mend(outlook)
        self._advance(Seen(at=at, wanted=outlook.wanted))
        self._settle_packages(outlook)

    def _check_controlled(self, outlook: Outlook) -> None:
        if outlook.controlled or self._config.mode is Mode.OBSERVE:
            self._trouble.pop("loader", None)
            return
        why = "armed by the configuration, but its menu is read and not controlled yet: observed"
        self._note_trouble("loader", why)

    @property
    def _mode(self) -> Mode:
        """What the operator chose, where the boot loader is one that may be written."""
        controlled = self._outlook is None or self._outlook.controlled
        return self._config.mode if controlled else Mode.OBSERVE

    @property
    def _policy(self) -> Policy:
        return replace(self._config.policy, armed=self._mode is Mode.ARMED)

    def _mend(self, outlook: Outlook) -> None:
        """Say loudly that the known-good is not whole, and have it mended."""
        if not outlook.damage:
            self._trouble.pop("known-good", None)
            self._trouble.pop("mending", None)
            return
        self._note_trouble("known-good", f"it is not whole: {'; '.join(outlook.damage)}")
        self._advance(Damaged(at=outlook.taken_at, why=outlook.damage))

    def _holds_back(self) -> bool:
        """Tell whether a verification has to wait: for a package run, if no trial waits for it.

        A run changes the network half-way. The first verdict on a boot, and each one that could
        end a trial, is waited for by a node without pods: those are not put off.
        """
        trial = self._decision.trial
        judged = trial.boot == self.boot and trial.judged is not None
        return judged and trial.phase in AT_REST and (bool(self._runs.manager) or self._news)

    def _verify_done(self, result: str) -> None:
        judgement = store.load(self._host, store.JUDGEMENT, Judgement)
        if result != "done" or not isinstance(judgement, Judgement):
            why = self._worker_failed("verify", result, judgement)
            judgement = self._no_judgement(why)
        else:
            self._trouble.pop("verify", None)
        self._advance(Judged(at=judgement.at, boot=judgement.boot, verdict=judgement.verdict))
        journal.judged(self._decision.trial)
        self._judging.end(self._config.verify.repeat_seconds)
        if not self._runs.manager:
            self._look()

    def _no_judgement(self, why: str) -> Judgement:
        verdict = Verdict(outcome=Outcome.UNSURE, reasons=(f"this boot was not judged: {why}",))
        return Judgement(boot=self.boot, at=self._now(), verdict=verdict)

    def _worker_failed(self, worker: str, result: str, found: object) -> str:
        told = store.load(self._host, store.trouble_of(worker), store.Trouble)
        why = f"the worker ended: {result}"
        if isinstance(told, store.Trouble) and result != "done":
            why = told.why
        if isinstance(found, Unknown):
            why = found.why
        self._note_trouble(worker, why)
        return why

    # --- the trial

    def _advance(self, event: Event) -> None:
        self._finish()
        if self._decision.todo:
            return  # what was decided comes first; «finish» tries again, then a new snapshot
        before = self._decision.trial
        self._do(lambda: advance(before, event, self._policy, self))
        self._moved(before)

    def _finish(self) -> None:
        """Perform the rest of a decision, after a power cut or after a hand failed."""
        if not self._decision.todo:
            return
        before = self._decision.trial
        if self._do(lambda: finish(self._decision, self)):
            self._loop.set_timer("snapshot", 0)
        self._moved(before)

    def _do(self, work: Callable[[], Decision]) -> bool:
        """Decide or perform; tell whether all of it went well."""
        try:
            self._decision = work()
        except VaultError as error:
            if not _keeps(self._decision):
                return self._unfinished(error)
            # What cannot be kept is not waited for: the record goes back to what is pinned.
            self._note_trouble("vault", str(error))
            return self._give_up(error)
        except TrialbootError as error:
            return self._unfinished(error)
        self._trouble.pop("decision", None)
        if self._decision.trial.pinned:
            self._trouble.pop("vault", None)
        return True

    def _give_up(self, error: VaultError) -> bool:
        event = Unkept(at=self._now(), boot=self.boot, why=str(error))
        try:
            self._decision = advance(self._decision.trial, event, self._policy, self)
        except TrialbootError as second:
            return self._unfinished(second)
        return False

    def _unfinished(self, error: TrialbootError) -> bool:
        self._note_trouble("decision", f"{error}; tried again every {RETRY_MOST:.0f} s")
        self._loop.set_timer("finish", RETRY_MOST)
        return False

    def _moved(self, before: Trial) -> None:
        after = self._decision.trial
        if before.phase is not after.phase:
            journal.stepped(before, after)
            self._count(_end_of(before, after))
        self._write_state()

    # --- what trial.Hands asks for

    def save(self, decision: Decision) -> None:
        """Remember durably."""
        store.save_decision(self._host, decision)
        self._decision = decision

    def pin(self, decision: Decision, actions: Sequence[Action]) -> None:
        """Let the pin worker perform the leading actions of the decision on disk."""
        del decision  # it reads them from the record: the same after a power cut
        giving_back = all(isinstance(action, ForgetOnce | Unpin) for action in actions)
        if self._mode is Mode.OBSERVE and not giving_back:
            journal.noted("not pinning, for the operator chose to observe meanwhile")
            return  # the next look gives back what the record says is pinned
        result = self._run_pin()
        if result != "done":
            error = _pin_error(
                store.load(self._host, store.trouble_of("pin"), store.Trouble), result
            )
            if any(isinstance(action, Mend) for action in actions):
                self._note_trouble("mending", f"{error}; tried again with the next snapshot")
            raise error

    def _run_pin(self) -> str:
        """Run the pin worker; what it writes to /boot is no news."""
        self._pinning = True
        try:
            return self._jobs.run(PIN, PIN_LIMIT)
        finally:
            self._pinning = False
            if self._files >= 0:
                self._loop.forget(self._files)

    def tell(self, wish: Wish) -> None:
        """Remember the wish; the node worker delivers it as soon as it can."""
        store.save_wish(self._host, wish)
        self._node_wait = RETRY_FIRST
        self._loop.set_timer("node", 0)

    def reboot(self, why: str) -> None:
        """Restart the machine through logind."""
        if self._mode is Mode.OBSERVE:
            journal.noted(f"not rebooting, for the operator chose to observe meanwhile: {why}")
            return
        journal.noted(f"rebooting into the known-good: {why}")
        self._say_last_word()
        self._count("reboots")
        power.reboot(self._host)

    def _say_last_word(self) -> None:
        """Tell the cluster before the node goes away, as far as it listens; never insist."""
        if not self._config.node.enabled or store.is_delivered(self._host):
            return
        try:
            self._jobs.run(NODE, LAST_WORD)
        except HostError as error:
            self._note_trouble("node", str(error))

    # --- the cluster

    def _deliver(self) -> None:
        if self._config.node.enabled and not store.is_delivered(self._host):
            self._start(NODE)

    def _node_done(self, result: str) -> None:
        if store.is_delivered(self._host):
            self._trouble.pop("node", None)
            self._node_wait = RETRY_FIRST
        else:
            self._worker_failed("node", result, None)
            self._loop.set_timer("node", self._node_wait)
            self._node_wait = min(2 * self._node_wait, NODE_MOST)
        self._write_state()

    # --- packages and the operator

    def _take_notes(self) -> None:
        """Hear the hooks: half-way through a run, boot files are neither the old nor the new."""
        try:
            heard = self._runs.take_notes()
        except TrialbootError as error:
            self._note_trouble("transactions", str(error))
            self._loop.set_timer("spool", RETRY_MOST)
            return
        if self._runs.trouble:
            self._note_trouble("transactions", self._runs.trouble)
        self._count("transactions", heard.ends)
        if heard.any:
            self._disturbed = self._news = self._stale = True
        if self._runs.manager:
            self._loop.cancel("snapshot")
            self._loop.set_timer("packages", LOOK_FOR_THE_DEAD)
        elif heard.any:
            self._loop.set_timer("snapshot", QUIET_AFTER_PACKAGES)
        if heard.touches_boot:
            # Whoever waits at the terminal is told at once; what follows waits for quiet.
            self._loop.set_timer("tell", 0)
        if heard.any:
            self._write_state()

    def _look_to_tell(self) -> None:
        """Have a snapshot taken that decides nothing; not beside another one."""
        if self._is_looking():
            self._look_again = True
            return
        self._look()
        self._only_to_tell = self._is_looking()

    def _look_for_the_dead(self) -> None:
        try:
            over = self._runs.look_for_the_dead()
        except TrialbootError as error:
            self._note_trouble("transactions", str(error))
            over = False
        if over:
            self._news = self._stale = True
            self._loop.set_timer("snapshot", QUIET_AFTER_PACKAGES)
            self._write_state()
        elif self._runs.manager:
            self._loop.set_timer("packages", LOOK_FOR_THE_DEAD)

    def _stir(self) -> None:
        """Files of packages or boot loaders changed: look once they have come to rest."""
        if self._pinning or self._runs.manager:
            return  # the end of a run is told, or its death is seen
        self._news = self._stale = True
        now = self._host.monotonic()
        if not self._loop.is_set("snapshot"):
            self._stirred = now
        if now - self._stirred < STIRRED_AT_MOST:
            self._loop.set_timer("snapshot", QUIET_AFTER_PACKAGES)

    def _settle_packages(self, outlook: Outlook) -> None:
        try:
            ended = self._runs.settle(outlook, self._now())
        except TrialbootError as error:
            self._note_trouble("transactions", str(error))
            return
        if ended:
            journal.transacted(ended, outlook.sentence)
            self._judging.ask()

    def _ask(self, wish: str) -> None:
        # The bus is also heard while the pin worker is waited for, in the middle of a decision.
        self._loop.set_timer(wish, 0)

    def _operator(self, event: Retried | Allowed) -> None:
        self._advance(event)
        self._loop.set_timer("snapshot", 0)

    def _reload(self) -> None:
        try:
            self._config = read_config(self._host)
            self._trouble.pop("configuration", None)
        except TrialbootError as error:
            # What was read before stays in force.
            self._note_trouble("configuration", str(error))
            return
        self._judging.ask()
        self._loop.set_timer("snapshot", 0)

    # --- what others see

    def _now(self) -> str:
        return self._host.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _note_trouble(self, source: str, text: str) -> None:
        if self._trouble.get(source) != text:
            journal.trouble(f"{source}: {text}")
        self._trouble[source] = text
        self._write_state()

    def _count(self, name: str, by: int = 1) -> None:
        if name and by:
            self._counters[name] = self._counters.get(name, 0) + by
            store.save(self._host, store.COUNTERS, tuple(self._counters.items()))

    def _status(self) -> str:
        return json.dumps(self._state(), ensure_ascii=False)

    def _state(self) -> dict[str, object]:
        wish, delivered = store.load_wish(self._host), store.load_delivered(self._host)
        return report.state_of(
            report.View(
                at=self._now(),
                mode=str(self._mode),
                trial=self._decision.trial,
                outlook=self._outlook,
                wished_cordon=isinstance(wish, Wish) and wish.cordoned,
                delivered=delivered if isinstance(delivered, store.Delivered) else None,
                waiting=self._config.node.enabled and not store.is_delivered(self._host),
                trouble=tuple(f"{name}: {text}" for name, text in self._trouble.items()),
                counters=self._counters,
                against_reboot=against_reboot(
                    self._decision.trial,
                    self._outlook,
                    package_run=self._runs.manager,
                    unfinished=bool(self._decision.todo),
                    stale=self._stale,
                ),
                transactions=self._runs.journal,
                being_kept=any(
                    isinstance(action, Keep) and action.boot_set == self._decision.trial.known_good
                    for action in self._decision.todo
                ),
            )
        )

    def _write_state(self) -> None:
        report.write_state(self._host, self._state())
        self._loop.set_timer("render", RENDER_AFTER)


_END: Final = {
    (Phase.TRIAL, Phase.CONDEMNED): "condemned",
    (Phase.ARMED, Phase.CONDEMNED): "condemned",
    (Phase.CONDEMNED, Phase.RECOVERED): "recovered",
    (Phase.CONDEMNED, Phase.STRANDED): "stranded",
}


def _pin_error(told: store.Trouble | Unknown | None, result: str) -> TrialbootError:
    """Raise again what the pin worker raised, as far as it matters which error it was."""
    if not isinstance(told, store.Trouble):
        return HostError(f"{PIN} ended: {result}")
    return VaultError(told.why) if told.kind == "VaultError" else HostError(told.why)


def _keeps(decision: Decision) -> bool:
    """Tell whether the vault is asked for a boot set; for a rollback it is not."""
    return any(isinstance(action, Keep | PinKnownGood) for action in decision.todo)


def _end_of(before: Trial, after: Trial) -> str:
    """Name the end of a trial for the counters; empty where the move is none."""
    if before.phase is Phase.TRIAL and after.phase is Phase.STEADY:
        return "blessed" if after.pinned else ""
    return _END.get((before.phase, after.phase), "")


def _load_counters(host: Host) -> dict[str, int]:
    found = store.load(host, store.COUNTERS, tuple[tuple[str, int], ...])
    return dict(found) if isinstance(found, tuple) else {}


def main() -> int:
    """Run the daemon; the exit code is the error's own."""
    journal.open_journal()
    host = Host()
    try:
        daemon = Daemon(host, Bus())
        mode = read_config(host).mode
        journal.noted(f"mode {mode}{': nothing will be changed' if mode is Mode.OBSERVE else ''}")
        daemon.run()
    except TrialbootError as error:
        journal.trouble(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
