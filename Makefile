# Two commands matter: `make demo` and `make test`. Each makes its own environment first.
# PyTorch is installed apart from the lock, in its CPU build. Where pip's own configuration doesn't find that build, name
# PyTorch's CPU index: make demo TORCH_INDEX="--extra-index-url <PyTorch's CPU index>"
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PACKAGES := protocol node coordinator bank_node data_partner_node ledger concordat
TESTS ?= tests
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.PHONY: help demo up down test lint unit integration lock clean engine contracts

help:  ## Say what each target does
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Concordat needs Python 3.11 or newer" >&2; exit 1)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 $(TORCH_INDEX)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY) engine  ## Bring up a whole consortium, train one shared score, show what came of it
	$(BIN)/concordat demo --report out

up: $(READY)  ## Keep a consortium running in var/lab
	$(BIN)/concordat up --dir var/lab

down: $(READY)  ## Stop it
	$(BIN)/concordat down --dir var/lab

test: lint unit integration  ## Everything that must pass

lint: $(READY)  ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(READY) engine contracts  ## Tests without processes
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(TESTS)/unit $(TESTS)/property $(TESTS)/vectors $(TESTS)/attacks $(TESTS)/contracts -m "not namespace and not integration"

integration: $(READY) engine  ## Tests with real processes, real TLS, real databases, a real browser
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TESTS)/integration $(TESTS)/attacks $(TESTS)/browser -m "integration or namespace or browser"

engine: $(READY)
	@$(BIN)/python -m ledger.engine install

contracts: ledger/contracts/node_modules/.ready
ledger/contracts/node_modules/.ready: ledger/contracts/package-lock.json
	cd ledger/contracts && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

lock:  ## Resolve requirements.in anew (developers; needs uv)
	uv pip compile requirements.in --python-version 3.11 --generate-hashes --no-emit-package torch --no-header $(UV_ARGUMENTS) -o requirements.lock

clean:  ## Remove the environment and what runs left behind
	rm -rf $(VENV) var out build *.egg-info
