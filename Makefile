# Needs only Python 3.11 or newer and make. Everything else goes into the virtual environment.
#
#   make demo ARGS="--seconds 10 --seed 7"     options go through ARGS
#   make test VENV=/tmp/venv PYTHON=python3.13 another environment, another Python

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
PYTEST := $(BIN)/python -m pytest
# Fast first: what needs no server, then the rest in two processes, each with servers of its own.
FAST := $(wildcard tests/test_*.py tests/core tests/dialects)
REST := $(filter-out tests/core tests/dialects tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

.DEFAULT_GOAL := help
.PHONY: help demo test quick check bench load bench-compare serve prove lock clean install
.DELETE_ON_ERROR:

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | \
		while IFS='|' read -r name words; do printf '  make %-13s %s\n' "$$name" "$$words"; done

demo: $(STAMP) ## the whole exchange on this machine: live leads, then the books checked
	$(BIN)/python -m exchange demo $(ARGS)

serve: $(STAMP) ## run the exchange (settings: EXCHANGE_*; without a database URL it brings its own servers)
	$(BIN)/python -m exchange serve $(ARGS)

test: check ## all checks and every suite, as CI runs them
	$(PYTEST) $(FAST) -m 'not prove' -q $(ARGS)
	$(PYTEST) $(REST) -m 'not prove' -q -n 2 --dist loadfile --durations=10 $(ARGS)
	@echo "make test: format, lint, types, import contracts and every suite passed."

quick: $(STAMP) ## pure suites only, in seconds
	$(PYTEST) tests -m 'not real and not slow and not prove' -q $(ARGS)

check: $(STAMP) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## the figures of speed; writes bench.json and bench.svg
	$(BIN)/python -m loadtest.bench $(ARGS)

bench-compare: $(STAMP) ## what moved beyond noise: OLD=a.json NEW=b.json
	$(BIN)/python -m loadtest.bench.compare $(OLD) $(NEW)

load: $(STAMP) ## load an exchange of its own with Locust; writes build/load/report.html
	$(BIN)/python -m loadtest.load $(ARGS)

prove: $(STAMP) ## what takes longer: the prove suites, and the demo with seeds 1 to 20
	$(PYTEST) tests -m prove $(ARGS)
	@set -e; for seed in $$(seq 1 20); do echo "demo, seed $$seed"; \
		$(BIN)/python -m exchange demo --seed $$seed --seconds 10; done
	@echo "make prove: the prove suites and the demo with seeds 1 to 20 hold."

# What runs the exchange stands first in the lock; the image stops reading at the line `# development`.
COMPILE := build/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml
lock: ## pin every dependency by hash again
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install -q uv
	$(COMPILE) --upgrade -o build/lock/run.txt
	$(COMPILE) --upgrade --extra dev -c build/lock/run.txt -o build/lock/all.txt
	{ echo "# Made by 'make lock' from pyproject.toml."; cat build/lock/run.txt; echo "# development"; \
		awk 'NR == FNR { if (/^[^ #]/) seen[$$1] = 1; next } /^[^ ]/ { keep = !($$1 in seen) } keep' \
		build/lock/run.txt build/lock/all.txt; } > requirements.lock

install: $(STAMP) ## only the virtual environment

# Once, and again when the pins or the package change. Everything comes from the lock, also what
# builds our own package, so nothing is resolved here.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer (none found)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "make: python could not make a virtual environment (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-build-isolation --no-deps -e .
	@touch $(STAMP)

clean: ## forget the environment and everything made; data folders stay
	rm -rf $(VENV) build bench.json bench.svg *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
