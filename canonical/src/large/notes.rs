//! What is kept aside while a large transaction is judged, and its form as text.

use std::sync::Arc;

use crossdock_model::block::{decode_fields, encode_fields};
use crossdock_model::canonical::{
    Evidence, Fields, Links, Name, Origin, Record, RecordKey, RowKey,
};
use crossdock_model::notes::Note;
use crossdock_model::{LogOrder, Named, Op, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fold::kept::{Kept, Place};
use crate::fold::{Net, Table};
use crate::judge::phase::RecordNote;
use crate::rowmap::Said;
use crate::rows::Speech;
use crate::rules::Rules;
use crate::step::{Doing, Step};

/// What notes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shelf {
    /// Rows, and what the transaction has done to them. In the order of their places.
    Rows,
    /// What rows mean, for those who look at it last. In the order of their places.
    Steps,
    /// Records, and what they were before. In the order of their keys, as all that follow.
    Records,
    /// Records whose releases are to be looked at.
    Releases,
    /// Records to be computed; those of one level read those of the levels before.
    Level(u8),
}

impl Shelf {
    /// A number for each.
    pub const fn number(self) -> i16 {
        match self {
            Self::Rows => 0,
            Self::Steps => 1,
            Self::Records => 2,
            Self::Releases => 3,
            Self::Level(n) => 4 + n as i16,
        }
    }
}

/// A note that says something else than what was kept.
#[derive(Debug, thiserror::Error)]
#[error("what was kept aside of a large transaction cannot be read: {0}; restart the process")]
pub struct Unreadable(String);

impl Unreadable {
    fn of(error: &serde_json::Error) -> Self {
        // The text of such an error may quote what it did not expect.
        Self(format!("{:?} error at column {}", error.classify(), error.column()))
    }
}

/// Fields as text, exactly as they are.
#[derive(Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Packed(Arc<Fields>);

impl Clone for Packed {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl From<Packed> for String {
    fn from(packed: Packed) -> Self {
        let digit = |nibble: u8| char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
        let bytes = encode_fields(&packed.0);
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl TryFrom<String> for Packed {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let fields = bytes.and_then(|bytes| decode_fields(&bytes));
        fields.map(|fields| Self(Arc::new(fields))).ok_or("no fields")
    }
}

fn single(name: &Name, value: &Value<'static>) -> Packed {
    let mut fields = Fields::new();
    fields.insert(name.clone(), value.clone());
    Packed(Arc::new(fields))
}

fn of_single(packed: Packed) -> Option<(Name, Value<'static>)> {
    Arc::unwrap_or_clone(packed.0).into_iter().next()
}

/// A row.
#[derive(Serialize, Deserialize)]
struct Row {
    table: Name,
    pk: Name,
    net: Option<RowNet>,
}

#[derive(Serialize, Deserialize)]
struct RowNet {
    keys: Vec<Name>,
    op: char,
    image: Packed,
    full: bool,
    before: Option<Packed>,
    inherits: Option<RowKey>,
    at: LogOrder,
}

/// Both parts; without NUL, which the text of a store cannot hold.
fn joined(first: &str, second: &str) -> String {
    let key = format!("{first}\u{1f}{second}");
    match key.contains(['\0', '\u{1}']) {
        true => key.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0"),
        false => key,
    }
}

/// The key of a row's note.
pub(super) fn row_key((table, pk): &Place) -> String {
    joined(table, pk)
}

/// A row as a note.
pub(super) fn of_row((place, net): Kept<'_>, at: i64) -> Result<Note, Unreadable> {
    let key = row_key(&place);
    let net = net.map(|net| RowNet {
        keys: net.table.key_names().cloned().collect(),
        op: match net.op {
            Op::Read => 'r',
            Op::Create => 'c',
            Op::Delete => 'd',
            Op::Update | Op::Truncate | Op::Message => 'u',
        },
        image: Packed(net.image),
        full: net.full,
        before: net.before.map(Packed),
        inherits: net.inherits,
        at: net.at,
    });
    let (table, pk) = place;
    Ok(Note { shelf: Shelf::Rows.number(), key, place: at, body: text(&Row { table, pk, net })? })
}

/// The row of a note.
pub(super) fn to_row<'r>(
    rules: &'r Rules,
    source: &Name,
    note: &Note,
) -> Result<Kept<'r>, Unreadable> {
    let Row { table, pk, net } = read(note)?;
    let net = net.map(|net| Net {
        table: Table::of_keys(source, &table, &net.keys, rules),
        row: RowKey { source: source.clone(), table: table.clone(), pk: pk.clone() },
        op: match net.op {
            'r' => Op::Read,
            'c' => Op::Create,
            'd' => Op::Delete,
            _ => Op::Update,
        },
        image: net.image.0,
        full: net.full,
        before: net.before.map(|packed| packed.0),
        inherits: net.inherits,
        at: net.at,
    });
    Ok(((table, pk), net))
}

/// What a row means, as far as it is looked at once its records are known.
#[derive(Serialize, Deserialize)]
struct StepNote {
    row: RowKey,
    at: LogOrder,
    doing: u8,
    said: Vec<(RecordKey, Packed)>,
    before: Vec<(RecordKey, Packed)>,
    left: Vec<RecordKey>,
    others: Vec<RecordKey>,
    key: Vec<Packed>,
    image: Option<Packed>,
}

/// A step as a note. What it says is kept when `whole`; its records always are.
pub(super) fn of_step(step: &Step, whole: bool, place: i64) -> Result<Note, Unreadable> {
    let said = |all: &[Said]| -> Vec<(RecordKey, Packed)> {
        all.iter().map(|s| (s.record.clone(), Packed(s.fields.clone()))).collect()
    };
    let mut note = StepNote {
        row: step.row.clone(),
        at: step.at,
        doing: match step.doing {
            Doing::Changed => 0,
            Doing::Created => 1,
            Doing::Found => 2,
        },
        said: Vec::new(),
        before: Vec::new(),
        left: Vec::new(),
        others: step.records().cloned().collect(),
        key: Vec::new(),
        image: None,
    };
    if whole {
        note.said = said(step.said());
        note.before = said(step.before());
        note.left = step.left.clone();
        note.key = step.key.iter().map(|(name, value)| single(name, value)).collect();
        note.image = Some(Packed(step.image.clone()));
    }
    Ok(Note { shelf: Shelf::Steps.number(), key: place.to_string(), place, body: text(&note)? })
}

/// The step of a note, without its evidence and what was wrong with it: both have been dealt with.
pub(super) fn to_step(note: &Note) -> Result<Step, Unreadable> {
    let note: StepNote = read(note)?;
    let said = |all: Vec<(RecordKey, Packed)>| {
        let said = |(record, fields): (RecordKey, Packed)| Said {
            record,
            fields: fields.0,
            links: Links::new().into(),
        };
        all.into_iter().map(said).collect()
    };
    let mut step = Step::new(&note.row, note.at);
    step.doing = match note.doing {
        0 => Doing::Changed,
        1 => Doing::Created,
        _ => Doing::Found,
    };
    step.speech = Some(Arc::new(Speech::of(said(note.said))));
    step.earlier = Some(Arc::new(Speech::of(said(note.before))));
    step.left = note.left;
    step.withdrawn = note.others.into_iter().map(|record| (Uuid::nil(), record)).collect();
    step.key = note.key.into_iter().filter_map(of_single).collect();
    step.image = note.image.map(|packed| packed.0).unwrap_or_default();
    Ok(step)
}

#[derive(Serialize, Deserialize)]
struct Kind {
    record: RecordKey,
    #[serde(default, skip_serializing_if = "is_false")]
    based: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Vec<Fact>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<(Packed, Name, LogOrder)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    owned: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<(Name, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<Name>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize, Deserialize)]
struct Base {
    version: u64,
    deleted: bool,
    fields: Packed,
    origins: Named<Origin>,
    links: Links,
}

