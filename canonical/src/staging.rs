//! From a `[[test]]` block to transactions of sources: rows as the mappings expect them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name, RecordKey};
use crossdock_model::{
    ChangeEvent, Column, Op, Position, RowImage, TableName, TableSchema, TxHeader, Value,
};

use crate::mapping::{FieldMap, Mapping, Term};
use crate::rowmap::shifted;
use crate::rules::Rules;
use crate::trial::{Act, Given, Trial};

/// Commit time of the first transaction of a test: 2026-01-01T00:00:00Z.
const BEGIN_MICROS: i64 = 1_767_225_600_000_000;

/// A transaction of a test.
pub(crate) struct StagedTx {
    /// Source.
    pub source: Name,
    /// Its header.
    pub header: TxHeader,
    /// Its changes.
    pub events: Vec<ChangeEvent>,
}

/// A test as transactions.
#[derive(Default)]
pub(crate) struct Staged {
    /// What is there before.
    pub before: Vec<StagedTx>,
    /// What happens.
    pub acts: Vec<StagedTx>,
    /// Fields that a source sets: record, field, column.
    pub set: Vec<(RecordKey, Name, Name)>,
}

/// Makes the rows of a test.
pub(crate) struct Staging<'s> {
    rules: &'s Rules,
    trial: &'s Trial,
    /// Fields of each given record, its key among them.
    given: Vec<(RecordKey, Fields)>,
    staged: Staged,
    transactions: u64,
}

impl<'s> Staging<'s> {
    /// Reads what is given.
    ///
    /// # Errors
    /// What cannot be.
    pub fn new(rules: &'s Rules, trial: &'s Trial) -> Result<Self, String> {
        let given = trial.given.iter().map(|g| given(rules, g)).collect::<Result<_, _>>()?;
        Ok(Self { rules, trial, given, staged: Staged::default(), transactions: 0 })
    }

    /// The whole test.
    ///
    /// # Errors
    /// What no mapping can express.
    pub fn stage(mut self) -> Result<Staged, String> {
        for (key, fields) in self.given.clone() {
            self.state(&key, &fields)?;
        }
        for act in &self.trial.acts {
            match act {
                Act::Set { from, set } => self.set(from, set)?,
                Act::Row { from, op, before, after, key, at_micros } => {
                    let row = Row { from, op: *op, before, after, key };
                    let tx = self.row(&row, *at_micros)?;
                    self.staged.acts.push(tx);
                }
            }
        }
        Ok(self.staged)
    }

    /// Puts a given record there: each field as its owner says it.
    fn state(&mut self, key: &RecordKey, fields: &Fields) -> Result<(), String> {
        let entity = self.rules.entities.of(&key.entity);
        let own = |f: &Name| entity.is_some_and(|e| e.is_key(f));
        let mut by_source: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        for field in fields.keys().filter(|f| !own(f)) {
            let source = self.owner_of(key, field)?;
            by_source.entry(source).or_default().push(field.clone());
        }
        for (source, names) in by_source {
            let mapping = self.mapping(&source, key, &names)?;
            let columns = columns(mapping, fields, &names, &source)?;
            let at = self.next();
            let tx = self.transaction(&source, mapping, columns, Op::Create, None, at);
            self.staged.before.push(tx);
        }
        Ok(())
    }

    /// The source whose value a field holds.
    fn owner_of(&self, key: &RecordKey, field: &Name) -> Result<Name, String> {
        let rule = self.rules.ownership.of(&key.entity).and_then(|o| o.of(field));
        let choices = rule.into_iter().flatten().rev();
        let sources: Vec<&Name> = choices.flat_map(|c| &c.sources).collect();
        let can = |s: &&&Name| self.mapping(s, key, std::slice::from_ref(field)).is_ok();
        match sources.iter().find(can) {
            Some(source) => Ok((**source).clone()),
            None => Err(format!(
                "no owner of {}.{field} has it in a plain column: give it as events",
                key.entity
            )),
        }
    }

