//! One page of a reading of all rows: the snapshot, a reconcile, or what somebody has asked for.

use std::time::Instant;

use crossdock_model::Value;

use super::link::{From, Wanted};
use super::output::{Kind, Stop};
use super::run::Run;
use super::table::Layout;
use crate::memory::now_micros;
use crate::{CaptureError, CopyMessage, CopyState, Purpose};

impl Run {
    /// Reads the next page of all rows of a table, by key.
    pub(super) async fn whole(&mut self, at: usize) -> Result<(), Stop> {
        let Some(table) = self.tables.get_mut(at) else { return Ok(()) };
        let begins = table.copy.since.is_none();
        let layout = table.layout(&self.options, &mut self.link, begins).await?;
        if begins && let Some(why) = self.begin_whole(at, &layout).await? {
            return self.refuse(at, why).await;
        }
        let Some(table) = self.tables.get_mut(at) else { return Ok(()) };
        let wanted = Wanted {
            order: &layout.key,
            from: table.state.whole_after.as_ref().map_or(From::Start, |key| From::Beyond(key)),
            filter: table.copy.filter.as_deref(),
            rows_max: table.page_rows,
        };
        let page = self.link.page(&table.settings.table, &wanted).await?;
        table.page_was(page.rows.len(), page.bytes);
        if has_twins(&layout, &page.rows) {
            let (source, table) = (&self.options.name, &table.settings.table);
            let key = format!("source {source}: two rows of {table} have the same `key`");
            let remedy = format!(
                "name columns that tell its rows apart in [source.{source}.poll.\"{table}\"]"
            );
            return Err(CaptureError::definite(key, remedy).into());
        }
        for row in &page.rows {
            table.window.handed_over(&layout.key, row);
        }
        let rows = page.rows.len() as u64;
        table.copy.rows += rows;
        table.copy.rows_estimated = table.copy.rows_estimated.max(table.copy.rows);
        table.state.whole_after = page.last.filter(|_| page.more);
        let ends = table.state.whole_after.is_none();
        let kind = match table.copy.purpose {
            Purpose::Initial => Kind::Snapshot,
            _ => Kind::Backfill,
        };
        if ends && kind == Kind::Snapshot {
            table.copy.finish();
        }
        let (news, now) = (table.news(), self.link.now_micros().await?);
        let kind = (kind, self.part());
        self.out.rows(kind, &layout.schema, page.rows, now, news).await?;
        self.paid_until = Instant::now() + self.throttle.take(rows, Instant::now());
        if ends {
            self.end_whole(at, now).await?;
        }
        Ok(())
    }

    /// Looks at what would make the reading untrue. Returns why the rows can't be read as somebody
    /// has asked for.
    async fn begin_whole(&mut self, at: usize, layout: &Layout) -> Result<Option<String>, Stop> {
        let Some(table) = self.tables.get_mut(at) else { return Ok(None) };
        let name = &table.settings.table;
        if self.link.has_null(name, &layout.key).await? {
            // It would never be read, and be taken for deleted.
            return Err(CaptureError::definite(
                format!("source {}: {name} has a row with NULL in its `key`", self.options.name),
                "name columns that are never NULL, or leave such rows out in a view",
            )
            .into());
        }
        if let Some(filter) = &table.copy.filter
            && let Err(why) = self.link.try_filter(name, filter).await?
        {
            return Ok(Some(why));
        }
        table.copy.rows_estimated = self.link.estimate(name).await?;
        table.copy.started_micros = now_micros();
        // What is read from here on lies beyond this place.
        table.copy.since = Some(self.out.advance());
        table.state.whole_after = None;
        Ok(None)
    }

    async fn refuse(&mut self, at: usize, why: String) -> Result<(), Stop> {
        let Some(table) = self.tables.get_mut(at) else { return Ok(()) };
        tracing::warn!(source = self.options.name, table = %table.settings.table, why,
            "rows can't be read");
        let now = now_micros();
        table.copy.state = CopyState::Failed(why);
        table.copy.finished_micros = now;
        let news = table.news();
        let place = self.out.advance();
        self.out.empty(self.part(), place, now, vec![news]).await
    }

    /// All rows have been handed over: says so to those who read the journal, who delete what was
    /// not among them.
    async fn end_whole(&mut self, at: usize, now: i64) -> Result<(), Stop> {
        let part = self.part();
        let Some(table) = self.tables.get_mut(at) else { return Ok(()) };
        let copy = &mut table.copy;
        if copy.purpose == Purpose::Initial {
            return Ok(());
        }
        // Whoever reads all rows of a polled table wants to know what is gone.
        let purpose = match (copy.purpose, &copy.filter) {
            (Purpose::Requested, None) => Purpose::Resync,
            (purpose, _) => purpose,
        };
        let message = CopyMessage::Copied {
            table: copy.table.clone(),
            purpose,
            filter: copy.filter.clone(),
            since: copy.since.clone().unwrap_or_else(|| self.out.position()),
        };
        copy.finish();
        // A row that went and came back as it was, meanwhile, is deleted by what follows: it must
        // come once more.
        table.window.forget();
        let news = table.news();
        self.out.message(part, &message, now, news).await
    }
}

/// Rows come by key: those with the same one are neighbours.
fn has_twins(layout: &Layout, rows: &[Vec<Value<'static>>]) -> bool {
    rows.windows(2).any(|pair| match pair {
        [one, other] => layout.key_of(one) == layout.key_of(other),
        _ => false,
    })
}
