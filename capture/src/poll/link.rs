//! What polling asks of a database, whichever kind it is.

use std::sync::Arc;

use crossdock_model::{TableName, TableSchema, Value};

use crate::{CaptureError, DatabaseKind, SourceOptions, mysql, postgres};

/// A connection that reads rows with nothing but the right to SELECT.
pub(crate) enum Link {
    Postgres(Box<postgres::PollLink>),
    Mysql(Box<mysql::PollLink>),
}

/// A table or view as it is now.
pub(crate) struct Described {
    /// Its columns; the key is the table's own, if it has one.
    pub schema: Arc<TableSchema>,
    /// By column: values of it have an order in which they can be asked for.
    pub ordered: Vec<bool>,
    /// The login may read it.
    pub readable: bool,
    pub view: bool,
}

/// A page of rows.
pub(crate) struct Wanted<'w> {
    /// Columns in whose order the rows come. A row with NULL in one of them does not come.
    pub order: &'w [usize],
    pub from: From<'w>,
    /// A condition besides.
    pub filter: Option<&'w str>,
    pub rows_max: usize,
}

/// Where a page begins: about the first columns of the order.
pub(crate) enum From<'w> {
    Start,
    /// With these values.
    At(&'w [String]),
    /// After these values.
    Beyond(&'w [String]),
}

/// What was read.
pub(crate) struct Page {
    /// All columns of each row.
    pub rows: Vec<Vec<Value<'static>>>,
    /// Where the last row stands in the order.
    pub last: Option<Vec<String>>,
    /// There may be more after it.
    pub more: bool,
    /// Size of the rows as they were sent.
    pub bytes: usize,
}

/// A page ends early when it holds so much, so that memory does not follow the width of rows.
pub(crate) const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a question may take that `check` asks about all rows.
pub(crate) const CHECK_SECONDS: u64 = 10;

/// The same call for either kind.
macro_rules! on {
    ($link:expr, $each:ident => $call:expr) => {
        match $link {
            Link::Postgres($each) => $call,
            Link::Mysql($each) => $call,
        }
    };
}

impl Link {
    /// Connects.
    pub(crate) async fn connect(options: &SourceOptions) -> Result<Self, CaptureError> {
        Ok(match options.kind {
            DatabaseKind::Postgres => {
                Self::Postgres(Box::new(postgres::PollLink::connect(options).await?))
            }
            DatabaseKind::Mysql | DatabaseKind::Mariadb => {
                Self::Mysql(Box::new(mysql::PollLink::connect(options).await?))
            }
        })
    }

    /// What the server says it is.
    pub(crate) async fn version(&mut self) -> Result<String, CaptureError> {
        on!(self, link => link.version().await)
    }

    /// The server's clock, microseconds since the Unix epoch.
    pub(crate) async fn now_micros(&mut self) -> Result<i64, CaptureError> {
        on!(self, link => link.now_micros().await)
    }

    /// Looks a table or view up, before anything else is asked about it; `None` when it does not
    /// exist or may not be seen.
    pub(crate) async fn describe(
        &mut self,
        name: &TableName,
    ) -> Result<Option<Described>, CaptureError> {
        on!(self, link => link.describe(name).await)
    }

    /// Reads a page, as the rows are now.
    pub(crate) async fn page(
        &mut self,
        name: &TableName,
        wanted: &Wanted<'_>,
    ) -> Result<Page, CaptureError> {
        let page = on!(self, link => link.page(name, wanted).await)?;
        if page.more && page.last.is_none() {
            // To go on from the beginning, or to end here, would both be wrong.
            return Err(CaptureError::definite(
                format!("{name}: the server gave a row with NULL in a column that is not NULL"),
                "report this with the definition of the table or view",
            ));
        }
        Ok(page)
    }

    /// The greatest values of these columns, taken together; `None` without rows.
    pub(crate) async fn greatest(
        &mut self,
        name: &TableName,
        columns: &[usize],
    ) -> Result<Option<Vec<String>>, CaptureError> {
        on!(self, link => link.greatest(name, columns).await)
    }

    /// Whether a row has NULL in one of these columns.
    pub(crate) async fn has_null(
        &mut self,
        name: &TableName,
        columns: &[usize],
    ) -> Result<bool, CaptureError> {
        on!(self, link => link.has_null(name, columns).await)
    }

    /// Whether a condition is understood; the server's words when not.
    pub(crate) async fn try_filter(
        &mut self,
        name: &TableName,
        filter: &str,
    ) -> Result<Result<(), String>, CaptureError> {
        on!(self, link => link.try_filter(name, filter).await)
    }

    /// Rows, as the server estimates; 0 when it does not know.
    pub(crate) async fn estimate(&mut self, name: &TableName) -> Result<u64, CaptureError> {
        on!(self, link => link.estimate(name).await)
    }

    /// Whether an index makes these columns unique.
    pub(crate) async fn is_unique(
        &mut self,
        name: &TableName,
        columns: &[String],
    ) -> Result<bool, CaptureError> {
        on!(self, link => link.is_unique(name, columns).await)
    }

    /// Whether an index begins with this column.
    pub(crate) async fn is_indexed(
        &mut self,
        name: &TableName,
        column: &str,
    ) -> Result<bool, CaptureError> {
        on!(self, link => link.is_indexed(name, column).await)
    }

    /// Whether two rows have the same values in these columns; `None` when it takes too long to
    /// find out.
    pub(crate) async fn has_twins(
        &mut self,
        name: &TableName,
        columns: &[String],
    ) -> Result<Option<bool>, CaptureError> {
        on!(self, link => link.has_twins(name, columns).await)
    }

    /// The statement that lets the login read it.
    pub(crate) fn grant(&self, name: &TableName) -> String {
        on!(self, link => link.grant(name))
    }
}
