"""The trial in the daemon's hands: what the machine decides is remembered, then performed.

What could not be performed is tried again; what the cluster shall hear is delivered when it can.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from trialboot import journal
from trialboot.config import Config, Mode, is_armed
from trialboot.core.actions import (
    Action,
    ForgetOnce,
    Keep,
    Mend,
    PinKnownGood,
    Secure,
    Unpin,
)
from trialboot.core.facts import BootId, Unknown
from trialboot.core.node import Wish
from trialboot.core.outlook import Outlook
from trialboot.core.trial import (
    AT_REST,
    Booted,
    Damaged,
    Decision,
    Event,
    Phase,
    Policy,
    Seen,
    Trial,
    Unkept,
)
from trialboot.errors import HostError, StoreError, TrialbootError, VaultError, VaultRoomError
from trialboot.host import Host
from trialboot.loop import Loop
from trialboot.readers import kernel
from trialboot.resident.jobs import Jobs
from trialboot.resident.looking import Looking
from trialboot.resident.telling import Telling
from trialboot.trial import advance, finish, overtaking
from trialboot.writers import power, store

PIN: Final = "trialboot-pin.service"
NODE: Final = "trialboot-node.service"
PIN_LIMIT: Final = 900.0
LAST_WORD: Final = 20.0
"""Seconds that a rollback waits for the API server to hear why."""
TRY_AGAIN: Final = 300.0
"""Seconds after which the rest of a decision is performed once more."""
NODE_FIRST, NODE_MOST = 5.0, 60.0
"""Seconds between two tries to reach the API server: the first ones, and the most."""


class Conduct:
    """The trial, what it goes by, and the hands that it has on this host (`trial.Hands`)."""

    def __init__(
        self,
        host: Host,
        loop: Loop,
        *,
        jobs: Jobs,
        looking: Looking,
        telling: Telling,
        config: Config,
        stopping: Callable[[], bool],
    ) -> None:
        self._host = host
        self._loop = loop
        self._jobs = jobs
        self._looking = looking
        self._telling = telling
        self._stopping = stopping
        self._node_wait = NODE_FIRST
        self.config = config
        """What the operator says now; replaced when the file is read again."""
        self.boot: BootId = kernel.read_boot_id(host)
        self.decision: Decision = store.load_decision(host)
        self.outlook: Outlook | None = None
        """What the last snapshot saw."""
        self._asked = False
        """A reboot was asked for, and taken."""
        self._late = False
        """A trial was armed late, by the rest of a decision: one look may have begun before."""

    @property
    def mode(self) -> Mode:
        """What the operator chose, where the boot loader is one that may be written."""
        controlled = self.outlook is None or self.outlook.controlled
        return self.config.mode if controlled else Mode.OBSERVE

    @property
    def may_wait(self) -> bool:
        """Tell whether no trial waits for a verdict: this boot has one, and it ends nothing."""
        trial = self.decision.trial
        judged = trial.boot == self.boot and trial.judged is not None
        return judged and trial.phase in AT_REST

    @property
    def knows_what_runs(self) -> bool:
        """Tell whether the trial was told what this boot runs."""
        trial = self.decision.trial
        return trial.boot == self.boot and trial.running is not None

    # --- what is seen

    def learn_boot(self, outlook: Outlook) -> bool:
        """Tell the trial what runs; False where another look is needed first, which is asked for.

        A look that may have begun before a one-shot was set late knows nothing of it, and would
        have the candidate condemned as one that was booted and never came up.
        """
        self.finish()
        if self._late:
            self._late = False
            self._looking.look_soon()
            return False
        self._tell(
            Booted(
                at=outlook.taken_at,
                boot=outlook.boot,
                running=outlook.running,
                once_pending=outlook.once_pending,
                once=outlook.once,
                instead=outlook.instead,
            )
        )
        return True

    def learn_next(self, outlook: Outlook) -> None:
        """Tell the trial what would boot next, and whether the known-good is whole."""
        self._check_controlled(outlook)
        if self.decision.trial.boot != self.boot:
            # What this boot says of the candidate could not be remembered: it comes first.
            return
        self._mend(outlook)
        if outlook.crowded and not outlook.damage:  # else it may be the last way back
            self.advance(outlook.crowded)
        self.advance(Seen(at=outlook.taken_at, wanted=outlook.wanted, once=outlook.once))

    def _check_controlled(self, outlook: Outlook) -> None:
        if outlook.controlled or self.config.mode is Mode.OBSERVE:
            self._telling.clear("loader")
            return
        why = "armed by the configuration, but its menu is read and not controlled yet: observed"
        self._telling.note("loader", why)

    def _mend(self, outlook: Outlook) -> None:
        """Say loudly that the known-good is not whole, and have it mended."""
        if not outlook.damage:
            self._telling.clear("known-good", "mending")
            return
        self._telling.note("known-good", f"it is not whole: {'; '.join(outlook.damage)}")
        self.advance(Damaged(at=outlook.taken_at, why=outlook.damage))

    # --- decide, remember, perform

    def advance(self, event: Event) -> bool:
        """Tell the trial an event, and do what it decides; what was decided before comes first.

        Where that cannot be performed nothing is told, and False is given.
        """
        self.finish()
        return self._tell(event)

    def _tell(self, event: Event) -> bool:
        before = self.decision.trial
        told = overtaking(self.decision, event, self._policy) if self.decision.todo else event
        if told is None:
            return False  # «finish» tries again, then a new snapshot
        self._do(lambda: advance(before, told, self._policy, self))
        self._moved(before)
        return True

    @property
    def _policy(self) -> Policy:
        return replace(self.config.policy, armed=self.mode is Mode.ARMED)

    def finish(self) -> None:
        """Perform the rest of a decision, after a power cut or after a hand failed."""
        if not self.decision.todo:
            return
        if self._asked and self._jobs.end_with_the_system():
            self._loop.set_timer("finish", TRY_AGAIN)
            return
        before = self.decision.trial
        if self._do(lambda: finish(self.decision, self)):
            self._late = self.decision.trial.phase is Phase.ARMED
            self._looking.look_soon()
        self._moved(before)

    def _do(self, work: Callable[[], Decision]) -> bool:
        """Decide or perform; tell whether all of it went well."""
        try:
            self.decision = work()
        except VaultError as error:
            if not _keeps(self.decision):
                return self._unfinished(error)
            # What cannot be kept is not waited for: the record goes back to what is pinned.
            self._telling.note("vault", str(error))
            return self._give_up(error)
        except TrialbootError as error:
            return self._unfinished(error)
        self._telling.clear("decision")
        if self.decision.trial.pinned:
            self._telling.clear("vault")
        return True

    def _give_up(self, error: VaultError) -> bool:
        event = Unkept(at=self.now(), boot=self.boot, why=str(error))
        try:
            self.decision = advance(self.decision.trial, event, self._policy, self)
        except TrialbootError as second:
            return self._unfinished(second)
        return False

    def _unfinished(self, error: TrialbootError) -> bool:
        # What could not be remembered is told until something is.
        source = "record" if isinstance(error, StoreError) else "decision"
        self._telling.note(source, f"{error}; tried again every {TRY_AGAIN:.0f} s")
        self._loop.set_timer("finish", TRY_AGAIN)
        return False

    def _moved(self, before: Trial) -> None:
        after = self.decision.trial
        if before.phase is not after.phase:
            journal.stepped(before, after)
            self._telling.count(_end_of(before, after))
        self._telling.write()

    def now(self) -> str:
        """Give the wall clock as the records have it: RFC 3339, UTC."""
        return self._host.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- what trial.Hands asks for

    def save(self, decision: Decision) -> None:
        """Remember durably."""
        store.save_decision(self._host, decision)
        self._telling.clear("record")
        self.decision = decision

    def hold(self, decision: Decision) -> None:
        """Remember for this boot alone."""
        self._telling.note("record", "the disk takes no record: this trial is held in memory")
        store.hold_decision(self._host, decision)
        self.decision = decision

    def pin(self, decision: Decision, actions: Sequence[Action]) -> None:
        """Let the pin worker perform the leading actions of the decision on disk."""
        del decision  # it reads them from the record: the same after a power cut
        giving_back = all(isinstance(action, ForgetOnce | Unpin) for action in actions)
        if self.mode is Mode.OBSERVE and not giving_back:
            journal.noted("not pinning, for the operator chose to observe meanwhile")
            return  # the next look gives back what the record says is pinned
        result = self._run_pin()
        if result != "done":
            error = _pin_error(
                store.load(self._host, store.trouble_of("pin"), store.Trouble), result
            )
            if any(isinstance(action, Mend) for action in actions):
                self._telling.note("mending", f"{error}; tried again with the next snapshot")
            raise error

    def _run_pin(self) -> str:
        """Run the pin worker; what it writes to /boot is no news."""
        # It may not get as far as to forget why it failed before.
        store.forget_trouble(self._host, "pin")
        with self._looking.ignoring_files():
            return self._jobs.run(PIN, PIN_LIMIT)

    def tell(self, wish: Wish) -> None:
        """Remember the wish; the node worker delivers it as soon as it can."""
        store.save_wish(self._host, wish)
        self._node_wait = NODE_FIRST
        self._loop.set_timer("node", 0)

    def reboot(self, why: str) -> None:
        """Restart the machine through logind. Always raises `HostError` but in observe mode.

        A shutdown can be called off, or fail after it was delayed: until it has come it is still
        to be done. One that somebody else has begun is left alone.
        """
        if self._is_called_off(why):
            return
        if not self._jobs.end_with_the_system():
            journal.noted(f"rebooting into the known-good: {why}")
            self._say_last_word()
            if self._is_called_off(why):
                return
            power.reboot(self._host)
            self._asked = True
            self._telling.count("reboots")
        raise HostError("the machine is about to go down for a reboot into the known-good")

    def _is_called_off(self, why: str) -> bool:
        """Ask the operator once more, at the last instant; where trialbootd is stopped, wait.

        What was told to us while a worker was waited for is still in a timer.
        """
        if self._stopping():
            raise HostError("trialbootd is being stopped: the next one reboots, if at all")
        if self.mode is Mode.OBSERVE:
            journal.noted(f"not rebooting, for the operator chose to observe meanwhile: {why}")
            return True
        if is_armed(self._host) is False:
            self._loop.set_timer("reload", 0)
            raise HostError("not rebooting: the configuration says observe, and is read again")
        return False

    def _say_last_word(self) -> None:
        """Tell the cluster before the node goes away, as far as it listens; never insist."""
        if not self.config.node.enabled or store.is_delivered(self._host):
            return
        try:
            self._jobs.run(NODE, LAST_WORD)
        except HostError as error:
            self._telling.note("node", str(error))

    # --- the cluster

    def deliver(self) -> None:
        """Have the node worker bring the Node to what is wished, where it is not yet."""
        if not self.config.node.enabled or store.is_delivered(self._host):
            return
        if not self._jobs.start(NODE):
            self._loop.set_timer("node", NODE_MOST)

    def end_delivery(self, result: str) -> None:
        """Hear that the node worker has ended; it is started again, later and later."""
        if store.is_delivered(self._host):
            self._telling.clear("node")
            self._node_wait = NODE_FIRST
        else:
            self._telling.note_worker("node", result, None)
            self._loop.set_timer("node", self._node_wait)
            self._node_wait = min(2 * self._node_wait, NODE_MOST)
        self._telling.write()


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
    unkept = told.kind in {VaultError.__name__, VaultRoomError.__name__}
    return VaultError(told.why) if unkept else HostError(told.why)


def _keeps(decision: Decision) -> bool:
    """Tell whether the vault is asked for a boot set."""
    return any(isinstance(action, Keep | PinKnownGood | Secure) for action in decision.todo)


def _end_of(before: Trial, after: Trial) -> str:
    """Name the end of a trial for the counters; empty where the move is none."""
    if before.phase is Phase.TRIAL and after.phase is Phase.STEADY:
        return "blessed" if after.pinned else ""
    return _END.get((before.phase, after.phase), "")
