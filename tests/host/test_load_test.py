"""Whole objects on the running kernel: taken or refused in its own words, and nothing is left."""

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bpf.objects import build
from trialboot import confined, libbpf, loadtest
from trialboot.bpf import bpf, loaded_tags
from trialboot.core.facts import BootId, Unknown
from trialboot.core.loadtest import Accepted, Manifest, Refused, load_check
from trialboot.core.verdict import Answer
from trialboot.host import Host
from trialboot.loadtest import Kernels, keep, load_confined, run
from trialboot.readers.probes import read_probes
from trialboot.writers import store

pytestmark = pytest.mark.host

PINS = Path("/sys/fs/bpf")
SET_RETVAL_REFUSED = (7, 2)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Neither mounts, nor pins, nor programs that were not there before."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = _traces()
    yield
    assert _traces() == before


def _traces() -> tuple[str, list[str]]:
    pins = sorted(str(path) for path in PINS.rglob("*"))
    return Path("/proc/self/mountinfo").read_text(), pins


def _release() -> tuple[int, ...]:
    return tuple(int(number) for number in platform.release().split(".")[:2])


def test_ciliums_traits_are_taken() -> None:
    found = load_confined(build("cilium"), "bpf_lxc.o")
    assert isinstance(found, Accepted)
    assert {program.name for program in found.programs} == {
        "tail_first",
        "tail_second",
        "cil_from_test",
    }
    assert all(program.verified_instructions > 0 for program in found.programs)


def test_an_object_as_large_as_a_real_one_is_taken_whole() -> None:
    found = load_confined(build("large"), "bpf_lxc.o")
    assert isinstance(found, Accepted)
    assert len(found.programs) == 33
    assert sum(program.verified_instructions for program in found.programs) > 100_000


def test_what_is_too_large_is_refused_in_the_kernels_words() -> None:
    assert isinstance(load_confined(build("small_enough"), "a.o"), Accepted)
    found = load_confined(build("too_large"), "a.o")
    assert isinstance(found, Refused)
    assert (found.program, found.error) == ("cil_too_large", "E2BIG")
    assert "BPF program is too large. Processed 1000001 insn" in found.log


def test_bpf_set_retval_is_taken_before_7_2_and_refused_since() -> None:
    found = load_confined(build("set_retval"), "bpf_sock.o")
    if _release() < SET_RETVAL_REFUSED:
        assert isinstance(found, Accepted)
    else:
        assert isinstance(found, Refused)
        assert [line for line in found.log if "R1 is not a scalar" in line]


def test_another_refusal_comes_with_the_verifiers_steps() -> None:
    found = load_confined(_with_any_answer(), "a.o")
    assert isinstance(found, Refused)
    assert found.error == "EINVAL"
    assert [line for line in found.log if "(95) exit" in line]
    assert [line for line in found.log if "At program exit the register R0 " in line]


def _with_any_answer() -> bytes:
    """Take «mov r0, 1» out of an object: what the helper answers stays, which may be anything."""
    raw = build("set_retval")
    code = b"\xb7\x00\x00\x00\x01\x00\x00\x00"
    assert raw.count(code) == 1
    return raw.replace(code, b"\x05" + bytes(7))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda raw: raw[:0], "no little-endian ELF64"),
        (lambda raw: raw[: len(raw) // 2], "cut short"),
        (lambda raw: raw.replace(b"cgroup/sock", b"cgroop/sock"), "section «cgroop/sock»"),
        (lambda raw: raw.replace(b"\x85\x00\x00\x00\xbb", b"\x85\x10\x00\x00\xbb"), "libbpf"),
    ],
)
def test_what_libbpf_cannot_take_is_no_verdict(spoil: Callable[[bytes], bytes], why: str) -> None:
    found = load_confined(spoil(build("set_retval")), "a.o")
    assert isinstance(found, Unknown)
    assert why in found.why


