//! A transaction that is judged in pages comes to what it comes to when it is judged whole.

use std::collections::BTreeMap;

use crossdock_canonical::{Large, Memory, Piece, RECORD_NOTES, ROW_NOTES, Rules};
use crossdock_model::canonical::Needs;
use crossdock_model::notes::{After, Note, NotePage};
use crossdock_model::{ChangeEvent, Op, RowImage};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::demo::RULES;
use crate::schedules::try_all;
use crate::store::{Look, Store, Tx, delete, i, load, put, run, run_remembering, s, table, tx};

const NOW: i64 = 1_800_000_000_000_000;

/// Notes as a store keeps them.
#[derive(Default)]
struct Notes(BTreeMap<(i16, String), Note>);

impl Notes {
    fn keep(&mut self, notes: Vec<Note>) {
        for note in notes {
            let key = (note.shelf, note.key.clone());
            let place = self.0.get(&key).map_or(note.place, |known| known.place);
            self.0.insert(key, Note { place, ..note });
        }
    }

    fn of(&self, shelf: i16, keys: &[String]) -> Vec<Note> {
        let note = |key: &String| self.0.get(&(shelf, key.clone())).cloned();
        keys.iter().filter_map(note).collect()
    }

    fn page(&self, of: &NotePage) -> Vec<Note> {
        let behind = |n: &&Note| match &of.after {
            After::Place(place) => n.place > *place,
            After::Key(key) => n.key > *key,
        };
        let mut found: Vec<Note> =
            self.0.values().filter(|n| n.shelf == of.shelf).filter(behind).cloned().collect();
        if let After::Place(_) = of.after {
            found.sort_by_key(|n| n.place);
        }
        found.truncate(of.limit);
        found
    }
}

/// Judges in one of the three ways: asking the store for everything, remembering a little, or each
/// transaction in pieces.
pub fn run_any_way(rules: &Rules, store: &mut Store, txs: &[Tx], rng: &mut StdRng) {
    let size = rng.random_range(1..4);
    match rng.random_range(0..3) {
        0 => txs.chunks(size).for_each(|batch| run(rules, store, batch)),
        1 => {
            let memory = Memory::of(rng.random_range(0..9_000));
            run_remembering(rules, store, memory, txs.chunks(size));
        }
        _ => txs.iter().for_each(|tx| run_large(rules, store, tx, (size, 2))),
    }
}

/// Judges one transaction in pages, and commits it.
pub fn run_large(rules: &Rules, store: &mut Store, tx: &Tx, (chunk, page): (usize, usize)) {
    let guards = store.guards.values().cloned();
    let mut large =
        Large::begin(rules, "test", NOW, guards, (&tx.source, tx.header.clone())).in_pages_of(page);
    let mut notes = Notes::default();
    for events in tx.events.chunks(chunk) {
        let known = notes.of(ROW_NOTES, &large.rows_of(events));
        notes.keep(large.fold(known, events.to_vec()).unwrap());
    }
    large.end_of_events();
    while let Some(wanted) = large.wanted() {
        large.open(&notes.page(&wanted)).unwrap();
        for round in 0.. {
            assert!(round < 40, "the needs never end");
            let needs = large.needs().unwrap();
            if needs.is_empty() {
                break;
            }
            let loaded = match needs.store == Needs::default() {
                true => Default::default(),
                false => store.load(&needs.store),
            };
            large.provide(loaded, &notes.of(RECORD_NOTES, &needs.notes)).unwrap();
        }
        let Piece { outcome, notes: kept } = large.end_page();
        store.apply(outcome);
        notes.keep(kept);
    }
}

/// One transaction of several of one source.
fn merged(txs: &[Tx]) -> Option<Tx> {
    let last = txs.last()?;
    let events: Vec<ChangeEvent> = txs.iter().flat_map(|tx| tx.events.clone()).collect();
    let mut one = Tx { events, ..last.clone() };
    for (n, event) in one.events.iter_mut().enumerate() {
        event.ordinal = u32::try_from(n).unwrap();
    }
    Some(one)
}

fn same(whole: &Store, pieces: &Store) {
    assert_eq!(whole.rows, pieces.rows, "rows");
    assert_eq!(whole.contributions, pieces.contributions, "contributions");
    assert_eq!(whole.evidence, pieces.evidence, "evidence");
    assert_eq!(whole.records, pieces.records, "records");
    assert_eq!(whole.history, pieces.history, "history");
    assert_eq!(whole.releases, pieces.releases, "releases");
    assert_eq!(whole.deadlines, pieces.deadlines, "deadlines");
    assert_eq!(whole.deliveries, pieces.deliveries, "deliveries");
    assert_eq!(whole.exceptions, pieces.exceptions, "exceptions");
    assert_eq!(whole.tallies, pieces.tallies, "tallies");
    assert!(whole == pieces);
}

/// Random business of four systems: what comes first in each is committed as it was, and all the
/// rest of each as one transaction.
fn pieces_make_no_difference(rng: &mut StdRng) {
    let mut sources: Vec<(&str, Vec<Tx>)> = crate::interleavings::transactions(rng);
    sources.shuffle(rng);
    let mut whole = Store::default();
    let mut large = Vec::new();
    for (_, txs) in &sources {
        let (first, rest) = txs.split_at(rng.random_range(0..=txs.len()));
        first.iter().for_each(|tx| run(&RULES, &mut whole, std::slice::from_ref(tx)));
        large.extend(merged(rest));
    }
    let mut pieces = whole.clone();
    for tx in &large {
        let sizes = (rng.random_range(1..20), rng.random_range(1..12));
        run(&RULES, &mut whole, std::slice::from_ref(tx));
        run_large(&RULES, &mut pieces, tx, sizes);
        same(&whole, &pieces);
        if rng.random_bool(0.3) {
            // A replay changes nothing.
            run_large(&RULES, &mut pieces, tx, sizes);
            run(&RULES, &mut whole, std::slice::from_ref(tx));
            same(&whole, &pieces);
        }
    }
}

