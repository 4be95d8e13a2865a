//! One page of a round: rows whose cursor lies beyond where something may have been missed.

use std::time::Instant;

use crossdock_model::SnapshotPart;

use super::link::{From, Wanted};
use super::output::{Kind, Stop};
use super::run::Run;
use super::state::{OpenRound, State};
use super::table::Layout;
use crate::TableCopy;
use crate::memory::now_micros;

impl Run {
    /// Reads the next page of a table's round; begins the round where none is open.
    pub(super) async fn round(&mut self, at: usize) -> Result<(), Stop> {
        let Some(table) = self.tables.get_mut(at) else { return Ok(()) };
        let begins = table.state.round.is_none();
        let layout = table.layout(&self.options, &mut self.link, begins).await?;
        if begins {
            table.due = Instant::now();
            table.state.round = Some(OpenRound { began_micros: now_micros(), after: None });
        }
        let name = table.settings.table.clone();
        let wanted = Wanted {
            order: &layout.order,
            from: from(&table.state),
            filter: None,
            rows_max: table.page_rows,
        };
        let page = self.link.page(&name, &wanted).await?;
        table.page_was(page.rows.len(), page.bytes);
        let cursor = page.last.as_ref().and_then(|last| last.get(..layout.cursor.len()));
        let cursor = cursor.map(<[String]>::to_vec);
        table.state.mark(now_micros(), cursor.as_deref(), table.settings.overlap);
        let mut rows = Vec::new();
        for row in page.rows {
            if table.window.is_news(&layout.key, &row) {
                rows.push(row);
            }
        }
        match (page.more, page.last, &mut table.state.round) {
            (true, Some(last), Some(round)) => round.after = Some(last),
            _ => return self.end_round(at, &layout, rows).await,
        }
        if !rows.is_empty() {
            let (news, now) = (table.news(), self.link.now_micros().await?);
            let kind = (Kind::Polled, SnapshotPart::Stream);
            self.out.rows(kind, &layout.schema, rows, now, news).await?;
        }
        Ok(())
    }

    async fn end_round(
        &mut self,
        at: usize,
        layout: &Layout,
        rows: Vec<Vec<crossdock_model::Value<'static>>>,
    ) -> Result<(), Stop> {
        let Some(table) = self.tables.get_mut(at) else { return Ok(()) };
        let too_many = table.window.turn();
        if too_many {
            tracing::debug!(source = self.options.name, table = %table.settings.table,
                "more rows lie within the overlap than are remembered: some come again");
        }
        table.state.complete(table.settings.overlap, too_many);
        // The next one begins in time, or at once when this one took longer.
        table.due = (table.due + table.settings.every).max(Instant::now());
        let news = table.news();
        let now = self.link.now_micros().await?;
        if !rows.is_empty() {
            let kind = (Kind::Polled, SnapshotPart::Stream);
            self.out.rows(kind, &layout.schema, rows, now, news.clone()).await?;
        }
        self.say_complete(now, news).await
    }

    /// How far all tables have been read.
    async fn say_complete(&mut self, now: i64, news: TableCopy) -> Result<(), Stop> {
        let complete = self.tables.iter().map(|table| table.state.complete_micros).min();
        let place = self.out.complete(complete.unwrap_or(0));
        self.out.empty(SnapshotPart::Stream, place, now, vec![news]).await
    }
}

/// Where the next page begins.
fn from(state: &State) -> From<'_> {
    if let Some(after) = state.round.as_ref().and_then(|round| round.after.as_ref()) {
        return From::Beyond(after);
    }
    match state.marks.first() {
        Some(mark) => match &mark.cursor {
            Some(cursor) if mark.passed => From::Beyond(cursor),
            Some(cursor) => From::At(cursor),
            None => From::Start,
        },
        None => From::Start,
    }
}
