# The doors into the project. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DEMO_SECONDS ?= 0
DEMO_RATE ?= 8
TMS ?= mariadb
CRASH_KILLS ?= 200
BENCH_RUNS ?= 5
POSTGRES_VERSIONS ?= 14 18
FUZZ_SECONDS ?= 60

.PHONY: help setup build mysql test test-mysql test-postgres-versions demo lint crash bench-capture-postgres bench-capture-mariadb fuzz

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 26

setup: ## Install missing system packages (PostgreSQL, MariaDB, a C compiler)
	@deploy/setup/install.sh

build: setup ## Build the programs that tests and demo start
	cargo build --locked -p crossdock-service -p crossdock-demo

test: build mysql ## All tests, against real private servers
	cargo test --locked --workspace

mysql: setup ## Get a MySQL server for the tests, about a minute; without one, its tests are left out
	-@deploy/setup/mysql.sh

test-mysql: setup ## The tests that need a MySQL server
	deploy/setup/mysql.sh
	cargo test --locked -p crossdock-harness -p crossdock-capture --test main mysql

test-postgres-versions: setup ## The PostgreSQL tests of capture on the oldest and newest server that npm has
	cargo test --locked -p crossdock-capture --no-run
	deploy/setup/postgres-versions.sh "$(POSTGRES_VERSIONS)" cargo test --locked -p crossdock-capture --test main postgres::

demo: build ## Four systems, a workload, and Crossdock between them; DEMO_SECONDS=45: short and checked; TMS=mysql
	@if [ "$(TMS)" = mysql ]; then deploy/setup/mysql.sh; fi
	cargo run --locked --quiet -p crossdock-demo -- run --seconds $(DEMO_SECONDS) --rate $(DEMO_RATE) --tms $(TMS)

fuzz: ## Random bytes against every decoder, FUZZ_SECONDS for each
	fuzz/run.sh $(FUZZ_SECONDS)

lint: ## Format, clippy, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --all-features check; else echo "cargo-deny is not installed: cargo install cargo-deny"; fi

crash: build ## Kill -9 at random moments, CRASH_KILLS times, and compare with an undisturbed run
	CRASH_KILLS=$(CRASH_KILLS) cargo test --locked -p crossdock-tests -- --nocapture crash

bench-capture-postgres: setup ## Drain a PostgreSQL slot into the journal, against pg_recvlogical
	cargo build --locked --release -p crossdock-bench
	cargo run --locked --release --quiet -p crossdock-bench -- capture-postgres --runs $(BENCH_RUNS)

bench-capture-mariadb: setup ## Drain a MariaDB binlog into the journal, against mariadb-binlog
	cargo build --locked --release -p crossdock-bench
	cargo run --locked --release --quiet -p crossdock-bench -- capture-mariadb --runs $(BENCH_RUNS)
