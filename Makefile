# `make demo` and `make test` install everything they need. The machine needs only Python >= 3.11 and make.
# PYTHON=python3.12 selects the interpreter, VENV=DIR the environment, ARGS="…" the arguments of the program.

VENV ?= .venv
PYTHON ?=
ARGS ?=
# Many tests wait for a process or a timer, so a core serves two workers. More than four workers disturb the timing of
# the watcher's tests.
WORKERS ?= $(shell n=$$(($$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) * 2)); [ "$$n" -gt 4 ] && n=4; echo "$$n")

BIN := $(VENV)/bin
# LOCK: run-time dependencies, the extras `emulator` (for `make demo`) and `vectorize` (for the image), and the build
# backend. DEV_LOCK: these and the developer's tools. Both hold for every supported Python.
LOCK := requirements.txt
DEV_LOCK := requirements-dev.txt
# Apart from the others, because a package of it must be compiled on some systems.
MUTATE_LOCK := .ci/mutate-requirements.txt
# Apart from the others, because only `make docs` needs it.
DOCS_LOCK := .ci/docs-requirements.txt
# The tools of `make dist`.
DIST_LOCK := .ci/dist-requirements.txt
# PIP_USER: a user's setting may install into the home directory, which fails in an environment.
PIP := PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q
# Install the locked packages and check their hashes, then this checkout without further packages.
INSTALL := $(PIP) --require-hashes -r
THIS := $(PIP) --no-deps --no-build-isolation -e .
UV ?= $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)
COMPILE := $(UV) pip compile -q --universal --python-version 3.11.0 --generate-hashes --custom-compile-command 'make lock' --no-annotate
FOUND := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help demo test check live torture soak mutants mutate bench docs generate dist deb image fmt lock clean
# Two parallel set-ups would write to the same environment.
.NOTPARALLEL:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## mirror a sample folder into a local stand-in for the API, and search it
	@$(BIN)/syncd demo $(ARGS)

# worksteal: most slow tests lie side by side in two folders, and would go to one worker. Without bytecode files, each
# worker compiles every test, which takes 6 s.
test: $(VENV)/.dev ## run the tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(VENV)/.dev ## lint, format, types (strict), Kubernetes manifests, packages, their known vulnerabilities
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pip check
	$(BIN)/python .ci/manifests.py
	$(BIN)/python .ci/audit.py

# With CLOUDFLARE_API_BASE_URL = the address of `syncd emulate`, this is a rehearsal.
live: $(VENV)/.dev ## test the account that CLOUDFLARE_* names, in at most 300 requests, and write a report to send
	$(BIN)/python -m tests.live $(ARGS)

torture: $(VENV)/.dev ## run storms of faults, kills and edits against the real program, about 5 minutes
	$(BIN)/python -m tests.torture.torture $(ARGS)

soak: $(VENV)/.dev ## run one daemon with 128 mirrors against faults, and check that no resource grows, about 12 minutes
	$(BIN)/python -m tests.torture.soak $(ARGS)

mutants: $(VENV)/.dev ## break a copy of syncd in many ways, and check that the tests fail
	$(BIN)/python -m tests.torture.mutants $(ARGS)

mutate: $(VENV)/.mutate ## change single expressions of core, state and sync, and check that the nearest tests fail, about 25 minutes
	$(BIN)/python .ci/mutate.py $(ARGS)

bench: $(VENV)/.dev ## measure speed, memory and requests, and compare them with limits and other programs
	$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.docs ## build the documentation site into build/docs/site, and check its links
	$(BIN)/python .ci/docs.py

generate: $(VENV)/.dev ## write the reference pages, man pages, completions and the example of a config from the program
	$(BIN)/python -m generate

dist: $(VENV)/.dist ## build the wheel, the sdist and the SBOM of the last commit into dist/, reproducibly, and check them
	.ci/dist $(BIN)/python

image: ## build the container image with podman or docker
	.ci/image $(ARGS)

deb: $(VENV)/.run ## build a package for this release of Debian or Ubuntu into dist/ (needs dpkg-dev and debhelper)
	.ci/deb $(BIN)/python

fmt: $(VENV)/.dev ## format the code, and apply the fixes of the linter
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

lock: ## resolve all dependencies again for every supported Python and system (needs uv)
	@$(UV) --version >/dev/null 2>&1 || { \
	  echo "make lock: needs uv, which resolves for every Python at once: python3 -m venv $(VENV) && $(BIN)/python -m pip install 'uv>=0.9'" >&2; exit 1; }
	@$(COMPILE) --upgrade --all-extras -o $(DEV_LOCK) pyproject.toml
	@$(COMPILE) -c $(DEV_LOCK) --extra emulator --extra vectorize --group build -o $(LOCK) pyproject.toml
	@$(COMPILE) --upgrade -c $(DEV_LOCK) --group mutate -o $(MUTATE_LOCK)
	@$(COMPILE) --upgrade -c $(DEV_LOCK) --group docs -o $(DOCS_LOCK)
	@$(COMPILE) --upgrade -c $(DEV_LOCK) --group dist -o $(DIST_LOCK)
	@grep -c == $(LOCK) $(DEV_LOCK) $(MUTATE_LOCK) $(DOCS_LOCK) $(DIST_LOCK)

clean: ## remove the environment, builds and caches
	rm -rf $(VENV) dist build mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find syncd tests bench generate -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up. A stamp is out of date only after a change of pyproject.toml or the lock.

$(VENV)/.run: $(BIN)/python pyproject.toml $(LOCK)
	@echo "installing syncd and its dependencies into $(VENV)"
	@$(INSTALL) $(LOCK)
	@$(THIS)
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml $(LOCK) $(DEV_LOCK)
	@echo "installing syncd, its dependencies and the developer's tools into $(VENV)"
	@$(INSTALL) $(DEV_LOCK)
	@$(THIS)
	@touch $(VENV)/.run $@

$(VENV)/.mutate: $(VENV)/.dev $(MUTATE_LOCK)
	@$(INSTALL) $(MUTATE_LOCK)
	@touch $@

$(VENV)/.docs: $(BIN)/python $(DOCS_LOCK)
	@$(INSTALL) $(DOCS_LOCK)
	@touch $@

$(VENV)/.dist: $(VENV)/.dev $(DIST_LOCK)
	@$(INSTALL) $(DIST_LOCK)
	@touch $@

# No prerequisites: the environment is created once. `make clean` removes it.
$(BIN)/python:
	@python=; bare=; \
	for each in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  "$$each" -c '$(FOUND)' 2>/dev/null || continue; \
	  if "$$each" -c 'import ensurepip, venv' 2>/dev/null; then python=$$each; break; fi; \
	  bare=$${bare:-$$("$$each" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')}; \
	done; \
	if [ -z "$$python" ] && [ -n "$$bare" ]; then \
	  echo "make: $$bare cannot make environments; install the package $$bare-venv (Debian, Ubuntu) and try again" >&2; exit 1; \
	elif [ -z "$$python" ]; then \
	  echo "make: $(or $(PYTHON),Python) is not there or is older than 3.11; install the packages python3 and python3-venv, or name one: make PYTHON=…" >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
