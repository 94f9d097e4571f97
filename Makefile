# Two commands for a fresh machine. Each creates or reuses .venv inside this checkout.

PYTHON ?= python3
PY := .venv/bin/python

.PHONY: help demo demo-photos docs named-photos test
.DELETE_ON_ERROR:

help:
	@echo "make demo   environment + a real small training: top-3, ensemble, report (checkpoints/demo-<time>/)"
	@echo "make demo-photos DATA=<folder in the layout of VOC> [TRAIN=trainaug] [VAL=val]"
	@echo "            the same on photos, from ImageNet weights that come with the environment"
	@echo "make test   environment + ruff, mypy and the fast tests"
	@echo "make docs   environment + this documentation as a site: site/index.html"
	@echo "make help   this text"
	@echo "Another interpreter (3.11 or newer) for a new environment: make demo PYTHON=python3.12"

demo: .venv/installed
	$(PY) -m engine.run demo name=demo-$$(date +%Y%m%d-%H%M%S)

TRAIN ?= trainaug
VAL ?= val

named-photos:
	@test -n "$(DATA)" || { echo "Name the photos: make demo-photos DATA=<folder in the layout of VOC>" >&2; exit 2; }

demo-photos: named-photos .venv/installed
	$(PY) -m engine.run lite0_photos name=photos-$$(date +%Y%m%d-%H%M%S) data.root="$(DATA)" \
		data.train=$(TRAIN) data.val=$(VAL)

test: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

docs: .venv/docs-installed
	.venv/bin/zensical build --clean --strict

.venv/bin/python:
	@command -v "$(PYTHON)" >/dev/null || { echo "Trident needs Python 3.11 or newer, and '$(PYTHON)' is not installed."; \
		echo "Install it, or name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; } >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Trident needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1)."; \
		echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; } >&2
	"$(PYTHON)" -m venv .venv

.venv/installed: setup.py | .venv/bin/python
	$(PY) -m pip install --editable '.[dev]'
	@touch $@

.venv/docs-installed: setup.py | .venv/bin/python
	$(PY) -m pip install --editable '.[docs]'
	@touch $@
