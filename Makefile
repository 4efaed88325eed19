# The template's own. `make` lists what there is.
BIN := .venv/bin
BOOTSTRAP := sh template/scripts/bootstrap.sh
PLATFORM := template/src/dbservice

# Where .ci/run puts the MySQL that no Debian package has.
DB_TEST_MYSQL_HOME ?= $(wildcard $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/db-service-template/mysql)
export DB_TEST_MYSQL_HOME

# All tests are run by several processes, two for a core since they wait a lot; some of them (ARGS) by one.
PARALLEL := -n $(shell expr 2 '*' $$(nproc 2>/dev/null || echo 2)) --dist worksteal

.PHONY: help .venv demo test check format bench attack scene clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv:
	@$(BOOTSTRAP) venv --group dev -r $(PLATFORM)/requirements.txt -r $(PLATFORM)/requirements-cache.txt -r $(PLATFORM)/requirements-otel.txt -r $(PLATFORM)/requirements-dev.txt -c $(PLATFORM)/constraints.txt

demo: ## stamp the default service into build/demo and run it on SQLite, http://127.0.0.1:8000
	@rm -rf build/demo
	@$(BOOTSTRAP) copier copy --quiet --defaults --vcs-ref HEAD $(CURDIR) build/demo
	@$(MAKE) --no-print-directory -C build/demo run

test: .venv ## run everything, on every engine there is (ARGS="-k name" for some of it)
	@$(BIN)/python -m pytest $(or $(ARGS),$(PARALLEL))

check: .venv ## check format, lint and types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
	@MYPYPATH=template/src $(BIN)/mypy --config-file template/mypy.ini $(PLATFORM) template/scripts tests scene

format: .venv ## format and auto-fix
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

bench: .venv ## compare the service with hand-written ones (ARGS=--strict fails if a gate fails)
	@bench/bench $(ARGS)

attack: .venv ## attack a stamped service on each engine (ARGS="--engines sqlite --short")
	@attack/attack $(ARGS)

scene: .venv ## four services on one database: their accounts, and who can do what (ARGS=mariadb, mysql, galera)
	@PYTHONPATH=template/src $(BIN)/python -m scene $(ARGS)

clean: ## remove what was made here
	@rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
