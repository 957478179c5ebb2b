# Two commands are enough: `make demo` and `make test`. Both build .venv first, if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests at a time, two for each of two cores: a test of processes waits for most of its time.
WORKERS ?= 4

.PHONY: demo test lint format schema reference man soak crashes mutants judges browser screens screens-terminal contract nova-up nova-down contract-nova night-nova benchmark benchmark-scale benchmark-table benchmark-docs growth profile clean

demo: $(STAMP)  ## reinstall a simulated fleet over real HTTP
	@$(BIN)/fleet demo

test: $(STAMP)  ## all tests but the long ones
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(STAMP)  ## style, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(STAMP)  ## for editors: see the first line of the example plans
	$(BIN)/fleet schema > plans/plan.schema.json

reference: $(STAMP) man  ## write docs/reference and the manual page from the code
	$(BIN)/python tests/docs_reference.py

man: $(STAMP)  ## write docs/man/fleet.1 from the code; the wheel installs it
	$(BIN)/python tests/docs_man.py

soak: $(STAMP)  ## tell many stories of crashes and faults: make soak STORIES=50000
	$(BIN)/python -m fleet.rehearsal.soak --stories $(or $(STORIES),2000) --seed $(or $(SEED),1) --jobs 2

crashes: $(STAMP)  ## kill stories at every instant, where `make test` takes sixty spread over each: some minutes
	FLEET_TEST_INSTANTS=every $(BIN)/python -m pytest -n 2 --timeout 600 -k every_instant $(ARGS)

mutants: $(STAMP)  ## break each rule on purpose, and see which test notices
	$(BIN)/python tests/mutants/run.py $(ARGS)

judges: $(STAMP) .venv-judges/.installed  ## clients that we did not write against our simulator and our requests: docs/providers.md
	$(BIN)/python tests/judges/run.py .venv-judges/bin/python

.venv-judges/.installed: tests/judges/requirements.txt
	$(PYTHON) -m venv .venv-judges
	.venv-judges/bin/pip install --quiet --disable-pip-version-check -r tests/judges/requirements.txt
	@touch $@

browser: $(STAMP)  ## the live page and the report in Chromium (root installs it), in Firefox where it is, and by axe-core
	tests/browser/chromium.sh
	@tests/browser/axe.sh || true  # a line says why it cannot be had; its tests are skipped
	@command -v firefox-esr firefox || echo "no Firefox: apt install firefox-esr; its tests are skipped"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/browser/requirements.txt
	$(BIN)/python -m pytest -n 2 -rs tests/browser $(ARGS)

screens-terminal: $(STAMP)  ## those of the terminal alone: real runs in tmux, five minutes
	$(BIN)/python tests/screens/terminal.py

screens: screens-terminal  ## the pictures of the documentation, taken anew: docs/screens
	tests/browser/chromium.sh
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/browser/requirements.txt
	$(BIN)/python tests/browser/screens.py

contract: $(STAMP)  ## the same tests over every provider, on the built-in cloud: docs/providers.md
	$(if $(FLEET_CONTRACT),FLEET_CONTRACT=$(FLEET_CONTRACT)) $(BIN)/python -m pytest $(if $(FLEET_CONTRACT),--timeout 600,-n 2) tests/contract $(ARGS)

LAB ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fleet-nova

nova-up:  ## a real Nova on loopback: 2 GB of memory, 3 minutes the first time; installs MariaDB and RabbitMQ (root)
	LAB=$(LAB) tests/nova/up.sh install
	LAB=$(LAB) tests/nova/up.sh start
	. $(LAB)/openrc && $(LAB)/venv/bin/python tests/nova/servers.py boot 4 contract

nova-down:
	LAB=$(LAB) tests/nova/up.sh stop

contract-nova: $(STAMP)  ## the contract suite on the real Nova
	. $(LAB)/openrc && FLEET_CONTRACT=nova $(BIN)/python -m pytest tests/contract --timeout 300 $(ARGS)

night-nova: $(STAMP)  ## 20 servers of the real Nova, killed three times and resumed; Nova's log is the judge
	. $(LAB)/openrc && $(BIN)/python tests/nova/kill_and_resume.py $(ARGS)

benchmark: $(STAMP)  ## figures of a run of 1,000 servers beside a naive client's: 8 minutes, ARGS='--servers 200'
	$(BIN)/python tests/benchmarks/fleet_bench.py --naive $(ARGS)

benchmark-scale: $(STAMP)  ## a night, its resume, replay, status and memory at 1,000 to 10,000 servers: ARGS='--servers 100000'
	$(BIN)/python tests/benchmarks/scale.py $(ARGS)

benchmark-table: $(STAMP)  ## the goals that take seconds to measure, and what was measured: three minutes, ARGS='-o json'
	$(BIN)/python tests/benchmarks/goals.py $(ARGS)

benchmark-docs: $(STAMP)  ## all goals, over HTTP and up to 100,000 servers, into docs/benchmarks.md: both cores, a quarter of an hour
	$(BIN)/python tests/benchmarks/goals.py --all --write $(ARGS)

growth: $(STAMP)  ## draw how time, calls and memory grow, from the figures kept in docs/figures
	$(BIN)/python tests/benchmarks/growth.py $(ARGS)

profile: $(STAMP)  ## where the processor time of a run goes, by area: a minute, ARGS='--servers 1000'
	$(BIN)/python tests/benchmarks/cpu_profile.py $(ARGS)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("fleet needs Python 3.11 or newer; name one with `make PYTHON=python3.11 …`" if sys.version_info < (3, 11) else 0)'
	@echo "building $(VENV) from the package index, once: a minute or two" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-judges dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
