# Everything stays inside the checkout. Python 3.11 or newer and make are enough.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$name; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir --require-hashes --only-binary :all:

# How long `make soak` may take, and what it runs: the tests that have a long form.
SOAK_SECONDS ?= 1800
SOAK_TESTS = ${shell grep -rlE '^ *@profile\(|TILLGATE_SOAK' --include='test_*.py' tests}
PYTEST_ARGS ?=
# Which groups of tests/mutants/groups.toml `make mutants` runs; all by default.
GROUPS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo run test bench soak mutants

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(VENV)/setup.stamp ## create .venv/ from the lock file; a second call does nothing

setup-dev: $(VENV)/setup-dev.stamp ## the same with the test tools

demo: setup ## show everything at once: the documented batch, its reply, its undo
	@$(BIN)/tillgate demo --exit

run: setup ## serve on http://127.0.0.1:8080
	@$(BIN)/tillgate serve

test: setup-dev ## run all tests
	@$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

bench: setup-dev ## run the benchmarks, each beside its floor; writes a table
	@$(BIN)/python -m bench.run

soak: setup-dev ## the long forms of the property and fuzz tests, ended after SOAK_SECONDS (1800); fails on the first failure
	@TILLGATE_SOAK=1 timeout --signal=INT --kill-after=60 $(SOAK_SECONDS) \
		$(BIN)/python -m pytest -n auto -x $(PYTEST_ARGS) $(SOAK_TESTS); status=$$?; \
	if [ $$status -eq 124 ]; then echo "The time is up; nothing failed."; else exit $$status; fi

mutants: setup-dev ## change the code in thousands of places, one at a time, and see whether the tests notice; takes an hour
	@nice -n 19 $(BIN)/python -m tests.mutants $(GROUPS)

$(VENV)/setup.stamp: requirements.lock Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
		echo "This Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(INSTALL) -r requirements.lock
	@# The command, and the checkout on the environment's path: nothing is built, so nothing to build with is fetched.
	@$(BIN)/python -c 'import os, sysconfig; print(os.getcwd(), file=open(sysconfig.get_path("purelib") + "/tillgate.pth", "w"))'
	@printf '%s\n' '#!/bin/sh' 'here=$$(dirname "$$(readlink -f "$$0")")' \
		'exec "$$here/python" -P -c "from cli import main; main()" "$$@"' > $(BIN)/tillgate
	@chmod +x $(BIN)/tillgate
	@touch $@

$(VENV)/setup-dev.stamp: $(VENV)/setup.stamp requirements-dev.lock
	@$(INSTALL) -r requirements-dev.lock
	@touch $@
