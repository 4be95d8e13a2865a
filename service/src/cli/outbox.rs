//! `crossdock outbox-clean`: rows of an outbox table that are in the journal are deleted.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use crossdock_capture::postgres::OutboxCleaner;
use crossdock_config::{Config, DatabaseKind};
use crossdock_model::{Fragment, Op, TableName, block};

use super::events::{From, from};
use crate::wiring;

/// How often a journal is looked at when it had nothing new.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Command-line arguments.
#[derive(Args)]
pub struct OutboxCleanArguments {
    /// The source.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// The outbox table.
    #[arg(long, value_name = "TABLE", value_parser = super::table)]
    table: TableName,
    /// The column of the events' ids.
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    id_column: String,
    /// Where to begin: the number of a journal block, `beginning` or `now`.
    #[arg(long, value_name = "BLOCK", value_parser = from, default_value = "beginning")]
    from: From,
    /// Go on with rows that come, until interrupted.
    #[arg(long)]
    follow: bool,
    /// Rows deleted in one transaction, at most.
    #[arg(long, value_name = "N", default_value_t = 500)]
    batch: usize,
}

/// Runs the command.
pub async fn clean(path: &Path, arguments: OutboxCleanArguments) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match delete_all(&config, &arguments).await {
        Ok(deleted) => {
            say!("{deleted} rows of {} deleted", arguments.table);
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

async fn delete_all(config: &Config, arguments: &OutboxCleanArguments) -> anyhow::Result<u64> {
    let options = wiring::source_options(config);
    let options = options.iter().find(|options| options.name == arguments.source);
    let options = options.with_context(|| format!("no source `{}`", arguments.source))?;
    anyhow::ensure!(
        options.kind == DatabaseKind::Postgres,
        "source {} is not PostgreSQL, whose outbox tables alone are cleaned up; delete the rows \
         in the application",
        options.name
    );
    let mut journal = arguments.from.open(wiring::journal_dir(config, &arguments.source))?;
    let mut cleaner = OutboxCleaner::open(options, &arguments.table, &arguments.id_column).await?;
    let (mut waiting, mut deleted) = (Vec::new(), 0);
    loop {
        // What the journal hands out is durable and whole.
        let entry = tokio::task::block_in_place(|| journal.next_block())?;
        let idle = entry.is_none();
        if let Some(entry) = entry {
            let fragments = block::decode(&entry.bytes)
                .with_context(|| format!("journal block {}", entry.seq))?;
            waiting.extend(inserted(&fragments, &arguments.table, &arguments.id_column));
        }
        while waiting.len() >= arguments.batch.max(1) || idle && !waiting.is_empty() {
            let batch: Vec<String> =
                waiting.drain(..waiting.len().min(arguments.batch.max(1))).collect();
            deleted += cleaner.delete(&batch).await?;
        }
        if idle && !arguments.follow {
            return Ok(deleted);
        }
        if idle {
            std::io::stdout().flush()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Ids of the rows that were inserted into the table, or found there by a snapshot.
fn inserted(fragments: &[Fragment], table: &TableName, column: &str) -> Vec<String> {
    let events = fragments.iter().flat_map(|fragment| &fragment.events);
    let of_table = events.filter(|event| matches!(event.op, Op::Create | Op::Read));
    of_table
        .filter_map(|event| {
            let schema = event.table.as_ref().filter(|schema| schema.name == *table)?;
            let at = schema.columns.iter().position(|c| *c.name == *column)?;
            event.after.as_ref()?.get(at)?.to_text()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossdock_model::{ChangeEvent, Column, RowImage, TableSchema, TxHeader, Value};

    use super::*;

    #[test]
    fn only_rows_that_were_inserted_into_the_table_may_go() {
        let schema = |table: &str| {
            let column = |name: &str| Column {
                name: name.into(),
                type_name: "text".into(),
                nullable: true,
                key: None,
                base_type: None,
                default: None,
            };
            let name = TableName::new("public", table);
            Arc::new(TableSchema { name, columns: vec![column("payload"), column("id")] })
        };
        let event = |op, table: &str, id: &'static str| {
            let row = vec![Value::Text("p".into()), Value::Text(id.into())];
            let image = Some(RowImage::Full(row));
            let (before, after) = if op == Op::Delete { (image, None) } else { (None, image) };
            let table = Some(schema(table));
            ChangeEvent { op, table, before, after, message: None, ordinal: 0 }
        };
        let header = TxHeader {
            id: "1".into(),
            commit: "0/10".parse().unwrap(),
            commit_micros: 0,
            origin: None,
            snapshot: false,
        };
        let events = vec![
            event(Op::Create, "outbox", "a"),
            event(Op::Create, "orders", "b"),
            event(Op::Update, "outbox", "c"),
            event(Op::Delete, "outbox", "d"),
            event(Op::Read, "outbox", "e"),
        ];
        let fragment = Fragment { header, first: true, last: true, events };
        let table = TableName::new("public", "outbox");
        assert_eq!(inserted(&[fragment], &table, "id"), ["a", "e"]);
    }
}
