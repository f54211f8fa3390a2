# Everything is done by a target here; CI runs the same ones. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTEST := $(BIN)/pytest
ENGINE ?= docker
TAG ?= dev
ARGS ?=
# Integration tests wait more than they work: there are more workers than a small machine has cores.
# A module, or a class of tests, stays on one worker with what it has set up.
WORKERS ?= 6
PARALLEL = -n $(WORKERS) --dist loadscope --no-loadscope-reorder
# Beside others a test may wait for a core too long: what fails is run once more, alone. Whatever
# fails there too has failed; that it was run twice stands in the output.
define side-by-side
$(PYTEST) $(PARALLEL) $(1) || { echo 'Once more, alone:'; \
  $(PYTEST) --last-failed --last-failed-no-failures none --maxfail 3 $(1); }
endef
QUICK_START := examples/01-quick-start
# Compiled once: each worker and each process that a test starts would compile all there is anew.
unexport PYTHONDONTWRITEBYTECODE

# Folders of tests/ that hold no tests of their own.
SUPPORT := __pycache__ bench cluster fakes
SUITES := $(filter-out $(SUPPORT),$(notdir $(patsubst %/,%,$(wildcard tests/*/))))
SERVED := integration security
# The data plane's compiled modules, before its sources; and the tests that run against them too.
COMPILED := $(CURDIR)/.compiled
# How mypyc throws into an awaitable; Python 3.12 and newer warn of it, and do it.
MYPYC_WARNS := 'ignore:the (type, exc, tb) signature of throw:DeprecationWarning'
# A smoke of each benchmark: they are of the compiled form.
BENCH_SMOKES := tests/integration/test_benchmarks.py
COMPILED_TESTS = tests/compiled $(BENCH_SMOKES) tests/golden/test_errors.py tests/golden/test_metrics.py \
  $(addprefix tests/unit/,dataplane decision explaining peers racing signals) \
  $(filter-out $(NOT_COMPILED),$(wildcard tests/property/test_*.py \
  $(addprefix tests/integration/,virtual test_dataplane_*.py test_survive_*.py test_upstream_*.py \
  test_service_tls.py test_bad_input.py)))
# Of those: the policy, which is never compiled, and what several pods do together over minutes.
NOT_COMPILED = $(addprefix tests/property/,test_codec_properties.py test_compiler.py \
  test_compiler_claims.py test_conditions.py test_costs.py test_seal_properties.py \
  test_sidecar_compiler.py test_v1alpha1_parse.py) \
  $(addprefix tests/integration/test_survive_,endpoints.py engine.py)
BENCHES := $(filter-out figures,$(patsubst tests/bench/%.py,%,$(wildcard tests/bench/*.py)))

##@ Start here

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9<>-]+:.*## / {printf "  %-18s %s\n", $$1, $$2} \
	  /^# help: / {sub(/^# help: /, ""); split($$0, part, " — "); printf "  %-18s %s\n", part[1], part[2]}' $(firstword $(MAKEFILE_LIST))
	@printf '\nSuites: %s\nBenchmarks: %s\n' '$(SUITES)' '$(BENCHES)'

.PHONY: setup
setup: ## the virtual environment .venv (about a minute the first time, then nothing)
	@tools/setup.sh python

.PHONY: setup-test
setup-test: ## setup, and Redis and a Kubernetes API server for integration tests (minutes, once)
	@tools/setup.sh test

.PHONY: compiled
compiled: ## the data plane's hot path compiled, in .compiled (a minute, after a change of it)
	@tools/setup.sh compiled

.PHONY: run
run: setup ## the quick start: a router on this machine, without a cluster (ARGS="…")
	@$(BIN)/switchboard dev $(QUICK_START) --fake-models $(QUICK_START)/fake-models.toml $(ARGS)

##@ Change

.PHONY: generate
generate: setup ## CRDs, their copy in the chart and the reference docs, from the models
	$(BIN)/python tools/generate.py

.PHONY: format
format: setup ## format the code
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --quiet --select I --fix .

.PHONY: lint
lint: setup ## ruff, and the contracts on who may import whom
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

.PHONY: types
types: setup ## mypy and basedpyright, both strict
	$(BIN)/mypy
	$(BIN)/basedpyright

.PHONY: lock
lock: setup ## pin the dependencies of pyproject.toml anew
	@tools/lock.sh

.PHONY: hooks
hooks: setup ## run the quick checks at every git commit
	$(BIN)/pre-commit install

##@ Test

.PHONY: test
test: setup-test ## arch, unit, property, golden, integration and security tests, side by side (WORKERS=6)
	$(call side-by-side,--ignore=$(BENCH_SMOKES) $(ARGS))

# help: test-<suite> — the tests of one folder of tests/
SUITE_TARGETS := $(addprefix test-,$(filter-out compiled e2e,$(SUITES)))
.PHONY: $(SUITE_TARGETS)
$(addprefix test-,$(filter $(SERVED),$(SUITES))): setup-test
$(SUITE_TARGETS): test-%: setup
	$(if $(filter $*,$(SERVED)),$(call side-by-side,tests/$* $(ARGS)),$(PYTEST) tests/$* $(ARGS))

.PHONY: setup-e2e
setup-e2e: ## setup, and all that a Kubernetes node of our own takes (root; minutes, once)
	@tools/setup.sh e2e

.PHONY: e2e test-e2e
test-e2e: e2e
e2e: setup-e2e ## the life of a release on a real Kubernetes node, under load (root, kind or a cluster)
	PYTHONPATH=tests $(BIN)/python -m e2e.parts
	$(PYTEST) tests/e2e $(ARGS)

.PHONY: test-guardrails
test-guardrails: setup ## all 10,000 worlds in which nothing that is forbidden may be called
	SWITCHBOARD_WORLDS=10000 $(PYTEST) tests/property/test_no_forbidden_backend.py $(ARGS)

.PHONY: test-compiled
test-compiled: compiled setup-test ## the data plane's tests and smokes of benchmarks, on its compiled form
	export PYTHONPATH=$(COMPILED); $(call side-by-side,$(COMPILED_TESTS) -W $(MYPYC_WARNS) $(ARGS))

# help: bench-<name> — a benchmark: prints a table and writes .bench/<name>.json
BENCH_TARGETS := $(addprefix bench-,$(BENCHES))
.PHONY: $(BENCH_TARGETS)
bench-propagation bench-scale: setup-test
$(BENCH_TARGETS): bench-%: setup compiled
	PYTHONPATH=$(COMPILED):tests $(BIN)/python tests/bench/$*.py $(ARGS)

.PHONY: golden
golden: setup ## rewrite the golden files, then show the difference
	$(PYTEST) tests/golden --update-golden
	@git --no-pager diff -- tests/golden
	@git status --short -- tests/golden

.PHONY: coverage
coverage: setup-test ## all tests with branch coverage, child processes included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: precommit
precommit: ## generate, format, lint, types and test, in this order
	@for step in generate format lint types test; do $(MAKE) $$step; done

.PHONY: check
check: ## precommit and test-compiled, and fail if they changed a file: what CI runs
	@tools/unchanged.sh $(MAKE) precommit test-compiled

##@ Ship

# help: image-<plane> — the container image of the operator or the dataplane
.PHONY: image-operator image-dataplane
image-operator image-dataplane: image-%:
	$(ENGINE) build --target $* -t switchboard-$*:$(TAG) .

.PHONY: clean
clean: ## remove what was made here (the cache of built binaries stays)
	rm -rf .venv .bench .compiled* .coverage* .hypothesis .*_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
