# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11+ and make; the rest is fetched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEOPLE ?= 10000
RUNS ?= 2000
FUZZ ?= 600
KILLS ?= 1000
AT_ONCE ?= 4
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

.PHONY: help demo check-demo check-fsc test lint fuzz compiled test-compiled bench crash lock format pictures clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/ready ## start a small country on this machine; Ctrl-C stops it
	$(BIN)/stelsel demo --people $(PEOPLE)

check-demo: $(VENV)/ready ## play the scenario without a browser and show the evidence of each step
	$(BIN)/stelsel demo --check --people $(PEOPLE)

check-fsc: $(VENV)/ready ## check our own node against every scenario of the FSC test suite, and more
	@$(BIN)/stelsel check fsc

test: $(VENV)/ready-dev ## run all tests, in processes that share them (AT_ONCE=4)
	$(BIN)/python tools/provide.py chromium nginx postgresql strace
	$(BIN)/pytest -n $(AT_ONCE)

lint: $(VENV)/ready-dev ## formatting, style, types, and the order of the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/ready-dev ## contracts over a bad network (RUNS=2000 lives), and any bytes into the readers of HTTP (FUZZ=600 seconds)
	@$(BIN)/pip install --quiet --only-binary=:all: --require-hashes --requirement requirements-fuzz.lock \
	  || echo "atheris has no wheel for this machine: the readers get mistakes by chance instead"
	$(BIN)/python tools/fuzz_wire.py --seconds $(FUZZ) --keep bench/out/fuzz
	STELSEL_FUZZ=$(RUNS) $(BIN)/pytest -q --show-capture=no tests/agreements/test_fsc_state_machine.py

compiled: $(VENV)/ready-dev ## make the compiled form, build/compiled/bin/python
	$(BIN)/python tools/compile.py

test-compiled: $(VENV)/ready-dev ## run the tests of exchange and ledger on the compiled form
	$(BIN)/python tools/provide.py nginx postgresql
	$(BIN)/python tools/compile.py
	build/compiled/bin/python -m pytest -q -n $(AT_ONCE) tests/exchange tests/ledger

bench: $(VENV)/ready-dev ## measure, into bench/out/*.json
	$(BIN)/python tools/provide.py nginx postgresql
	$(BIN)/python tools/compile.py
	$(BIN)/python bench/run.py

crash: $(VENV)/ready-dev ## kill -9 any process under load, again and again, and look whether anything is lost (KILLS=1000)
	$(BIN)/python tools/provide.py postgresql
	$(BIN)/python -m crash --kills $(KILLS)

lock: $(VENV)/ready-dev ## renew the lock files
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra all --group build pyproject.toml --output-file requirements.lock --upgrade
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra all --group dev pyproject.toml --output-file requirements-dev.lock --upgrade
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --group pyproject.toml:fuzz --output-file requirements-fuzz.lock --upgrade

format: $(VENV)/ready-dev ## lay the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: $(VENV)/ready-dev ## take the pictures of the documentation again
	$(BIN)/python tools/provide.py chromium
	$(BIN)/python tools/pictures.py docs/images

clean: ## remove what was made here
	rm -rf $(VENV) build country bench/out

$(BIN)/python:
	$(PYTHON) tools/environment.py $(VENV)

$(VENV)/ready: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing what Stelsel needs, into $(VENV) (once)"
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/ready-dev: requirements-dev.lock $(VENV)/ready
	@echo "Installing what the tests need, into $(VENV) (once)"
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@
