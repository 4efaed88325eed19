# The platform's: the same in every service. A service's own targets go into Makefile.
PACKAGE := $(filter-out dbservice,$(notdir $(patsubst %/,%,$(dir $(wildcard src/*/service.py)))))
BIN := .venv/bin

# Without a DB_TYPE it is SQLite in a file; any other database is named by DB_TYPE, DB_HOST, DB_NAME ...
DB_TYPE ?= sqlite
ifeq ($(DB_TYPE),sqlite)
DB_NAME ?= var/$(PACKAGE).db
endif
run migrate revision grants verify-access doctor: export DB_TYPE := $(DB_TYPE)
run migrate revision grants verify-access doctor: export DB_NAME := $(DB_NAME)

# The image, and what `make up` starts of it; what you need more is in deploy/image/ and deploy/compose.override.yaml.
SERVICE := $(subst _,-,$(PACKAGE))
IMAGE ?= $(SERVICE):dev
COMPOSE = IMAGE=$(IMAGE) docker compose $(addprefix --file ,$(wildcard deploy/compose.yaml deploy/compose.override.yaml))

.PHONY: help .venv run test check format migrate revision grants verify-access doctor lock sbom image up down check-update update clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+%?:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# With a lock file, the tests run with the versions that the image has.
LOCKED := $(wildcard requirements.lock)

.venv: $(LOCKED:requirements.lock=lock)
	@sh scripts/bootstrap.sh venv --editable '.[dev]' --constraint src/dbservice/constraints.txt $(addprefix --constraint ,$(LOCKED))

var:
	@mkdir -p var

run: export SHUTDOWN_DELAY ?= 0
run: migrate ## migrate, then serve on http://127.0.0.1:8000 (PORT=8001 for another port)
	@exec $(BIN)/python -m $(PACKAGE) serve

test: .venv ## run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest $(ARGS)

check: .venv ## check format, lint, types, and that no migration stops who writes
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy
	@$(BIN)/python -m $(PACKAGE) check-revisions

format: .venv ## format and auto-fix
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

migrate: .venv var ## bring the database's schema up to date
	@$(BIN)/python -m $(PACKAGE) migrate

revision: .venv var ## write a migration for what changed in tables.py (m="what changed")
	@$(if $(m),,$(error say what changes: make revision m="add a column"))$(BIN)/python -m $(PACKAGE) revision -m "$$m"

# What is printed for the service's own engine is kept in deploy/sql/, which a test compares.
ENGINE := $(subst mariadb,mysql,$(shell sed -n '/^.tool.dbservice./,$$s/^database *= *"\(.*\)"/\1/p' pyproject.toml))
PRINTED := $(if $(filter file,$(origin DB_TYPE)),$(ENGINE),$(DB_TYPE))
ACCOUNTS := $(if $(filter --apply --cache,$(ARGS)),,$(if $(filter sqlite,$(ENGINE)),,$(filter $(ENGINE),$(PRINTED))))

grants: .venv ## print the SQL of the service's accounts into deploy/sql/ (ARGS=--apply runs it as ADMIN_DB_USER)
ifeq ($(ACCOUNTS),)
	@$(BIN)/python -m $(PACKAGE) grants $(ARGS)
else
	@mkdir -p deploy/sql
	@DB_TYPE=$(ENGINE) $(BIN)/python -m $(PACKAGE) grants $(ARGS) > deploy/sql/.accounts.sql || { rm deploy/sql/.accounts.sql; exit 1; }
	@mv deploy/sql/.accounts.sql deploy/sql/accounts.sql
	@cat deploy/sql/accounts.sql
endif

verify-access: .venv ## compare what the accounts hold on the server with what is declared
	@$(BIN)/python -m $(PACKAGE) verify-access $(ARGS)

doctor: .venv var ## check settings, connections, accounts, tables and limits; what to do about each failure
	@$(BIN)/python -m $(PACKAGE) doctor $(ARGS)

lock: ## write requirements.lock, the image's packages with hashes (ARGS=--upgrade for newer versions of your own)
	@sh scripts/bootstrap.sh lock $(if $(filter lock,$(MAKECMDGOALS)),$(ARGS))

sbom: ## write build/sbom.cdx.json, the image's packages as a CycloneDX bill of materials
	@sh scripts/bootstrap.sh sbom $(ARGS)

image: ## build the image and print its size (IMAGE=name:tag, BUILDER=podman, ARGS="--pull")
	@sh scripts/bootstrap.sh image $(IMAGE) $(if $(filter image,$(MAKECMDGOALS)),$(ARGS))

up: image ## build the image, then start it with a database of its own: http://127.0.0.1:8000 (PUBLISH=127.0.0.1:8001)
	@sh scripts/bootstrap.sh compose_secrets
	@$(COMPOSE) up --detach --wait --remove-orphans $(ARGS)

down: ## stop what `make up` has started (ARGS=--volumes removes its data, too)
	@$(COMPOSE) down --remove-orphans $(ARGS)

# make deploy-production, deploy-local ...: an environment of deploy/environments/, or this machine without a container.
deploy-%: ## deploy an environment, after scripts/migrate.sh (ARGS=--dry-run)
	@sh scripts/deploy.sh $* $(ARGS)

check-update: ## say whether the template has a newer version
	@sh scripts/bootstrap.sh copier check-update $(ARGS)

update: ## update the platform from the template (ARGS="--vcs-ref 1.2.0" for one version)
	@sh scripts/bootstrap.sh copier update --skip-answered $(ARGS)
	@$(if $(LOCKED),sh scripts/bootstrap.sh lock)

clean: ## remove what was made here, except var/ with its data
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build src/*.egg-info
	@find src tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +
