//! pgoutput messages become blocks. Pure: no socket, no clock.

use std::collections::HashMap;

use crossdock_model::{Block, BlockBuilder, Op, Position, SnapshotPart, TxHeader};

use super::chunk_thread::WATERMARK_PREFIX;
use super::image::{Table, image, key_image};
use super::in_progress::Commit;
use super::pgoutput::{self, Malformed, Message, Old, RelationMessage, Tuple};
use crate::CaptureError;

/// Says what a table of the log is; `None` when it is not captured.
pub(super) type Resolve<'r> =
    dyn FnMut(&RelationMessage<'_>) -> Result<Option<Table>, CaptureError> + 'r;

/// Builds blocks from messages.
pub(super) struct Decoder {
    builder: BlockBuilder,
    tables: HashMap<u32, Option<Table>>,
    transaction: Option<Transaction>,
    /// Transactions that commit before this place were read by a predecessor.
    from: u64,
    /// End of the last transaction that is in a block, or in the builder.
    end: u64,
    /// End of the last transaction seen, with or without a captured change.
    seen: u64,
    /// Transactions that have ended since the last block, where somebody asks.
    ended: Option<Vec<u32>>,
}

struct Transaction {
    header: TxHeader,
    /// The block has, or an earlier block had, its begin.
    begun: bool,
    /// Read by a predecessor: nothing of it goes into a block.
    skipped: bool,
    ordinal: u32,
}

impl Decoder {
    /// Starts after `from`.
    pub(super) fn new(from: u64) -> Self {
        Self {
            builder: BlockBuilder::new(),
            tables: HashMap::new(),
            transaction: None,
            from,
            end: from,
            seen: from,
            ended: None,
        }
    }

    /// Keeps the numbers of transactions that end, for [`Decoder::take_ended`].
    pub(super) fn note_ended(&mut self) {
        self.ended.get_or_insert_default();
    }

    /// Transactions with captured changes that have ended since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<u32> {
        self.ended.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Rows that were read beside the stream go to this place of it.
    pub(super) fn moved_to(&mut self, lsn: u64) {
        self.end = self.end.max(lsn);
    }

    /// Bytes waiting to be handed over.
    pub(super) fn len(&self) -> usize {
        self.builder.len()
    }

    /// True between transactions.
    pub(super) fn at_boundary(&self) -> bool {
        self.transaction.is_none()
    }

    /// When the transaction that is under way was committed, in microseconds of Unix time.
    pub(super) fn commit_micros(&self) -> Option<i64> {
        self.transaction.as_ref().map(|transaction| transaction.header.commit_micros)
    }

    /// End of the last transaction that went into a block.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// End of the last transaction seen, captured or not.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Hands over what has been built, if anything.
    pub(super) fn take_block(&mut self) -> Option<Block> {
        if self.builder.is_empty() {
            return None;
        }
        Some(self.builder.finish(Position::Postgres { lsn: self.end }, SnapshotPart::Stream))
    }

    /// A block without changes that moves the position of an idle source to `lsn`.
    pub(super) fn empty_block(&mut self, lsn: u64, server_micros: i64) -> Block {
        self.end = self.end.max(lsn);
        let end = Position::Postgres { lsn: self.end };
        let mut block = self.builder.finish(end, SnapshotPart::Stream);
        block.commit_micros = server_micros;
        block
    }

    /// Takes one message. `sent_micros` is the server's clock, for messages without a time.
    pub(super) fn message(
        &mut self,
        bytes: &[u8],
        sent_micros: i64,
        resolve: &mut Resolve<'_>,
    ) -> Result<(), CaptureError> {
        self.apply(pgoutput::parse(bytes).map_err(malformed)?, sent_micros, resolve)
    }

    /// Takes one message of a transaction that was in progress and has committed; between
    /// [`Decoder::begin_committed`] and [`Decoder::commit`].
    pub(super) fn committed_message(
        &mut self,
        bytes: &[u8],
        resolve: &mut Resolve<'_>,
    ) -> Result<(), CaptureError> {
        self.apply(pgoutput::parse_streamed(bytes).map_err(malformed)?, 0, resolve)
    }

    /// Begins a transaction that was in progress and has committed.
    pub(super) fn begin_committed(&mut self, commit: &Commit) -> Result<(), CaptureError> {
        self.begin(commit.lsn, commit.micros, commit.xid)
    }

    fn apply(
        &mut self,
        message: Message<'_>,
        sent_micros: i64,
        resolve: &mut Resolve<'_>,
    ) -> Result<(), CaptureError> {
        match message {
            Message::Begin { final_lsn, commit_micros, xid } => {
                self.begin(final_lsn, commit_micros, xid)
            }
            Message::Commit { end_lsn } => self.commit(end_lsn),
            Message::Origin { name } => {
                let transaction = self.transaction.as_mut().ok_or_else(|| outside("an origin"))?;
                transaction.header.origin = Some(name.to_string());
                Ok(())
            }
            Message::Relation(relation) => {
                let table = resolve(&relation)?;
                self.tables.insert(relation.oid, table);
                Ok(())
            }
            Message::Type => Ok(()),
            Message::Insert { relation, new } => self.change(relation, Op::Create, None, Some(new)),
            Message::Update { relation, old, new } => {
                self.change(relation, Op::Update, old, Some(new))
            }
            Message::Delete { relation, old } => self.change(relation, Op::Delete, Some(old), None),
            Message::Truncate { relations } => relations
                .into_iter()
                .try_for_each(|relation| self.change(relation, Op::Truncate, None, None)),
            Message::Logical { lsn, prefix, content } => {
                self.logical_message(lsn, sent_micros, prefix, content)
            }
        }
    }

    fn begin(&mut self, lsn: u64, commit_micros: i64, xid: u32) -> Result<(), CaptureError> {
        if self.transaction.is_some() {
            return Err(defect("a transaction began within a transaction"));
        }
        let header = TxHeader {
            id: xid.to_string(),
            commit: Position::Postgres { lsn },
            commit_micros,
            origin: None,
            snapshot: false,
        };
        // Begin is written with the first change, when the origin is known.
        let skipped = lsn < self.from;
        self.transaction = Some(Transaction { header, begun: false, skipped, ordinal: 0 });
        Ok(())
    }

    /// The transaction is complete.
    pub(super) fn commit(&mut self, end_lsn: u64) -> Result<(), CaptureError> {
        let transaction = self.transaction.take().ok_or_else(|| outside("a commit"))?;
        self.seen = self.seen.max(end_lsn);
        if transaction.begun {
            if !self.builder.in_transaction() {
                self.builder.begin(&transaction.header, false);
            }
            self.builder.end();
            self.end = self.end.max(end_lsn);
            if let Some(ended) = &mut self.ended {
                ended.extend(transaction.header.id.parse::<u32>());
            }
        }
        Ok(())
    }

    /// A message outside a transaction is one of its own: it takes effect at once, whatever
    /// becomes of the transaction that sent it.
    fn logical_message(
        &mut self,
        lsn: u64,
        sent_micros: i64,
        prefix: &str,
        content: &[u8],
    ) -> Result<(), CaptureError> {
        if prefix == WATERMARK_PREFIX {
            // Our own, or another Crossdock's: it has done its work by being here.
            return Ok(());
        }
        if let Some(transaction) = &mut self.transaction {
            if let Some(ordinal) = next_event(&mut self.builder, transaction)? {
                self.builder.message(ordinal, prefix, content);
            }
            return Ok(());
        }
        // One past its record: the server does not send it again from there.
        let end = lsn.saturating_add(1);
        self.seen = self.seen.max(end);
        if lsn >= self.from {
            let header = TxHeader {
                id: "message".to_string(),
                commit: Position::Postgres { lsn },
                commit_micros: sent_micros,
                origin: None,
                snapshot: false,
            };
            self.builder.begin(&header, true);
            self.builder.message(0, prefix, content);
            self.builder.end();
            self.end = self.end.max(end);
        }
        Ok(())
    }

    fn change(
        &mut self,
        relation: u32,
        op: Op,
        old: Option<Old<'_>>,
        new: Option<Tuple<'_>>,
    ) -> Result<(), CaptureError> {
        let transaction = self.transaction.as_mut().ok_or_else(|| outside("a change"))?;
        let table = self
            .tables
            .get(&relation)
            .ok_or_else(|| defect("a change of a table that the server has not described"))?;
        let Some(table) = table else { return Ok(()) };
        let Some(ordinal) = next_event(&mut self.builder, transaction)? else { return Ok(()) };
        self.builder.event(op, &table.schema, ordinal);
        match &old {
            None => self.builder.no_image(),
            Some(Old::Key(tuple)) => key_image(&mut self.builder, table, tuple)?,
            Some(Old::Full(tuple)) => image(&mut self.builder, table, tuple, None)?,
        }
        match (&new, &old) {
            (None, _) => self.builder.no_image(),
            (Some(tuple), Some(Old::Full(before))) => {
                image(&mut self.builder, table, tuple, Some(before))?;
            }
            (Some(tuple), _) => image(&mut self.builder, table, tuple, None)?,
        }
        Ok(())
    }
}

/// Opens the transaction in the block where needed; `None` when it is to be left out.
fn next_event(
    builder: &mut BlockBuilder,
    transaction: &mut Transaction,
) -> Result<Option<u32>, CaptureError> {
    if transaction.skipped {
        return Ok(None);
    }
    if !builder.in_transaction() {
        builder.begin(&transaction.header, !transaction.begun);
        transaction.begun = true;
    }
    let ordinal = transaction.ordinal;
    transaction.ordinal = ordinal
        .checked_add(1)
        .ok_or_else(|| defect("a transaction of more than 4294967295 changes"))?;
    Ok(Some(ordinal))
}

fn malformed(error: Malformed) -> CaptureError {
    match error.tag {
        b'b' | b'P' | b'K' | b'r' | b'p' => {
            defect(&format!("a message of type `{}`, which was not asked for", error.tag as char))
        }
        tag => defect(&format!("a message of type {tag} that is malformed or unknown")),
    }
}

fn outside(what: &str) -> CaptureError {
    defect(&format!("{what} outside a transaction"))
}

/// The server, or something between, does not speak pgoutput as documented.
pub(super) fn defect(what: &str) -> CaptureError {
    CaptureError::definite(
        format!("the replication stream holds {what}"),
        "check that nothing but PostgreSQL answers on this port, and report this with the \
         server's version",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::value::{Kind, Scalar};
    use crossdock_model::{Column, RowImage, TableName, TableSchema, Value, block};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn table() -> Table {
        let column = |name: &str, key| Column {
            name: name.into(),
            type_name: "integer".into(),
            nullable: key != Some(0),
            key,
            base_type: None,
            default: None,
        };
        Table {
            schema: Arc::new(TableSchema {
                name: TableName::new("public", "t"),
                columns: vec![column("id", Some(0)), column("n", None)],
            }),
            kinds: vec![Kind::scalar(Scalar::Int), Kind::scalar(Scalar::Int)],
            identity: vec![true, false],
        }
    }

    fn decoder(from: u64) -> Decoder {
        let mut decoder = Decoder::new(from);
        decoder.tables.insert(7, Some(table()));
        decoder.tables.insert(8, None);
        decoder
    }

    fn feed(decoder: &mut Decoder, message: &[u8]) {
        decoder.message(message, 5, &mut |_| Ok(None)).unwrap();
    }

    fn begin(lsn: u64) -> Vec<u8> {
        [&b"B"[..], &lsn.to_be_bytes(), &0i64.to_be_bytes(), &9u32.to_be_bytes()].concat()
    }

    fn commit(lsn: u64) -> Vec<u8> {
        let end = (lsn + 10).to_be_bytes();
        [&b"C\0"[..], &lsn.to_be_bytes(), &end, &0i64.to_be_bytes()].concat()
    }

    const INSERT: &[u8] = b"I\0\0\0\x07N\0\x02t\0\0\0\x0142n";
    const INSERT_ONE: &[u8] = b"I\0\0\0\x07N\0\x02t\0\0\0\x011n";

    #[test]
    fn a_transaction_may_span_blocks() {
        let mut decoder = decoder(0);
        feed(&mut decoder, &begin(100));
        feed(&mut decoder, b"O\0\0\0\0\0\0\0\0elsewhere\0");
        feed(&mut decoder, INSERT_ONE);
        let first = decoder.take_block().unwrap();
        assert!(!first.boundary);
        feed(&mut decoder, &commit(100));
        let second = decoder.take_block().unwrap();
        assert!(second.boundary);
        assert_eq!(second.end, Position::Postgres { lsn: 110 });
        let fragments = [&first, &second].map(|b| block::decode(&b.bytes).unwrap().remove(0));
        assert_eq!(fragments[0].header.origin.as_deref(), Some("elsewhere"));
        assert_eq!(fragments[0].header, fragments[1].header);
        assert_eq!([fragments[0].first, fragments[0].last], [true, false]);
        assert_eq!([fragments[1].first, fragments[1].last], [false, true]);
        let row = RowImage::Full(vec![Value::Int(1), Value::Null]);
        assert_eq!(fragments[0].events[0].after, Some(row));
    }

    #[test]
    fn what_was_read_before_is_left_out() {
        let mut decoder = decoder(110);
        for lsn in [100, 110] {
            feed(&mut decoder, &begin(lsn));
            feed(&mut decoder, INSERT_ONE);
            feed(&mut decoder, &commit(lsn));
        }
        let fragments = block::decode(&decoder.take_block().unwrap().bytes).unwrap();
        assert_eq!(fragments.len(), 1);
        assert_eq!(fragments[0].header.commit, Position::Postgres { lsn: 110 });
    }

    #[test]
    fn transactions_without_captured_changes_make_no_block() {
        let mut decoder = decoder(0);
        feed(&mut decoder, &begin(100));
        feed(&mut decoder, b"I\0\0\0\x08N\0\x01n");
        feed(&mut decoder, &commit(100));
        assert!(decoder.take_block().is_none());
        assert_eq!((decoder.end(), decoder.seen()), (0, 110));
    }

    #[test]
    fn an_unchanged_value_is_missing_or_comes_from_the_old_row() {
        let mut decoder = decoder(0);
        feed(&mut decoder, &begin(100));
        feed(&mut decoder, b"U\0\0\0\x07N\0\x02t\0\0\0\x011u");
        feed(&mut decoder, b"U\0\0\0\x07O\0\x02t\0\0\0\x011t\0\0\0\x015N\0\x02t\0\0\0\x012u");
        feed(&mut decoder, b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012t\0\0\0\x013");
        feed(&mut decoder, &commit(100));
        let events = block::decode(&decoder.take_block().unwrap().bytes).unwrap().remove(0).events;
        let full = |a, b| Some(RowImage::Full(vec![Value::Int(a), Value::Int(b)]));
        assert_eq!(events[0].after, Some(RowImage::Partial(vec![Some(Value::Int(1)), None])));
        assert_eq!((&events[1].before, &events[1].after), (&full(1, 5), &full(2, 5)));
        assert_eq!(events[2].before, Some(RowImage::Key(vec![Some(Value::Int(1)), None])));
        assert_eq!(events[2].after, full(2, 3));
    }

    #[test]
    fn errors_never_hold_the_value() {
        let mut decoder = decoder(0);
        feed(&mut decoder, &begin(100));
        let message = b"I\0\0\0\x07N\0\x02t\0\0\0\x06secretn";
        let error = decoder.message(message, 0, &mut |_| Ok(None)).unwrap_err().to_string();
        assert!(error.contains("public.t.id") && !error.contains("secret"), "{error}");
        assert!(decoder.message(INSERT, 0, &mut |_| Ok(None)).is_err());
    }

    #[test]
    fn a_message_outside_a_transaction_is_one_of_its_own() {
        let mut decoder = decoder(0);
        let message = [&b"M\0"[..], &50u64.to_be_bytes(), b"hb\0\0\0\0\x02ok"].concat();
        feed(&mut decoder, &message);
        let block = decoder.take_block().unwrap();
        assert_eq!(block.end, Position::Postgres { lsn: 51 });
        let fragment = block::decode(&block.bytes).unwrap().remove(0);
        assert_eq!((&*fragment.header.id, fragment.header.commit_micros), ("message", 5));
        assert_eq!(fragment.events[0].message, Some(("hb".to_string(), b"ok".to_vec())));
    }

    proptest! {
        #[test]
        fn no_messages_panic(
            messages in proptest::collection::vec(
                (
                    proptest::sample::select(&b"BCOYIUDTM"[..]),
                    proptest::collection::vec(any::<u8>(), 0..40),
                ),
                0..12,
            ),
        ) {
            let mut decoder = decoder(0);
            for (tag, body) in messages {
                let mut message = vec![tag];
                // Half of the changes are of a table that is known.
                if matches!(tag, b'I' | b'U' | b'D') && body.len() % 2 == 0 {
                    message.extend_from_slice(&7u32.to_be_bytes());
                }
                message.extend(body);
                if decoder.message(&message, 0, &mut |_| Ok(None)).is_err() {
                    return Ok(());
                }
            }
            if let Some(block) = decoder.take_block() {
                prop_assert!(block::decode(&block.bytes).is_ok());
            }
        }
    }
}
