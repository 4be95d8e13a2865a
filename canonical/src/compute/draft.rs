//! A record while it is computed: nothing is copied until it is known to differ from what is there.

use std::borrow::Cow;
use std::sync::LazyLock;

use crossdock_model::canonical::{Contribution, Fields, Links, Name, Origin, Record, RecordKey};
use crossdock_model::{LogOrder, Named, Value};

use crate::ownership::COMPUTED;
use crate::scope::Members;

/// Origins of key fields and of computed ones are made for every record: their names are shared.
static KEY: LazyLock<Name> = LazyLock::new(|| "key".into());
static NOWHERE: LazyLock<Name> = LazyLock::new(|| "".into());
static CROSSDOCK: LazyLock<Name> = LazyLock::new(|| COMPUTED.into());

/// Where a value comes from; an [`Origin`] before its texts are made.
#[derive(Debug)]
pub(super) enum Source<'d> {
    /// It is part of the key.
    Key(&'d Contribution),
    /// A row says so, by a rule.
    Said(&'d Contribution, &'d Name),
    /// Somebody else's, whom the rule accepts.
    Accepted { source: &'d Name, at: LogOrder, rule: &'d Name },
    /// It was there before.
    Kept(&'d Origin),
    /// A rule computes it.
    Computed(Name),
    /// A rule computes the state of a lifecycle; `inferred` are the steps that nobody reported.
    State { rule: Name, inferred: Vec<Name> },
}

impl Source<'_> {
    /// Who says so.
    pub fn name(&self) -> &Name {
        match self {
            Source::Key(by) | Source::Said(by, _) => &by.row.source,
            Source::Accepted { source, .. } => source,
            Source::Kept(origin) => &origin.source,
            Source::Computed(_) | Source::State { .. } => &CROSSDOCK,
        }
    }

    /// Steps that nobody reported.
    pub fn inferred(&self) -> &[Name] {
        match self {
            Source::State { inferred, .. } => inferred,
            Source::Kept(origin) => &origin.inferred,
            _ => &[],
        }
    }

    /// With its texts.
    pub fn into_origin(self, places: &mut Places) -> Origin {
        let source = self.name().clone();
        let (at, rule) = match self {
            Source::Key(_) => (NOWHERE.clone(), KEY.clone()),
            Source::Said(by, rule) => (places.text(by.at), rule.clone()),
            Source::Accepted { at, rule, .. } => (places.text(at), rule.clone()),
            Source::Kept(origin) => return origin.clone(),
            Source::Computed(rule) => (NOWHERE.clone(), rule),
            Source::State { rule, inferred } => {
                return Origin { inferred, ..Origin::new(source, NOWHERE.clone(), rule) };
            }
        };
        Origin::new(source, at, rule)
    }
}

/// Texts of places in logs: most values of a record come from the same one.
#[derive(Debug, Default)]
pub(super) struct Places(Option<(LogOrder, Name)>);

impl Places {
    fn text(&mut self, at: LogOrder) -> Name {
        match &self.0 {
            Some((known, text)) if *known == at => text.clone(),
            _ => self.0.insert((at, at.to_sortable().into())).1.clone(),
        }
    }
}

#[derive(Debug)]
struct Slot<'d> {
    field: &'d Name,
    value: Cow<'d, Value<'static>>,
    source: Source<'d>,
}

/// Fields in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Draft<'d> {
    slots: Vec<Slot<'d>>,
}

impl Members for Draft<'_> {
    fn member(&self, name: &str) -> Option<&Value<'static>> {
        let at = self.slots.binary_search_by(|s| (**s.field).cmp(name)).ok()?;
        self.slots.get(at).map(|slot| &*slot.value)
    }
}

impl<'d> Draft<'d> {
    pub fn with_capacity(fields: usize) -> Self {
        Self { slots: Vec::with_capacity(fields) }
    }

    /// Sets a field; what it was set to before is forgotten.
    pub fn set(&mut self, field: &'d Name, value: Cow<'d, Value<'static>>, source: Source<'d>) {
        let slot = Slot { field, value, source };
        // Fields come in order, mostly.
        if self.slots.last().is_none_or(|last| *last.field < *field) {
            return self.slots.push(slot);
        }
        match self.slots.binary_search_by(|s| s.field.cmp(field)) {
            Ok(at) => {
                if let Some(earlier) = self.slots.get_mut(at) {
                    *earlier = slot;
                }
            }
            Err(at) => self.slots.insert(at, slot),
        }
    }

    /// A copy of all values.
    pub fn fields(&self) -> Fields {
        let copied = |s: &Slot<'_>| (s.field.clone(), s.value.clone().into_owned());
        Fields::in_order(self.slots.iter().map(copied).collect())
    }

    /// The record, with the version of the previous one; `None` when it means the same.
    pub fn record(
        self,
        key: &RecordKey,
        previous: Option<&Record>,
        links: Links,
    ) -> Option<Record> {
        let same =
            |p: &Record| !p.deleted && p.links == links && self.means(&p.fields) && self.infers(p);
        if previous.is_some_and(same) {
            return None;
        }
        let mut fields = Vec::with_capacity(self.slots.len());
        let mut origins = Vec::with_capacity(self.slots.len());
        let mut places = Places::default();
        let (mut old_values, mut old_origins) =
            (previous.map(|p| p.fields.walk()), previous.map(|p| p.origins.walk()));
        for Slot { field, value, source } in self.slots {
            // A value that means the same is the same: its origin stays, too.
            let known = old_values.as_mut().and_then(|walk| walk.find(field));
            let old = known.filter(|old| old.same_as(&value));
            let unchanged = old.is_some() || (known.is_none() && value.is_null());
            let origin = old_origins.as_mut().filter(|_| unchanged).and_then(|o| o.find(field));
            let same = |o: &&Origin| o.source == *source.name() && o.inferred == source.inferred();
            let origin = match origin.filter(same) {
                Some(origin) => origin.clone(),
                None => source.into_origin(&mut places),
            };
            origins.push((field.clone(), origin));
            // A NULL is as good as nothing, and so it is nothing: otherwise a record would tell
            // whether the NULL or the first value came first.
            if !value.is_null() {
                let value = old.cloned().unwrap_or_else(|| value.into_owned());
                fields.push((field.clone(), value));
            }
        }
        Some(Record {
            key: key.clone(),
            version: previous.map_or(0, |p| p.version),
            deleted: false,
            fields: Fields::in_order(fields),
            origins: Named::in_order(origins),
            links,
        })
    }

    /// Whether each value comes from where the record says, and nothing else is in the record.
    pub fn comes_from(&self, record: &Record) -> bool {
        let mut origins = record.origins.walk();
        let known = |slot: &Slot<'_>| {
            origins.find(slot.field).is_some_and(|origin| origin.source == *slot.source.name())
        };
        self.slots.len() == record.origins.len() && self.slots.iter().all(known)
    }

    /// Whether the same steps of lifecycles were reported by nobody.
    fn infers(&self, record: &Record) -> bool {
        let mut origins = record.origins.walk();
        self.slots.iter().all(|slot| {
            let known = origins.find(slot.field).map_or(&[][..], |o| &o.inferred);
            slot.source.inferred() == known
        })
    }

    /// Whether fields mean the same; a NULL is as good as nothing.
    fn means(&self, fields: &Fields) -> bool {
        let mut ours = self.slots.iter().filter(|s| !s.value.is_null());
        let mut theirs = fields.iter().filter(|(_, v)| !v.is_null());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(slot), Some((name, value)))
                    if *slot.field == *name && value.same_as(&slot.value) => {}
                _ => return false,
            }
        }
    }
}
