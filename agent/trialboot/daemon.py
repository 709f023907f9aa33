"""The resident daemon: it holds the trial, starts the workers and does what was decided.

Everything that reads hardware, netlink, firmware or the API server happens in oneshot units; this
process only waits for file descriptors. Restarting it at any instant loses nothing. Its parts are
in `resident`; here they are wired together, and told what has ended and what is due.
"""

import signal
import sys
from collections.abc import Callable
from typing import Final

from trialboot import journal
from trialboot.bus import Bus, Manager
from trialboot.config import Mode, read_config
from trialboot.core.actions import Keep
from trialboot.core.node import Wish
from trialboot.core.outlook import Judgement, Outlook
from trialboot.core.reboot import against_reboot
from trialboot.core.trial import AT_REST, Allowed, Event, Judged, Retried
from trialboot.core.verdict import Outcome, Verdict
from trialboot.errors import TrialbootError
from trialboot.host import Host
from trialboot.loop import Loop
from trialboot.readers.kernel import read_uptime
from trialboot.report import View
from trialboot.resident.conduct import NODE, TRY_AGAIN, Conduct
from trialboot.resident.jobs import CANCELED, Jobs
from trialboot.resident.judging import APART, Judging
from trialboot.resident.looking import SNAPSHOT, Looking
from trialboot.resident.telling import Telling
from trialboot.writers import store

BOOT_CHECK: Final = "trialboot-boot-check.service"
VERIFY: Final = "trialboot-verify.service"
KEEP_OBJECTS: Final = "trialboot-keep-objects.service"
"""Keeps what the CNI has compiled, for the load test of the next boot; minds its own business."""
RENDER: Final = "trialboot-render.service"
WATCHDOG: Final = 60.0


