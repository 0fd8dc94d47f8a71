# Annex: `make up` starts it, `make help` lists the rest.
SHELL = /bin/sh
.DEFAULT_GOAL = help
.PHONY: help up test chaos chaos-addons fuzz e2e e2e-programs recordings conformance check demo bench bench-peers lock format clean install-dev

# The first Python on the PATH that is new enough; `make up PYTHON=/path/to/python3.12` names one.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)
endif
NO_PYTHON = Annex needs Python 3.11 or newer, and none is on the PATH: install one, or name it with PYTHON=/path/to/python3.12
# Installs what the lock file says if it is not there yet, then becomes .venv/bin/python with the
# arguments that follow; `exec` throughout, so that signals reach the program itself.
WITH = $(if $(PYTHON),,$(error $(NO_PYTHON)))exec $(PYTHON) bin/install.py
VENV = .venv/bin

help: ## List these targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

up: ## Install, start and show everything; PORT picks the port (5000), Ctrl-C stops it
	@$(WITH) requirements.lock -m config.up

# What kills processes has the machine for itself: beside it other tests' workers would starve.
test: ## Run the test suite; PYTEST_ARGS="tests/billing -k ledger" narrows it down
	@$(WITH) requirements-dev.lock -m pytest -n auto --dist loadfile --no-loadscope-reorder $(or $(PYTEST_ARGS),--ignore tests/chaos)
	@$(if $(PYTEST_ARGS),,exec $(VENV)/python -m pytest tests/chaos)

# Not in parallel: each round has the processes of the whole deployment to itself.
chaos: install-dev ## Kill every process at every step of a request, 200 seeded rounds; ROUNDS=1 SEED=17 runs one again
	@CHAOS_SEED=$${SEED:-1} CHAOS_ROUNDS=$${ROUNDS:-200} exec $(VENV)/python -m pytest tests/chaos/test_kills.py -q -s $(PYTEST_ARGS)

# HASTE: which part of the real time leases and periods take.
chaos-addons: install-dev ## Kill platform and provider at every step of an add-on's life; HASTE=1 takes full leases
	@CHAOS_HASTE=$${HASTE:-0.2} exec $(VENV)/python -m pytest tests/chaos/test_addons.py -q -s $(PYTEST_ARGS)

fuzz: install-dev ## Send 2,000 requests a dialect that are made from /openapi.json; FUZZ_CASES sets how many
	@FUZZ_CASES=$${FUZZ_CASES:-2000} exec $(VENV)/python -m pytest tests/inference/openapi/test_fuzzing.py -n auto --dist load -rP -p no:logging $(PYTEST_ARGS)

