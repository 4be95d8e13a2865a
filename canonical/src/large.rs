//! Judging a transaction that is too large to be held: what [`Workspace`](crate::Workspace) does at
//! once is done in phases, each in pages of some hundred rows or records.
//!
//! The caller keeps one transaction of the store open, and writes there what each page comes to,
//! together with notes: what the phases after it have to know of each row and record. Every phase
//! sees what the one before has come to, as it would if all were judged at once, so that the end is
//! the same: one net change for each row, one version for each record, and deliveries and releases
//! that are decided by what is so in the end. Nothing here grows with the transaction.
//!
//! ```text
//! fold      events, as they are read ─▶ one net change for each row           notes of rows
//! apply     rows ─▶ images, contributions, evidence              notes of steps, of records
//! compute   records, then those above them, level by level            what they were before
//! close     records ─▶ versions, history, exceptions                    what has changed
//! look      steps ─▶ what was changed by others than the owner
//! tell      records ─▶ deliveries of subscriptions          records with releases to look at
//! release   records ─▶ releases, holds, deadlines
//! ```

mod notes;

use std::collections::BTreeMap;

use crossdock_model::canonical::{GuardState, Loaded, Name, Needs, Outcome, RecordKey};
use crossdock_model::notes::{After, Note, NotePage};
use crossdock_model::{ChangeEvent, TxHeader};

use crate::fold::kept::{begun, fold_on, places};
use crate::fold::{Folded, Net};
use crate::foresee;
use crate::judge::LEVELS_MAX;
use crate::judge::phase::{Missing, Phase, RecordNote, Work};
use crate::memory::Memory;
use crate::rate;
use crate::rows::map_all;
use crate::rules::Rules;
use crate::step::Mapped;
use crate::violation::concerns_others;
use crate::workspace::{known, take};

use notes::Shelf;
pub use notes::Unreadable;

/// The shelf of what rows have come to so far.
pub const ROW_NOTES: i16 = Shelf::Rows.number();
/// The shelf of what records were before.
pub const RECORD_NOTES: i16 = Shelf::Records.number();
/// Rows and records of a page.
const PAGE: usize = 500;

/// A transaction of a source that is judged in pages.
#[derive(Debug)]
pub struct Large<'r> {
    rules: &'r Rules,
    installation: String,
    now_micros: i64,
    /// The transaction without its rows.
    folded: Folded<'r>,
    guards: BTreeMap<Name, GuardState>,
    /// Rows so far.
    rows: i64,
    /// Steps so far.
    steps: i64,
    at: Stage,
    /// The last note that was seen on the shelf at hand.
    after: Option<Note>,
    /// There are records above those that were computed.
    above: bool,
    page: Option<Page<'r>>,
    page_max: usize,
}

/// What a page needs before it can be ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageNeeds {
    /// Of the store.
    pub store: Needs,
    /// Keys of notes of shelf [`RECORD_NOTES`].
    pub notes: Vec<String>,
}

impl PageNeeds {
    /// Nothing.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty() && self.notes.is_empty()
    }
}

/// What a page comes to: to be written before anything else is asked.
#[derive(Debug, Default)]
pub struct Piece {
    /// As of a batch.
    pub outcome: Outcome,
    /// Notes to keep.
    pub notes: Vec<Note>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fold,
    Apply,
    Compute(u8),
    Close,
    Look,
    Tell,
    Release,
    Done,
}

#[derive(Debug)]
struct Page<'r> {
    content: Content<'r>,
    memory: Memory,
    /// What was asked for last.
    asked: Needs,
    asked_notes: Vec<RecordKey>,
    records: BTreeMap<RecordKey, RecordNote>,
    mapped: Option<Mapped>,
    piece: Piece,
    /// The shelf has been read to its end.
    last: bool,
    /// No page of the transaction came before it.
    first: bool,
}

#[derive(Debug)]
enum Content<'r> {
    Rows(Box<Folded<'r>>),
    Steps(Vec<crate::step::Step>),
    Keys(Vec<RecordKey>),
    /// What is worked on stands in the notes.
    Noted,
}

impl<'r> Large<'r> {
    /// A transaction of which nothing has been read. `installation` and `now_micros` are as for a
    /// [`Workspace`](crate::Workspace); `guards` are the rate guards before it.
    pub fn begin(
        rules: &'r Rules,
        installation: &str,
        now_micros: i64,
        guards: impl IntoIterator<Item = GuardState>,
        (source, header): (&Name, TxHeader),
    ) -> Self {
        let mut header = header;
        if header.commit_micros == 0 {
            // A snapshot has no commit time: what it reads is so now.
            header.commit_micros = now_micros;
        }
        Self {
            rules,
            installation: installation.to_string(),
            now_micros,
            folded: begun(source, header),
            guards: guards.into_iter().map(|state| (state.rule.clone(), state)).collect(),
            rows: 0,
            steps: 0,
            at: Stage::Fold,
            after: None,
            above: false,
            page: None,
            page_max: PAGE,
        }
    }

    /// With pages of another size than usual.
    pub fn in_pages_of(mut self, notes: usize) -> Self {
        self.page_max = notes.max(1);
        self
    }

