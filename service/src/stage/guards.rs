//! Rate guards of `integrate`: what they remember between batches, and the release of what they
//! have stopped, piece by piece.

use std::collections::{BTreeMap, VecDeque};

use crossdock_apply::PostgresStore;
use crossdock_canonical::{Rules, guard_row};
use crossdock_model::canonical::{ExceptionItem, GuardState, Name, Outcome, SourceRow};

use super::StageError;

/// Rows that were stopped, judged and committed at once.
const WOKEN_ROWS: usize = 500;

/// Rate guards as the store has them.
#[derive(Default)]
pub struct Guards {
    states: BTreeMap<Name, GuardState>,
    /// Guards whose rows are being taken.
    releasing: VecDeque<Name>,
}

/// The next piece of a release.
pub enum Piece {
    /// Rows of a source that are to be taken now.
    Rows(Name, Vec<SourceRow>),
    /// Nothing waits for this guard any more.
    End(GuardState),
}

impl Guards {
    /// Reads them. What a guard has stopped that is not among the rules any more is released.
    pub async fn load(store: &mut PostgresStore, rules: &Rules) -> Result<Self, StageError> {
        let mut guards = Self::default();
        for mut state in store.guards().await? {
            if state.stopped.is_some() && (state.releasing || !rules.has_guard(&state)) {
                state.releasing = true;
                guards.releasing.push_back(state.rule.clone());
            }
            guards.states.insert(state.rule.clone(), state);
        }
        Ok(guards)
    }

    /// As they are now.
    pub fn states(&self) -> impl Iterator<Item = GuardState> {
        self.states.values().cloned()
    }

    /// Whether rows that were stopped are being taken.
    pub fn is_releasing(&self) -> bool {
        !self.releasing.is_empty()
    }

    /// The next piece of what is being released; `None` when nothing is.
    pub async fn next_piece(
        &mut self,
        store: &mut PostgresStore,
    ) -> Result<Option<Piece>, StageError> {
        let Some(rule) = self.releasing.front() else { return Ok(None) };
        let Some(state) = self.states.get(rule).cloned() else {
            self.releasing.pop_front();
            return Ok(None);
        };
        let on = guard_row(&state.rule, &state.source);
        let rows = store.referring_rows(&on, WOKEN_ROWS).await?;
        if rows.is_empty() {
            self.releasing.pop_front();
            return Ok(Some(Piece::End(state)));
        }
        Ok(Some(Piece::Rows(state.source, rows)))
    }

    /// Takes what is committed before the next batch is.
    pub fn committed(&mut self, outcome: &Outcome) {
        for state in &outcome.guards {
            self.states.insert(state.rule.clone(), state.clone());
        }
    }

    /// A sentence for each guard that has stopped something.
    pub fn stopped(&self) -> Vec<String> {
        let sentence = |state: &GuardState| {
            let stop = state.stopped.as_ref()?;
            let GuardState { rule, source, .. } = state;
            Some(match state.releasing {
                true => format!("{rule}: what waited of source {source} is being taken"),
                false => format!(
                    "{rule}: {} changes of source {source} were too many at {}, and wait: \
                     crossdock rules release {rule}",
                    stop.changes, stop.position
                ),
            })
        };
        self.states.values().filter_map(sentence).collect()
    }
}

/// What ends a release: the guard counts anew, and its exception is closed.
pub fn end(state: GuardState, outcome: &mut Outcome) {
    if let Some(stop) = &state.stopped {
        outcome.exceptions.push(ExceptionItem {
            id: stop.exception,
            kind: state.rule.clone(),
            record: None,
            source: state.source.clone(),
            rule: state.rule.clone(),
            team: "".into(),
            text: String::new(),
            context: serde_json::Value::Null,
            open: false,
        });
    }
    outcome.guards.push(GuardState::new(&state.rule, &state.source));
}
