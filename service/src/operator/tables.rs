//! Capturing one more table, at once.

use anyhow::{anyhow, bail};
use crossdock_capture::SourceOptions;
use crossdock_model::TableName;
use serde::{Deserialize, Serialize};

use super::{Moved, Operator};
use crate::board::lock;
use crate::stage::drift;

/// Asks for a table to be captured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableRequest {
    /// Source.
    pub source: String,
    /// Table.
    pub table: TableName,
}

impl Operator {
    /// Takes a table that has changed for what is meant, so that its source's changes, which wait
    /// for it, go on.
    pub async fn accept_table(&self, request: TableRequest) -> anyhow::Result<Moved> {
        let TableRequest { source, table } = request;
        self.captured(&source)?;
        let checkpoints = self.checkpoints.clone();
        let (of, which) = (source.clone(), table.clone());
        let accepted = self.standing_still("integrate", move || async move {
            Ok(tokio::task::block_in_place(|| drift::accept(&checkpoints, &of, &which))?)
        });
        let Some(accepted) = accepted.await? else {
            bail!("source {source} does not wait for a change of {table}: crossdock status");
        };
        let what = accepted.changes.join(", ");
        tracing::info!(source, %table, what, "change of a table accepted by an operator");
        Ok(Moved { lines: vec![format!("{table} of source {source}: {what}: accepted")] })
    }

    /// Captures a table from now on: the source is opened again with it, which adds it to the
    /// publication and reads its rows beside the stream. When the source can't be opened with it,
    /// it goes on without.
    pub async fn add_table(&self, request: TableRequest) -> anyhow::Result<Moved> {
        let TableRequest { source, table } = request;
        let captured = self.captured(&source)?;
        if lock(&captured.tables).contains(&table) {
            bail!("table {table} is captured from source {source} already");
        }
        let asked = SourceOptions { tables: vec![table.clone()], ..captured.options.clone() };
        if crossdock_capture::describe(&asked).await?.is_empty() {
            bail!("source {source}: table {table} does not exist, or its user may not read it");
        }
        let stage = format!("ingest/{source}");
        let (list, added) = (captured.tables.clone(), table.clone());
        self.standing_still(&stage, move || async move {
            lock(&list).push(added);
            Ok(())
        })
        .await?;
        if let Err(error) = self.settled(&source).await {
            let (list, refused) = (captured.tables.clone(), table.clone());
            self.standing_still(&stage, move || async move {
                lock(&list).retain(|table| *table != refused);
                Ok(())
            })
            .await?;
            return Err(anyhow!("{error:#}; the source goes on without {table}"));
        }
        tracing::info!(source, %table, "table added by an operator");
        Ok(Moved {
            lines: vec![format!(
                "{table} is captured from source {source}; its rows are being read: crossdock \
                 snapshot list"
            )],
        })
    }
}