    /// Keys of the notes of shelf [`ROW_NOTES`] that folding these events needs, as far as there are
    /// such notes.
    pub fn rows_of(&self, events: &[ChangeEvent]) -> Vec<String> {
        let (rules, source) = (self.rules, &self.folded.source);
        let places = places(source, events, rules);
        places.iter().map(notes::row_key).collect()
    }

    /// Takes further events. Gives notes to keep.
    ///
    /// # Errors
    /// A note is not what was kept.
    pub fn fold(
        &mut self,
        known: Vec<Note>,
        events: Vec<ChangeEvent>,
    ) -> Result<Vec<Note>, Unreadable> {
        let source = self.folded.source.clone();
        let mut known: Vec<(i64, _)> = known
            .iter()
            .map(|n| Ok((n.place, notes::to_row(self.rules, &source, n)?)))
            .collect::<Result<_, _>>()?;
        known.sort_unstable_by_key(|(place, _)| *place);
        let places: Vec<i64> = known.iter().map(|(place, _)| *place).collect();
        let known = known.into_iter().map(|(_, kept)| kept).collect();
        let (rules, folded) = (self.rules, &mut self.folded);
        let rows = fold_on(folded, known, events, rules);
        let mut places = places.into_iter();
        let mut kept = Vec::with_capacity(rows.len());
        for row in rows {
            let place = places.next().unwrap_or_else(|| {
                self.rows += 1;
                self.rows
            });
            kept.push(notes::of_row(row, place)?);
        }
        Ok(kept)
    }

    /// All events have been folded, and the pages begin.
    pub fn end_of_events(&mut self) {
        self.at = Stage::Apply;
    }

    /// The next page; `None` when the transaction is judged.
    pub fn wanted(&self) -> Option<NotePage> {
        let shelf = match self.at {
            Stage::Apply => Shelf::Rows,
            Stage::Compute(level) => Shelf::Level(level),
            Stage::Close | Stage::Tell => Shelf::Records,
            Stage::Look => Shelf::Steps,
            Stage::Release => Shelf::Releases,
            Stage::Fold | Stage::Done => return None,
        };
        let last = self.after.as_ref();
        let after = match shelf {
            Shelf::Rows | Shelf::Steps => After::Place(last.map_or(0, |note| note.place)),
            _ => After::Key(last.map_or(String::new(), |note| note.key.clone())),
        };
        Some(NotePage { shelf: shelf.number(), after, limit: self.page_max })
    }

    /// Begins the page that was wanted, with its notes in order.
    ///
    /// # Errors
    /// A note is not what was kept.
    pub fn open(&mut self, kept: &[Note]) -> Result<(), Unreadable> {
        let first = self.at == Stage::Apply && self.after.is_none();
        if let Some(note) = kept.last() {
            self.after = Some(Note { body: String::new(), ..note.clone() });
        }
        let mut records = BTreeMap::new();
        let content = match self.at {
            Stage::Apply => Content::Rows(Box::new(self.page_of_rows(kept, first)?)),
            Stage::Look => Content::Steps(all(kept, notes::to_step)?),
            Stage::Compute(_) | Stage::Release => Content::Keys(all(kept, notes::to_key)?),
            Stage::Close | Stage::Tell | Stage::Fold | Stage::Done => {
                records.extend(all(kept, notes::to_record)?);
                if self.at == Stage::Tell {
                    records.retain(|_, note: &mut RecordNote| note.changed.is_some());
                }
                Content::Noted
            }
        };
        self.page = Some(Page {
            content,
            memory: Memory::default(),
            asked: Needs::default(),
            asked_notes: Vec::new(),
            records,
            mapped: None,
            piece: Piece::default(),
            last: kept.len() < self.page_max,
            first,
        });
        Ok(())
    }

