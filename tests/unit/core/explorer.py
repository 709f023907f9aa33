"""The machine is attacked at every instant: all worlds in reach, the shortest story first."""

import os
from collections import Counter
from dataclasses import dataclass, field

from tests.unit.core.model import Model
from tests.unit.core.world import World

DEPTH = int(os.environ.get("TRIALBOOT_EXPLORE_DEPTH", "5"))
"""Steps away from the landmarks of ordinary lives; what is rarer is followed two steps less."""


@dataclass
class Explorer:
    """Breadth-first search over the model; keeps for each world how it was first reached."""

    model: Model = field(default_factory=Model)
    came: dict[World, tuple[str, World | None]] = field(default_factory=dict)
    at_rest: set[World] = field(default_factory=set)
    broken: dict[str, list[str]] = field(default_factory=dict)
    """The first, and so the shortest, story for each law that was broken."""
    transitions: int = 0

    def explore(self, depth: int, *, stop_early: bool = False) -> None:
        """Visit all worlds in reach, or those until the first law is broken."""
        edge = []
        for words, world in self.model.roots():
            self.came[world] = (words, None)
            edge.append(world)
        for step in range(depth):
            near = [world for world in edge if step < self.model.reach(world, depth)]
            edge = []
            for world in near:
                edge += self._new_worlds(world)
                if stop_early and self.broken:
                    return

    def _new_worlds(self, world: World) -> list[World]:
        self.model.check_state(world)
        self._note(self.story(world) if self.model.broken else [])
        self._let_rest(world)
        found = []
        for words, after in self.model.moves(world):
            self.transitions += 1
            if self.model.broken:
                self._note([*self.story(world), f"{words}   [{self._where(after)}]"])
            if after not in self.came:
                self.came[after] = (words, world)
                found.append(after)
        return found

    def _note(self, story: list[str]) -> None:
        for law in self.model.broken:
            self.broken.setdefault(law, story)
        self.model.broken.clear()

    def _let_rest(self, world: World) -> None:
        """Go on without accidents until nothing changes any more, and look at what that is."""
        if world.running is None:
            return
        start, passed = world, dict[World, None]()
        while world not in self.at_rest and world not in passed:
            passed[world] = None
            world = self.model.calm(world)
        if world not in self.at_rest:
            self.model.demand(world == [*passed][-1], "calm never comes to rest")
            self.model.check_calm(world)
        self.at_rest.update(passed)
        if self.model.broken:
            calm = [f"... calm ...   [{self._where(later)}]" for later in passed]
            self._note([*self.story(start), *calm[1:]])

    def story(self, world: World) -> list[str]:
        lines: list[str] = []
        at: World | None = world
        while at is not None:
            words, before = self.came[at]
            lines.append(f"{words}   [{self._where(at)}]")
            at = before
        return lines[::-1]

    def _where(self, world: World) -> str:
        trial = self.model.trial(world)
        return (
            f"{trial.phase}; runs {world.running}, default {world.default or 'host'}, "
            f"once {world.once or '-'}{', cordoned' if world.cordoned else ''}"
        )

    def found(self, kind: str) -> int:
        """Count the broken laws of a kind: `loop`, `unbootable`, `lost`."""
        return sum(law.startswith(f"{kind}:") for law in self.broken)

    def summary(self, depth: int) -> str:
        phases = Counter(str(self.model.trial(world).phase) for world in self.came)
        return (
            f"{len(self.came)} worlds to depth {depth}, {self.transitions} transitions, "
            f"{len(self.model.shelf.decisions)} decisions; by phase: {dict(phases)}"
        )

    def told(self) -> str:
        """Tell each broken law with the shortest story that leads to it."""
        return "\n\n".join(
            f"BROKEN LAW: {law}\n  " + "\n  ".join(story) for law, story in self.broken.items()
        )