#[derive(Serialize, Deserialize)]
struct Fact {
    id: Uuid,
    kind: Name,
    event_micros: i64,
    recorded_micros: i64,
    row: RowKey,
    authority: i32,
    at: LogOrder,
    withdrawn: bool,
    data: serde_json::Value,
}

/// The key of a record's notes.
pub(super) fn record_key(record: &RecordKey) -> String {
    joined(&record.entity, &record.key)
}

/// A record that is on a shelf, of which nothing else is noted.
pub(super) fn of_key(shelf: Shelf, record: &RecordKey) -> Result<Note, Unreadable> {
    Ok(Note { shelf: shelf.number(), key: record_key(record), place: 0, body: text(record)? })
}

/// The record of such a note.
pub(super) fn to_key(note: &Note) -> Result<RecordKey, Unreadable> {
    read(note)
}

/// What is noted of a record.
pub(super) fn of_record(record: &RecordKey, note: &RecordNote) -> Result<Note, Unreadable> {
    let base = |record: &Arc<Record>| Base {
        version: record.version,
        deleted: record.deleted,
        fields: Packed(Arc::new(record.fields.clone())),
        origins: record.origins.clone(),
        links: record.links.clone(),
    };
    let fact = |e: &Arc<Evidence>| Fact {
        id: e.id,
        kind: e.kind.clone(),
        event_micros: e.event_micros,
        recorded_micros: e.recorded_micros,
        row: e.row.clone(),
        authority: e.authority,
        at: e.at,
        withdrawn: e.withdrawn,
        data: e.data.clone(),
    };
    let accepted = note.accepted.iter();
    let kind = Kind {
        record: record.clone(),
        based: note.base.is_some(),
        base: note.base.as_ref().and_then(|b| b.as_ref().map(base)),
        evidence: note.evidence.as_ref().map(|all| all.values().map(fact).collect()),
        accepted: accepted
            .map(|(field, (value, source, at))| (single(field, value), source.clone(), *at))
            .collect(),
        owned: note.owned.iter().cloned().collect(),
        errors: note.errors.clone().unwrap_or_default(),
        changed: note.changed.clone(),
    };
    Ok(Note {
        shelf: Shelf::Records.number(),
        key: record_key(record),
        place: 0,
        body: text(&kind)?,
    })
}

/// The record of a note and what is noted of it.
pub(super) fn to_record(note: &Note) -> Result<(RecordKey, RecordNote), Unreadable> {
    let kind: Kind = read(note)?;
    let key = kind.record.clone();
    let base = kind.base.map(|base| {
        Arc::new(Record {
            key: key.clone(),
            version: base.version,
            deleted: base.deleted,
            fields: Arc::unwrap_or_clone(base.fields.0),
            origins: base.origins,
            links: base.links,
        })
    });
    let fact = |fact: Fact| {
        let evidence = Evidence {
            id: fact.id,
            record: key.clone(),
            kind: fact.kind,
            event_micros: fact.event_micros,
            recorded_micros: fact.recorded_micros,
            row: fact.row,
            authority: fact.authority,
            at: fact.at,
            withdrawn: fact.withdrawn,
            data: fact.data,
        };
        (evidence.id, Arc::new(evidence))
    };
    let accepted = kind.accepted.into_iter().filter_map(|(packed, source, at)| {
        let (field, value) = of_single(packed)?;
        Some((field, (value, source, at)))
    });
    let note = RecordNote {
        base: kind.based.then_some(base),
        evidence: kind.evidence.map(|all| all.into_iter().map(fact).collect()),
        accepted: accepted.collect(),
        owned: kind.owned.into_iter().collect(),
        errors: Some(kind.errors).filter(|errors| !errors.is_empty()),
        changed: kind.changed,
    };
    Ok((kind.record, note))
}

fn text(what: &impl Serialize) -> Result<String, Unreadable> {
    serde_json::to_string(what).map_err(|e| Unreadable::of(&e))
}

fn read<'n, T: Deserialize<'n>>(note: &'n Note) -> Result<T, Unreadable> {
    serde_json::from_str(&note.body).map_err(|e| Unreadable::of(&e))
}
