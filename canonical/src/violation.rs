//! Values that were written by somebody who does not own the field.

use crossdock_model::canonical::{
    Delivery, ExceptionItem, Name, Record, RecordKey, RowWrite, Tally, WriteKind,
};
use crossdock_model::{TableName, Value};
use jiff::tz::TimeZone;
use serde_json::json;

use crate::check::revertible;
use crate::compute::{choose, is_frozen};
use crate::judge::{Judge, Tx};
use crate::mapping::{FieldMap, Term};
use crate::ownership::{COMPUTED, Choice, OnViolation};
use crate::plan::FieldPlan;
use crate::rowmap::{Said, shifted};
use crate::rules::Rules;
use crate::step::{Doing, Step};
use crate::workspace::type_record;

/// A value that was not taken.
struct Withheld<'v> {
    record: &'v RecordKey,
    field: &'v Name,
    old: Option<&'v Value<'static>>,
    new: &'v Value<'static>,
    owners: &'v Value<'static>,
    owner: &'v Name,
    rule: &'v Name,
}

impl Judge<'_> {
    /// Notes values that rules accept from others, and fields that their owners have written.
    pub(crate) fn note_fresh(&mut self, tx: &mut Tx<'_>, step: &Step, said: &Said) {
        let Some(plan) = self.rules.plans.of(&said.record.entity) else { return };
        if step.doing == Doing::Found || !plan.accepts {
            return;
        }
        let before = earlier(step, &said.record);
        for (field, new) in said.fields.iter() {
            let old = before.and_then(|b| b.fields.get(field));
            // A row that is new and says nothing of a field has not written it.
            if old.map_or(new.is_null(), |old| old.same_as(new)) {
                continue;
            }
            let rule = plan.fields.get(field).and_then(|f| f.rule.as_ref());
            for choice in rule
                .into_iter()
                .flat_map(|r| r.iter())
                .filter(|c| c.on_violation == OnViolation::Accept)
            {
                let place = (said.record.clone(), field.clone());
                if choice.owned_by(&step.row.source) {
                    tx.fresh.accepted.remove(&place);
                    tx.fresh.owned.insert(place);
                } else {
                    let value = (new.clone(), step.row.source.clone(), step.at);
                    tx.fresh.accepted.insert(place, value);
                }
            }
        }
    }

    /// Judges what a row has changed without owning it.
    pub(crate) fn violations(&mut self, tx: &Tx<'_>, step: &Step) {
        for said in step.said() {
            let Some(plan) = self.rules.plans.of(&said.record.entity) else { continue };
            let before = earlier(step, &said.record);
            let mut plans = plan.fields.walk();
            for (field, new) in said.fields.iter() {
                let Some(plan) = plans.find(field).filter(|p| !p.key) else { continue };
                if plan.plainly_owned_by(&step.row.source) {
                    continue;
                }
                let old = before.and_then(|b| b.fields.get(field));
                if !old.is_some_and(|old| old.same_as(new)) {
                    let change = (field, old, new);
                    self.changed_field(tx, step, &said.record, plan, change);
                }
            }
        }
    }

    fn changed_field(
        &mut self,
        tx: &Tx<'_>,
        step: &Step,
        key: &RecordKey,
        plan: &FieldPlan,
        (field, old, new): (&Name, Option<&Value<'static>>, &Value<'static>),
    ) {
        let source = &step.row.source;
        let Some(record) = self.recs.get(key).and_then(|r| r.record.clone()) else { return };
        let (computed, rule) = (plan.computed, plan.rule.as_ref());
        let linked = self.owner_linked(key);
        let choice = rule.and_then(|r| choose(r, &key.key, &record.fields, &linked).ok().flatten());
        let Some(choice) = choice else { return };
        let frozen = is_frozen(choice, &key.key, &record.fields, &linked).unwrap_or(true);
        if choice.owned_by(source) && !computed && !frozen {
            return;
        }
        // Without a value of the owner's there is nothing to violate.
        let Some(owners) = record.fields.get(field).filter(|v| !v.is_null()) else { return };
        let owner: Name = match (computed, frozen) {
            (true, _) => COMPUTED.into(),
            (false, true) => "nobody (it is frozen)".into(),
            (false, false) => choice.owner.clone(),
        };
        let item =
            Withheld { record: key, field, old, new, owners, owner: &owner, rule: &choice.rule };
        if owners.same_as(new) {
            if choice.on_violation == OnViolation::Quarantine && step.doing == Doing::Changed {
                self.quarantine(tx, step, &item, false);
            }
            return;
        }
        let written = match step.doing {
            Doing::Found => false,
            Doing::Created => !new.is_null(),
            Doing::Changed => true,
        };
        if !written {
            self.withheld(step, &item, "snapshot");
            return;
        }
        if choice.falls_back_to(source) {
            self.withheld(step, &item, OnViolation::Ignore.word());
            return;
        }
        self.punish(tx, step, &item, choice, computed || frozen);
    }

    fn punish(
        &mut self,
        tx: &Tx<'_>,
        step: &Step,
        item: &Withheld<'_>,
        choice: &Choice,
        nobodys: bool,
    ) {
        let policy = match choice.on_violation {
            // A computed or frozen value is nobody's to change.
            OnViolation::Accept if !nobodys => return,
            OnViolation::Accept => OnViolation::Ignore,
            other => other,
        };
        if policy == OnViolation::Revert && self.revert(step, item) {
            self.withheld(step, item, policy.word());
            // On record, but with nothing left to do.
            self.quarantine(tx, step, item, true);
            self.quarantine(tx, step, item, false);
            return;
        }
        match policy {
            OnViolation::Ignore => self.withheld(step, item, policy.word()),
            _ => {
                self.withheld(step, item, OnViolation::Quarantine.word());
                self.quarantine(tx, step, item, true);
            }
        }
    }

    fn withheld(&mut self, step: &Step, item: &Withheld<'_>, action: &str) {
        self.count(Tally::Withheld {
            entity: item.record.entity.clone(),
            field: item.field.clone(),
            source: step.row.source.clone(),
            action: action.into(),
        });
    }

    fn quarantine(&mut self, tx: &Tx<'_>, step: &Step, item: &Withheld<'_>, open: bool) {
        let row = &step.row;
        let key = &item.record.key;
        let id = self.troubles.id(&[
            "ownership_violation",
            key,
            item.field,
            &row.source,
            &row.table,
            &row.pk,
        ]);
        self.troubles.raise(ExceptionItem {
            id,
            kind: "ownership_violation".into(),
            record: Some(item.record.clone()),
            source: row.source.clone(),
            rule: item.rule.clone(),
            team: "".into(),
            text: format!(
                "{} changed {} of {key}, which {} owns; the change was not taken.",
                row.source, item.field, item.owner
            ),
            context: json!({
                "field": &**item.field,
                "old": item.old.map(Value::to_json),
                "new": item.new.to_json(),
                "owners": item.owners.to_json(),
                "owner": &**item.owner,
                "table": &*row.table,
                "row": row.pk.replace('\u{1f}', ","),
                "transaction": tx.folded.header.id,
                "position": &*tx.place,
            }),
            open,
        });
    }

    /// Owes the offender a write of the owner's value; false when that is not possible.
    fn revert(&mut self, step: &Step, item: &Withheld<'_>) -> bool {
        let row = &step.row;
        let rules = self.rules;
        if !rules.targets.contains(&row.source) || step.key.is_empty() {
            return false;
        }
        let blocks = rules.mappings.get(&(row.source.clone(), row.table.clone()));
        let fields = blocks
            .into_iter()
            .flatten()
            .filter(|m| m.entity == item.record.entity)
            .flat_map(|m| &m.fields);
        let Some(map) = fields.into_iter().find(|f| f.name == *item.field && revertible(f)) else {
            return false;
        };
        let (Term::Path(path), Some(table)) = (&map.term, TableName::parse(&row.table)) else {
            return false;
        };
        let Some(value) = written_back(map, item.owners, step.image.of(&path.column)) else {
            return false;
        };
        let event_id = self.troubles.id(&[
            "revert",
            &row.source,
            &row.table,
            &row.pk,
            item.field,
            &step.at.to_sortable(),
        ]);
        self.out.deliveries.push(Delivery {
            event_id,
            target: row.source.clone(),
            rule: item.rule.clone(),
            record: item.record.clone(),
            writes: vec![RowWrite {
                table,
                kind: WriteKind::Update,
                key: step.key.clone(),
                columns: vec![(path.column.clone(), value)],
            }],
            reverts: Some(item.field.clone()),
            hops: 0,
        });
        true
    }
}

