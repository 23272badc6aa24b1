PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-annotate --quiet --upgrade --custom-compile-command "make lock"
# Idle workers steal tests. Tests that compute get a process per core. Tests that wait get four processes, each with
# its own PostgreSQL.
COMPUTING := --numprocesses auto --dist worksteal
WAITING := --numprocesses 4 --dist worksteal
WITH_KAFKA := $(BIN)/python -m tests.support.one_kafka $(BIN)/pytest $(WAITING)
MAIN := tests/rules tests/native $(addprefix tests/integration/,store projections views verify repair maintenance consumer)

.DEFAULT_GOAL := help
.PHONY: run native test test-all soak promises lint docs bench lock env image base release clean help

run: $(INSTALLED) ## Start PostgreSQL, Kafka, normalizer, dashboard and traffic; ARGS="--rate 500"; Ctrl-C stops all
	@native/build-beside & exec $(BIN)/python -m normalizer up $(ARGS)

native: $(INSTALLED) ## Build the native lane into .venv, which reads most records; needs cargo
	@command -v cargo > /dev/null || \
		{ echo "cargo is needed: type apt-get install cargo-web. Without it Python reads every record"; exit 1; }
	@LC_ALL=C.UTF-8 $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
		--reinstall ./native

test: $(INSTALLED) ## Rules, store, projections and service, in at most 5 minutes on two quiet cores
	$(BIN)/pytest $(COMPUTING) tests/unit tests/property
	$(WITH_KAFKA) $(MAIN)

test-all: $(INSTALLED) ## Also jobs, relays, API, page, commands and deployment; the core's branches must all be covered
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(COMPUTING) tests/unit tests/property
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(WITH_KAFKA) tests/rules tests/native tests/integration tests/chaos

soak: $(INSTALLED) ## The long tests, into docs/results.csv; ARGS="-k keyed" runs one of them
	$(BIN)/pytest -m soak -v $(ARGS)

promises: $(INSTALLED) ## Take mechanisms away, one at a time: and see which tests fail
	$(BIN)/pytest -m soak -v tests/promises/test_promises.py

lint: $(INSTALLED) ## Style, format, types and the dependency rule
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(INSTALLED) ## Build the documentation site into build/site. A dead link is an error
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html. To search it too: $(BIN)/python -m http.server --directory build/site"

bench: $(INSTALLED) ## The whole path beside COPY of the same rows, in one run
	$(BIN)/python -m bench.drain $(ARGS)

lock: $(INSTALLED) ## Resolve the dependencies again into the three lock files
	$(LOCK) pyproject.toml --extra otel --output-file requirements.lock
	$(LOCK) pyproject.toml --constraint requirements.lock --extra embedded --extra msk --extra otel --extra pydantic \
		--extra dev --output-file requirements-dev.lock
	$(LOCK) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	sed --in-place --null-data 's/ \\\n *--hash/ --hash/g' requirements.lock requirements-dev.lock requirements-build.lock

env: ## Make .env for compose.yaml: passwords that nobody else has
	@test ! -e .env || { echo ".env is there and stays: the databases know its passwords"; exit 1; }
	@umask 077 && for name in OWNER_PASSWORD WRITER_PASSWORD READER_PASSWORD GRAFANA_PASSWORD \
		PROJECTOR_TOKEN; do \
		$(PYTHON) -c "import secrets; print(f'$$name={secrets.token_hex(24)}')" || exit 1; \
	done > .env.part && mv .env.part .env && echo "made .env"

image: ## Build the image with buildah; ARGS="..." are more arguments for it
	@$(PYTHON) -m release image $(ARGS)

base: ## Make the image's base from Debian's packages, as root, where no registry of images is reached
	deploy/image/base localhost/python:3.13-slim

release: ## Build all that a release consists of, twice, into dist/; ARGS="..." as for the image
	@$(PYTHON) -m release $(ARGS)

clean: ## Remove the stack's data, caches and builds; .venv and the downloaded Kafka stay
	@test ! -e .noetl/lock || flock --nonblock .noetl/lock true || \
		{ echo "normalizer up runs here: stop it first"; exit 1; }
	@test ! -L .noetl/postgres/outside || rm -rf "$$(readlink .noetl/postgres/outside)"
	rm -rf .noetl build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache contract/rust/target native/target native/build native/*.egg-info
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# .venv holds exactly what the lock names, each file checked by its hash. venv writes activate last: without
# it .venv is half made, and has no pip. uv takes a tenth of pip's time; it reads no pip.conf, so pip installs
# what uv does not reach. An editable install writes this folder's name by the locale: the locale C has only
# ASCII.
$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: type make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python -a -e $(BIN)/activate || $(PYTHON) -m venv --clear .venv || \
		{ echo "Python cannot make a .venv: type apt-get install python3-venv"; exit 1; }
	@echo "installing into .venv, which takes a minute the first time"
	@sed -n '/^uv==/p' requirements-dev.lock | $(PIP_INSTALL) --requirement /dev/stdin
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements-dev.lock \
		|| $(PIP_INSTALL) --requirement requirements-dev.lock
	@LC_ALL=C.UTF-8 $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
		--editable .
	@touch $@