    fn page_of_rows(&mut self, kept: &[Note], first: bool) -> Result<Folded<'r>, Unreadable> {
        let source = &self.folded.source;
        let nets: Vec<Net<'r>> = all(kept, |n| notes::to_row(self.rules, source, n))?
            .into_iter()
            .filter_map(|(_, net)| net)
            .collect();
        let mut folded = Folded { nets, ..begun(source, self.folded.header.clone()) };
        folded.mark.clone_from(&self.folded.mark);
        folded.hops = self.folded.hops;
        if first {
            folded.unmapped = std::mem::take(&mut self.folded.unmapped);
        }
        Ok(folded)
    }

    /// What must be loaded next; empty when the page can be ended.
    ///
    /// # Errors
    /// A note cannot be made.
    pub fn needs(&mut self) -> Result<PageNeeds, Unreadable> {
        let Some(mut page) = self.page.take() else { return Ok(PageNeeds::default()) };
        let missing = self.work(&mut page);
        let needs = match missing {
            Ok(()) => PageNeeds::default(),
            Err(Failed::Missing(missing)) => {
                page.asked = missing.needs.clone();
                page.asked_notes = missing.notes.into_iter().collect();
                let notes = page.asked_notes.iter().map(notes::record_key).collect();
                PageNeeds { store: missing.needs, notes }
            }
            Err(Failed::Unreadable(error)) => return Err(error),
        };
        self.page = Some(page);
        Ok(needs)
    }

    /// Takes what was asked for last.
    ///
    /// # Errors
    /// A note is not what was kept.
    pub fn provide(&mut self, loaded: Loaded, kept: &[Note]) -> Result<(), Unreadable> {
        let Some(page) = &mut self.page else { return Ok(()) };
        take(self.rules, &mut page.memory, std::mem::take(&mut page.asked), loaded);
        for key in std::mem::take(&mut page.asked_notes) {
            page.records.entry(key).or_default();
        }
        page.records.extend(all(kept, notes::to_record)?);
        Ok(())
    }

    /// Ends the page: what it comes to is to be written before the next one is begun.
    pub fn end_page(&mut self) -> Piece {
        let Some(page) = self.page.take() else { return Piece::default() };
        if page.last {
            self.after = None;
            self.at = match self.at {
                Stage::Fold | Stage::Apply => Stage::Compute(0),
                Stage::Compute(level) if self.above && level + 1 < LEVELS_MAX => {
                    Stage::Compute(level + 1)
                }
                Stage::Compute(_) => Stage::Close,
                Stage::Close => Stage::Look,
                Stage::Look => Stage::Tell,
                Stage::Tell => Stage::Release,
                Stage::Release | Stage::Done => Stage::Done,
            };
            self.above = false;
        }
        let guards = page.piece.outcome.guards.iter();
        self.guards.extend(guards.map(|state| (state.rule.clone(), state.clone())));
        page.piece
    }

    /// Works on a page until something is missing, or to its end.
    fn work(&mut self, page: &mut Page<'r>) -> Result<(), Failed> {
        if let (Content::Rows(folded), None) = (&page.content, &page.mapped) {
            page.mapped = Some(self.map(folded, &page.memory).map_err(Failed::needs)?);
        }
        let steps = page.mapped.as_ref().and_then(|mapped| mapped.steps.first());
        let work = match (&page.content, self.at) {
            (Content::Rows(_), _) => Work::Apply(steps.map_or(&[], Vec::as_slice), page.first),
            (Content::Steps(steps), _) => Work::Look(steps),
            (Content::Keys(keys), Stage::Release) => Work::Release(keys),
            (Content::Keys(keys), _) => Work::Compute(keys),
            (Content::Noted, Stage::Tell) => Work::Tell,
            (Content::Noted, _) => Work::Close,
        };
        let phase = Phase {
            rules: self.rules,
            installation: &self.installation,
            now_micros: self.now_micros,
            folded: &self.folded,
            store: &page.memory.records,
            notes: &page.records,
        };
        let done = phase.run(&work).map_err(Failed::Missing)?;
        let mut kept = Vec::new();
        for (key, note) in &done.notes {
            kept.push(notes::of_record(key, note)?);
        }
        for key in &done.next {
            match self.at {
                Stage::Apply => {
                    kept.push(notes::of_key(Shelf::Level(0), key)?);
                    kept.push(notes::of_key(Shelf::Releases, key)?);
                }
                Stage::Compute(level) => {
                    self.above = true;
                    kept.push(notes::of_key(Shelf::Level(level + 1), key)?);
                }
                _ => kept.push(notes::of_key(Shelf::Releases, key)?),
            }
        }
        for step in steps.into_iter().flatten() {
            self.steps += 1;
            kept.push(notes::of_step(step, concerns_others(self.rules, step), self.steps)?);
        }
        page.piece = Piece { outcome: done.outcome, notes: kept };
        if let Some(mapped) = page.mapped.take() {
            let outcome = &mut page.piece.outcome;
            outcome.rows = mapped.rows.into_iter().map(|kept| kept.row).collect();
            outcome.guards = mapped.guards;
            outcome.exceptions.extend(mapped.raised);
            for (tally, n) in mapped.tallies {
                *outcome.tallies.entry(tally).or_default() += n;
            }
        }
        Ok(())
    }

    /// What the rows of a page mean.
    fn map(&self, folded: &Folded<'r>, memory: &Memory) -> Result<Mapped, Needs> {
        let transactions = std::slice::from_ref(folded);
        let mut foreseen = foresee::Foreseen::default();
        known(foresee::rows(self.rules, &memory.rows, transactions, &mut foreseen))?;
        let mut mapped = map_all(self.rules, &memory.rows, transactions)?;
        let guards = &self.guards;
        let rows = &memory.rows;
        rate::guard(self.rules, &self.installation, guards, rows, transactions, &mut mapped);
        Ok(mapped)
    }
}

/// Why a page did not come to its end.
enum Failed {
    Missing(Box<Missing>),
    Unreadable(Unreadable),
}

impl Failed {
    fn needs(needs: Needs) -> Self {
        Self::Missing(Box::new(Missing { needs, ..Missing::default() }))
    }
}

impl From<Unreadable> for Failed {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

fn all<T>(
    kept: &[Note],
    read: impl Fn(&Note) -> Result<T, Unreadable>,
) -> Result<Vec<T>, Unreadable> {
    kept.iter().map(read).collect()
}
