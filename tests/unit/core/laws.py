"""The laws that the model of a host is held against: what must never be, what calm leaves."""

from collections.abc import Iterator

from tests.unit.core.world import (
    AT,
    BEFORE,
    FIRST,
    GOOD,
    JUDGED,
    KNOWN_GOOD_ENTRY,
    LACKS,
    NOW,
    SECOND,
    SETS,
    STUCK,
    TOP,
    VERDICTS,
    Ability,
    Family,
    Nature,
    Shelf,
    Stage,
    Start,
    World,
    action_name,
    gives_back,
)
from trialboot.core.actions import (
    BootOnce,
    ForgetOnce,
    GiveUp,
    Keep,
    Mend,
    PinKnownGood,
    Reboot,
    Secure,
    Tell,
    Unpin,
)
from trialboot.core.facts import EntryId, Unknown
from trialboot.core.trial import (
    AT_REST,
    FALLBACK,
    PICKED,
    Booted,
    Choice,
    Decision,
    Event,
    Judged,
    Phase,
    Seen,
    Trial,
    Unkept,
)
from trialboot.core.verdict import Outcome


class Laws:
    """Every happening is held against these."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.broken: list[str] = []
        """The laws that were broken since the explorer last looked."""

    def demand(self, holds: bool, law: str) -> None:  # noqa: FBT001  reads as a sentence
        if not holds:
            self.broken.append(law)

    # --- the truth

    def trial(self, world: World) -> Trial:
        return self.shelf.decisions[world.stored].trial

    def acts(self, world: World) -> bool:
        """Tell whether anything but reports may be done."""
        return world.armed and not self.trial(world).report_only

    def known_good(self, world: World) -> str | None:
        good = self.trial(world).known_good
        return good.kernel if good else None

    @staticmethod
    def nature(world: World, name: str) -> Nature:
        return {GOOD: Nature.SOUND, FIRST: world.first, SECOND: world.second}[name]

    @staticmethod
    def entry(world: World, name: str) -> EntryId:
        return TOP if world.one_entry else EntryId(name)

    @staticmethod
    def loads(world: World, entry: EntryId) -> str:
        if entry == KNOWN_GOOD_ENTRY:
            return world.default or world.wanted
        return world.wanted if entry == TOP else str(entry)

    def booted(self, world: World) -> Booted:
        """Tell what the readers find: a boot set whose files were overwritten is not known."""
        name = world.running or GOOD
        kept = name in world.vault
        running: Choice | Unknown
        if not kept and self.loads(world, self.entry(world, name)) != name:
            running = Unknown("its files are gone")
        else:
            running = Choice(entry=self.entry(world, name), boot_set=SETS[name])
        return Booted(
            at=AT,
            boot=NOW,
            running=running,
            once_pending=world.once is not None,
            once=self.once(world),
            instead=world.instead,
        )

    def seen(self, world: World) -> Seen:
        wanted = Choice(
            entry=self.entry(world, world.wanted),
            boot_set=SETS[world.wanted],
            objections=LACKS if self.lacks(world) else (),
            obstacles=STUCK if world.family is Family.STICKY else (),
        )
        return Seen(at=AT, wanted=wanted, once=self.once(world))

    def once(self, world: World) -> Choice | None:
        if world.once is None:
            return None
        return Choice(entry=world.once, boot_set=SETS[self.loads(world, world.once)])

    @staticmethod
    def lacks(world: World) -> bool:
        return world.lacking and world.wanted == SECOND

    def verdicts(self, world: World) -> Iterator[Outcome]:
        """Give what can be found on this boot: also a known-good's network may break one day."""
        name = world.running or GOOD
        if self.nature(world, name) in JUDGED:
            yield Outcome(self.nature(world, name))
        if name == self.known_good(world) or name == GOOD:
            yield Outcome.WORSE
            yield Outcome.UNSURE

    # --- what is decided

    def _check(self, world: World, event: Event, decision: Decision) -> None:
        before, after = self.trial(world), decision.trial
        if not self.acts(world):
            harmless = all(gives_back(action) for action in decision.todo)
            self.demand(
                harmless, f"observe mode, and yet: {', '.join(map(action_name, decision.todo))}"
            )
        if isinstance(event, Unkept):
            self._check_unkept(world, after, decision)
        elif after.known_good != before.known_good:
            earned = (
                isinstance(event, Judged)
                and event.verdict.outcome is Outcome.SOUND
                and after.known_good == SETS[world.running or ""]
            )
            self.demand(
                earned, "a boot set became the known-good without a sound verdict of its own"
            )
        if (before.phase, after.phase) == (Phase.ARMED, Phase.CONDEMNED):
            tried = world.once is None or world.stray or world.instead == FALLBACK
            self.demand(
                tried and before.candidate is not None, "condemned, and it was not even tried"
            )
            self.demand(world.instead != PICKED, "condemned for what a human picked")
        if (before.phase, after.phase) == (Phase.ARMED, Phase.TRIAL) and world.by is Start.HAND:
            own = before.candidate is None or after.candidate is None or world.one_entry
            own = own or after.candidate == before.replaced  # booted once, and then by hand
            same = own or after.candidate.entry == before.candidate.entry  # type: ignore[union-attr]
            self.demand(same, "what a human picked is on trial")
        if isinstance(event, Judged):
            self._check_cordon(world, before, decision)
        self._check_somebodys(world, event, decision)
        self._check_todo(world, before, decision)
        self._check_mend(world, before, decision)
        self._check_given_up(decision)

    def _check_unkept(self, world: World, after: Trial, decision: Decision) -> None:
        """A boot set was not kept: the record goes back to what the loader has, and no further."""
        before = self.trial(world)
        if before.phase is Phase.CONDEMNED:
            further = after.known_good in {before.known_good, before.previous}
            self.demand(further, "lost: not secured, and another known-good out of nowhere")
            return
        pinned = after.known_good.kernel if after.known_good and after.pinned else None
        named = pinned == world.default or world.drifted or bool(world.damaged)
        self.demand(named, "lost: not kept, and the record names what is not pinned")
        self.demand(after.candidate is None, "not kept, and still a candidate")
        told = after.boot == NOW
        self.demand(after.phase is Phase.STEADY or not told, f"not kept, and yet {after.phase}")
        harmless = all(gives_back(action) for action in decision.todo)
        self.demand(harmless, f"not kept, and yet: {', '.join(map(action_name, decision.todo))}")

    def _check_somebodys(self, world: World, event: Event, decision: Decision) -> None:
        """Have what somebody else boots once left alone, and never taken for ours."""
        before, after = self.trial(world), decision.trial
        match event:
            case Seen(once=Choice()) if self.is_somebodys(world):
                touched = any(isinstance(a, BootOnce | ForgetOnce) for a in decision.todo)
                self.demand(not touched, "somebody's one-shot is taken back or overwritten")
                armed = after.phase is Phase.ARMED and before.running is not None
                unknown = isinstance(event.wanted, Unknown)
                self.demand(unknown or not armed, "armed beside somebody's one-shot")
            case Judged(verdict=verdict) if verdict.outcome is Outcome.SOUND:
                forgot = ForgetOnce() in decision.todo
                self.demand(not forgot, "a sound verdict takes a one-shot back that still waits")
            case Booted(running=Choice() as runs) if self.is_somebodys(world):
                past = runs.boot_set == before.known_good and before.candidate is not None
                waits = after.phase is Phase.ARMED and before.boot != NOW and self.acts(world)
                self.demand(not (past and waits), "loop: somebody's one-shot is taken for ours")

    def is_somebodys(self, world: World) -> bool:
        """Tell whether the one-shot leads to nothing of ours, and to nothing condemned."""
        if not (world.stray and world.once):
            return False
        trial, led = self.trial(world), self.loads(world, world.once)
        armed = (trial.candidate, trial.replaced) if trial.phase is Phase.ARMED else ()
        ours = [choice for choice in armed if choice is not None]
        entries = {self.entry(world, world.wanted), *(choice.entry for choice in ours)}
        names = {world.wanted, self.known_good(world), *(c.boot_set.kernel for c in ours)}
        marked = {mark.fingerprint for mark in trial.condemned}
        theirs = world.once not in entries and led not in names
        return theirs and SETS[led].fingerprint not in marked

    def _check_cordon(self, world: World, before: Trial, decision: Decision) -> None:
        cordons = any(isinstance(a, Tell) and a.wish.cordoned for a in decision.todo)
        obeyed = not cordons or world.cordons or before.phase not in AT_REST
        self.demand(obeyed, "a verdict at rest cordons, against the policy")

    def _check_late(self, world: World) -> None:
        """Let the verdict on an earlier boot come in now: it must move nothing."""
        for verdict in VERDICTS.values():
            event = Judged(at=AT, boot=BEFORE, verdict=verdict)
            decision = self.shelf.step(world, event)
            same = decision == Decision(trial=self.trial(world))
            self.demand(same, "a verdict on another boot has moved something")

    def _check_todo(self, world: World, before: Trial, decision: Decision) -> None:
        kept, after = world.vault, decision.trial
        touched = False
        for action in decision.todo:
            match action:
                case Keep(boot_set=boot_set):
                    clean = not touched or bool(world.damaged)
                    self.demand(clean, "the loader is touched before all is kept")
                    kept |= {boot_set.kernel}
                case PinKnownGood(boot_set=boot_set):
                    self.demand(boot_set.kernel in kept, "a pin on what was never kept")
                    self.demand(
                        boot_set == after.known_good, "a pin on what is not the known-good"
                    )
                    touched |= world.default != boot_set.kernel
                case Secure(boot_set=boot_set):
                    back = boot_set == after.known_good and boot_set.kernel in kept
                    self.demand(back, "lost: back to what is not kept, or not the known-good")
                case BootOnce(entry=entry):
                    known = before.running is not None
                    self.demand(known, "loop: a one-shot under what may have consumed it")
                    self._check_once(world, entry, decision)
                    touched = True
                case Reboot(leaving=leaving):
                    self._check_reboot(world, before, after)
                    secured = any(isinstance(a, Secure) for a in decision.todo)
                    self.demand(secured, "unbootable: a reboot that nothing has secured")
                    self.demand(leaving == NOW, "a reboot that leaves another boot")
                case ForgetOnce() | Unpin() | Tell() | Mend() | GiveUp():
                    touched |= isinstance(action, ForgetOnce | Unpin)

    def _check_mend(self, world: World, before: Trial, decision: Decision) -> None:
        mended = [action.boot_set for action in decision.todo if isinstance(action, Mend)]
        other = world.default is None or world.family is Family.VAULT  # until the next look
        there = set(SETS) if other else {world.default}
        good = all(b == before.known_good and b.kernel in there for b in mended)
        self.demand(good, "what is mended is not the pinned known-good")

    def _check_given_up(self, decision: Decision) -> None:
        after = decision.trial
        candidate = after.candidate.boot_set if after.candidate else None
        named = {after.known_good, after.previous, candidate}
        running = after.running.boot_set if after.running else None
        given = {action.boot_set for action in decision.todo if isinstance(action, GiveUp)}
        self.demand(not given & named, "lost: what the record names is given up")
        self.demand(running not in given, "lost: what runs is given up")
        self.demand(not given or after.phase in AT_REST, "lost: given up while a trial is on")

    def _check_once(self, world: World, entry: EntryId, decision: Decision) -> None:
        trial = decision.trial
        tried = SETS[self.loads(world, entry)].fingerprint
        refused = {c.fingerprint for c in trial.condemned}
        self.demand(tried not in refused, "a condemned boot set is to be booted once")
        self.demand(trial.phase is Phase.ARMED, "a one-shot outside of the phase armed")
        cleared = world.family is not Family.STICKY
        self.demand(cleared, "loop: a one-shot that the loader cannot clear")
        leave = not self.lacks(world) or tried in trial.allowed
        self.demand(leave, "what a pre-check refused is to be booted once, without leave")

    def _check_reboot(self, world: World, before: Trial, after: Trial) -> None:
        # From condemned: to the boot set before, for the known-good is damaged.
        on_the_way = (before.phase, after.phase) in {
            (Phase.TRIAL, Phase.CONDEMNED),
            (Phase.CONDEMNED, Phase.CONDEMNED),
        }
        self.demand(on_the_way, f"loop: a reboot from {before.phase} to {after.phase}")
        self.demand(world.running != self.known_good(world), "a reboot away from the known-good")

    def check_state(self, world: World) -> None:
        trial = self.trial(world)
        if world.once and trial.phase is Phase.ARMED and not world.drifted:
            self.demand(
                world.default is not None and world.default == self.known_good(world),
                "unbootable: a one-shot is set while the default is not the known-good",
            )
        kept = world.default is None or world.default in world.vault
        self.demand(kept, "unbootable: the default is not on disk")
        if world.stage is Stage.OPEN and not world.drifted:
            pinned = trial.known_good.kernel if trial.known_good and trial.pinned else None
            named = pinned == world.default or world.family is Family.VAULT
            self.demand(named, "lost: the record does not name what is pinned")
            # A full disk takes no wish: then the verdict goes first.
            told = trial.cordon == world.cordoned or world.family is Family.DISK
            self.demand(told, "lost: the record does not know the cordon")

    # --- what calm leaves

    def check_calm(self, world: World) -> None:
        """Hold a world that calm no longer changes against what an operator may expect."""
        trial, running = self.trial(world), world.running
        if running is None:
            return
        if world.full or world.loader is not Ability.ALL:
            self._check_hindered(world, running)
            return
        if not self.acts(world):
            self._check_observed(world)
            return
        self._check_taking_pods(world, running)
        if world.by in {Start.ONCE, Start.DEFAULT}:
            self.demand(trial.phase is not Phase.CONDEMNED, "condemned, and there it stays")
            in_doubt = self.nature(world, running) is Nature.UNSURE
            self.demand(trial.phase is not Phase.TRIAL or in_doubt, "a trial does not end")
        if running == self.known_good(world):
            self.demand(trial.phase in AT_REST, f"the sound known-good stays {trial.phase}")
        pinned = running if trial.known_good is None else trial.known_good.kernel
        named = not trial.pinned or pinned == world.default or pinned in world.damaged
        self.demand(named, "unbootable: the default is another one for ever")
        self._check_one_shot(world)

    def _check_one_shot(self, world: World) -> None:
        trial = self.trial(world)
        if world.stray and world.once:
            led = SETS[self.loads(world, world.once)].fingerprint
            marked = {mark.fingerprint for mark in trial.condemned}
            self.demand(led not in marked, "a one-shot leads to a condemned boot set")
        elif trial.phase is not Phase.ARMED:
            self.demand(world.once is None, f"a one-shot is left over in the phase {trial.phase}")
        elif trial.running is not None:
            self.demand(world.once is not None, "armed, but nothing will try the candidate")
            refused = self.lacks(world) and SETS[SECOND].fingerprint not in trial.allowed
            self.demand(not refused, "armed, and a pre-check speaks against it")

    def _check_hindered(self, world: World, running: str) -> None:
        """Demand the least, with a full disk or a loader that takes no write: nobody is stuck.

        With a one-shot that cannot be taken back no reboot would end on the known-good.
        """
        known = self.trial(world).running is not None or world.stage is not Stage.OPEN
        bad = self.nature(world, running) is Nature.WORSE and world.by is Start.ONCE and known
        stuck = world.loader is Ability.NOTHING and world.once is not None
        excused = not self.acts(world) or stuck or self._is_condemned(world, running)
        self.demand(not bad or excused, "a bad candidate runs, and what hinders keeps it")

    def _is_condemned(self, world: World, name: str) -> bool:
        """Tell what no second rollback is made of."""
        marks = {mark.fingerprint for mark in self.trial(world).condemned}
        return SETS[name].fingerprint in marks and world.stage is Stage.OPEN

    def _check_observed(self, world: World) -> None:
        ours = world.once is not None and not world.stray
        self.demand(not ours, "observe mode, and the one-shot stays for ever")
        self.demand(world.default is None, "observe mode, and the pin stays for ever")
        self.demand(not world.cordoned, "observe mode, and the cordon stays for ever")

    def _check_taking_pods(self, world: World, running: str) -> None:
        at_rest = self.trial(world).phase is Phase.STEADY
        if running == self.known_good(world):
            self.demand(not world.cordoned, "the sound known-good runs cordoned for ever")
        if self.nature(world, running) is Nature.SOUND and at_rest:
            self.demand(not world.cordoned, "a sound boot set runs cordoned for ever")
        if self.nature(world, running) is Nature.WORSE:
            self._check_bad(world, running)

    def _check_bad(self, world: World, running: str) -> None:
        trial = self.trial(world)
        cordoned = world.cordoned or (trial.phase in AT_REST and not world.cordons)
        self.demand(cordoned, "a bad boot set runs and the node takes pods")
        obeyed = not world.cordoned or world.cordons or trial.phase not in AT_REST
        self.demand(obeyed, "the node stays cordoned at rest, against the policy")
        # One rollback for one candidate, and none of what nobody can name.
        refused = {mark.fingerprint for mark in trial.condemned}
        excused = trial.running is None or SETS[running].fingerprint in refused
        ended = excused or world.by is not Start.ONCE
        self.demand(ended, "a bad candidate runs and nothing ends it")
