# The doors into the project. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DEMO_SECONDS ?= 0
DEMO_RATE ?= 8
TMS ?= mariadb
CRASH_KILLS ?= 200
CRASH_POINTS ?= 1000
BENCH_RUNS ?= 5
POSTGRES_VERSIONS ?= 13 18
FUZZ_SECONDS ?= 60
SCHEDULES ?= 100000
LARGE_ROWS ?= 500000
TWO_WAY_WRITES ?= 1000
TWO_WAY_SEED ?= 1
OUTAGE_CHANGES ?= 60000
LANE_BACKLOG ?= 1000000
LANE_SAMPLES ?= 300

# None of the targets is a file.
.PHONY: $(shell grep -ohE "^[a-z-]+:" $(MAKEFILE_LIST) | tr -d :)

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 26

setup: ## Install missing system packages (PostgreSQL, MariaDB, a C compiler)
	@deploy/setup/install.sh

# Always the whole workspace: for a part of it, cargo would choose other features of the dependencies
# and build them once more.
build: setup ## Build the programs that tests and demo start
	cargo build --locked --workspace

test: build mysql ## All tests, against real private servers
	cargo test --locked --workspace

mysql: setup ## Get a MySQL server for the tests, about a minute; without one, its tests are left out
	-@deploy/setup/mysql.sh

test-mysql: setup ## The tests that need a MySQL server
	deploy/setup/mysql.sh
	cargo test --locked -p crossdock-harness -p crossdock-capture --test main mysql

test-large-transaction: setup ## Memory, while MySQL sends five million rows in one compressed event; some minutes
	deploy/setup/mysql.sh
	TRANSACTION_ROWS=5000000 cargo test --locked -p crossdock-capture --test main -- --nocapture memory_does_not_grow

test-large-integrate: build ## One transaction of LARGE_ROWS=500000 rows, integrated and mirrored, with the process ended in the middle; some minutes
	LARGE_ROWS=$(LARGE_ROWS) cargo test --locked --workspace --test system -- --nocapture a_large_transaction_of

test-schedules: ## Random schedules of four systems against models that know no rule file: SCHEDULES=100000
	SCHEDULES=$(SCHEDULES) cargo test --locked --release -p crossdock-canonical --test main -- ownership interleavings properties s7_s9_s10 aliases sums references

test-two-way: build mysql ## Two systems that overwrite each other's columns: TWO_WAY_WRITES=1000 on each side, TWO_WAY_SEED=1
	TWO_WAY_WRITES=$(TWO_WAY_WRITES) TWO_WAY_SEED=$(TWO_WAY_SEED) cargo test --locked --workspace --test system -- --nocapture two_way

test-outage: build ## A target that is away while OUTAGE_CHANGES=60000 changes are written: log released, memory flat, caught up
	OUTAGE_CHANGES=$(OUTAGE_CHANGES) cargo test --locked --workspace --test system -- --nocapture --test-threads=1 that_was_away

test-lanes-large: build ## Waiting times of the critical lane behind LANE_BACKLOG=1000000 deliveries of another
	LANE_BACKLOG=$(LANE_BACKLOG) LANE_SAMPLES=$(LANE_SAMPLES) cargo test --locked --workspace --test system -- --nocapture the_critical_lane

test-postgres-versions: setup ## The PostgreSQL tests of capture on other servers: POSTGRES_VERSIONS="13 14 15 16 17 18 extensions"
	cargo test --locked -p crossdock-capture --no-run
	deploy/setup/postgres-versions.sh "$(POSTGRES_VERSIONS)" cargo test --locked -p crossdock-capture --test main postgres::

test-postgres-extensions: setup ## Values of PostGIS and pgvector, on a server of Debian 13 (needs root)
	cargo test --locked -p crossdock-capture --no-run
	deploy/setup/postgres-versions.sh extensions cargo test --locked -p crossdock-capture --test main postgres::same_value

test-tryton: build ## The connector for Tryton on a real one, installed from PyPI below target/
	@deploy/setup/install.sh tryton
	tests/connectors/tryton/run.sh

test-vendure: build ## The connector for Vendure on a real one, installed from npm below target/
	@deploy/setup/install.sh vendure
	tests/connectors/vendure/run.sh

