# `make demo` and `make test` are all there is to setting up; both need Python 3.11 or newer, and fetch packages once.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint

demo: .venv/installed
	@run=$$($(BIN)/bantamnet train quickstart --json | $(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["run"])') \
	&& echo && $(BIN)/bantamnet evaluate "$$run" \
	&& echo && $(BIN)/bantamnet predict "$$run" examples/digits --top 2 \
	&& echo && echo "The run is in $$run: best.safetensors is the model, curves.png and confusion.png show it." \
	&& echo "Try next (after: source .venv/bin/activate):" \
	&& echo "  bantamnet recipes" \
	&& echo "  bantamnet summary $$run" \
	&& echo "  bantamnet train quickstart --set optim.lr=0.05 --seed 1" \
	&& echo "  bantamnet train resnet8-tiny --epochs 2   # CIFAR-10, downloaded once"

test: .venv/installed-dev lint
	$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
