"""Who leads a package run, and the name that people know its manager by."""

import pytest

from trialboot.core.packagenote import Leader, Note, leader_of, manager_of


def note(event: str, *ancestors: Leader) -> Note:
    return Note(event=event, boot="boot", whole=True, chain=ancestors)


@pytest.mark.parametrize(
    ("told", "leader"),
    [
        ("3:sh 2:apt-get 1:apt-get 9:sudo 8:bash", (1, "apt-get")),
        ("3:sh 2:dpkg 1:unattended-upgr 9:apt.systemd.dai", (1, "unattended-upgr")),
        ("3:sh 2:python3 1:python3 9:sh 8:python3", (1, "python3")),
        ("3:dash 2:own-updater 1:cron", (2, "own-updater")),
        ("3:sh 2:bash", (0, "")),
        ("", (0, "")),
    ],
)
def test_the_leader_is_the_topmost_manager_else_who_is_no_shell(
    told: str, leader: tuple[int, str]
) -> None:
    ancestors = tuple(
        Leader(pid=int(pid), name=name)
        for pid, _, name in (each.partition(":") for each in told.split())
    )
    found = leader_of(note("begin", *ancestors))
    assert (found.pid, found.name) == leader


@pytest.mark.parametrize(
    ("event", "name", "manager"),
    [
        ("begin", "apt-get", "apt"),
        ("begin", "unattended-upgr", "unattended-upgrades"),
        ("begin", "packagekitd", "PackageKit"),
        ("begin", "own-updater", "own-updater"),
        ("begin", "sh", "apt"),
        ("dpkg-begin", "sh", "dpkg"),
    ],
)
def test_the_manager_has_the_name_that_people_know(event: str, name: str, manager: str) -> None:
    assert manager_of(note(event, Leader(pid=5, name=name))) == manager
