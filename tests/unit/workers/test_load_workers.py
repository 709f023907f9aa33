"""The two workers of the load test: when they keep, what they leave, and for whom."""

import os
from pathlib import Path

import pytest

from tests.unit.workers.debian_host import BOOT, OLD, Debian, debian
from trialboot import loadtest
from trialboot.core.facts import BootId
from trialboot.core.loadtest import LoadTest, Manifest
from trialboot.core.outlook import Judgement
from trialboot.core.verdict import Outcome, Verdict
from trialboot.workers import keep_objects, load_test
from trialboot.writers import store


def _judged(host: Debian, outcome: Outcome, boot: str = BOOT) -> Debian:
    verdict = Verdict(outcome=outcome, reasons=("a", "b"))
    judgement = Judgement(boot=BootId(boot), at="2026-01-01T00:00:00Z", verdict=verdict)
    store.save(host.host, store.JUDGEMENT, judgement)
    return host


def test_on_a_sound_boot_the_manifest_is_left_also_where_nothing_is_there(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it walks the loaded programs")
    host = _judged(debian(tmp_path), Outcome.SOUND).host
    keep_objects.work(host)
    found = store.load(host, loadtest.MANIFEST, Manifest)
    assert isinstance(found, Manifest)
    assert (found.release, found.objects) == (OLD, ())
    assert (tmp_path / "var/lib/trialboot/objects.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("outcome", [Outcome.WORSE, Outcome.UNSURE])
def test_a_boot_that_is_not_sound_teaches_nothing(tmp_path: Path, outcome: Outcome) -> None:
    host = _judged(debian(tmp_path), outcome).host
    keep_objects.work(host)
    assert store.load(host, loadtest.MANIFEST, Manifest) is None


def test_neither_does_a_boot_without_a_verdict(tmp_path: Path) -> None:
    host = debian(tmp_path)
    keep_objects.work(host.host)
    keep_objects.work(_judged(host, Outcome.SOUND, "another boot").host)
    assert store.load(host.host, loadtest.MANIFEST, Manifest) is None


def test_the_load_test_leaves_a_record_that_everybody_may_read(tmp_path: Path) -> None:
    host = debian(tmp_path).host
    load_test.work(host)
    found = store.load(host, loadtest.RESULT, LoadTest)
    assert isinstance(found, LoadTest)
    assert (found.boot, found.release) == (BOOT, OLD)
    assert found.not_needed == "no compiled programs of a CNI are kept"
    assert (tmp_path / "run/trialboot/load-test.json").stat().st_mode & 0o777 == 0o644
