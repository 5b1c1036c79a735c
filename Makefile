# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
# `make samples` makes a page to listen by, `make page` one that codes speech (with Node and npm),
# `make docs` builds the site, `make wheel-test` tries what is published.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS = -c constraints.txt
# What `make samples` codes: a file, a folder or a list.
SAMPLES ?= tests/speech.flac
BESIDE = pcodec pcodec-5.5 opus-8 amrwb-6.6 codec2-3.2

.PHONY: demo docs page samples test wheel-test

demo: $(VENV)/demo
	$(VENV)/bin/python -m pcodec.eval.demo tests/speech.flac demo

samples: $(VENV)/demo
	mkdir -p samples
	$(VENV)/bin/pcodec eval $(SAMPLES) -f -o samples/results.json $(BESIDE:%=--codec %)
	$(VENV)/bin/pcodec report samples/results.json -f -o samples/index.html

page: $(VENV)/page web/node_modules
	$(VENV)/bin/pcodec export web/graphs
	cd web && npm run --silent page

test: $(VENV)/test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n auto

docs: $(VENV)/test
	$(VENV)/bin/mkdocs build --strict

wheel-test:
	$(PYTHON) .ci/wheel_test.py

web/node_modules: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml constraints.txt $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet $(CONSTRAINTS) -e '.[eval]'
	touch $@

$(VENV)/page: pyproject.toml constraints.txt $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet $(CONSTRAINTS) -e '.[export]'
	touch $@

$(VENV)/test: pyproject.toml constraints.txt $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet $(CONSTRAINTS) -e '.[test]'
	touch $@
