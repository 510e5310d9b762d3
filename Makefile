# `make run` trains and tests THERIS on simulated thermal video; `make test` runs the quick tests, `make test-all` all
# tests; `make lint` checks style and types. Each first creates or updates .venv if it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Waiting OpenMP threads sleep: if they spin, one other busy process slows training many times.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: run test test-all lint

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: $(VENV)/installed
	$(BIN)/python -m lit_thermal fit -c experiments/theris.yaml
	$(BIN)/python -m lit_thermal test -c experiments/theris.yaml --ckpt_path best

# Two test processes share the cores; more threads in each would only compete with each other.
test test-all: export OMP_NUM_THREADS ?= 1

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ''

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
