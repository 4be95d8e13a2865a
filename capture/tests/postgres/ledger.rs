//! What a service makes of a source: it keeps the blocks, the position and the reader's memory,
//! and loses its reader now and then.

use crossdock_capture::{CopyMessage, CopyState, MESSAGE_PREFIX, Purpose, TableCopy};

use super::*;

/// A copy of the source's tables, and what is needed to go on.
#[derive(Default)]
pub struct Ledger {
    /// By table and key: columns by name, `None` where the log has not said it.
    pub rows: BTreeMap<(String, String), BTreeMap<String, Option<Value<'static>>>>,
    pub memory: Memory,
    pub position: Option<Position>,
    /// Parts of snapshots, as they came.
    pub parts: Vec<SnapshotPart>,
    pub copied: Vec<CopyMessage>,
    /// Rows that were read, by a snapshot or beside the stream.
    pub reads: usize,
    /// Parts of a transaction that is not whole yet: cut off when the reader is lost.
    pub part: Vec<Fragment>,
    /// Commits of transactions, in order.
    pub last: u64,
}

impl Ledger {
    /// With tables to be read beside the stream.
    pub fn with(tables: &[&str], purpose: Purpose) -> Self {
        let mut ledger = Self::default();
        for table in tables {
            let table = TableName::parse(table).expect("schema.table");
            ledger.memory.tables.push(TableCopy::new(table, purpose));
        }
        ledger
    }

    pub async fn open(&mut self, options: &SourceOptions, start: Start) -> PostgresReader {
        self.part.clear();
        open_again(options, start, &self.memory).await
    }

    /// Makes a block durable.
    pub fn keep(&mut self, reader: &mut PostgresReader, block: &Block) {
        self.part.extend(fragments(block));
        self.memory = reader.memory().clone();
        self.parts.push(block.snapshot);
        if !block.boundary {
            return;
        }
        for fragment in std::mem::take(&mut self.part) {
            let Position::Postgres { lsn } = fragment.header.commit else { panic!("no LSN") };
            assert!(lsn >= self.last, "{lsn:X} after {:X}", self.last);
            self.last = lsn;
            for event in &fragment.events {
                self.event(event);
            }
        }
        self.position = Some(block.end.clone());
        reader.acknowledge(&block.end);
    }

    fn event(&mut self, event: &ChangeEvent) {
        if let Some((prefix, content)) = &event.message {
            assert_ne!(prefix, "crossdock.watermark", "our own marks stay out of blocks");
            if prefix == MESSAGE_PREFIX {
                self.copied.push(serde_json::from_slice(content).expect("a message of ours"));
            }
        }
        let Some(table) = &event.table else { return };
        let name = table.name.to_string();
        let key = |image: &RowImage<'static>| {
            let columns = table.key_columns();
            let texts = columns.iter().map(|c| image.get(*c).and_then(Value::to_text));
            (name.clone(), texts.map(|t| t.expect("key is there")).collect::<Vec<_>>().join("|"))
        };
        if event.op == Op::Truncate {
            return self.rows.retain(|(of, _), _| *of != name);
        }
        let before = event.before.as_ref().map(key);
        let Some(after) = &event.after else {
            self.rows.remove(&before.expect("a deleted row has a key"));
            return;
        };
        self.reads += usize::from(event.op == Op::Read);
        let old = self.rows.remove(before.as_ref().unwrap_or(&key(after))).unwrap_or_default();
        let cell = |(n, column): (usize, &crossdock_model::Column)| {
            let name = column.name.to_string();
            let known = after.get(n).cloned().or_else(|| old.get(&name).cloned().flatten());
            (name, known)
        };
        let row = table.columns.iter().enumerate().map(cell).collect();
        self.rows.insert(key(after), row);
    }

    /// Rows of a table as text, `a|b|c`; every column must be known.
    pub fn texts(&self, table: &str, columns: &str) -> Vec<String> {
        let text = |key: &str, row: &BTreeMap<String, Option<Value<'static>>>| {
            let cells = columns.split(',').map(|column| {
                let value = row.get(column).cloned().flatten();
                let value = value.unwrap_or_else(|| panic!("{table} {key} lacks {column}"));
                value.to_text().unwrap_or_else(|| "NULL".to_string())
            });
            cells.collect::<Vec<_>>().join("|")
        };
        let rows = self.rows.iter().filter(|((name, _), _)| name == table);
        let mut texts: Vec<String> = rows.map(|((_, key), row)| text(key, row)).collect();
        texts.sort();
        texts
    }

    pub fn state(&self, table: &str) -> CopyState {
        let name = TableName::parse(table).expect("schema.table");
        self.memory.table(&name).expect("the table is known").state.clone()
    }

    /// Reads until all tables are read, or can't be.
    pub async fn until_copied(&mut self, reader: &mut PostgresReader) {
        while self.memory.tables.iter().any(|copy| copy.state == CopyState::Pending) {
            let block = next(reader).await.expect("the stream goes on");
            self.keep(reader, &block);
        }
    }

    /// Reads until a message `done`.
    pub async fn until_done(&mut self, reader: &mut PostgresReader) {
        loop {
            let block = next(reader).await.expect("the stream goes on");
            self.keep(reader, &block);
            if is_done(&DATABASE.with_borrow(String::clone), &block) {
                return;
            }
        }
    }
}

/// Opens a reader; a predecessor that is just ending is waited for.
pub async fn open_again(options: &SourceOptions, start: Start, memory: &Memory) -> PostgresReader {
    loop {
        match postgres::open(options, start.clone(), memory.clone()).await {
            Ok(reader) => return reader,
            Err(error) => {
                let text = error.to_string();
                assert!(error.is_transient() || text.contains("in use by process"), "{text}");
            }
        }
    }
}
