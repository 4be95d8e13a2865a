//! Subscriptions and releases: what becomes owed to targets.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::canonical::{Delivery, Name, Record, RecordKey, Release, Tally};

use crate::deliver::{ReleaseRule, Subscription};
use crate::judge::{Judge, Tx};
use crate::scope::{Scope, Var};

/// Name of the unmet condition of a record that was deleted before its release.
const DELETED: &str = "record_deleted";
/// Name of the unmet condition of a release whose row cannot be built.
const WRITE: &str = "write";

impl<'j> Judge<'j> {
    /// Owes a delivery for each subscription to a field that has changed.
    pub(crate) fn tell(&mut self, tx: &Tx<'_>) {
        let rules = self.rules;
        for (key, fields) in &tx.changed {
            let owed = self.out.deliveries.len();
            for subscription in rules.telling.subscriptions.of(&key.entity).into_iter().flatten() {
                let created = tx.base.get(key).is_none_or(Option::is_none);
                let silent = created && tx.folded.header.snapshot && !subscription.snapshot;
                if !silent && subscription.fields.iter().any(|f| fields.contains(f)) {
                    self.subscription(key, subscription);
                }
            }
            if self.out.deliveries.len() == owed {
                self.count(Tally::Unsubscribed { entity: key.entity.clone() });
            }
        }
    }

    fn subscription(&mut self, key: &RecordKey, subscription: &Subscription) {
        let Some(record) = self.record(key) else { return };
        if record.deleted {
            return;
        }
        let version = record.version.to_string();
        let event_id = crate::ids::derive(&[
            self.installation,
            "subscription",
            &subscription.name,
            &key.key,
            &version,
        ]);
        let linked = self.linked(&record, &subscription.links);
        let id_text = event_id.to_string();
        let scope = scope(&record, &linked, &id_text);
        let wanted = subscription.when.as_ref().map_or(Ok(true), |w| w.holds(&scope));
        let result = match wanted {
            Ok(false) => return,
            Ok(true) => subscription.write.row(&scope),
            Err(what) => Err(what),
        };
        match result {
            Ok(write) => self.out.deliveries.push(Delivery {
                event_id,
                target: subscription.write.target.clone(),
                rule: subscription.name.clone(),
                record: key.clone(),
                writes: vec![write],
                reverts: None,
                hops: 0,
            }),
            Err(what) => self.troubles.of_rule(key, &subscription.name, &what, &"".into()),
        }
    }

    /// Evaluates the releases of every record that has changed or that depends on one that has.
    pub(crate) fn release(&mut self, tx: &Tx<'_>, touched: &[RecordKey]) {
        for key in self.release_keys(tx, touched) {
            self.release_one(tx, &key);
        }
    }

    /// Every record whose releases may be others now.
    pub(crate) fn release_keys(
        &mut self,
        tx: &Tx<'_>,
        touched: &[RecordKey],
    ) -> BTreeSet<RecordKey> {
        let rules = self.rules;
        // Of most entities nothing is released, and nothing is ever due.
        let waits = |key: &&RecordKey| {
            tx.is_clock
                || rules.telling.releases.contains_key(&key.entity)
                || rules.timed.contains(&key.entity)
        };
        let mut keys: BTreeSet<RecordKey> =
            touched.iter().chain(tx.changed.keys()).filter(waits).cloned().collect();
        for key in tx.changed.keys() {
            if rules.released_by_links.contains(&key.entity) {
                keys.extend(self.releases_on(key));
            }
        }
        keys
    }

    /// Evaluates the releases of one record, and then its deadlines.
    pub(crate) fn release_one(&mut self, tx: &Tx<'_>, key: &RecordKey) {
        let rules = self.rules;
        for rule in rules.telling.releases.of(&key.entity).into_iter().flatten() {
            self.evaluate(key, rule);
        }
        self.deadlines(tx, key);
    }