    /// A source changes fields of the first given record, in a row of its own.
    fn set(&mut self, from: &str, set: &[(Name, Value<'static>)]) -> Result<(), String> {
        let Some((key, fields)) = self.given.first().cloned() else {
            return Err("`change` needs a record: add given = { entity, key, state }".to_string());
        };
        let names: Vec<Name> = set.iter().map(|(name, _)| name.clone()).collect();
        let source = Name::from(from);
        let mapping = self.mapping(&source, &key, &names)?;
        let known: Vec<Name> = names.iter().filter(|n| fields.contains_key(*n)).cloned().collect();
        let before = columns(mapping, &fields, &known, &source)?;
        let mut changed = fields;
        changed.extend(set.iter().cloned());
        let after = columns(mapping, &changed, &names, &source)?;
        for name in &names {
            if let Some(column) = mapping.fields.iter().find(|f| f.name == *name).and_then(column) {
                self.staged.set.push((key.clone(), name.clone(), column));
            }
        }
        let at = self.next();
        let known = self.transaction(&source, mapping, before.clone(), Op::Read, None, at);
        self.staged.before.push(known);
        let at = self.next();
        let tx = self.transaction(&source, mapping, after, Op::Update, Some(before), at);
        self.staged.acts.push(tx);
        Ok(())
    }

    /// A mapping of a source in which fields of a record are plain columns.
    fn mapping(
        &self,
        source: &str,
        key: &RecordKey,
        names: &[Name],
    ) -> Result<&'s Mapping, String> {
        let of_source = self.rules.mappings.iter().filter(|((s, _), _)| **s == *source);
        let mut blocks = of_source.flat_map(|(_, b)| b).filter(|m| m.entity == key.entity);
        let has = |m: &Mapping, name: &Name| {
            m.fields.iter().any(|f| f.name == *name && column(f).is_some())
        };
        blocks.find(|m| names.iter().all(|n| has(m, n))).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|n| &**n).collect();
            format!(
                "no mapping of {source} has {} of {} in plain columns",
                names.join(", "),
                key.entity
            )
        })
    }

    fn row(&mut self, row: &Row<'_>, at_micros: Option<i64>) -> Result<StagedTx, String> {
        let (source, wanted) = row
            .from
            .split_once('.')
            .ok_or_else(|| format!("`{}` names no table: write SOURCE.TABLE", row.from))?;
        let mut found = self.rules.mappings.iter().filter(|((s, table), _)| {
            let short = table.rsplit_once('.').is_some_and(|(_, name)| name == wanted);
            **s == *source && (**table == *wanted || short)
        });
        let Some(((source, _), blocks)) = found.next() else {
            return Err(format!("no mapping reads {}", row.from));
        };
        let mapping = blocks.first().ok_or_else(|| format!("no mapping reads {}", row.from))?;
        let op = match row.op {
            'u' => Op::Update,
            'd' => Op::Delete,
            'r' => Op::Read,
            _ => Op::Create,
        };
        let after: Fields = row.after.iter().cloned().collect();
        let mut before = after.clone();
        before.extend(row.before.iter().cloned());
        let mut now = before.clone();
        now.extend(after);
        let keys = match row.key {
            [] if now.contains_key("id") => vec!["id".to_string()],
            [] => now.keys().map(ToString::to_string).collect(),
            keys => keys.to_vec(),
        };
        let (lsn, micros) = self.next();
        let at = (lsn, at_micros.unwrap_or(micros));
        let image = Image { source, table: &mapping.table, keys: &keys };
        let before = (row.op == 'u').then_some(before);
        Ok(image.transaction(now, op, before, at))
    }

    /// A transaction with one row. Mappings do not say which columns the key of a table has: those
    /// of the record's key will do.
    fn transaction(
        &self,
        source: &Name,
        mapping: &Mapping,
        row: Fields,
        op: Op,
        before: Option<Fields>,
        at: (u64, i64),
    ) -> StagedTx {
        let entity = self.rules.entities.of(&mapping.entity);
        let of_key = |f: &&FieldMap| entity.is_some_and(|e| e.is_key(&f.name));
        let keys: Vec<String> = mapping
            .fields
            .iter()
            .filter(of_key)
            .filter_map(|f| Some(column(f)?.to_string()))
            .collect();
        Image { source, table: &mapping.table, keys: &keys }.transaction(row, op, before, at)
    }

    /// Place and commit time of the next transaction.
    fn next(&mut self) -> (u64, i64) {
        self.transactions += 1;
        let seconds = i64::try_from(self.transactions).unwrap_or(i64::MAX);
        (self.transactions * 10, BEGIN_MICROS.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

/// A row of a test.
struct Row<'r> {
    from: &'r str,
    op: char,
    before: &'r [(Name, Value<'static>)],
    after: &'r [(Name, Value<'static>)],
    key: &'r [String],
}