impl Rules {
    /// What a revert writes now. Between deciding and writing, the owner may have said something
    /// else, and what it said before must not come after that. `record` is as the store has it.
    /// `None` when the record is gone or its field has no value: nothing is to be written back.
    /// Where the files do not say any more how the field stands in the target, it stays as decided.
    pub fn renewed(&self, revert: &Delivery, record: Option<Record>) -> Option<Vec<RowWrite>> {
        let mut record = record.filter(|record| !record.deleted)?;
        type_record(&mut record, &self.entities, &self.casts);
        let field = revert.reverts.as_ref()?;
        let owners = record.fields.get(field).filter(|value| !value.is_null())?;
        let mut writes = revert.writes.clone();
        for write in &mut writes {
            let place = (revert.target.clone(), Name::from(write.table.to_string()));
            let fields = self.mappings.get(&place).into_iter().flatten();
            let fields = fields.filter(|m| m.entity == record.key.entity).flat_map(|m| &m.fields);
            let maps: Vec<&FieldMap> =
                fields.filter(|f| f.name == *field && revertible(f)).collect();
            for (column, value) in &mut write.columns {
                let of = |f: &&&FieldMap| matches!(&f.term, Term::Path(p) if p.column == *column);
                let map = maps.iter().find(of);
                if let Some(now) = map.and_then(|map| written_back(map, owners, Some(value))) {
                    *value = now;
                }
            }
        }
        Some(writes)
    }
}

