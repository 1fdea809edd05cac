# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint types walls unit slow hostile attacks watch pictures faults load hashes sbom fuzz vectors evidence docs format clean footprint

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "he-infer needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing he-infer and what its demo needs into $(VENV) (torch is the largest part) ..."
	$(PIP) install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing he-infer and its development tools into $(VENV) (torch is the largest part) ..."
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(VENV)/.demo  ## set up, then the main job on real images: store, train, serve, classify encrypted, report
	$(BIN)/he-infer demo $(ARGS)

test: lint types walls unit  ## set up, then lint, types, import walls and tests

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

walls: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

slow: $(VENV)/.dev  ## the soaks and full-set runs that `make test` leaves out
	$(BIN)/python -m pytest -m slow $(ARGS)

hostile: $(VENV)/.dev  ## 20,000 hostile messages to a running server and 10,000 objects to its parser, with counts
	$(BIN)/python -m tests.hostile $(ARGS)

attacks: $(VENV)/.dev  ## the attacks by letter with tries and successes; a hostile client of each kind beside an honest one
	$(BIN)/python -m tests.attacks $(ARGS)

watch: $(VENV)/.dev  ## 200 studies through the watcher, which is killed 30 times, archive and server away, with counts
	unshare --net --map-root-user $(BIN)/python -m tests.he_infer.client.pacs.campaign $(ARGS)

pictures: $(VENV)/.dev  ## the docs' pictures of the page and the archive, in docs/images: look at each afterwards
	unshare --net --map-root-user $(BIN)/python -m tests.he_infer.client.console.pictures --to docs/images

faults: $(VENV)/.dev  ## kill, fill, cut off and confuse a running server, with counts of what was lost
	$(BIN)/python -m tests.faults $(ARGS)

load: $(VENV)/.dev  ## half to three times what the server can do, from many processes; figures and curves
	$(BIN)/python -m tests.load $(ARGS)

JOBS ?= 2
evidence: $(VENV)/.dev  ## every head on both MedMNIST sets, five seeds, three widths, whole test sets: records, tables, page
	mkdir -p evidence
	$(BIN)/he-experiments accuracy --grid experiments/grids/medmnist.toml --records evidence/accuracy.jsonl --jobs $(JOBS)
	$(BIN)/he-experiments accuracy-tables evidence/accuracy.jsonl --markdown evidence/accuracy.md
	$(BIN)/he-experiments report evidence/accuracy.jsonl --html evidence/report.html

docs: $(VENV)/.docs  ## the documentation's site, in site/; a broken link or anchor fails
	$(BIN)/zensical build --clean --strict

RUNS ?= 100000
fuzz: $(VENV)/.dev  ## coverage-guided fuzzing of what reads sealed objects: RUNS inputs, from the frozen vectors on
	$(PIP) install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python tests/hostile/fuzz_container.py -runs=$(RUNS)

OLDER_NUMPY ?= 2.0.2
vectors: $(VENV)/.dev  ## the image cipher's frozen bytes, under this numpy and an older one, with numba and without
	$(BIN)/python -m tests.cipher.recipes
	$(PYTHON) -m venv $(VENV)-numpy
	$(VENV)-numpy/bin/python -m pip --disable-pip-version-check install --quiet numpy==$(OLDER_NUMPY) \
	  $$(grep -E '^(cryptography|numba)==' constraints.txt)
	$(VENV)-numpy/bin/python -m tests.cipher.recipes

footprint: $(VENV)/.dev  ## install the server alone, as the container does: packages, bytes, memory
	$(BIN)/python -m pytest -q -s -m slow tests/he_infer/server/test_deploy.py

PIP_TOOLS ?= 7.6.2
hashes: $(BIN)/python  ## requirements-server.txt anew: versions of constraints.txt and the SHA-256 of every file
	$(PYTHON) -m venv $(VENV)-supply
	$(VENV)-supply/bin/python -m pip --disable-pip-version-check install --quiet pip-tools==$(PIP_TOOLS)
	$(VENV)-supply/bin/pip-compile --quiet --generate-hashes --no-annotate --no-header --strip-extras --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --extra server --extra postgres --constraint constraints.txt \
	  --output-file requirements-server.new pyproject.toml
	{ sed -n '/^#/p' requirements-server.txt; cat requirements-server.new; } > requirements-server.txt.new
	rm requirements-server.new
	mv requirements-server.txt.new requirements-server.txt

CYCLONEDX ?= 7.5.0
sbom: $(BIN)/python  ## bill of materials of the server's install (CycloneDX), in sbom-server.json
	$(PYTHON) -m venv $(VENV)-supply
	$(VENV)-supply/bin/python -m pip --disable-pip-version-check install --quiet cyclonedx-bom==$(CYCLONEDX)
	$(VENV)-supply/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
	  --output-file sbom-server.json requirements-server.txt

format: $(VENV)/.dev  ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what the targets made
	rm -rf $(VENV) $(VENV)-numpy $(VENV)-supply sbom-server.json site .cache he-infer-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
