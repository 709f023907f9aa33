"""A refusal fails a boot only where it proves something; what was not tested holds nobody up."""

from dataclasses import replace

import pytest

from trialboot.core.facts import BootId, Unknown
from trialboot.core.loadtest import (
    Accepted,
    KeptObject,
    LoadTest,
    Manifest,
    ObjectFact,
    Probe,
    Program,
    Refused,
    Tried,
    excused,
    facts,
    load_check,
)
from trialboot.core.record import parse, plain
from trialboot.core.verdict import Answer, Check

BOOT = BootId("this boot")
TAIL = Program(name="tail_ipv6", tag="aa", verified_instructions=99_000)
TOOK = Accepted(programs=(TAIL,))
REFUSED = Refused(
    program="tail_ipv6",
    error="E2BIG",
    log=("BPF program is too large. Processed 1000001 insn", "processed 1000001 insns"),
)
COMPILED = KeptObject(
    name="/var/run/cilium/state/bpf_lxc.o", digest="d1", size=9, shipped=False, control=TOOK
)
SHIPPED = KeptObject(
    name="calico-node:/usr/lib/calico/bpf/to_wep_no_log.o", digest="d2", size=9, shipped=True,
    control=TOOK, used=(TAIL,),
)  # fmt: skip
KEPT = Manifest(
    boot=BootId("boot before"), release="6.12.57+deb13-amd64", version="#1", seen="x",
    objects=(COMPILED, SHIPPED),
)  # fmt: skip


def tried(result: Accepted | Refused | Unknown, kept: KeptObject = COMPILED) -> LoadTest:
    one = Tried(name=kept.name, digest=kept.digest, result=result)
    return LoadTest(boot=BOOT, release="6.18.5-cloud", objects=(one,))


@pytest.mark.parametrize("kept", [COMPILED, SHIPPED])
def test_a_refusal_of_what_was_taken_before_is_proof(kept: KeptObject) -> None:
    check = load_check(KEPT, tried(REFUSED, kept), BOOT)
    assert (check.name, check.answer, check.proof) == ("load", Answer.FAIL, True)
    (reason,) = check.reasons
    assert reason == (
        f"load test: {kept.name}: program tail_ipv6 is refused by 6.18.5-cloud (E2BIG),"
        " 6.12.57+deb13-amd64 took it: BPF program is too large. Processed 1000001 insn"
    )


@pytest.mark.parametrize(
    ("kept", "result", "release", "why"),
    [
        (replace(COMPILED, control=Unknown("no memory")), REFUSED, "6.18.5", "no evidence"),
        (replace(COMPILED, control=REFUSED), REFUSED, "6.18.5", "no evidence"),
        (replace(COMPILED, digest="another"), REFUSED, "6.18.5", "no evidence"),
        (replace(SHIPPED, used=()), REFUSED, "6.18.5", "no evidence"),
        (SHIPPED, replace(REFUSED, program="cali_debug"), "6.18.5", "did not use that program"),
        (COMPILED, REFUSED, "6.1.0-40-amd64", "it was compiled for a newer kernel"),
        (COMPILED, REFUSED, "6.12.43+deb13-amd64", "it was compiled for a newer kernel"),
        (COMPILED, Unknown("it took more than 20 s"), "6.18.5", "it took more than 20 s"),
    ],
)
def test_what_proves_nothing_is_a_note(
    kept: KeptObject, result: Refused | Unknown, release: str, why: str
) -> None:
    original = SHIPPED if kept.shipped else COMPILED
    found = replace(tried(result, original), release=release)
    check = load_check(replace(KEPT, objects=(kept,)), found, BOOT)
    assert (check.answer, check.reasons, check.proof) == (Answer.PASS, (), False)
    (note,) = check.notes
    assert why in note


def test_a_rebuild_of_the_same_version_must_take_what_the_node_compiled() -> None:
    found = replace(tried(REFUSED), release="6.12.57+deb13.1-amd64")
    assert load_check(KEPT, found, BOOT).answer is Answer.FAIL


def test_an_older_kernel_must_take_what_an_image_ships() -> None:
    found = replace(tried(REFUSED, SHIPPED), release="6.1.0-40-amd64")
    assert load_check(KEPT, found, BOOT).answer is Answer.FAIL