def test_without_the_library_there_is_no_verdict() -> None:
    library = libbpf.find_library(("libbpf.so.99", "libc.so.6"))
    assert isinstance(library, Unknown)
    assert "libbpf.so.99 cannot be used" in library.why
    assert "libc.so.6 cannot be used" in library.why
    assert libbpf.load(build("cilium"), "a.o", library) == library


def test_a_load_that_takes_too_long_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadtest, "_EACH_SECONDS", 0.05)
    found = load_confined(build("too_large"), "a.o")
    assert found == Unknown("it took more than 0 s")


def test_nothing_stays_loaded() -> None:
    found = load_confined(build("large"), "bpf_lxc.o")
    assert isinstance(found, Accepted)
    assert {program.tag for program in found.programs}.isdisjoint(loaded_tags(bpf))


def test_every_probe_has_an_answer() -> None:
    found = {probe.name: probe.result for probe in read_probes(Host())}
    assert isinstance(found["a tc program"], Accepted)
    if _release() < SET_RETVAL_REFUSED:
        assert isinstance(found["bpf_set_retval as Cilium asks for it"], Accepted)
    assert len(found) == 5


def test_the_rule_of_ip6tables_is_never_the_hosts() -> None:
    ran: list[str] = []
    here = Path("/proc/self/ns/net").readlink()

    def look(*_words: object, **_more: object) -> str:
        ran.append("here")
        assert Path("/proc/self/ns/net").readlink() != here
        return ""

    found = {probe.name: probe.result for probe in read_probes(Host(run=look))}
    assert found["MARK of ip6tables"] == Accepted()
    assert ran == []  # it was another process that ran it


def _node(root: Path, release: str, objects: dict[str, bytes]) -> Host:
    for path, content in {
        "proc/sys/kernel/random/boot_id": f"boot of {release}".encode(),
        "proc/sys/kernel/tainted": b"0",
        "proc/version": f"Linux version {release} (cc) #1".encode(),
        "proc/cmdline": b"",
        "proc/stat": b"btime 1",
        "proc/meminfo": Path("/proc/meminfo").read_bytes(),
        **{f"var/run/cilium/state/{name}": content for name, content in objects.items()},
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return Host(root=root)


def test_a_refusal_on_the_next_kernel_is_proof_and_names_everything(tmp_path: Path) -> None:
    """The next kernel is played by another object under the digest of the one that was kept."""
    small, large = build("small_enough"), build("too_large")
    host = _node(tmp_path, "6.12.1", {"bpf_lxc.o": small, "bpf_host.o": build("cilium")})
    assert keep(host, seconds=60) is not None
    digest = hashlib.sha256(small).hexdigest()

    def of_next_kernel(content: bytes, name: str) -> loadtest.Result:
        return load_confined(large if content == small else content, name)

    after = _node(tmp_path, "7.2.0", {})
    found = run(after, seconds=60, ask=Kernels(of_next_kernel))
    check = load_check(store.load(after, loadtest.MANIFEST, Manifest), found, found.boot)
    assert (check.answer, check.proof) == (Answer.FAIL, True)
    (reason,) = check.reasons
    assert reason.startswith(
        "load test: /var/run/cilium/state/bpf_lxc.o: program cil_too_large is refused by 7.2.0"
        " (E2BIG), 6.12.1 took it: BPF program is too large."
    )
    assert [one.digest for one in found.objects if isinstance(one.result, Refused)] == [digest]
    other = replace(found, boot=BootId("another"))
    assert load_check(store.load(after, loadtest.MANIFEST, Manifest), other, found.boot).notes


def test_a_process_without_capabilities_has_no_verdict() -> None:
    """A lack of power is not the kernel's opinion of a program."""
    libc = ctypes.CDLL(None, use_errno=True)

    content, library = build("cilium"), libbpf.find_library()

    def powerless() -> bytes:
        for number in range(41):
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
        os.setresuid(65534, 65534, 65534)
        return type(libbpf.load(content, "a.o", library)).__name__.encode()

    assert confined.call(powerless, seconds=20, memory=2 << 30) == b"Unknown"
