"""Keeping and testing: on a host in a folder, with a kernel of the test's own."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from trialboot import loadtest
from trialboot.core.facts import Unknown
from trialboot.core.loadtest import Accepted, LoadTest, Manifest, Program, Refused
from trialboot.core.verdict import Answer
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.loadtest import Kernels, Result, keep, run
from trialboot.writers import objects, store

NEEDED = "MemTotal: 9 kB\nMemAvailable:    4000000 kB\n"
TAIL = Program(name="tail", tag="aa", verified_instructions=7)
NO = Refused(program="tail", error="E2BIG", log=("BPF program is too large",))


class Kernel:
    """Takes what it was not told to refuse, and remembers what it was asked."""

    def __init__(self, refuses: Result = NO, *no: bytes, tags: Iterable[str] = ("aa",)) -> None:
        self.answers = dict.fromkeys(no, refuses)
        self.asked: list[bytes] = []
        self.ask = Kernels(load=self._load, probe=lambda _host: (), tags=lambda: tags)

    def _load(self, content: bytes, _name: str) -> Result:
        self.asked.append(content)
        return self.answers.get(content, Accepted(programs=(TAIL,)))


def node(root: Path, release: str = "6.12", memory: str = NEEDED, seconds: float = 0) -> Host:
    """Make a host of a folder; its clock goes on by so many seconds each time it is read."""
    for path, text in {
        "proc/sys/kernel/osrelease": release,
        "proc/sys/kernel/random/boot_id": f"boot of {release}",
        "proc/version": f"Linux version {release} (cc) #1",
        "proc/cmdline": "",
        "proc/stat": "btime 1",
        "proc/sys/kernel/tainted": "0",
        "proc/meminfo": memory,
        "var/run/cilium/state/bpf_lxc.o": "lxc",
        "var/run/cilium/state/bpf_sock.o": "sock",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    passed = iter(range(10_000))
    return Host(root=root, monotonic=lambda: next(passed) * seconds)


def kept(host: Host) -> Manifest:
    found = store.load(host, loadtest.MANIFEST, Manifest)
    assert isinstance(found, Manifest)
    return found


def judged(host: Host, found: LoadTest) -> Answer:
    store.save(host, loadtest.RESULT, found)
    return loadtest.answer(host).answer


def test_what_is_kept_was_tried_and_is_tried_on_another_kernel(tmp_path: Path) -> None:
    before = Kernel()
    keep(node(tmp_path), seconds=9, ask=before.ask)
    assert before.asked == [b"lxc", b"sock"]
    assert [one.control for one in kept(Host(root=tmp_path)).objects] == [
        Accepted(programs=(TAIL,))
    ] * 2
    host = node(tmp_path, "6.18")
    (tmp_path / "var/run/cilium/state/bpf_lxc.o").unlink()  # a tmpfs is empty after a boot
    found = run(host, seconds=9, ask=Kernel(NO, b"lxc").ask)
    assert found.release == "6.18"
    assert {one.name.rpartition("/")[2]: one.result for one in found.objects} == {
        "bpf_sock.o": Accepted(programs=(TAIL,)),
        "bpf_lxc.o": NO,
    }
    assert judged(host, found) is Answer.FAIL


@pytest.mark.parametrize("control", [NO, Unknown("it took more than 20 s")])
def test_what_the_kernel_before_did_not_take_is_not_even_tried(
    tmp_path: Path, control: Result
) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel(control, b"lxc").ask)
    after = Kernel(NO, b"lxc")
    found = run(node(tmp_path, "6.18"), seconds=9, ask=after.ask)
    assert after.asked == [b"sock"]
    assert judged(Host(root=tmp_path), found) is Answer.PASS


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda _root: None, "the kernel is the one that they were tried on"),
        (lambda root: (root / "var/lib/trialboot/objects.json").unlink(), "no compiled programs"),
        (
            lambda root: (root / "var/lib/trialboot/objects.json").write_text("{"),
            "what is kept cannot be read",
        ),
    ],
)
def test_where_there_is_nothing_to_test_nothing_is_loaded(
    tmp_path: Path, spoil: object, why: str
) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    assert callable(spoil)
    spoil(tmp_path)
    after = Kernel()
    assert why in run(node(tmp_path), seconds=9, ask=after.ask).not_needed
    assert after.asked == []


def test_a_rebuild_of_the_same_release_is_another_kernel(tmp_path: Path) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    host = node(tmp_path)
    (tmp_path / "proc/version").write_text("Linux version 6.12 (cc) #2")
    assert len(run(host, seconds=9, ask=Kernel().ask).objects) == 2


def test_without_memory_nothing_is_loaded_and_nothing_is_told_of_the_kernel(
    tmp_path: Path,
) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    after = Kernel(NO, b"lxc")
    host = node(tmp_path, "6.18", memory="MemAvailable: 500000 kB\n")
    found = run(host, seconds=9, ask=after.ask)
    assert {one.result for one in found.objects} == {
        Unknown("less than 512 MiB of memory are available")
    }
    assert after.asked == []
    assert judged(host, found) is Answer.PASS


def test_when_the_time_is_up_the_rest_has_no_verdict(tmp_path: Path) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    after = Kernel()
    host = node(tmp_path, "6.18", seconds=5)
    found = run(host, seconds=9, ask=after.ask)
    assert after.asked == [b"lxc"]
    assert found.objects[1].result == Unknown("the time for the load test was up before its turn")


def test_a_damaged_copy_has_no_verdict(tmp_path: Path) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    for copy in (tmp_path / objects.FOLDER.strip("/")).iterdir():
        copy.write_bytes(b"x")
    found = run(node(tmp_path, "6.18"), seconds=9, ask=Kernel().ask)
    assert {one.result for one in found.objects} == {Unknown("its copy is damaged")}


def test_the_same_again_is_nothing_to_do_and_a_new_object_is_tried_alone(tmp_path: Path) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    again = Kernel()
    assert keep(node(tmp_path), seconds=9, ask=again.ask) is None
    host = node(tmp_path)
    (tmp_path / "var/run/cilium/state/bpf_host.o").write_text("host")
    (tmp_path / "var/run/cilium/state/bpf_sock.o").unlink()
    assert keep(host, seconds=9, ask=again.ask) is not None
    assert again.asked == [b"host"]
    assert len(list((tmp_path / objects.FOLDER.strip("/")).iterdir())) == 2


def test_on_another_kernel_everything_is_tried_anew(tmp_path: Path) -> None:
    keep(node(tmp_path), seconds=9, ask=Kernel().ask)
    after = Kernel()
    keep(node(tmp_path, "6.18"), seconds=9, ask=after.ask)
    assert len(after.asked) == 2
    assert kept(Host(root=tmp_path)).release == "6.18"


def _calico(root: Path) -> None:
    process = root / "proc/12"
    folder = process / "root/usr/lib/calico/bpf"
    folder.mkdir(parents=True)
    (process / "comm").write_text("calico-node\n")
    (process / "status").write_text("CapEff:\t000001ffffffffff\n")
    (folder / "to_wep_no_log.o").write_text("plain")
    (folder / "to_wep_debug.o").write_text("debug")


def test_of_an_image_only_what_the_cni_has_loaded_is_kept(tmp_path: Path) -> None:
    host = node(tmp_path)
    _calico(tmp_path)
    other = Accepted(programs=(replace(TAIL, tag="bb"),))
    before = Kernel(other, b"debug")
    keep(host, seconds=9, ask=before.ask)
    shipped = [one for one in kept(host).objects if one.shipped]
    assert [(one.name, one.used) for one in shipped] == [
        ("calico-node:/usr/lib/calico/bpf/to_wep_no_log.o", (TAIL,))
    ]
    assert kept(host).left_out == ("1 objects that the CNI does not use",)
    assert keep(node(tmp_path), seconds=9, ask=before.ask) is None
    # Its programs are other ones now: the same objects are looked at once more.
    assert keep(node(tmp_path), seconds=9, ask=Kernel(other, b"debug", tags=("bb",)).ask)
    assert [one.name for one in kept(host).objects if one.shipped] == [
        "calico-node:/usr/lib/calico/bpf/to_wep_debug.o"
    ]


def test_a_kernel_that_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    host = node(tmp_path)
    (tmp_path / "proc/version").unlink()
    for work in (keep, run):
        with pytest.raises(HostError, match="the running kernel cannot be told"):
            work(host, seconds=9, ask=Kernel().ask)
