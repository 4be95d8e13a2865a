//! Benchmarks against named peers: the same backlog, drained in turn by Crossdock and by the
//! database's own tool, on private servers that write to disk for real.
//!
//! Prints a table and leaves JSON lines in `target/bench/NAME.jsonl`.

mod drain;
mod mariadb;
mod postgres;
mod report;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};
use postgres::Backlog;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        /// Paired runs.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Transactions of 100 row changes in the backlog.
        #[arg(long, default_value_t = 10_000)]
        transactions: u32,
        /// Instead of these, a single transaction that inserts so many rows.
        #[arg(long)]
        transaction_rows: Option<u32>,
    },
    /// Drain a binlog into the durable journal, against mariadb-binlog decoding to /dev/null.
    CaptureMariadb {
        /// Paired runs.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Transactions of 100 row changes in the backlog.
        #[arg(long, default_value_t = 10_000)]
        transactions: u32,
    },
    /// Crossdock's side of one run, in a process of its own so that its memory can be told.
    #[command(hide = true)]
    Drain(drain::Task),
}

fn main() -> Result<()> {
    // Fails only when a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().bench {
        Bench::CapturePostgres { runs, transactions, transaction_rows } => {
            let backlog = match transaction_rows {
                Some(rows) => Backlog::OneTransaction { rows },
                None => Backlog::Transactions { count: transactions },
            };
            postgres::bench(runs, backlog)
        }
        Bench::CaptureMariadb { runs, transactions } => mariadb::bench(runs, transactions),
        Bench::Drain(task) => drain::run(&task),
    }
}