fn given(rules: &Rules, given: &Given) -> Result<(RecordKey, Fields), String> {
    let Some(entity) = rules.entities.entity(&given.entity) else {
        return Err(format!("there is no entity `{}`", given.entity));
    };
    let own = given.key.strip_prefix(&format!("{}:", entity.prefix)).unwrap_or(&given.key);
    let parts: Vec<&str> = own.split(':').collect();
    if parts.len() != entity.key.len() {
        return Err(format!("the key of {} is {}", entity.name, entity.key.join(":")));
    }
    let mut fields: Fields = given.state.iter().cloned().collect();
    for (name, part) in entity.key.iter().zip(parts) {
        fields.insert(name.clone(), Value::Text(part.to_string().into()));
    }
    let key = entity.record_key(|name| fields.get(name));
    Ok((key.ok_or_else(|| format!("`{}` is no key of {}", given.key, entity.name))?, fields))
}

/// The column that a field is, unchanged.
fn column(field: &FieldMap) -> Option<Name> {
    match &field.term {
        Term::Path(path) if path.lookup.is_none() && path.members.is_empty() => {
            field.codes.is_none().then(|| path.column.clone())
        }
        _ => None,
    }
}

/// The columns of a row that says these fields of a record, its key among them.
fn columns(
    mapping: &Mapping,
    fields: &Fields,
    names: &[Name],
    source: &str,
) -> Result<Fields, String> {
    let mut row = Fields::new();
    for map in &mapping.fields {
        let Some(value) = fields.get(&map.name) else { continue };
        let is_key = !names.contains(&map.name);
        match (&map.term, column(map)) {
            (_, Some(column)) => {
                let value =
                    if map.shift == 0 { Some(value.clone()) } else { shifted(value, -map.shift) };
                let value = value.ok_or_else(|| format!("{} is no number", map.name))?;
                row.insert(column, value);
            }
            (Term::Constant(constant), None) if constant.to_text() == value.to_text() => {}
            _ if is_key => {
                let (name, entity) = (&map.name, &mapping.entity);
                return Err(format!("{source} has {entity}.{name} in no plain column"));
            }
            _ => {}
        }
    }
    Ok(row)
}

struct Image<'i> {
    source: &'i Name,
    table: &'i Name,
    keys: &'i [String],
}

impl Image<'_> {
    fn transaction(
        self,
        row: Fields,
        op: Op,
        before: Option<Fields>,
        (lsn, commit_micros): (u64, i64),
    ) -> StagedTx {
        let key = |name: &Name| self.keys.iter().position(|k| **k == **name);
        let column = |name: &Name| Column {
            name: name.clone(),
            type_name: "text".into(),
            nullable: key(name).is_none(),
            key: key(name).and_then(|at| u16::try_from(at).ok()),
            base_type: None,
            default: None,
        };
        let name = TableName::parse(self.table).unwrap_or_else(|| TableName::new("", self.table));
        let columns: Vec<Column> = row.keys().map(column).collect();
        let values = |fields: &Fields| -> Vec<Value<'static>> {
            row.keys().map(|c| fields.get(c).cloned().unwrap_or(Value::Null)).collect()
        };
        let now = values(&row);
        let before = match (op, before) {
            (Op::Delete, _) => Some(RowImage::Full(now.clone())),
            (_, before) => before.map(|b| RowImage::Full(values(&b))),
        };
        let event = ChangeEvent {
            op,
            table: Some(Arc::new(TableSchema { name, columns })),
            before,
            after: (op != Op::Delete).then_some(RowImage::Full(now)),
            message: None,
            ordinal: 0,
        };
        let header = TxHeader {
            id: format!("test-{lsn}"),
            commit: Position::Postgres { lsn },
            commit_micros,
            origin: None,
            snapshot: op == Op::Read,
        };
        StagedTx { source: self.source.clone(), header, events: vec![event] }
    }
}
