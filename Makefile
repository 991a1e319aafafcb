# The one door: `make` lists what can be done, `make check` is all of it.
# Needs python3 (3.11 or newer) with its venv module, git, and a POSIX userland; everything else goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.ready
PINS := requirements-dev.txt
DOCS_PINS := requirements-docs.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# Tests run on all cores, two of them on each (tests/conftest.py), and in random order.
# TESTS= picks some, PYTEST= adds options: make test TESTS=tests/core PYTEST=-x
TESTS ?= tests
PYTEST ?=
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
# Decisions, and the processes that nobody watches, are tested to the last branch.
COVERED := reconciler/core/*,reconciler/keeper.py,reconciler/keeping/*,reconciler/statelock.py,reconciler/pump.py,$\
  reconciler/pumping/*,reconciler/folders.py,reconciler/segments.py,reconciler/wire.py,reconciler/hostmounts.py
# These tests reach all of it. The others start hundreds of command lines, and measured those would take minutes more.
COVERING := tests/core tests/model tests/sim tests/adapters tests/real

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# ---- set up ---------------------------------------------------------------------------------------------------------

# The stamp holds where it was made: a virtual environment does not survive a move (its scripts name their place).
ifneq ($(file < $(STAMP)),$(CURDIR))
.PHONY: $(STAMP)
endif

.PHONY: setup
setup: $(STAMP) ## create .venv with everything in it (nothing to do when it is up to date)
	@:

$(STAMP): $(PINS) pyproject.toml reconciler/__init__.py
	@[ "$$(uname -s)" = Linux ] || { echo "reconciler runs on Linux only; this is $$(uname -s)." >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found. On Debian: apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module. On Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) ($$(grep -c == $(PINS)) packages)" >&2
	@# An environment that works is never made anew: others may be using it, and PYTHON may mean another one by now.
	@$(RUN) -c 'import sys, ssl, pip; sys.exit(sys.prefix != "$(abspath $(VENV))")' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV)
	@# One dot per package: on a slow line one sees that it goes on.
	@$(RUN) -m pip install --progress-bar off -r $(PINS) | \
	  while read -r word _; do if [ "$$word" = Collecting ]; then printf . >&2; fi; done; echo >&2
	@$(RUN) -m pip install -q --no-deps --no-build-isolation -e .
	@printf '%s\n' '$(CURDIR)' > $@

# ---- use ------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## see it work: a mail queue and six run-once processes; Ctrl-C ends all
	@exec $(VENV)/bin/reconciler up -f manifests

# ---- work -----------------------------------------------------------------------------------------------------------

.PHONY: test
test: setup ## run all tests, in parallel and in random order
	@$(RUN) -m pytest $(PARALLEL) $(PYTEST) $(TESTS)

.PHONY: check
check: lint types layers cover ## lint, types, layers, all tests, coverage gates
	@$(RUN) -m pytest $(PARALLEL) $(PYTEST) tests $(COVERING:%=--ignore=%)

.PHONY: fmt
fmt: setup ## format, and fix what can be fixed
	@$(RUN) -m ruff format -q .
	@$(RUN) -m ruff check --fix .

.PHONY: lint
lint: setup ## ruff: format and rules
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .

.PHONY: types
types: setup ## mypy --strict
	@$(RUN) -m mypy

.PHONY: layers
layers: setup ## import-linter: who may import whom
	@$(RUN) $(VENV)/bin/lint-imports --no-logo

.PHONY: cover
cover: setup ## the tests of decisions and effects, and the coverage gates
	@rm -f .coverage .coverage.*
	@$(RUN) -m pytest $(PARALLEL) --cov --cov-report= $(PYTEST) $(COVERING)
	@$(RUN) -m coverage report --include='$(COVERED)' --show-missing --skip-covered --fail-under=100

.PHONY: sim
sim: setup ## the simulator with long histories (SEED=n repeats one)
	@$(RUN) -m pytest $(PARALLEL) tests/sim --timeout=3600 --hypothesis-profile=long $(if $(SEED),--hypothesis-seed=$(SEED)) $(PYTEST)

.PHONY: mutants
mutants: setup ## mutation testing of reconciler/core (slow)
	@$(RUN) -m pip install -q 'mutmut==3.8.1'
	@PYTHONDONTWRITEBYTECODE=1 $(RUN) -m mutmut run

.PHONY: bench
bench: setup compiled ## the project's own benchmarks, a table at the end (BENCH="hot respawn" picks some)
	@$(RUN) tests/bench/run_all.py $(BENCH)

# What pip installs is compiled; a checkout may be one where nothing writes bytecode (PYTHONDONTWRITEBYTECODE), and then
# every start of a controller compiles all of it again.
.PHONY: compiled
compiled: setup
	@$(RUN) -m compileall -q reconciler

.PHONY: chaos
chaos: setup ## kill controller, pump and keeper 1000 times under load, and judge (KILLS=100 SEED=7)
	@KILLS=$(KILLS) SEED=$(SEED) PYTHONPATH=tests $(RUN) tests/chaos/run.py

.PHONY: soak
soak: setup ## 200000 respawns and 1000 reloads: do memory, descriptors and journal stay flat? (RESPAWNS=5000 RELOADS=20)
	@RESPAWNS=$(RESPAWNS) RELOADS=$(RELOADS) PYTHONPATH=tests $(RUN) tests/soak/soak.py

.PHONY: fleet
fleet: setup compiled ## 10000 manifests and 5000 processes: does all of it work? (PROGRAMS=1000 PROCESSES=500)
	@PROGRAMS=$(PROGRAMS) PROCESSES=$(PROCESSES) PYTHONPATH=tests $(RUN) tests/soak/fleet.py

.PHONY: image
image: setup ## build the images and see that containers do what is said (ENGINE=podman; needs an engine)
	@ENGINE="$(ENGINE)" BUILD="$(BUILD)" RUN_OPTIONS="$(RUN_OPTIONS)" $(RUN) tests/image/check.py

.PHONY: reference
reference: setup ## write the generated pages of docs/reference
	@$(RUN) docs/generate.py

.PHONY: docs
docs: setup ## build the documentation into site/
	@$(RUN) docs/generate.py --check
	@$(RUN) -m pip install -q -r $(DOCS_PINS)
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "site/index.html"

.PHONY: pins
pins: ## resolve the development requirements anew (needs a network)
	@rm -rf .make/pins && $(PYTHON) -m venv .make/pins && .make/pins/bin/pip install -q --upgrade 'pip>=25.1'
	@.make/pins/bin/pip install -q --group dev . && .make/pins/bin/pip uninstall -q -y reconciler
	@{ grep '^#' $(PINS); .make/pins/bin/pip freeze --exclude pip; } > .make/pins.txt && mv .make/pins.txt $(PINS)
	@.make/pins/bin/pip freeze --exclude pip > .make/before.txt && .make/pins/bin/pip install -q --group docs
	@{ grep '^#' $(DOCS_PINS); .make/pins/bin/pip freeze --exclude pip | grep -vxFf .make/before.txt; } > .make/pins.txt \
	  && mv .make/pins.txt $(DOCS_PINS)

.PHONY: clean
clean: ## remove what was made, .venv included
	@rm -rf $(VENV) .make build dist site .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis mutants \
	  .import_linter_cache
	@find reconciler tests docs -name __pycache__ -prune -exec rm -rf {} +
