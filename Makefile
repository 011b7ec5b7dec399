# Every target sets up what it needs; only python3 (3.11 or newer) with pip must be installed.
# Another interpreter: make PYTHON=python3.12 test

.DEFAULT_GOAL := help
.PHONY: help demo quality quality-assets quality-confidence quality-duplicates quality-full quality-scenes \
	quality-shapes bench test docs lint clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JUDGES := tests/node/node_modules/.ready

help:
	@echo "make demo   make a small object, capture it, run all stages, compare the result with the truth"
	@echo "make quality       small ladder: compare the method with the joint baseline (45 minutes on 2 cores)"
	@echo "make quality-scenes  neural scenes: generate, train, measure (10 to 15 minutes on 2 cores)"
	@echo "make quality-assets  assets of the folder STSPBR_ASSETS, path-traced and not (a night on 2 cores)"
	@echo "make quality-full  full ladder: every object, light and rung (days on 2 cores; run again to continue)"
	@echo "make quality-duplicates  poses of equal objects in one photo, on path-traced piles (hours)"
	@echo "make quality-shapes  kinds of cells against each other, with and without remeshing (20 minutes on one core)"
	@echo "make quality-confidence  stds of the maps against known errors, views removed and added (an hour or two)"
	@echo "make bench  seconds per step by part, compared with alternatives"
	@echo "make test   run the tests"
	@echo "make docs   build docs/ as a web site in site/"
	@echo "make lint   run ruff and mypy"
	@echo "make clean  remove the virtual environment and the caches (not runs/)"

demo: $(READY)
	$(BIN)/stspbr run demo

# e.g. make quality ARGS="--tracks same --only 'letters-*'"; --tracks all adds equal noise and transport off
quality: $(READY)
	$(BIN)/python -m stspbr.quality small --workers 2 --threads 1 $(ARGS)

# the mini setting of compositional neural scenes, and its figures (10 to 15 minutes on 2 cores)
quality-scenes: $(READY)
	$(BIN)/stspbr run scenes-mini $(ARGS)

# e.g. make quality-assets ARGS="--tracks path --captures runs --only '*-learned-*'"
quality-assets: $(READY)
	$(BIN)/python -m stspbr.quality assets --workers 2 --threads 1 $(ARGS)

quality-full: $(READY)
	$(BIN)/python -m stspbr.quality full --workers 2 --threads 1 $(ARGS)

# e.g. make quality-duplicates ARGS="label --side 1536 --samples 32 --seeds 3"; ARGS=--maps: from the photo to maps;
# ARGS=--turned: N turned lights against N cameras under one light
quality-duplicates: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m stspbr.quality.duplicates $(ARGS)

# e.g. make quality-shapes ARGS="candlestick wires --seeds 3"
quality-shapes: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m stspbr.quality.shapes --threads 1 $(ARGS)

# e.g. make quality-confidence ARGS="letters casket --tracks same --parts ranks removal"; finished parts are kept
quality-confidence: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m stspbr.quality.confidence $(ARGS)

# Times are meaningful on an idle machine only; e.g. make bench ARGS="--threads 1 --steps 50"
bench: $(READY)
	$(BIN)/stspbr bench --compare --out runs/bench.json $(ARGS)

test: $(READY) $(JUDGES)
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal tests $(ARGS)

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Debian's python3 without python3-venv has no ensurepip: then pip installs itself into the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "stspbr needs Python 3.11 or newer; use make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install -q pip; } \
		|| { rm -rf $(VENV); echo "cannot make a virtual environment: install the venv module (Debian/Ubuntu: apt-get install python3-venv)" >&2; exit 1; }

# Most of what is installed is never imported: no bytecode in advance, which pip calls NO_COMPILE=0.
$(READY): export PIP_NO_COMPILE := 0
$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python scripts/install_torch.py constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,docs,all]'
	@touch $@

# The glTF validator and a MikkTSpace; without them the tests that need them skip.
$(JUDGES): tests/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tests/node --no-audit --no-fund --silent && touch $@ \
		|| echo "npm ci failed in tests/node: the tests that need it will skip" >&2; \
	else echo "npm is not installed: the tests that need tests/node will skip" >&2; fi

clean:
	rm -rf $(VENV) tests/node/node_modules build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
