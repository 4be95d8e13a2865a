//! Moves that evidence asked for and that are not followed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::Sorted;
use crossdock_model::canonical::{Evidence, Name, Record, RecordKey, Tally};
use serde_json::json;
use uuid::Uuid;

use super::{Judge, Tx};
use crate::lifecycle::Verdict;

impl Judge<'_> {
    /// Illegal moves that evidence asked for, and evidence that came late.
    pub(super) fn evidence_troubles(&mut self, tx: &Tx<'_>) {
        let keys: BTreeSet<&RecordKey> = tx.evidence.keys().chain(tx.changed.keys()).collect();
        let rules = self.rules;
        for key in keys {
            let Some(lifecycle) = rules.lifecycles.of(&key.entity) else { continue };
            // The same evidence means the same, unless a guard reads the record. Of a record that
            // was not there before, nothing has been said yet.
            let known_before = !matches!(tx.base.get(key), Some(None));
            if known_before && !tx.evidence.contains_key(key) && !lifecycle.is_guarded() {
                continue;
            }
            let Some(rec) = self.recs.get(key) else { continue };
            let Some(record) = &rec.record else { continue };
            let base = tx.base.get(key).unwrap_or(&rec.record).as_ref();
            let judge = |evidence: &Sorted<Uuid, Arc<Evidence>>, record: &Record| {
                let evidence = evidence.values().map(|e| &**e);
                lifecycle.judge(evidence, &key.key, &record.fields, self.now_micros)
            };
            let known = tx.evidence.get(key).unwrap_or(&rec.evidence);
            // Only new evidence can be late, and only some kinds can be refused.
            let all = || rec.evidence.values().chain(known.values());
            let refusing = all().any(|e| lifecycle.may_refuse(&e.kind));
            if !refusing && rec.evidence.keys().all(|id| known.contains_key(id)) {
                continue;
            }
            let before = base.map(|b| judge(known, b)).unwrap_or_default();
            let after = if refusing { judge(&rec.evidence, record) } else { Verdict::default() };
            let at = before.state.as_ref().and_then(|(state, _)| lifecycle.rank(state));
            let late = rec.evidence.keys().filter(|id| !known.contains_key(id)).filter(|id| {
                let kind = rec.evidence.get(id).map_or("", |e| &e.kind);
                lifecycle.rank_of_kind(kind).is_some_and(|r| at.is_some_and(|at| r < at))
            });
            let late = late.count();
            let mut raised = Vec::new();
            for (open, these, those) in
                [(true, &after.illegal, &before.illegal), (false, &before.illegal, &after.illegal)]
            {
                for illegal in these.iter().filter(|i| !those.contains(i)) {
                    raised.push((open, illegal.clone(), rec.evidence.get(&illegal.0).cloned()));
                }
            }
            let state = after.state.map(|(state, _)| state).unwrap_or_default();
            for _ in 0..late {
                self.count(Tally::LateEvidence { entity: key.entity.clone() });
            }
            for (open, (id, kind, rule), evidence) in raised {
                self.illegal(key, (id, &kind, &rule), evidence.as_deref(), &state, open);
            }
        }
    }

    fn illegal(
        &mut self,
        key: &RecordKey,
        (id, kind, rule): (Uuid, &Name, &Name),
        evidence: Option<&Evidence>,
        state: &str,
        open: bool,
    ) {
        let what = evidence.map_or("", |e| &e.kind);
        self.troubles.raise(crossdock_model::canonical::ExceptionItem {
            id: self.troubles.id(&["illegal", kind, &key.key, &id.to_string()]),
            kind: kind.clone(),
            record: Some(key.clone()),
            source: evidence.map_or("".into(), |e| e.row.source.clone()),
            rule: rule.clone(),
            team: "".into(),
            text: format!("{} is {state}: {what} comes too late and is not followed.", key.key),
            context: json!({ "evidence": id.to_string(), "kind": what, "state": state }),
            open,
        });
    }
}
