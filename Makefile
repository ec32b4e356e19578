# Needs python3 >= 3.11 and make, nothing else; everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types layers docs slow network postgres s3 ray optional page clean

demo: $(VENV)/.installed
	$(BIN)/clusterloom fit digits -k 10 --out demo/digits --overwrite
	$(BIN)/clusterloom evaluate demo/digits digits
	@echo "members of every cluster:    demo/digits/clusters.png"
	@echo "new images of every cluster: demo/digits/generated.png"

# One process for each processor, four at most since each imports PyTorch. `pytest` alone runs them in one.
test: $(VENV)/.dev
	$(MAKE) --jobs=2 lint types layers docs
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

network: $(VENV)/.dev
	$(BIN)/python -m pytest -m network

postgres: $(VENV)/.dev
	$(BIN)/python -m pytest -m postgres

# moto, an S3-compatible server, on loopback, inside the tests.
s3: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group s3
	$(BIN)/python -m pytest tests/test_data_shards.py

# Ray on loopback, started inside the tests; some processes are killed.
ray: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ray]'
	$(BIN)/python -m pytest -m ray

# Hugging Face datasets, MLflow and timm, which few tests need.
optional: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group optional
	$(BIN)/python -m pytest tests/test_export.py tests/test_estimators.py tests/test_backbone.py -k 'datasets or mlflow or timm'

# The page of `clusterloom explore`, bundled from its sources; only who changes them needs it, and Node.js.
PAGE := src/clusterloom/explore/page
page:
	cd $(PAGE) && npm ci --no-fund --no-audit && npm run --silent build

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("clusterloom needs Python 3.11 or newer; pass PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

# Dependency groups (PEP 735) need pip 25.1.
$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . --group dev
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo docs/_build