    fn evaluate(&mut self, key: &RecordKey, rule: &ReleaseRule) {
        self.load(key);
        let Some(record) = self.record(key) else { return };
        let Some(business_key) = business_key(&record, rule) else { return };
        let place = (rule.name.clone(), business_key.clone());
        let known = self.recs.get(key).and_then(|r| r.releases.get(&place)).cloned();
        if known.as_ref().is_some_and(|r| r.released) {
            return;
        }
        let event_id =
            crate::ids::derive(&[self.installation, "release", &rule.name, &business_key]);
        let linked = self.linked(&record, &rule.links);
        let id_text = event_id.to_string();
        let mut errors = Vec::new();
        let mut unmet: Vec<Name> = Vec::new();
        let mut write = None;
        {
            let scope = scope(&record, &linked, &id_text);
            if record.deleted {
                unmet.push(DELETED.into());
            }
            for (name, condition) in &rule.when {
                match condition.holds(&scope) {
                    Ok(true) => {}
                    Ok(false) => unmet.push(name.clone()),
                    Err(what) => {
                        unmet.push(name.clone());
                        errors.push(format!("{name}: {what}"));
                    }
                }
            }
            if unmet.is_empty() {
                match rule.write.row(&scope) {
                    Ok(row) => write = Some(row),
                    Err(what) => {
                        unmet.push(WRITE.into());
                        errors.push(what);
                    }
                }
            }
        }
        let depends = depends(&record, rule);
        let release = Release {
            rule: rule.name.clone(),
            business_key,
            record: key.clone(),
            released: write.is_some(),
            unmet,
            depends,
        };
        if let Some(row) = write {
            self.out.deliveries.push(Delivery {
                event_id,
                target: rule.write.target.clone(),
                rule: rule.name.clone(),
                record: key.clone(),
                writes: vec![row],
                reverts: None,
                hops: 0,
            });
        }
        if let Some(what) = errors.first().filter(|_| known.as_deref() != Some(&release)) {
            self.troubles.of_rule(key, &rule.name, what, &rule.team);
        }
        self.note_depends(&release);
        if known.as_deref() != Some(&release) {
            self.load_mut(key).releases.insert(place, Arc::new(release));
        }
    }

    fn record(&self, key: &RecordKey) -> Option<Arc<Record>> {
        self.recs.get(key)?.record.clone()
    }

    /// The linked records that expressions use, by link name.
    fn linked(&mut self, record: &Record, links: &[Name]) -> Vec<(Name, Option<Arc<Record>>)> {
        let mut found = Vec::with_capacity(links.len());
        for link in links {
            let to = record.links.of(link);
            found.push((link.clone(), to.and_then(|to| self.load(to).record.clone())));
        }
        found
    }
}

fn scope<'s>(
    record: &'s Record,
    linked: &'s [(Name, Option<Arc<Record>>)],
    event_id: &'s str,
) -> Scope<'s> {
    let view = |r: &'s Record| Var::Record { key: &r.key.key, fields: &r.fields, children: None };
    let mut scope =
        Scope::default().with("rec", view(record)).with("event_id", Var::Text(event_id));
    for (name, linked) in linked {
        scope = scope.with(name, linked.as_deref().map_or(Var::Missing, view));
    }
    scope
}

/// The linked records that a release depends on.
fn depends(record: &Record, rule: &ReleaseRule) -> Vec<RecordKey> {
    let mut depends: Vec<RecordKey> =
        rule.links.iter().filter_map(|link| record.links.of(link)).cloned().collect();
    depends.sort();
    depends.dedup();
    depends
}

/// The business key of a release; `None` while a part of it is missing.
fn business_key(record: &Record, rule: &ReleaseRule) -> Option<Name> {
    let parts: Option<Vec<String>> =
        rule.dedupe.iter().map(|f| record.fields.get(f)?.to_text()).collect();
    Some(parts?.join("\u{1f}").into())
}