#[test]
fn a_transaction_in_pieces_is_the_transaction() {
    try_all("a_transaction_in_pieces_is_the_transaction", 24, pieces_make_no_difference);
}

/// Rows that are changed again and again, moved to other keys, deleted and made anew, in partial
/// images, in one transaction.
fn rows_in_pieces(rng: &mut StdRng) {
    let rules = two_owners();
    let t = table("public.orders", &["id*", "order_no", "incoterm", "channel"]);
    let mut there = std::collections::BTreeSet::new();
    let mut lsn = 0;
    let mut make = |rng: &mut StdRng| -> Tx {
        lsn += 10;
        let source = if rng.random_bool(0.5) { "erp" } else { "tms" };
        let mut events = Vec::new();
        for _ in 0..rng.random_range(1..40) {
            let id = rng.random_range(0..6i64);
            let text = |rng: &mut StdRng| s(["A", "B", "C"][rng.random_range(0..3)]);
            let row = |id: i64, rng: &mut StdRng| {
                vec![i(id), s(&format!("SO-{}", id % 4)), text(rng), text(rng)]
            };
            let place = (source, id);
            events.push(match rng.random_range(0..6) {
                _ if there.insert(place) => put(Op::Create, &t, row(id, rng)),
                0 => {
                    there.remove(&place);
                    delete(&t, vec![i(id)])
                }
                1 => {
                    let partial = vec![Some(i(id)), None, Some(text(rng)), None];
                    let mut event = put(Op::Update, &t, Vec::new());
                    event.after = Some(RowImage::Partial(partial));
                    event
                }
                2 if there.insert((source, id + 10)) => {
                    there.remove(&place);
                    let (before, after) = (row(id, rng), row(id + 10, rng));
                    crate::store::event(Op::Update, &t, Some(before), Some(after))
                }
                _ => put(Op::Update, &t, row(id, rng)),
            });
        }
        tx(source, lsn, events)
    };
    let (mut whole, mut pieces) = (Store::default(), Store::default());
    for _ in 0..rng.random_range(1..6) {
        let tx = make(rng);
        run(&rules, &mut whole, std::slice::from_ref(&tx));
        run_large(&rules, &mut pieces, &tx, (rng.random_range(1..9), rng.random_range(1..5)));
        same(&whole, &pieces);
    }
}

fn two_owners() -> Rules {
    let mapping = |source: &str| {
        format!(
            "source = \"{source}\"\n[[table]]\ntable = \"public.orders\"\n\
             entity = \"sales_order\"\n\
             fields = {{ order_no = \"order_no\", incoterm = \"incoterm\", channel = \"channel\" }}\n"
        )
    };
    let files = ["erp", "tms"].map(|name| (format!("{name}.toml"), mapping(name)));
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (&**a, &**b)).collect();
    let rules = "[entity.sales_order]\nowner = \"erp\"\n\
         [entity.sales_order.fields]\nchannel = { owner = \"tms\", on_violation = \"accept\" }\n\
         incoterm = { owner = \"erp\", on_violation = \"quarantine\" }\n";
    load(&files, rules).unwrap()
}

#[test]
fn rows_that_change_often_are_folded_across_pieces() {
    try_all("rows_that_change_often_are_folded_across_pieces", 40, rows_in_pieces);
}

/// By hand: a thousand updates of one order, and three orders more, one event a piece.
#[test]
fn one_version_for_each_record_of_a_transaction() {
    let rules = two_owners();
    let t = table("public.orders", &["id*", "order_no", "incoterm", "channel"]);
    let row = |id: i64, term: &str| vec![i(id), s(&format!("SO-{id}")), s(term), s("web")];
    let mut store = Store::default();
    run(&rules, &mut store, &[tx("erp", 10, vec![put(Op::Create, &t, row(1, "FCA"))])]);
    let mut events = vec![put(Op::Create, &t, row(2, "EXW"))];
    for n in 0..999 {
        events.push(put(Op::Update, &t, row(1, if n % 2 == 0 { "DAP" } else { "CPT" })));
    }
    events.push(put(Op::Create, &t, row(3, "CIF")));
    events.push(put(Op::Create, &t, row(4, "CIF")));
    events.push(delete(&t, vec![i(4)]));
    run_large(&rules, &mut store, &tx("erp", 20, events), (1, 2));
    let versions: Vec<(String, u64, String)> = store
        .history
        .iter()
        .map(|h| {
            let change = serde_json::from_str::<serde_json::Value>(&h.changes)
                .unwrap()
                .get("incoterm")
                .map_or(String::new(), ToString::to_string);
            (h.record.key.to_string(), h.version, change)
        })
        .collect();
    let line = |key: &str, version, change: &str| (key.to_string(), version, change.to_string());
    assert_eq!(
        versions,
        [
            line("ord:SO-1", 1, "[null,\"FCA\"]"),
            line("ord:SO-1", 2, "[\"FCA\",\"DAP\"]"),
            line("ord:SO-2", 1, "[null,\"EXW\"]"),
            line("ord:SO-3", 1, "[null,\"CIF\"]"),
        ]
    );
    assert_eq!(store.field("ord:SO-1", "incoterm").as_deref(), Some("DAP"));
    assert_eq!(store.field("ord:SO-4", "incoterm"), None, "born and gone");
}
