# make predict [ARTICLES=path]   label articles with the model inside the package
# make test                      install the test extras and run the tests
PYTHON ?= python3
VENV ?= .venv
ARTICLES ?= data/examples
# what runs without torch and the other extras
CORE_TESTS ?= $(addprefix tests/test_, $(addsuffix .py, \
  array_file articles baseline batching calibration codebook dates decoding furniture identities \
  jobs labelled language lexicon mastheads models_ensemble normalize passages predict \
  predict_command readme reading store tables terminal tfidf thresholds webpages writers))
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: predict test test-core test-slow lint clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.core

predict: $(VENV)/.core
	$(VENV)/bin/relclass predict $(ARTICLES)

test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

# the core install alone, without torch and without hazm on Python 3.11
test-core: $(VENV)/.core
	$(PIP) pytest pytest-timeout hypothesis
	$(VENV)/bin/python -m pytest -m "not slow" $(CORE_TESTS)

test-slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m slow

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
