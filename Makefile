# `make` alone explains itself. Everything runs from .venv, which is made on first use and again only when
# pyproject.toml, constraints.txt or the Python version change.

PYTHON ?= python3
PIP_FLAGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# The key is part of the stamp's name: a touched file with the same content installs nothing, a changed pin does.
KEY := $(shell { cat pyproject.toml constraints.txt; $(PYTHON) --version; } 2>/dev/null | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.ready-$(KEY)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check format test demo tiny bench docs pins clean

help:  ## this list
	@echo "Longwatch: ask your cameras. First time here? Run: make demo"
	@echo
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /\1|/' \
		| while IFS='|' read -r name what; do printf '  make %-8s %s\n' "$$name" "$$what"; done

setup: $(STAMP)  ## make .venv with the tested versions (PYTHON=python3.12, PIP_FLAGS=... are passed on)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "make setup: $(PYTHON) is $$($(PYTHON) --version 2>&1 || true); Longwatch needs 3.11 or newer: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make setup: this Python cannot make environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev,demo,train]"
	@rm -f $(VENV)/.ready-*
	@touch $@

check: $(STAMP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff write the layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests marked `system` start processes of their own and wait for them: they run alone, after the others. Pytest's 5 is
# "nothing chosen", which is a mistake only where it is said twice.
test: $(STAMP)  ## the whole suite, on the CPU and offline; ARGS="-k bank" chooses
	@part() { $(BIN)/python -m pytest -q --durations=10 "$$@" $(ARGS); }; \
	set +e; part -n $(WORKERS) --dist worksteal -m "not system"; units=$$?; part -m system; system=$$?; \
	case "$$units $$system" in "0 0"|"0 5"|"5 0") ;; "5 5") echo "make test: no test is chosen by $(ARGS)" >&2; exit 5;; *) exit 1;; esac

demo: $(STAMP)  ## broker, test camera, daemon, questions answered; ONCE=1 ends after the first round
	$(BIN)/longwatch demo $(if $(ONCE),--once)

tiny: $(STAMP)  ## train the shipped tiny model again
	$(BIN)/longwatch train -c configs/train/tiny.yaml

bench: $(STAMP)  ## every bench script; each prints a table and one JSON line
	@set -e; for script in accuracy gate latency; do echo "== $$script"; $(BIN)/python "bench/$$script.py"; done

docs: $(STAMP)  ## write the pages that are made from the code: configuration, methods, payload schemas, metrics
	$(BIN)/python -m daemon.reference
	$(BIN)/python -m daemon.methods_page
	$(BIN)/python -m daemon.wire
	$(BIN)/python -m daemon.prometheus

pins: $(STAMP)  ## write the installed versions into constraints.txt
	@{ sed '/^[^#]/d' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed -E '/^#/d; s/\+(cpu|cu[0-9]+)$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## caches and the environment; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