demo: build ## Four systems, a workload, and Crossdock between them; DEMO_SECONDS=45: short and checked; TMS=mysql
	@if [ "$(TMS)" = mysql ]; then deploy/setup/mysql.sh; fi
	$${CARGO_TARGET_DIR:-target}/debug/crossdock-demo run --seconds $(DEMO_SECONDS) --rate $(DEMO_RATE) --tms $(TMS)

fuzz: ## Random bytes against every decoder, FUZZ_SECONDS for each
	fuzz/run.sh $(FUZZ_SECONDS)

lint: ## Format, clippy, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --all-features check; else echo "cargo-deny is not installed: cargo install cargo-deny"; fi

crash: build ## End Crossdock or a server at CRASH_POINTS points, then kill -9 at CRASH_KILLS random moments; compare with the source and with an undisturbed run
	CRASH_KILLS=$(CRASH_KILLS) CRASH_POINTS=$(CRASH_POINTS) cargo test --locked --workspace --test system -- --nocapture --test-threads=1 crash

# Benchmarks print a table and leave JSON lines in target/bench/. Run them on a quiet machine.
BENCH := cargo run --locked --release --quiet -p crossdock-bench --

bench: bench-capture-postgres bench-capture-mariadb bench-capture-mysql bench-snapshot-postgres bench-snapshot-mariadb bench-snapshot-mysql bench-latency-postgres bench-large-transaction bench-canonical bench-apply bench-latency-apply ## All benchmarks

bench-build: setup
	cargo build --locked --release -p crossdock-bench

bench-debezium: ## Install Debezium (and Java) as a further peer of the benchmarks
	@deploy/setup/install.sh java
	@deploy/setup/debezium.sh

bench-capture-postgres: bench-build ## Drain a PostgreSQL slot into the journal, against pg_recvlogical
	$(BENCH) capture-postgres --runs $(BENCH_RUNS)

bench-capture-mariadb: bench-build ## Drain a MariaDB binlog into the journal, against mariadb-binlog
	$(BENCH) capture-mariadb --runs $(BENCH_RUNS)

bench-capture-mysql: bench-build mysql ## Drain a binlog of MySQL into the journal, against Debezium
	$(BENCH) capture-mysql --runs $(BENCH_RUNS)

bench-snapshot-postgres: bench-build ## Snapshot two million rows of PostgreSQL, against COPY
	$(BENCH) snapshot-postgres --runs $(BENCH_RUNS)

bench-snapshot-mariadb: bench-build ## Snapshot two million rows of MariaDB, against its client
	$(BENCH) snapshot-mariadb --runs $(BENCH_RUNS)

bench-snapshot-mysql: bench-build mysql ## Snapshot two million rows of MySQL, against a client and Debezium
	$(BENCH) snapshot-mysql --runs $(BENCH_RUNS)

bench-latency-postgres: bench-build ## Commit to durable at 500 transactions a second, against a subscription
	$(BENCH) latency-postgres --runs $(BENCH_RUNS)

bench-canonical: bench-build ## Fold, map and judge on one core with the demo's rules, against the goal
	$(BENCH) canonical --runs $(BENCH_RUNS)

bench-apply: bench-build ## From a slot into the canonical store with history, against a native subscription
	cargo build --locked --release -p crossdock-service
	$(BENCH) apply --runs $(BENCH_RUNS)

bench-apply-scale: bench-build ## The same with 10,000 to 10,000,000 records in the store; takes half an hour
	cargo build --locked --release -p crossdock-service
	for base in 10000 100000 1000000 10000000; do $(BENCH) apply --runs 1 --base $$base || exit 1; done

bench-latency-apply: bench-build ## Commit to commit in a target table at 500 transactions a second, against a subscription
	cargo build --locked --release -p crossdock-service
	$(BENCH) latency-apply --runs $(BENCH_RUNS)

bench-large-transaction: bench-build ## One transaction of ten million rows, on PostgreSQL and MariaDB; needs 15 GB of disk
	$(BENCH) capture-postgres --runs 1 --transaction-rows 10000000 --no-debezium
	$(BENCH) capture-mariadb --runs 1 --transaction-rows 10000000