@pytest.mark.parametrize(
    ("manifest", "found", "note"),
    [
        (None, None, "no compiled programs of a CNI are kept"),
        (Unknown("not JSON"), tried(REFUSED), "what is kept cannot be read: not JSON"),
        (KEPT, None, "not tested: it did not run in this boot"),
        (KEPT, replace(tried(REFUSED), boot=BootId("x")), "it did not run in this boot"),
        (KEPT, Unknown("not JSON"), "not tested: not JSON"),
    ],
)
def test_where_nothing_was_tested_it_passes_and_says_so(
    manifest: Manifest | Unknown | None, found: LoadTest | Unknown | None, note: str
) -> None:
    check = load_check(manifest, found, BOOT)
    assert check.answer is Answer.PASS
    assert [told for told in check.notes if note in told]


def test_the_same_kernel_is_no_news() -> None:
    found = LoadTest(boot=BOOT, release="6.12", not_needed="the kernel is the same")
    assert load_check(KEPT, found, BOOT).notes == ()


@pytest.mark.parametrize(
    ("instructions", "notes"),
    [
        (99_999, 0),
        (100_000, 0),
        (100_001, 1),
        (400_001, 1),
    ],
)
def test_little_headroom_is_a_note_and_never_a_failure(instructions: int, notes: int) -> None:
    result = Accepted(programs=(replace(TAIL, verified_instructions=instructions),))
    check = load_check(KEPT, tried(result), BOOT)
    assert check.answer is Answer.PASS
    assert len(check.notes) == notes
    assert [note for note in check.notes if "warning" in note] == [
        note for note in check.notes if instructions > 400_000
    ]


def test_a_probe_that_only_the_kernel_before_took_is_a_note() -> None:
    took = Probe(name="bpf_set_retval", result=Accepted())
    no = Refused(program="probe", error="EINVAL", log=("R1 is not a scalar",))
    found = replace(tried(TOOK), probes=(replace(took, result=no),))
    (note,) = load_check(replace(KEPT, probes=(took,)), found, BOOT).notes
    assert note == (
        "load test: 6.18.5-cloud refuses «bpf_set_retval» (EINVAL: R1 is not a scalar),"
        " 6.12.57+deb13-amd64 took it"
    )
    assert load_check(KEPT, found, BOOT).notes == ()


def test_metrics_show_this_boot_or_else_the_kernel_that_was_tried_last() -> None:
    assert facts(None, None) == ()
    assert [row.result for row in facts(KEPT, None)] == ["accepted", "accepted"]
    assert facts(KEPT, tried(REFUSED)) == (
        ObjectFact(name=COMPILED.name, result="refused", verified_instructions=0),
    )
    assert facts(KEPT, tried(TOOK))[0].verified_instructions == 99_000
    assert facts(KEPT, tried(Unknown("why")))[0].result == "no verdict"


def test_the_records_are_read_back_as_they_were_written() -> None:
    whole = replace(KEPT, probes=(Probe(name="a", result=Unknown("b")),), left_out=("c",))
    assert parse(Manifest, plain(whole)) == whole
    found = tried(REFUSED)
    assert parse(LoadTest, plain(found)) == found


# --- what the CNI itself shows -------------------------------------------------------------------

REFUSED_CHECK = Check(name="load", answer=Answer.FAIL, reasons=("too large",), proof=True)
WHOLE = tuple(
    Check(name=name, answer=Answer.PASS) for name in ("roles", "pods", "agents", "links")
)


@pytest.mark.parametrize("ill", ["roles", "pods", "agents"])
def test_a_refusal_is_proof_while_the_cni_is_not_whole(ill: str) -> None:
    waits = Check(name=ill, answer=Answer.NO_VERDICT)
    others = tuple(waits if check.name == ill else check for check in WHOLE)
    assert excused(REFUSED_CHECK, others, changed=False) == REFUSED_CHECK


def test_a_refusal_beside_a_cni_that_is_whole_is_a_note() -> None:
    found = excused(REFUSED_CHECK, WHOLE, changed=False)
    assert (found.answer, found.proof) == (Answer.PASS, False)
    assert found.notes == ("too large (the CNI is whole without it)",)


def test_a_refusal_of_what_the_cni_no_longer_is_is_a_note() -> None:
    found = excused(REFUSED_CHECK, (), changed=True)
    assert (found.answer, found.proof) == (Answer.PASS, False)
    assert found.notes == ("too large (the CNI itself was changed since)",)


@pytest.mark.parametrize("changed", [True, False])
def test_nothing_is_to_be_excused_where_nothing_was_refused(*, changed: bool) -> None:
    passed = Check(name="load", answer=Answer.PASS, notes=("head-room",))
    assert excused(passed, WHOLE, changed=changed) == passed
