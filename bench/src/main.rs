//! Benchmarks against named peers: the same work done in turn by Crossdock, by the database's own
//! tool and by Debezium where it is installed, on private servers.
//!
//! Prints a table and leaves JSON lines in `target/bench/NAME.jsonl`.

mod apply;
mod canonical;
mod debezium;
mod drain;
mod judging;
mod latency;
mod mariadb;
mod mysql;
mod postgres;
mod report;
mod snapshot;
mod workload;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use crossdock_capture::BLOCK_BYTES;

use crate::workload::BASE;

/// Judging allocates often and little, on few threads: see `docs/adr/0030`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "crossdock-bench", about)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Drain a replication slot into the durable journal, against pg_recvlogical to /dev/null.
    CapturePostgres {
        #[command(flatten)]
        runs: Runs,
        #[command(flatten)]
        backlog: Backlog,
    },
    /// Drain a binlog into the durable journal, against mariadb-binlog decoding to /dev/null.
    CaptureMariadb {
        #[command(flatten)]
        runs: Runs,
        #[command(flatten)]
        backlog: Backlog,
    },
    /// Drain a binlog of MySQL into the durable journal, against Debezium.
    CaptureMysql {
        #[command(flatten)]
        runs: Runs,
        /// Transactions of 100 row changes in the backlog.
        #[arg(long, default_value_t = 10_000)]
        transactions: u32,
    },
    /// Snapshot a table into the durable journal, against COPY to /dev/null.
    SnapshotPostgres {
        #[command(flatten)]
        runs: Runs,
        /// Rows in the table.
        #[arg(long, default_value_t = 2_000_000)]
        rows: u32,
    },
    /// Snapshot a table into the durable journal, against the client selecting to /dev/null.
    SnapshotMariadb {
        #[command(flatten)]
        runs: Runs,
        /// Rows in the table.
        #[arg(long, default_value_t = 2_000_000)]
        rows: u32,
    },
    /// Snapshot a table of MySQL into the durable journal, against a client and Debezium.
    SnapshotMysql {
        #[command(flatten)]
        runs: Runs,
        /// Rows in the table.
        #[arg(long, default_value_t = 2_000_000)]
        rows: u32,
    },
    /// From commit to durable in the journal, against a native subscription applying.
    LatencyPostgres {
        #[command(flatten)]
        load: Load,
    },
    /// Fold, map and judge on one core, with the demo's mapping and rule files.
    Canonical {
        /// Runs.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Orders whose life is judged, about 33 row changes each.
        #[arg(long, default_value_t = 5_000)]
        orders: u32,
        /// Row changes that are judged at once.
        #[arg(long, default_value_t = 1_000)]
        batch: usize,
    },
    /// From the slot into the canonical store with history, against a native subscription.
    Apply {
        /// Runs.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Transactions of 100 row changes in each run.
        #[arg(long, default_value_t = 3_000)]
        transactions: u32,
        /// Rows, and so records, that are there before.
        #[arg(long, default_value_t = BASE)]
        base: u32,
    },
    /// From commit in a source to commit in a target table, against a native subscription.
    LatencyApply {
        #[command(flatten)]
        load: Load,
    },
    /// Crossdock's side of one run.
    #[command(hide = true)]
    Drain(drain::Task),
}

#[derive(Args)]
struct Runs {
    /// Paired runs.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Size of Crossdock's blocks.
    #[arg(long, default_value_t = BLOCK_BYTES)]
    block_bytes: usize,
    /// Leave Debezium out, also when it is installed.
    #[arg(long)]
    no_debezium: bool,
}

#[derive(Args)]
struct Load {
    /// Runs.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Transactions a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Length of a run.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

#[derive(Args)]
struct Backlog {
    /// Transactions of 100 row changes in the backlog.
    #[arg(long, default_value_t = 10_000)]
    transactions: u32,
    /// Instead of these, a single transaction that inserts so many rows.
    #[arg(long)]
    transaction_rows: Option<u32>,
}

fn main() -> Result<()> {
    // Fails only when a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().bench {
        Bench::CapturePostgres { runs, backlog } => {
            let backlog = match backlog.transaction_rows {
                Some(rows) => postgres::Backlog::OneTransaction { rows },
                None => postgres::Backlog::Transactions { count: backlog.transactions },
            };
            postgres::bench(runs.runs, backlog, runs.block_bytes, !runs.no_debezium)
        }
        Bench::CaptureMariadb { runs, backlog } => {
            let backlog = match backlog.transaction_rows {
                Some(rows) => mariadb::Backlog::OneTransaction { rows },
                None => mariadb::Backlog::Transactions { count: backlog.transactions },
            };
            mariadb::bench(runs.runs, backlog, runs.block_bytes)
        }
        Bench::CaptureMysql { runs, transactions } => {
            mysql::bench(runs.runs, transactions, runs.block_bytes, !runs.no_debezium)
        }
        Bench::SnapshotPostgres { runs, rows } => {
            snapshot::postgres(runs.runs, rows, runs.block_bytes, !runs.no_debezium)
        }
        Bench::SnapshotMariadb { runs, rows } => {
            snapshot::mariadb(runs.runs, rows, runs.block_bytes)
        }
        Bench::SnapshotMysql { runs, rows } => {
            snapshot::mysql(runs.runs, rows, runs.block_bytes, !runs.no_debezium)
        }
        Bench::LatencyPostgres { load: Load { runs, rate, seconds } } => {
            latency::bench(runs, rate, seconds)
        }
        Bench::LatencyApply { load: Load { runs, rate, seconds } } => {
            apply::latency::bench(runs, rate, seconds)
        }
        Bench::Canonical { runs, orders, batch } => judging::bench(runs, orders, batch),
        Bench::Apply { runs, transactions, base } => apply::bench(runs, transactions, base),
        Bench::Drain(task) => drain::run(&task),
    }
}