/// Whether something about a step can be found out only once its records are computed: it has
/// changed what it does not plainly own, or its records may be in quarantine.
pub(crate) fn concerns_others(rules: &Rules, step: &Step) -> bool {
    if step.records().any(|record| rules.quarantines.contains_key(&record.entity)) {
        return true;
    }
    step.said().iter().any(|said| {
        let Some(plan) = rules.plans.of(&said.record.entity) else { return false };
        let before = earlier(step, &said.record);
        let mut plans = plan.fields.walk();
        said.fields.iter().any(|(field, new)| {
            let Some(plan) = plans.find(field).filter(|p| !p.key) else { return false };
            let old = before.and_then(|b| b.fields.get(field));
            !plan.plainly_owned_by(&step.row.source) && !old.is_some_and(|old| old.same_as(new))
        })
    })
}

/// What a row said of a record before.
fn earlier<'s>(step: &'s Step, key: &RecordKey) -> Option<&'s Said> {
    step.before().iter().find(|s| s.record == *key)
}

/// The owner's value as the offender's column holds it: the mapping backwards.
fn written_back(
    map: &FieldMap,
    owners: &Value<'static>,
    column: Option<&Value<'static>>,
) -> Option<Value<'static>> {
    if map.shift != 0 {
        return shifted(owners, -map.shift);
    }
    match (owners, column) {
        (Value::TimestampTz(micros), Some(Value::Timestamp(_))) => {
            if map.zone == TimeZone::UTC {
                return Some(Value::Timestamp(*micros));
            }
            let at = jiff::Timestamp::from_microsecond(*micros).ok()?;
            let wall = map.zone.to_datetime(at);
            let wall = TimeZone::UTC.to_timestamp(wall).ok()?;
            Some(Value::Timestamp(wall.as_microsecond()))
        }
        (value, _) => Some(value.clone()),
    }
}
