//! I4: random writers write random fields under random ownership rules, and each field ends with
//! what its owner said last. The model knows one row for each source and no order of arrival.

use std::collections::BTreeMap;

use crossdock_canonical::{Known, Rules};
use crossdock_model::{ChangeEvent, Op, Value};
use crossdock_schema_registry::Entities;
use rand::Rng;
use rand::rngs::StdRng;

use crate::schedules::try_all;
use crate::store::{Look, Store, Tx, delete, i, names, put, run, s, table, text, tx};

const SOURCES: [&str; 3] = ["erp", "wms_eu", "tms"];
/// The first one is what conditions read; the last one can be compared.
const FIELDS: [&str; 6] =
    ["priority", "incoterm", "channel", "ship_from", "customer_reference", "total_amount"];
const RECORDS: usize = 2;

/// A source, by its place in [`SOURCES`].
type Who = usize;
/// What a source says in one row.
type Row = [Option<i64>; FIELDS.len()];

/// Who owns a field.
#[derive(Clone, Debug)]
enum Owner {
    /// One source.
    One(Who),
    /// The first while the priority is not this, then the second.
    Until(Who, i64, Who),
    /// The first while the priority is this, otherwise the second.
    When(Who, i64, Who),
    /// The first of these that has a value.
    FirstOf(Vec<Who>),
    /// The greatest or smallest value of `wms_eu` and `tms`.
    Extreme { greatest: bool },
    /// One source, whose NULL never erases a value.
    Kept(Who),
    /// Whoever wrote last; others than this one are accepted.
    Anybody(Who),
}

/// One rule set, with the policy for each field.
#[derive(Debug)]
struct Ownership {
    owners: Vec<Owner>,
    policies: Vec<&'static str>,
}

impl Ownership {
    fn random(rng: &mut StdRng) -> Self {
        let mut owners = vec![Owner::One(rng.random_range(0..3))];
        for _ in 1..FIELDS.len() - 1 {
            let (a, b) = (rng.random_range(0..3), rng.random_range(1..3));
            let (other, third) = ((a + b) % 3, (a + 3 - b) % 3);
            let value = rng.random_range(1..=3);
            owners.push(match rng.random_range(0..7) {
                0 | 1 => Owner::One(a),
                2 => Owner::Until(a, value, other),
                3 => Owner::When(a, value, other),
                4 => Owner::FirstOf(vec![a, other, third]),
                5 => Owner::Kept(a),
                _ => Owner::Anybody(a),
            });
        }
        owners.push(Owner::Extreme { greatest: rng.random_bool(0.5) });
        let policies = ["ignore", "quarantine", "revert"];
        let policies = FIELDS.map(|_| policies[rng.random_range(0..3)]).into();
        Self { owners, policies }
    }

    fn file(&self) -> String {
        let mut file = "[group]\nboth = [\"wms_eu\", \"tms\"]\n[entity.sales_order]\n\
                        owner = \"erp\"\n[entity.sales_order.fields]\n"
            .to_owned();
        for ((field, owner), policy) in FIELDS.iter().zip(&self.owners).zip(&self.policies) {
            let of = |who: &Who| SOURCES[*who];
            let with = |who: &Who, more: &str| {
                format!("{{ owner = \"{}\", on_violation = \"{policy}\"{more} }}", of(who))
            };
            let rule = match owner {
                Owner::One(who) => with(who, ""),
                Owner::Until(who, value, then) => {
                    let then = of(then);
                    with(who, &format!(", until = 'rec.priority == {value}', then = \"{then}\""))
                }
                Owner::When(who, value, other) => {
                    let first = with(who, &format!(", when = 'rec.priority == {value}'"));
                    format!("[{first}, {}]", with(other, ""))
                }
                Owner::FirstOf(all) => {
                    let others: Vec<&str> = all[1..].iter().map(of).collect();
                    with(&all[0], &format!(", fallback = {others:?}"))
                }
                Owner::Extreme { greatest } => {
                    let merge = if *greatest { "max" } else { "min" };
                    format!("{{ owner = \"both\", merge = \"{merge}\" }}")
                }
                Owner::Kept(who) => with(who, ", null = \"keep\""),
                Owner::Anybody(who) => {
                    format!("{{ owner = \"{}\", on_violation = \"accept\" }}", of(who))
                }
            };
            file += &format!("{field} = {rule}\n");
        }
        file
    }

