# Every target works from a bare checkout: it makes the virtual environment, builds the clusters'
# programs and images once (a few minutes, with a line of progress each) and keeps them in a cache.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IN := PYTHONPATH=tests:operator
TOOLS := PYTHONPATH=tools $(BIN)/python
N ?= 1000
KIT ?= all
ARGS ?=
QUICK := tests/unit tests/golden
REAL := tests/integration tests/faults tests/bench
SKEW := tests/skew
# Each worker has a pair of clusters of its own. Given clusters are one pair, so one worker.
WORKERS ?= $(if $(FARLET_HOME_KUBECONFIG),0,3)
SHARED := -n $(WORKERS) --dist loadfile
# These tests wait for a third of their time, so there are more workers than cores.
QUICKLY := -n $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN)) --dist loadfile
# The next run, the other workers and programs that tests start read what one of them has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo run unit test test-rest test-all check generate docs bench profile streams paths soak skew conformance permissions clusters prepare base-images image build-installer release-dry-run audit format clean

help: ## Show this list
	@grep -Eh '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18
	@echo
	@echo '  Variables: ARGS="-k name" for pytest, TESTS="tests/faults ..." for make test to run these alone,'
	@echo '  WORKERS=3 pairs of clusters at the same time, N=1000 for bench and profile, ARGS for run.'
	@echo '  FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG: use these clusters, start none.'

demo: $(STAMP) ## Two clusters and one pod per access mode
	@$(IN) $(BIN)/python -m demo

run: $(STAMP) ## Run farlet with ARGS="--nodename ..." (try ARGS=--help)
	@$(BIN)/farlet run $(ARGS)

unit: $(STAMP) ## Unit and golden tests: no clusters, no root, two minutes on two cores
	@$(BIN)/pytest $(QUICK) $(QUICKLY) -m 'not soak and not thorough' $(ARGS)

ifdef TESTS
test: prepare
	@$(BIN)/pytest $(TESTS) -m 'not soak and not skew' $(ARGS)
else
test: prepare ## All unit and golden tests, then what proves the main job on real clusters: 10 minutes on two cores
	@$(BIN)/pytest $(QUICK) $(QUICKLY) -m 'not soak' $(ARGS)
	@$(BIN)/pytest $(REAL) $(SHARED) -m 'core and not soak' $(ARGS)
endif

test-rest: prepare ## All tests that make test leaves out, but for make soak
	@$(BIN)/pytest $(REAL) $(SHARED) -m 'not core and not soak' $(ARGS)

test-all: ## make test, then make test-rest
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-rest

check: $(STAMP) ## Format, lint, types, layers, words, URL literals, generated pages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(TOOLS) -m language
	@$(TOOLS) -m url_literals
	@$(TOOLS) -m reference.pages --check

generate: $(STAMP) ## Write the files that are generated from code: reference pages, manifests, dashboard
	@$(TOOLS) -m reference.pages

docs: $(STAMP) ## All pages as HTML in dist/docs; fails for wrong links and pages that no index names
	@[ -x .venv-docs/bin/sphinx-build ] || { $(BIN)/python -m venv .venv-docs && .venv-docs/bin/python -m pip \
	  install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock; }
	@.venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going -d .venv-docs/doctrees -c docs . dist/docs
	@echo '<meta http-equiv="refresh" content="0; url=docs/index.html">' > dist/docs/index.html
	@echo dist/docs/index.html

bench: $(STAMP) ## Time, requests, passes, CPU and memory per pod, beside the floor (ARGS=--help)
	@$(IN) $(BIN)/python -m bench N=$(N) $(ARGS)

profile: $(STAMP) ## Flame graphs of the creation and the deletion of N=1000 pods, in dist/ (ARGS=--help)
	@[ -x .venv-profile/bin/py-spy ] || { $(BIN)/python -m venv .venv-profile && .venv-profile/bin/python -m pip \
	  install --quiet --disable-pip-version-check --require-hashes -r requirements-profile.lock; }
	@$(IN) $(BIN)/python -m bench.profile N=$(N) --py-spy .venv-profile/bin/py-spy $(ARGS)

streams: prepare ## 200 exec sessions for a minute: errors, loop lag, memory, pods beside them
	@$(IN) $(BIN)/python -m bench.streams $(ARGS)

