# A thin face: each target sets the machine up (quick where nothing is missing) and runs one thing.
# A fresh Debian 12 machine needs nothing before but make itself: apt-get install -y make

PYTHON = $(shell packaging/set-up --python)
RUN = PYTHONPATH=agent $(PYTHON)

.PHONY: help demo test test-fast test-system test-stories test-long lint bench deb rpm run clean set-up

help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: set-up  ## play the incident on a virtual machine: a bad upgrade goes back by itself
	@$(RUN) -m tests.vm.demo

test: test-fast test-system test-stories  ## everything that a change has to pass

# Coverage is of the tests that do the same in each run; what properties reach is chance.
test-fast: set-up  ## linters, unit tests and tests of this host's kernel, with coverage
	@mkdir -p build
	$(PYTHON) -m pytest -m "not vm and not system" --cov --cov-report= tests/host
	$(PYTHON) -m pytest -m "not vm and not system and not hypothesis" --cov --cov-report= --cov-append --numprocesses=2 --dist=worksteal --ignore=tests/host
	$(PYTHON) -m coverage report --skip-covered --precision=1
	$(PYTHON) -m coverage report --include="*/trialboot/core/*" --skip-covered --show-missing --fail-under=100
	$(PYTHON) -m pytest -m "hypothesis and not vm and not system" --numprocesses=2 --dist=worksteal --ignore=tests/host

test-system: set-up  ## real package managers and a real systemd in Debian roots, two at a time
	$(RUN) -m tests.system.roots
	TRIALBOOT_DEB=$$(packaging/build-deb build) $(PYTHON) -m pytest -m system --numprocesses=2 --dist=worksteal --durations=10 tests/system

test-stories: set-up  ## the stories on virtual machines, two at a time
	TRIALBOOT_DEB=$$(packaging/build-deb build) $(PYTHON) -m pytest -m "vm and not long" --numprocesses=2 --dist=worksteal --capture=tee-sys -v -raR --reruns=2 --only-rerun=InfrastructureError tests/vm/test_stories.py tests/vm/test_package_stories.py tests/vm/test_verdict_stories.py tests/vm/test_matrix.py

test-long: test  ## the same, then what takes longer: the load test's story, more power cuts, twelve healthy reboots, boots that end in emergency mode, hang or come by kexec, initrds of dracut, trials by kexec, Secure Boot, firmware of all forms, doctor, the machines under the stories, all faults on all hosts, the core one step deeper and all its mutants
	$(PYTHON) -m pytest -m vm --capture=tee-sys -v -raR --reruns=2 --only-rerun=InfrastructureError tests/vm/test_load_stories.py
	TRIALBOOT_POWER_CUTS=more TRIALBOOT_DEB=$$(packaging/build-deb build) $(PYTHON) -m pytest -m vm --numprocesses=2 --dist=worksteal --capture=tee-sys -v -raR --reruns=2 --only-rerun=InfrastructureError tests/vm/test_stories.py -k power_cut
	$(PYTHON) -m pytest -m vm --capture=tee-sys -v -raR --reruns=2 --only-rerun=InfrastructureError tests/vm/test_healthy_reboots.py
	TRIALBOOT_DEB=$$(packaging/build-deb build) $(PYTHON) -m pytest -m vm --numprocesses=2 --dist=worksteal --capture=tee-sys -v -raR --reruns=2 --only-rerun=InfrastructureError tests/vm/test_boot_stories.py tests/vm/test_dracut_story.py tests/vm/test_kexec_trial.py tests/vm/test_secure_boot.py tests/vm/test_firmware_stories.py tests/vm/test_doctor.py
	$(PYTHON) -m pytest -m vm -v tests/vm/test_harness.py
	TRIALBOOT_DEB=$$(packaging/build-deb build) $(PYTHON) -m pytest -m "vm and long" --numprocesses=2 --dist=worksteal --capture=tee-sys -v -raR --reruns=2 --only-rerun=InfrastructureError tests/vm/test_hosts.py tests/vm/test_matrix.py
	TRIALBOOT_EXPLORE_DEPTH=6 TRIALBOOT_MUTATIONS=all $(PYTHON) -m pytest tests/unit/core/test_explorer.py tests/unit/core/test_mutations.py

lint: set-up  ## the linters alone
	$(PYTHON) -m pytest -q tests/unit/test_linters.py

bench: set-up  ## what trialboot costs, beside its peers: a table, and build/bench.json
	@$(RUN) -m tests.bench

deb: set-up  ## the Debian package, into build/
	@packaging/build-deb build

rpm: set-up  ## the package for rpm systems, into build/
	@packaging/build-rpm build

run: set-up  ## trialboot on this machine, from the checkout, in observe mode
	@$(RUN) -m trialboot run

set-up:
	@packaging/set-up

clean:  ## remove what was built in the checkout; the cache outside it stays
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache agent/.import_linter_cache .hypothesis