    fn rules(&self) -> Rules {
        let mapping = |source: &str| {
            let fields: String = FIELDS.iter().map(|f| format!("{f} = \"{f}\"\n")).collect();
            format!(
                "source = \"{source}\"\n[[table]]\ntable = \"a.orders\"\nentity = \
                 \"sales_order\"\n[table.fields]\norder_no = \"order_no\"\n{fields}"
            )
        };
        let mappings = SOURCES.map(|source| text(&format!("{source}.toml"), &mapping(source)));
        let rules = [text("owners.toml", &self.file())];
        let sources = names(&SOURCES);
        let known = Known { sources: &sources, targets: &sources };
        Rules::load(Entities::shipped(), &mappings, &rules, &known)
            .unwrap_or_else(|problems| panic!("{problems:?}\n{}", self.file()))
    }

    /// Whether a field's value depends on more than the rows that there are now.
    fn remembers(&self) -> bool {
        self.owners.iter().any(|owner| matches!(owner, Owner::Kept(_) | Owner::Anybody(_)))
    }

    /// Whether it depends on which source committed first.
    fn depends_on_arrival(&self) -> bool {
        self.owners.iter().any(|owner| matches!(owner, Owner::Anybody(_)))
    }
}

/// What a record must say.
#[derive(Clone, Default)]
struct Expected {
    rows: [Option<Row>; SOURCES.len()],
    /// What is left of earlier values, for fields that are kept or taken from anybody.
    remembered: Row,
}

impl Expected {
    /// A transaction of `who` is over, before which its row was `before`. What it wrote and took
    /// back was never there.
    fn committed(&mut self, ownership: &Ownership, who: Who, before: Option<Row>) {
        let Some(row) = self.rows[who] else { return };
        for (field, owner) in ownership.owners.iter().enumerate() {
            let new = row[field];
            match owner {
                Owner::Kept(owner) if *owner == who && new.is_some() => {
                    self.remembered[field] = new;
                }
                // A row that is new and says nothing has not changed anything.
                Owner::Anybody(_) if before.map_or(new.is_some(), |b| b[field] != new) => {
                    self.remembered[field] = new;
                }
                _ => {}
            }
        }
    }

    fn value(&self, ownership: &Ownership, field: usize) -> Option<i64> {
        let of = |who: &Who| self.rows[*who].and_then(|row| row[field]);
        let priority = || self.value(ownership, 0);
        match &ownership.owners[field] {
            Owner::One(who) => of(who),
            Owner::Until(who, value, then) if priority() != Some(*value) => {
                debug_assert_ne!(who, then);
                of(who)
            }
            Owner::Until(_, _, then) => of(then),
            Owner::When(who, value, _) if priority() == Some(*value) => of(who),
            Owner::When(_, _, other) => of(other),
            Owner::FirstOf(all) => all.iter().find_map(of),
            Owner::Extreme { greatest: true } => of(&1).max(of(&2)),
            Owner::Extreme { greatest: false } => [1, 2].iter().filter_map(of).min(),
            Owner::Kept(_) | Owner::Anybody(_) => self.remembered[field],
        }
    }

    fn is_there(&self) -> bool {
        self.rows.iter().any(Option::is_some)
    }
}

/// Who writes what, in the order in which it is committed.
fn writes(rng: &mut StdRng, ownership: &Ownership) -> (Vec<Tx>, [Expected; RECORDS]) {
    let mut expected: [Expected; RECORDS] = Default::default();
    let mut txs = Vec::new();
    for n in 1..=rng.random_range(4..30) {
        let who = rng.random_range(0..SOURCES.len());
        let mut events = Vec::new();
        let before: Vec<Option<Row>> = expected.iter().map(|record| record.rows[who]).collect();
        for _ in 0..rng.random_range(1..=3) {
            let of = rng.random_range(0..RECORDS);
            let record = &mut expected[of];
            if record.rows[who].is_some() && !ownership.remembers() && rng.random_bool(0.1) {
                record.rows[who] = None;
                events.push(event(Op::Delete, of, [None; FIELDS.len()]));
                continue;
            }
            let op = if record.rows[who].is_some() { Op::Update } else { Op::Create };
            let mut row = record.rows[who].unwrap_or_default();
            for _ in 0..rng.random_range(1..=2) {
                let field = rng.random_range(0..FIELDS.len());
                row[field] = rng.random_bool(0.85).then(|| rng.random_range(1..=3));
            }
            record.rows[who] = Some(row);
            events.push(event(op, of, row));
        }
        for (record, before) in expected.iter_mut().zip(before) {
            record.committed(ownership, who, before);
        }
        txs.push(tx(SOURCES[who], n * 10, events));
    }
    (txs, expected)
}