class Daemon:
    """The whole process: its loop, and who does what in it."""

    def __init__(self, host: Host, bus: Bus) -> None:
        self._host = host
        self._bus = bus
        self._stopping = False
        self._blind = False
        """The verification that is under way may have begun before it was known what runs."""
        self._stopped_before = False
        """The verification before this one was stopped by somebody."""
        config = read_config(host)
        self._loop = loop = Loop(host)
        self._telling = telling = Telling(host, loop, self._view)
        self._jobs = jobs = Jobs(host, bus, loop, telling)
        self._looking = looking = Looking(host, loop, jobs=jobs, telling=telling)
        self._conduct = Conduct(
            host,
            loop,
            jobs=jobs,
            looking=looking,
            telling=telling,
            config=config,
            stopping=lambda: self._stopping,
        )
        self._judging = Judging(
            host,
            loop,
            start=self._start_verification,
            held=self._holds_back,
            early=self._time_to_start,
        )

    # --- life

    def run(self) -> None:
        """Work until told to stop."""
        self._open()
        self._telling.write()
        journal.tell_supervisor("READY=1")
        self._conduct.finish()
        self._conduct.deliver()  # what an earlier boot wished and could not say
        self._looking.look()
        while not self._stopping:
            self._turn()
        self._telling.write()
        self._loop.close()

    def _open(self) -> None:
        self._bus.own_name()
        self._jobs.listen()
        self._bus.watch_start(self._judging.hear_of_the_start)
        self._manager = Manager(self._bus.connection, self._telling.status, self._ask)
        self._loop.watch(self._bus.fileno(), lambda: None)
        self._loop.watch_signals(
            {
                signal.SIGTERM: self._stop,
                signal.SIGHUP: lambda: self._loop.set_timer("reload", 0),
            }
        )
        self._looking.watch()
        self._loop.set_timer("watchdog", WATCHDOG)

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
            "snapshot": self._looking.look,
            "tell": self._looking.look_to_tell,
            "spool": self._looking.take_notes,
            "packages": self._looking.look_for_the_dead,
            "verify": self._judging.begin,
            "network": self._judging.begin_at_rest,
            "node": self._conduct.deliver,
            "finish": self._conduct.finish,
            "retry": lambda: self._operator("retry", Retried(at=self._conduct.now())),
            "allow": lambda: self._operator("allow", Allowed(at=self._conduct.now())),
            "reload": self._reload,
            "render": lambda: self._jobs.start(RENDER),
        }
        for name in self._loop.take_due():
            handlers[name]()

    def _ping(self) -> None:
        journal.tell_supervisor("WATCHDOG=1")
        self._loop.set_timer("watchdog", WATCHDOG)

    # --- workers that have ended

    def _act_on_jobs(self) -> None:
        handlers = {
            SNAPSHOT: self._snapshot_done,
            VERIFY: self._verify_done,
            NODE: self._conduct.end_delivery,
        }
        ended = self._jobs.take_ended()
        for unit, result in ended.items():
            if unit in handlers:
                handlers[unit](result)
        stirring = self._judging.hear(ended, self._conduct.config.verify.units)
        if stirring:
            journal.noted(f"a job of {stirring} has ended: the network is verified once it rests")

    def _snapshot_done(self, result: str) -> None:
        only_to_tell = self._looking.end()
        outlook = store.load(self._host, store.OUTLOOK, Outlook)
        if result != "done" or not isinstance(outlook, Outlook):
            self._telling.note_worker("snapshot", result, outlook)
            self._looking.look_later()
            self._judging.begin_first()
            return
        self._telling.clear("snapshot")
        self._conduct.outlook = outlook
        knew = self._conduct.knows_what_runs
        if not only_to_tell and not self._conduct.learn_boot(outlook):
            return
        if self._conduct.knows_what_runs and not knew:
            self._judging.ask_again()
        if not only_to_tell and not self._looking.disturbed:
            self._decide_by(outlook)
        self._judging.begin_first()
        self._telling.write()
        if only_to_tell:
            self._telling.write_notice()

    def _decide_by(self, outlook: Outlook) -> None:
        """Decide by what was seen while no package run was at work: half-way it is neither."""
        self._looking.accept()
        self._conduct.learn_next(outlook)
        ended = self._looking.settle(outlook, self._conduct.now())
        if ended:
            journal.transacted(ended, outlook.sentence)
            self._judging.ask()

    def _verify_done(self, result: str) -> None:
        found = store.load(self._host, store.JUDGEMENT, Judgement)
        judgement = found if result == "done" and isinstance(found, Judgement) else None
        if not _is_sound(judgement) and self._jobs.end_with_the_system():
            # It was stopped, or saw the network go away. The next one counts: in this boot if
            # the end of the system is called off.
            journal.noted("the system goes down: what was being verified is not judged")
            self._put_off()
            return
        if judgement is None:
            why = self._telling.note_worker("verify", result, found)
            if self._is_tried_again(result):
                self._put_off()
                return
            judgement = self._no_judgement(why)
        else:
            self._telling.clear("verify")
        self._stopped_before = False
        if self._blind and self._conduct.knows_what_runs and self._is_trial_on():
            journal.noted("what runs was not known when this verification began: once more")
            store.forget_judgement(self._host)
            self._judging.end(0)
            return
        self._judge(judgement)
        # A package run may take for ever; a trial that is not known to be one, too.
        if not self._looking.manager or not self._conduct.knows_what_runs:
            self._looking.look()

    def _is_tried_again(self, result: str) -> bool:
        """Tell whether a verification that gave no verdict is not held against this boot yet.

        Whoever stopped it says nothing about the network; who goes on to, has a reason. Why the
        worker failed (a slip in contract.toml) may be mended until the deadline.
        """
        if result == CANCELED:
            first, self._stopped_before = not self._stopped_before, True
            return first
        deadline = self._conduct.config.verify.deadline_seconds
        return self._is_trial_on() and read_uptime(self._host) < deadline

    def _is_trial_on(self) -> bool:
        return self._conduct.decision.trial.phase not in AT_REST

    def _put_off(self) -> None:
        """Let a verification not count; boot-check, too, waits for the next one."""
        store.forget_judgement(self._host)
        self._judging.end(APART)

    def _judge(self, judgement: Judgement) -> None:
        self._conduct.advance(
            Judged(at=judgement.at, boot=judgement.boot, verdict=judgement.verdict)
        )
        journal.judged(self._conduct.decision.trial)
        self._judging.end(self._conduct.config.verify.repeat_seconds)
        if _is_sound(judgement):
            self._jobs.start(KEEP_OBJECTS)

    def _no_judgement(self, why: str) -> Judgement:
        verdict = Verdict(outcome=Outcome.UNSURE, reasons=(f"this boot was not judged: {why}",))
        return Judgement(boot=self._conduct.boot, at=self._conduct.now(), verdict=verdict)

    def _holds_back(self) -> bool:
        """Tell whether a verification has to wait: for a package run, if no trial waits for it.

        A run changes the network half-way. The first verdict on a boot, and each one that could
        end a trial, is waited for by a node without pods: those are not put off.
        """
        return self._conduct.may_wait and self._looking.unrest

    def _start_verification(self) -> bool:
        # One that an earlier daemon began goes on, and may have begun blind.
        self._blind = not self._conduct.knows_what_runs or self._jobs.is_running(VERIFY)
        return self._jobs.start(VERIFY)

    def _time_to_start(self) -> float:
        """Give the seconds for which the first verification lets the start of the system end.

        No verdict comes before `minimum_settle_seconds` of uptime anyway: at most the settling is
        later. What waits for a verdict is part of the start, and would be waited for in vain.
        """
        if not self._jobs.is_starting() or self._jobs.is_running(BOOT_CHECK):
            return 0.0
        settled = self._conduct.config.verify.minimum_settle_seconds
        return settled - read_uptime(self._host)

    # --- the operator

    def _ask(self, wish: str) -> None:
        # The bus is also heard while the pin worker is waited for, in the middle of a decision.
        self._loop.set_timer(wish, 0)

    def _operator(self, wish: str, event: Event) -> None:
        if not self._conduct.advance(event):
            # It was taken, so it is not forgotten for what could not be performed before.
            self._loop.set_timer(wish, TRY_AGAIN)
        self._looking.look_soon()

    def _reload(self) -> None:
        try:
            self._conduct.config = read_config(self._host)
            self._telling.clear("configuration")
        except TrialbootError as error:
            # What was read before stays in force.
            self._telling.note("configuration", str(error))
            return
        self._judging.ask()
        self._looking.look_soon()

    def _view(self) -> View:
        """Put together what the state file is made from."""
        conduct, looking = self._conduct, self._looking
        decision, trial = conduct.decision, conduct.decision.trial
        wish, delivered = store.load_wish(self._host), store.load_delivered(self._host)
        return View(
            at=conduct.now(),
            mode=str(conduct.mode),
            trial=trial,
            outlook=conduct.outlook,
            wished_cordon=isinstance(wish, Wish) and wish.cordoned,
            delivered=delivered if isinstance(delivered, store.Delivered) else None,
            waiting=conduct.config.node.enabled and not store.is_delivered(self._host),
            trouble=self._telling.trouble,
            counters=self._telling.counters,
            against_reboot=against_reboot(
                trial,
                conduct.outlook,
                package_run=looking.manager,
                unfinished=bool(decision.todo),
                stale=looking.stale,
            ),
            transactions=looking.transactions,
            unfinished=bool(decision.todo),
            being_kept=any(
                isinstance(action, Keep) and action.boot_set == trial.known_good
                for action in decision.todo
            ),
        )


def _is_sound(judgement: Judgement | None) -> bool:
    return judgement is not None and judgement.verdict.outcome is Outcome.SOUND


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