paths: prepare ## What HAProxy and the gateway cost clients of the home API server, beside a direct path
	@$(IN) $(BIN)/python -m bench.paths $(ARGS)

soak: prepare ## What takes hours: long idles, 10,000 pods, 200 of Kubernetes' own tests
	@$(BIN)/pytest tests -m soak $(ARGS)
	@[ -n "$(ARGS)" ] || $(IN) $(BIN)/python -m conformance --fast

skew: $(STAMP) ## Home and foreign clusters of Kubernetes 1.34 to 1.37, in four pairs
	@$(IN) $(BIN)/python -m clusters prepare skew
	@$(BIN)/pytest $(SKEW) $(ARGS)

conformance: prepare ## Kubernetes' own NodeConformance tests through the virtual node (ARGS=--fast: 200 of 247)
	@$(IN) $(BIN)/python -m conformance $(ARGS)

permissions: prepare ## Each rule of the shipped Roles removed: the test that it names must fail (ARGS="--only pods")
	@$(IN) $(BIN)/python -m permissions $(ARGS)

clusters: prepare ## Start both clusters, with the image of farlet, until Ctrl-C; prints commands to try
	@$(IN) $(BIN)/python -m clusters up

prepare: $(STAMP) ## Only build, once: KIT=demo, plain (no real nodes), all or skew
	@$(IN) $(BIN)/python -m clusters prepare $(KIT)

base-images: $(STAMP) ## Pin the base images by digest, for a release: asks the registry (internet)
	@$(TOOLS) -m base_images resolve

image: $(STAMP) ## Build a release's IMAGE=registry/farlet:0.2.0 and its SBOM; needs docker and pinned bases
	@test -n "$(IMAGE)" || { echo 'error: set IMAGE=registry/farlet:0.2.0' >&2; exit 1; }
	@base=$$($(TOOLS) -m base_images check); docker build --build-arg BASE=$$base --tag $(IMAGE) .
	@tree=$$(mktemp -d); made=$$(docker create $(IMAGE)); \
	docker export $$made | tar -x -C $$tree usr/local var/lib/dpkg; docker rm $$made >/dev/null; \
	mkdir -p dist; $(TOOLS) -m sbom $$tree > dist/sbom.cdx.json; rm -rf $$tree; echo dist/sbom.cdx.json

build-installer: $(STAMP) ## dist/install.yaml: namespace, CRD and manager with IMAGE=registry/farlet:0.2.0
	@test -n "$(IMAGE)" || { echo 'error: set IMAGE=registry/farlet:0.2.0' >&2; exit 1; }
	@$(TOOLS) -m release installer $(IMAGE)

release-dry-run: $(STAMP) ## All files of a release but the image, in dist/, and whether they fit together
	@$(TOOLS) -m release dry-run

audit: $(STAMP) ## Known vulnerabilities of all locked packages: asks pypi.org (internet), not part of the tests
	@[ -x .venv-audit/bin/pip-audit ] || { $(BIN)/python -m venv .venv-audit && .venv-audit/bin/python -m pip \
	  install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.lock; }
	@for lock in requirements-image requirements requirements-audit requirements-docs \
	  requirements-profile; do \
	  .venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock.lock || { \
	  echo "error: $$lock.lock: vulnerable, or not checked completely (see above). No network: try again" \
	  "where https://pypi.org answers" >&2; exit 1; }; done

format: $(STAMP) ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment, caches of tools, and what dead cluster runs left
	@if [ -x $(BIN)/python ]; then $(IN) $(BIN)/python -m clusters clean; fi
	@rm -rf $(VENV) .venv-audit .venv-docs .venv-profile dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'Programs and images stay in $${XDG_CACHE_HOME:-~/.cache}/farlet; remove that folder to build anew.'

$(STAMP): requirements.lock pyproject.toml
	@python=; for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if command -v $$name >/dev/null && $$name -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; \
	  then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo 'error: no Python from 3.11 to 3.14 on PATH; install one (Debian: apt-get install python3 python3-venv)' >&2; exit 1; fi; \
	if [ ! -x $(BIN)/pip ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! $$python -c 'import ensurepip' 2>/dev/null; then \
	    echo 'installing python3-venv'; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; fi; \
	  echo "making $(VENV) with $$($$python --version)"; $$python -m venv $(VENV); fi; \
	echo 'installing locked dependencies'; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@
