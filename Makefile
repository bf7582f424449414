# Every task of the project. Each target sets up what it needs and does so once.
#
#   PYTHON=...   the interpreter to use (default: the first Python 3.11 or later found)
#   WORKERS=...  test processes (default: the number of cores, at least 4: most tests wait)
#   ARGS=...     more arguments for the command behind demo, test, services-test, coverage, bench,
#                bench-cluster, image-test, lock

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# A name on PATH is no proof: version managers leave launchers for versions that are switched off,
# and Debian's Python comes without ensurepip. So each candidate has to run and import.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3
find-python = $(shell for candidate in $(CANDIDATES); do \
	"$$candidate" -c 'import sys, $(1); sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$candidate" && break; done)

WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); \
	if [ "$$cores" -gt 4 ]; then echo "$$cores"; else echo 4; fi)

BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest
# uv writes one lock for every supported Python; nothing else needs it, so it is not in the lock.
UV := uv==0.13.9

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: PYTHON ?= $(call find-python,os)
demo: ## show a gate in front of services that come up one after another (about 15 seconds)
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later found; set PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.path.insert(0, "src"); \
	from service_precheck.toolbox import main; sys.exit(main())' demo $(ARGS)

.PHONY: test
test: .venv/dev.stamp servers ## run the whole suite in parallel (as root on Debian: installs the servers it tests against)
	$(PYTEST) -n $(WORKERS) --ignore=tests/image --ignore=tests/services --ignore=tests/cluster $(ARGS)

.PHONY: services-test
services-test: .venv/dev.stamp ## run the deep probes against real databases, queues and coordinators, in parallel
	@$(BIN)/python -m tools.servers base services
	$(PYTEST) tests/services -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: cluster-test
cluster-test: .venv/dev.stamp cluster-servers image ## prove it on a real Kubernetes of this machine's own (needs root, Linux, Go)
	$(PYTEST) tests/cluster $(ARGS)

.PHONY: cluster-up
cluster-up: .venv/dev.stamp cluster-servers image ## start that Kubernetes for work by hand, with the gate's image; prints where its kubectl is
	@$(BIN)/python -m tools.cluster up

.PHONY: cluster-down
cluster-down: .venv/dev.stamp ## end it, without a trace
	@$(BIN)/python -m tools.cluster down

.PHONY: check
check: .venv/dev.stamp ## check format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(wildcard src tests tools image bench)
	$(BIN)/lint-imports

.PHONY: docs
docs: .venv/dev.stamp ## fill the documentation's tables from the code (a test tells when they differ)
	$(BIN)/python -m tools.docs_tables $(ARGS)

.PHONY: format
format: .venv/dev.stamp ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: coverage
coverage: .venv/dev.stamp servers ## run the suite with branch coverage, child processes included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --ignore=tests/image --ignore=tests/services --ignore=tests/cluster $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: bench
bench: .venv/dev.stamp servers ## measure against the rivals and print the ratios
	$(BIN)/python -m tools.fetch_wait4x
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-cluster
bench-cluster: .venv/dev.stamp servers cluster-servers image ## measure the stories and a fleet of gates on a real Kubernetes (an hour and a quarter)
	$(BIN)/python -m tools.fetch_wait4x
	$(BIN)/python -m bench.cluster $(ARGS)

.PHONY: image
image: dist/image.stamp ## build the OCI image layout in dist/image

.PHONY: image-test
image-test: dist/image.stamp dist/package.stamp ## run the image's tests (needs root and runc)
	@$(BIN)/python -m tools.servers image
	$(PYTEST) tests/image $(ARGS)

.PHONY: package
package: dist/package.stamp ## build the wheel and the source archive in dist

.PHONY: release-dry-run
release-dry-run: image package ## do all of a release that needs nobody's leave
	@$(BIN)/python -m tools.servers image
	$(BIN)/python -m image.release dry-run

.PHONY: release-check
release-check: image package ## check that version, change log, tag and what was built agree
	$(BIN)/python -m image.release check

# Pushes what was built and tested elsewhere, so it builds nothing.
.PHONY: release-image
release-image: .venv/dev.stamp ## push the image to IMAGE_REPOSITORY and sign it
	$(BIN)/python -m image.release image

.PHONY: lock
lock: PYTHON ?= $(call find-python,ensurepip)
lock: python ## pin the development dependencies anew, with hashes (ARGS=--upgrade for newer versions)
	test -x .venv-lock/bin/uv || { "$(PYTHON)" -m venv .venv-lock && \
		.venv-lock/bin/python -m pip install --quiet $(UV); }
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		$(ARGS) --output-file requirements/dev.txt requirements/dev.in

.PHONY: clean
clean: ## remove all that the other targets made in the tree
	rm -rf .venv .venv-lock build dist .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# Programs the tests speak to. Says what it does, and is quick when nothing is missing.
.PHONY: servers
servers: .venv/dev.stamp
	@$(BIN)/python -m tools.servers base

.PHONY: cluster-servers
cluster-servers: .venv/dev.stamp
	@$(BIN)/python -m tools.servers cluster

# The interpreter that makes virtual environments.
.PHONY: python
python: PYTHON ?= $(call find-python,ensurepip)
python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later with ensurepip found (Debian: python3-venv);" \
		"set PYTHON=/path/to/python" >&2; exit 1; }

.venv/bin/python: PYTHON ?= $(call find-python,ensurepip)
.venv/bin/python: | python
	"$(PYTHON)" -m venv .venv

.venv/dev.stamp: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

dist/image.stamp: $(shell find src image -type f -not -name '*.pyc' 2>/dev/null) pyproject.toml | .venv/dev.stamp
	$(BIN)/python -m image.build
	@touch $@

dist/package.stamp: $(shell find src -type f -not -name '*.pyc' 2>/dev/null) pyproject.toml README.md LICENSE | .venv/dev.stamp
	$(BIN)/python -m build --no-isolation --outdir dist >/dev/null
	@touch $@