# An environment of their own: the clients want other versions than Annex, and langchain-cohere an
# older cohere than today's, which lies beside it.
CLIENTS = .venv-clients
CLIENT_LISTS = tests/e2e/clients/requirements.txt tests/e2e/clients/newest-cohere.txt
CLIENT_PIP = $(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
e2e-programs:
	@command -v npm >/dev/null || { echo "make e2e needs node 20 or newer, with npm" >&2; exit 1; }
	@cmp -s tests/e2e/package-lock.json tests/e2e/node_modules/.installed-lock \
		|| { echo "Installing the heroku CLI and the openai SDK of tests/e2e/package-lock.json" \
		&& (cd tests/e2e && npm ci --ignore-scripts --no-audit --no-fund) \
		&& cp tests/e2e/package-lock.json tests/e2e/node_modules/.installed-lock; }
	@cat $(CLIENT_LISTS) | cmp -s - $(CLIENTS)/installed-clients \
		|| { echo "Installing the Python clients of tests/e2e/clients/requirements.txt" \
		&& $(PYTHON) -m venv --clear $(CLIENTS) \
		&& $(CLIENT_PIP) --requirement $(word 1,$(CLIENT_LISTS)) \
		&& $(CLIENT_PIP) --no-deps --target $(CLIENTS)/newest-cohere --requirement $(word 2,$(CLIENT_LISTS)) \
		&& cat $(CLIENT_LISTS) > $(CLIENTS)/installed-clients; }

# How long a start takes is measured with the machine at rest; all else runs in two processes, each
# with an Annex of its own.
E2E = $(VENV)/python -m pytest --confcutdir=tests/e2e
STARTS = tests/e2e/test_start_and_stop.py
e2e: install-dev e2e-programs ## Start Annex as a user does and drive it with real clients (needs node 20 and npm)
	@$(if $(PYTEST_ARGS),exec $(E2E) -v -s $(PYTEST_ARGS),$(E2E) -v -s $(STARTS))
	@$(if $(PYTEST_ARGS),,exec $(E2E) -v tests/e2e --ignore $(STARTS) -n 2 --dist loadfile)

# One Annex for each core, so leave the machine alone meanwhile.
recordings: install-dev ## Run the recorded heroku commands again, against Annex; RECORDING=addons-create-as runs one
	@test -x tests/e2e/node_modules/.bin/heroku || { echo "make e2e installs the heroku CLI first" >&2; exit 1; }
	@exec $(VENV)/python -m tests.recordings.replay $(RECORDING)

conformance: install-dev ## Run the test suite for add-on providers against Annex itself; SUITE_ARGS="--only sso"
	@exec $(VENV)/python -m config.conformance $(SUITE_ARGS)

# As in production, with values that are long enough for the checks and open nothing.
CHECK_ENV = env SECRET_KEY=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \
	ENCRYPTION_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= PROVIDER_PASSWORD=unused \
	DATABASE_URL=postgresql:///unused REDIS_URL=redis://unused PUBLIC_URL=https://annex.example.com

check: install-dev ## Lint, types, import rules, forgotten migrations, deployment settings
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	@$(CHECK_ENV) $(VENV)/mypy
	$(VENV)/lint-imports
	@$(CHECK_ENV) $(VENV)/python -m config.embedded_servers manage.py makemigrations --check --dry-run
	@$(CHECK_ENV) $(VENV)/python manage.py check --deploy --fail-level WARNING

demo: install-dev ## Take the README's tour on a running Annex (`make up` in another terminal)
	@exec $(VENV)/python -m bin.demo

bench: install-dev ## Measure everything (20 minutes, leave the machine alone); BENCH_ARGS=--quick takes 3
	@exec $(VENV)/python -m bench.run $(BENCH_ARGS)

# An environment of its own: infinity wants other versions than Annex.
PEERS = .venv-peers
bench-peers: install-dev ## Set infinity-emb up in .venv-peers, then measure everything beside it
	@cmp -s bench/peers.txt $(PEERS)/installed-peers \
		|| { $(PYTHON) -m venv --clear $(PEERS) \
		&& $(PEERS)/bin/python -m pip install --disable-pip-version-check --requirement bench/peers.txt \
		&& cp bench/peers.txt $(PEERS)/installed-peers; }
	@exec $(VENV)/python -m bench.run $(BENCH_ARGS)

format: install-dev ## Format the code, and fix what the linter can fix
	$(VENV)/ruff format
	$(VENV)/ruff check --fix

# No hosts and no paths of this machine in the lock files; and torch without the local version that
# names one of its builds, so that each machine gets the build that its pip prefers.
COMPILE = $(VENV)/pip-compile --quiet --no-header --no-emit-index-url --no-emit-find-links \
	--no-emit-trusted-host --strip-extras --allow-unsafe
lock: install-dev ## Remake the lock files from requirements.in and requirements-dev.in; ARGS=--upgrade
	$(COMPILE) $(ARGS) --output-file requirements.lock requirements.in
	sed -i.bak -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
	$(COMPILE) $(ARGS) --output-file requirements-dev.lock requirements-dev.in
	sed -i.bak -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements-dev.lock
	rm -f requirements.lock.bak requirements-dev.lock.bak

clean: ## Remove what was installed; var/, which holds the data, is kept
	rm -rf .venv $(PEERS) $(CLIENTS) tests/e2e/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

install-dev:
	@$(WITH) requirements-dev.lock
