# Every target sets itself up: it needs python3 (3.11 or newer) with pip, and nothing else.
# Another interpreter: make PYTHON=python3.12 test

.DEFAULT_GOAL := help
.PHONY: help demo quality quality-full bench test docs lint clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JUDGES := tests/node/node_modules/.ready

help:
	@echo "make demo   make a small object, capture it, run all stages, compare with the truth"
	@echo "make quality       the small ladder: the method beside the joint baseline, with a table (45 minutes on 2 cores)"
	@echo "make quality-full  the full ladder: every object, light and rung (days on 2 cores; goes on where it stopped)"
	@echo "make bench  seconds a step by part, and how they compare with what one could use instead"
	@echo "make test   the tests"
	@echo "make docs   the documents of docs/ as a web site, in site/"
	@echo "make lint   ruff and mypy"
	@echo "make clean  remove the virtual environment and the caches (never runs/)"

demo: $(READY)
	$(BIN)/stspbr run demo

# e.g. make quality ARGS="--tracks same --only 'letters-*'"
quality: $(READY)
	$(BIN)/python -m stspbr.quality small --workers 2 --threads 1 $(ARGS)

quality-full: $(READY)
	$(BIN)/python -m stspbr.quality full --workers 2 --threads 1 $(ARGS)

# Figures are worth something on a quiet machine only; e.g. make bench ARGS="--threads 1 --steps 50"
bench: $(READY)
	$(BIN)/stspbr bench --compare --out runs/bench.json $(ARGS)

test: $(READY) $(JUDGES)
	$(BIN)/python -m pytest -q -m "not slow" tests $(ARGS)

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Debian's python3 without python3-venv has no ensurepip: then pip puts itself into the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "stspbr needs Python 3.11 or newer; name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install -q pip; } \
		|| { rm -rf $(VENV); echo "cannot make a virtual environment: install the venv module (Debian/Ubuntu: apt-get install python3-venv)" >&2; exit 1; }

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python scripts/install_torch.py constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,docs,all]'
	@touch $@

# The glTF validator and a MikkTSpace, for tests that skip by name without them.
$(JUDGES): tests/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tests/node --no-audit --no-fund --silent && touch $@ \
		|| echo "npm ci failed in tests/node: the tests that need it will skip" >&2; \
	else echo "npm is not here: the tests of tests/node will skip" >&2; fi

clean:
	rm -rf $(VENV) tests/node/node_modules build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