fn event(op: Op, record: usize, row: Row) -> ChangeEvent {
    let mut columns = vec!["id*", "order_no"];
    columns.extend(FIELDS);
    let schema = table("a.orders", &columns);
    let id = i(i64::try_from(record).unwrap());
    if op == Op::Delete {
        return delete(&schema, vec![id]);
    }
    let cell = |value: &Option<i64>| value.map_or(Value::Null, |n| s(&n.to_string()));
    let mut image = vec![id, s(&format!("SO-{record}"))];
    image.extend(row.iter().map(cell));
    put(op, &schema, image)
}

/// The same transactions, each source's in its own order, in another interleaving and with
/// repetitions.
fn otherwise(rng: &mut StdRng, txs: &[Tx]) -> Vec<Tx> {
    let mut left: BTreeMap<&str, Vec<&Tx>> = BTreeMap::new();
    txs.iter().for_each(|tx| left.entry(&*tx.source).or_default().push(tx));
    let mut cursors: Vec<(Vec<&Tx>, usize)> = left.into_values().map(|txs| (txs, 0)).collect();
    let mut all = Vec::new();
    while cursors.iter().any(|(txs, at)| *at < txs.len()) {
        let which = rng.random_range(0..cursors.len());
        let (txs, at) = &mut cursors[which];
        if let Some(tx) = txs.get(*at) {
            all.push((*tx).clone());
            *at += 1;
        }
        if *at < txs.len() && rng.random_bool(0.1) {
            *at = rng.random_range(0..=*at);
        }
    }
    all
}

fn judged(rng: &mut StdRng, rules: &Rules, txs: &[Tx]) -> Store {
    let mut store = Store::default();
    let mut rest = txs;
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(rng.random_range(1..=rest.len().min(6)));
        run(rules, &mut store, batch);
        rest = later;
    }
    store
}

fn compare(ownership: &Ownership, store: &Store, expected: &[Expected]) {
    for (n, record) in expected.iter().enumerate() {
        let key = format!("ord:SO-{n}");
        let found = store.records.values().find(|r| *r.key.key == key);
        let there = found.is_some_and(|r| !r.deleted);
        assert_eq!(there, record.is_there(), "{key}");
        for (at, field) in FIELDS.iter().enumerate().filter(|_| there) {
            let wanted = record.value(ownership, at).map(|n| n.to_string());
            let owner = &ownership.owners[at];
            assert_eq!(store.field(&key, field), wanted, "{key} {field}, owned by {owner:?}");
        }
    }
}

#[test]
fn i4_each_field_ends_with_what_its_owner_said_last() {
    try_all("i4_each_field", 60, |rng| {
        let ownership = Ownership::random(rng);
        let rules = ownership.rules();
        let (txs, expected) = writes(rng, &ownership);
        let store = judged(rng, &rules, &txs);
        compare(&ownership, &store, &expected);
        if !ownership.depends_on_arrival() {
            let txs = otherwise(rng, &txs);
            let other = judged(rng, &rules, &txs);
            compare(&ownership, &other, &expected);
        }
    });
}

/// A source that has just got a row for a record says nothing of fields that are NULL in it: what
/// was accepted stays.
#[test]
fn a_new_row_that_says_nothing_leaves_what_was_accepted() {
    let mut owners = vec![Owner::One(0); FIELDS.len()];
    owners[1] = Owner::Anybody(0);
    let ownership = Ownership { owners, policies: vec!["ignore"; FIELDS.len()] };
    let (rules, mut store) = (ownership.rules(), Store::default());
    let (empty, mut full): (Row, Row) = Default::default();
    full[1] = Some(7);
    for (n, (source, row)) in [("wms_eu", full), ("tms", empty), ("erp", empty)].iter().enumerate()
    {
        let lsn = u64::try_from(n).unwrap() + 1;
        run(&rules, &mut store, &[tx(source, lsn, vec![event(Op::Create, 0, *row)])]);
        assert_eq!(store.field("ord:SO-0", "incoterm").as_deref(), Some("7"), "{source}");
    }
    // The owner says something, and then takes it back.
    full[1] = Some(8);
    run(&rules, &mut store, &[tx("erp", 10, vec![event(Op::Update, 0, full)])]);
    assert_eq!(store.field("ord:SO-0", "incoterm").as_deref(), Some("8"));
    run(&rules, &mut store, &[tx("erp", 20, vec![event(Op::Update, 0, empty)])]);
    assert_eq!(store.field("ord:SO-0", "incoterm"), None);
}
