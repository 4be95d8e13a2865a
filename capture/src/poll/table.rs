//! One polled table or view.

use std::sync::Arc;
use std::time::Instant;

use crossdock_model::{TableSchema, Value};

use super::link::{Described, Link};
use super::state::State;
use super::window::Window;
use crate::{CaptureError, CopyState, PollTable, SourceOptions, TableCopy};

/// Rows of the first page; later ones follow the width of rows.
const PAGE_ROWS_FIRST: usize = 1_000;
const PAGE_ROWS_MIN: usize = 100;
const PAGE_ROWS_MAX: usize = 20_000;
/// Pages are made larger while they are smaller than this.
const PAGE_BYTES_GOAL: usize = 1024 * 1024;

/// A table that is polled, and how far.
pub(super) struct Table {
    pub settings: PollTable,
    pub copy: TableCopy,
    pub state: State,
    pub window: Window,
    /// When its next round begins.
    pub due: Instant,
    /// Rows of its next page.
    pub page_rows: usize,
    layout: Option<Arc<Layout>>,
}

/// Its columns, as they were when reading began.
pub(super) struct Layout {
    pub schema: Arc<TableSchema>,
    pub key: Vec<usize>,
    pub cursor: Vec<usize>,
    /// Cursor, then what of the key is not in it: the order in which rounds read.
    pub order: Vec<usize>,
}

impl Table {
    pub(super) fn new(settings: PollTable, copy: TableCopy) -> Self {
        let state = State::of(&copy);
        Self {
            settings,
            copy,
            state,
            window: Window::default(),
            due: Instant::now(),
            page_rows: PAGE_ROWS_FIRST,
            layout: None,
        }
    }

    /// As it is remembered.
    pub(super) fn news(&self) -> TableCopy {
        TableCopy { cursor: self.state.to_json(), ..self.copy.clone() }
    }

    /// All its rows are being read, or are to be.
    pub(super) fn is_pending(&self) -> bool {
        self.copy.state == CopyState::Pending
    }

    /// The columns that were found last, for as long as one reading lasts.
    pub(super) async fn layout(
        &mut self,
        options: &SourceOptions,
        link: &mut Link,
        anew: bool,
    ) -> Result<Arc<Layout>, CaptureError> {
        match self.layout.take().filter(|_| !anew) {
            Some(layout) => Ok(self.layout.insert(layout).clone()),
            None => {
                let described = link.describe(&self.settings.table).await?;
                let described =
                    described.ok_or_else(|| super::missing(options, &self.settings.table))?;
                if !described.readable {
                    return Err(unreadable(options, link, &self.settings));
                }
                let layout = Arc::new(Layout::of(options, &self.settings, &described)?);
                Ok(self.layout.insert(layout).clone())
            }
        }
    }

    /// Takes in how large a page was.
    pub(super) fn page_was(&mut self, rows: usize, bytes: usize) {
        self.page_rows = match bytes {
            super::PAGE_BYTES_MAX.. => rows / 4,
            PAGE_BYTES_GOAL.. => self.page_rows,
            _ if rows >= self.page_rows => self.page_rows * 2,
            _ => self.page_rows,
        }
        .clamp(PAGE_ROWS_MIN, PAGE_ROWS_MAX);
    }
}

/// The error for a table that may not be read.
pub(super) fn unreadable(
    options: &SourceOptions,
    link: &Link,
    settings: &PollTable,
) -> CaptureError {
    CaptureError::definite(
        format!("source {}: user {} may not read {}", options.name, options.user, settings.table),
        link.grant(&settings.table),
    )
}

impl Layout {
    /// Finds the columns of key and cursor; the error names the one that does not do.
    pub(super) fn of(
        options: &SourceOptions,
        settings: &PollTable,
        described: &Described,
    ) -> Result<Self, CaptureError> {
        let find = |names: &[String], role: &str| {
            let column = |name: &String| {
                let (source, table) = (&options.name, &settings.table);
                let Some(at) = described.schema.column(name) else {
                    return Err(CaptureError::definite(
                        format!("source {source}: {table} has no column {name}, its `{role}`"),
                        format!(
                            "name a column that is there in [source.{source}.poll.\"{table}\"], \
                             or put the column back"
                        ),
                    ));
                };
                if described.ordered.get(at) != Some(&true) {
                    return Err(CaptureError::definite(
                        format!(
                            "source {source}: {table}.{name}, its `{role}`, is of a type whose \
                             values have no order to ask by"
                        ),
                        "choose a column that holds a number, a time, a text or a UUID, or cast \
                         it in a view",
                    ));
                }
                Ok(at)
            };
            names.iter().map(column).collect::<Result<Vec<usize>, _>>()
        };
        let (key, cursor) = (find(&settings.key, "key")?, find(&settings.cursor, "cursor")?);
        let mut order = cursor.clone();
        order.extend(key.iter().filter(|at| !cursor.contains(at)));
        let schema = Arc::new(keyed(&described.schema, &settings.key));
        Ok(Self { schema, key, cursor, order })
    }

    /// The key of a row.
    pub(super) fn key_of<'r>(&self, row: &'r [Value<'static>]) -> Vec<Option<&'r Value<'static>>> {
        self.key.iter().map(|at| row.get(*at)).collect()
    }
}

/// The columns, with these as the key.
pub(super) fn keyed(schema: &TableSchema, key: &[String]) -> TableSchema {
    let mut schema = schema.clone();
    for column in &mut schema.columns {
        let at = key.iter().position(|name| **name == *column.name);
        column.key = at.and_then(|at| u16::try_from(at).ok());
    }
    schema
}
