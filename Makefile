# From a fresh machine with Python 3.11 or newer and make: `make demo` or `make test`. Nothing else is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help venv demo test soak soak-bytes lint typecheck bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       run the demonstration (installs the library only)"
	@echo "make test       lint, types and tests (installs the development tools too)"
	@echo "make soak       random sessions under random faults (SOAK='--cases 1000', or --seconds; --provider, --seed, --jobs)"
	@echo "make soak-bytes recorded turns, cut at every byte of their streams and listings; takes long"
	@echo "make lint       ruff: rules and format"
	@echo "make typecheck  mypy, strict"
	@echo "make bench      speed, memory and growth, beside raw sockets and the official SDKs; short (BENCH='--json', or --repeats)"
	@echo "make venv       install everything into $(VENV)"
	@echo "make clean      remove $(VENV), caches and build results"

# The stamps keep an installation from being repeated; a changed pyproject.toml makes them stale.
$(VENV)/.library: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.development: $(VENV)/.library
	$(BIN)/python -m pip install --quiet --editable ".[tools]" --group dev
	@touch $@

venv: $(VENV)/.development

demo: $(VENV)/.library
	$(BIN)/python -m managed_agents_actors demo

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: venv
	$(BIN)/mypy

# A process for each core; whoever is done takes over from the others. A single test is run by pytest itself.
test: lint typecheck
	$(BIN)/python -m pytest -n auto --dist worksteal

SOAK ?= --seconds 600
soak: venv
	$(BIN)/python -m tests.soak $(SOAK)

soak-bytes: venv
	$(BIN)/python -m tests.soak --every-byte

# Each script also runs by itself, and in full without --short.
BENCHMARKS := stream tools live storm growth event_stream agent_core telemetry
BENCH ?= --short
bench: venv
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(BENCH) || exit; done

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
