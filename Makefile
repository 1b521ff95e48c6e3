# The front door: `make help`. Every target does its own set-up (apt packages, .venv), once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON := .venv/bin/python
VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
DEB := dist/gandi-agent_$(VERSION)_all.deb
SBOM := dist/gandi-agent_$(VERSION)_all.spdx.json
# The companion for releases without pydantic 2, in a source package of its own: one for each architecture.
CORE_VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' core/debian/changelog)
CORES := $(foreach architecture,amd64 arm64,dist/gandi-agent-core_$(CORE_VERSION)_$(architecture).deb)
RPM := dist/gandi-agent-$(VERSION)-1.noarch.rpm
# What the package is made of; the other directories are for those who work on it.
PACKAGED := SECURITY.md agent autofs bin completions debian docs/man docs/ganeti.md docs/baking.md docs/removal.md docs/report.md docs/shared-disks.md docs/succession.md etc-default etc-gandi ganeti hooks udev selinux units
INPUTS := $(sort $(shell find $(PACKAGED) -type f ! -path '*/__pycache__/*'))
SCRIPTS := .ci/run agent/image-configure agent/image-exec autofs/auto.gandi bin/gandi-check bin/gandi-hostkeys bin/gandi-motd bin/gandi-request bin/gandi-restored bin/gandi-selinux bin/gandi-stage bin/gandi-wake bin/kernel-hook etc-gandi/plugins-lib ganeti/hooks/gandi-agent $(addprefix ganeti/os/gandi/,create disk.sh export import node.sh rename verify) debian/preinst debian/postinst debian/prerm debian/postrm debian/tests/installed $(wildcard hooks/* tests/lint/check-* tools/setup)

# Where it is set, each start of the agent in a test compiles its modules: a third of what a start costs.
unexport PYTHONDONTWRITEBYTECODE

# One machine more than there are cores is what rig/slots.py allows; the last worker prepares the next one.
GUESTS := $(PYTHON) -m pytest -q -n $(shell expr $$(nproc) + 2) --dist load --maxschedchunk 1
# Tests of tests/system that are left out, by their marks.
NOT := soak
# How many examples the randomised unit tests have (tests/conftest.py).
PROFILE := test
SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))

# Of the targets of make test and make check: how long each took, in the order of their ends; printed once more at last.
TIMES := build/times
TIMED = mkdir -p $(dir $(TIMES)); trap 'echo "$@: $$SECONDS s" | tee -a $(TIMES)' EXIT;

.PHONY: help setup demo test test-others test-all check check-others began tree test-unit test-system test-vm soak bench deb rpm lint format clean FORCE

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup: ## install apt packages and .venv, if they are missing
	@tools/setup

demo: setup deb ## boot a guest and attach a disk to it, shown live (KEEP=1 keeps a console)
	@$(TIMED) KEEP=$(KEEP) $(PYTHON) -m tests.vm.demo

# The guest's Debian is unpacked on the core that the linters leave idle. The tests on this host's devices wait for a part
# of their time, in which the others have both cores.
test: setup began ## run all linters and tests, as .ci/run does; a table of how long each part took
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line tree lint deb rpm
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line test-system test-others
	@cat $(TIMES)

test-others:
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-vm

# The demo fails where something does not happen. Left out are the tests of tests/system that take longest, and of the
# randomised ones nine of ten examples.
check: setup began ## run in 6 minutes: linters, tests/unit, most of tests/system, one guest from boot to hot-plug
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line lint deb
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line test-system check-others NOT="soak or slow" PROFILE=few
	@cat $(TIMES)

check-others:
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory demo

began:
	@rm -f $(TIMES)

# What make test leaves out: testing, and the tests of make soak ONLY="releases arm64". The table is written in
# any case.
test-all: test ## make test, and the core promises on each release of Debian and on arm64, to README.md's table
	@failed=; \
	$(GUESTS) -m variant tests/vm || failed=1; \
	$(GUESTS) -m soak tests/vm/test_releases.py tests/vm/test_arm64.py || failed=1; \
	$(PYTHON) -m tests.vm.releases || failed=1; \
	[ ! "$$failed" ]

tree: setup
	@echo "guest: Debian's tree in .cache, unless it is there"
	@$(TIMED) $(PYTHON) -m tests.vm.rig build --plain > /dev/null

test-unit: setup ## run tests/unit and tests/fuzz: pure Python, no root
	@echo "seed of the randomised tests: $(SEED) (once more with: make test-unit SEED=$(SEED))"
	@$(TIMED) GANDI_SEED=$(SEED) $(PYTHON) -m pytest -q -n 2 --dist worksteal -m 'not soak' --hypothesis-seed=$(SEED) \
		--hypothesis-profile=$(PROFILE) tests/unit tests/fuzz

test-system: setup deb ## run tests/system: loop devices, network namespaces (root)
	@$(TIMED) $(PYTHON) -m pytest -q -n 2 --dist worksteal -m 'not ($(NOT))' tests/system

# Tests marked soak run in make soak: the rig's own test (its use here tests it too), and what takes long.
test-vm: setup deb ## run tests/vm: a real guest in QEMU with the package inside (root)
	@$(TIMED) $(GUESTS) -m 'not soak and not variant' tests/vm

soak: setup deb ## run the long tests, to docs/soak.md (root); ONLY=list, ONLY=NAME, MINUTES=20 (of each), MORE=1, SEED=1
	@$(PYTHON) -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(MORE),--more) $(SEED) $(ONLY)

bench: setup deb ## count boots with and without the package, and with cloud-init, to docs/benchmarks.md; ONLY=later counts one, ONLY=hotplug
	@$(PYTHON) -m tests.vm.bench $(ONLY)

deb: $(DEB) $(CORES) ## build dist/gandi-agent_<version>_all.deb and dist/gandi-agent-core_*.deb, checked by lintian, and their SBOMs

# Built in a copy, so that the tree stays clean; not built again while nothing that goes into it has changed.
$(DEB): $(INPUTS) build/deb.inputs tools/sbom.py | setup
	@echo "package: building $@"
	@rm -rf build/deb dist/gandi-agent_*.deb dist/gandi-agent_*.spdx.json && mkdir -p build/deb/source dist
	@tar -c --exclude=__pycache__ $(PACKAGED) | tar -x -C build/deb/source
	@cd build/deb/source && dpkg-buildpackage -b -us -uc > ../log 2>&1 || { tail -30 ../log; exit 1; }
	@lintian --allow-root --fail-on error,warning --tag-display-limit 0 build/deb/$(@F)
	@tools/sbom.py build/deb/$(@F) > build/deb/sbom
	@mv build/deb/sbom $(SBOM)
	@mv build/deb/$(@F) $@
	@echo "package: $@ ($$(stat -c %s $@) bytes)"
	@echo "package: $(SBOM): its files, licence and dependencies (SPDX)"

# Of wheels; tools/setup has compared their digests. -d: nothing is compiled, so no other architecture's tools are needed.
dist/gandi-agent-core_$(CORE_VERSION)_%.deb: $(wildcard core/debian/* core/debian/source/*) tools/pins/core.txt tools/sbom.py | setup
	@echo "package: building $@"
	@rm -rf build/core-$* dist/gandi-agent-core_*_$*.* && mkdir -p build/core-$*/source/wheels dist
	@tar -C core -c debian | tar -x -C build/core-$*/source
	@cp .cache/core/$(CORE_VERSION)/*.whl build/core-$*/source/wheels
	@cd build/core-$*/source && dpkg-buildpackage -b -us -uc -d -a$* > ../log 2>&1 || { tail -30 ../log; exit 1; }
	@lintian --allow-root --fail-on error,warning --tag-display-limit 0 build/core-$*/$(@F)
	@tools/sbom.py build/core-$*/$(@F) > build/core-$*/sbom
	@mv build/core-$*/sbom $(@:.deb=.spdx.json)
	@mv build/core-$*/$(@F) $@
	@echo "package: $@ ($$(stat -c %s $@) bytes), with its SBOM"

# The list of the files: a file that has gone must lead to a new package as well.
build/deb.inputs: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(INPUTS) | cmp -s - $@ || printf '%s\n' $(INPUTS) > $@

# rpmbuild would ask for the dependencies of a build in its own database, of which a Debian host has none.
rpm: $(RPM) ## build dist/gandi-agent-<version>-1.noarch.rpm for Fedora, checked

$(RPM): $(DEB) SECURITY.md $(wildcard rpm/* docs/*.md)
	@rm -rf build/rpm dist/gandi-agent-*.rpm && mkdir -p build/rpm
	@rpmbuild -bb --nodeps --define "_topdir $(CURDIR)/build/rpm" --define "_rpmdir $(CURDIR)/build/rpm" \
		--define "_mandir /usr/share/man" --define "_docdir /usr/share/doc" --define "version $(VERSION)" \
		--define "tree $(CURDIR)" --define "filelist $(CURDIR)/build/rpm/files" rpm/gandi-agent.spec \
		> build/rpm/log 2>&1 || { tail -30 build/rpm/log; exit 1; }
	@tests/lint/check-rpm build/rpm/noarch/$(@F) $(DEB)
	@mv build/rpm/noarch/$(@F) $@
	@echo "package: $@ ($$(stat -c %s $@) bytes)"

lint: setup ## run ruff, mypy, shellcheck, and check units, udev rules, man pages
	@$(TIMED) .venv/bin/ruff check . bin/gandi-agent bin/gandi-connect; \
	.venv/bin/ruff format --check . bin/gandi-agent bin/gandi-connect; \
	.venv/bin/mypy; \
	shellcheck $(SCRIPTS); \
	tests/lint/check-units; \
	tests/lint/check-man

format: setup ## let ruff correct and format the code
	@.venv/bin/ruff check --fix . bin/gandi-agent bin/gandi-connect
	@.venv/bin/ruff format . bin/gandi-agent bin/gandi-connect

clean: ## remove what was built; .venv and the downloaded cache stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find agent tests -name __pycache__ -type d -prune -exec rm -rf {} +
