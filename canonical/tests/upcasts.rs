//! Columns and fields that have been renamed: what was written before is read as if it had always
//! been called what it is called now.

use crossdock_canonical::{Known, Rules};
use crossdock_model::canonical::Name;
use crossdock_model::{ChangeEvent, Op, RowImage, SourceText};
use crossdock_schema_registry::Entities;

use crate::store::{Look, Store, Tx, event, i, put, run, s, table, text, tx};

const OLD_ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n\
    [entity.parcel.fields]\nno = \"integer\"\nweight = \"text\"\nnote = \"text\"\n";
const NEW_ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n\
    [entity.parcel.fields]\nno = \"integer\"\nnote = \"text\"\n\
    weight_kg = { type = \"decimal\", was = [\"weight\"] }\n";
const OLD_MAPPING: &str = "source = \"erp\"\n[[table]]\ntable = \"public.parcels\"\n\
    entity = \"parcel\"\n[table.fields]\nno = \"no\"\nweight = \"gewicht\"\nnote = \"note\"\n";
const NEW_MAPPING: &str = "source = \"erp\"\n[[table]]\ntable = \"public.parcels\"\n\
    entity = \"parcel\"\nwas.weight = [\"gewicht\"]\n[table.fields]\nno = \"no\"\n\
    weight_kg = \"weight\"\nnote = \"note\"\n";
const OWNED: &str = "[entity.parcel]\nowner = \"erp\"\n";

fn rules(entity: &str, mapping: &str) -> Rules {
    let mut entities = Entities::default();
    assert_eq!(entities.extend(&[text("own.toml", entity)]), []);
    let sources: [Name; 1] = ["erp".into()];
    let known = Known { sources: &sources, targets: &[] };
    let (mapping, owned): ([SourceText; 1], [SourceText; 1]) =
        ([text("erp.toml", mapping)], [text("rules.toml", OWNED)]);
    Rules::load(entities, &mapping, &owned, &known).unwrap()
}

/// A change of the whole row, as the table was called then.
fn parcel(lsn: u64, op: Op, column: &str, weight: &str, note: &str) -> Tx {
    let t = table("public.parcels", &["no*", column, "note"]);
    tx("erp", lsn, vec![put(op, &t, vec![i(1), s(weight), s(note)])])
}

/// A change of the note alone: the log does not carry the weight.
fn noted(lsn: u64, note: &str) -> Tx {
    let t = table("public.parcels", &["no*", "weight", "note"]);
    let cells = vec![Some(i(1)), None, Some(s(note))];
    let after = Some(RowImage::Partial(cells));
    tx("erp", lsn, vec![ChangeEvent { after, ..event(Op::Update, &t, None, None) }])
}

#[test]
fn a_stored_record_and_its_rows_come_into_todays_shape() {
    let mut store = Store::default();
    let old = rules(OLD_ENTITY, OLD_MAPPING);
    run(&old, &mut store, &[parcel(10, Op::Create, "gewicht", "2.50", "a")]);
    assert_eq!(store.field("par:1", "weight").unwrap(), "2.50");

    let new = rules(NEW_ENTITY, NEW_MAPPING);
    run(&new, &mut store, &[noted(20, "b")]);
    assert_eq!(store.field("par:1", "weight_kg").unwrap(), "2.5", "kept under its new name");
    assert_eq!(store.field("par:1", "weight"), None);
    assert_eq!(store.field("par:1", "note").unwrap(), "b");
    let record = store.records.values().next().unwrap();
    assert!(record.origins.contains_key("weight_kg") && !record.origins.contains_key("weight"));
    let last = store.history.last().unwrap();
    assert_eq!(last.changes, r#"{"note":["a","b"]}"#, "a name is no change");
}

#[test]
fn old_changes_replay_into_todays_shape() {
    let new = rules(NEW_ENTITY, NEW_MAPPING);
    let log = [
        parcel(10, Op::Create, "gewicht", "2.50", "a"),
        parcel(20, Op::Update, "gewicht", "3", "a"),
        parcel(30, Op::Update, "weight", "4", "a"),
        noted(40, "c"),
    ];
    let (mut replayed, mut cut) = (Store::default(), Store::default());
    run(&new, &mut replayed, &log[..2]);
    assert_eq!(replayed.field("par:1", "weight_kg").unwrap(), "3");
    run(&new, &mut replayed, &log[2..]);
    assert_eq!(replayed.field("par:1", "weight_kg").unwrap(), "4");
    run(&new, &mut cut, &log);
    assert_eq!(cut.meaning(), replayed.meaning());

    // What the old files had made of the first half ends in the same record.
    let mut store = Store::default();
    run(&rules(OLD_ENTITY, OLD_MAPPING), &mut store, &log[..2]);
    run(&new, &mut store, &log);
    assert_eq!(store.meaning(), replayed.meaning());
}

const GRAMS_ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n\
    [entity.parcel.fields]\nno = \"integer\"\nweight_g = \"integer\"\nnote = \"text\"\n";
const KILOS_ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n\
    [entity.parcel.fields]\nno = \"integer\"\nnote = \"text\"\n\
    weight_kg = { type = \"decimal\", up = 'dec(old.weight_g) / 1000' }\n\
    [entity.parcel.earlier]\nweight_g = { type = \"integer\", down = 'dec(rec.weight_kg) * 1000' }\n";
const GRAMS_MAPPING: &str = "source = \"erp\"\n[[table]]\ntable = \"public.parcels\"\n\
    entity = \"parcel\"\n[table.fields]\nno = \"no\"\nweight_g = \"grams\"\nnote = \"note\"\n";
const KILOS_MAPPING: &str = "source = \"erp\"\n[[table]]\ntable = \"public.parcels\"\n\
    entity = \"parcel\"\nwas.kilos = [\"kg\", { expr = 'dec(old.grams) / 1000' }]\n\
    [table.fields]\nno = \"no\"\nweight_kg = \"kilos\"\nnote = \"note\"\n";

#[test]
fn a_column_is_computed_from_one_that_there_is_no_more() {
    let rules = rules(KILOS_ENTITY, KILOS_MAPPING);
    let log = [
        parcel(10, Op::Create, "grams", "2500", "a"),
        parcel(20, Op::Update, "grams", "3000", "a"),
        parcel(30, Op::Update, "kg", "3.25", "a"),
        parcel(40, Op::Update, "kilos", "4", "b"),
    ];
    let mut replayed = Store::default();
    for (at, expected) in ["2.5", "3", "3.25", "4"].into_iter().enumerate() {
        run(&rules, &mut replayed, &log[at..=at]);
        assert_eq!(replayed.field("par:1", "weight_kg").unwrap(), expected, "change {at}");
    }
    let mut cut = Store::default();
    run(&rules, &mut cut, &log);
    assert_eq!(cut.meaning(), replayed.meaning());

    // Rewound, the old changes are nothing new.
    run(&rules, &mut cut, &log[..2]);
    assert_eq!(cut.meaning(), replayed.meaning());
    assert_eq!(cut.open("mapping_error"), 0);
}

#[test]
fn part_of_an_older_row_is_enough_with_what_is_known_of_it() {
    let mapping = KILOS_MAPPING.replace("dec(old.grams) / 1000", "dec(old.grams) * old.pieces");
    let rules = rules(KILOS_ENTITY, &mapping);
    let t = table("public.parcels", &["no*", "grams", "pieces", "note"]);
    let whole = tx("erp", 10, vec![put(Op::Create, &t, vec![i(1), s("5"), i(2), s("a")])]);
    let part = |lsn, cells| {
        let after = Some(RowImage::Partial(cells));
        tx("erp", lsn, vec![ChangeEvent { after, ..event(Op::Update, &t, None, None) }])
    };
    let mut store = Store::default();
    run(&rules, &mut store, &[whole, part(20, vec![Some(i(1)), None, Some(i(3)), None])]);
    assert_eq!(store.field("par:1", "weight_kg").unwrap(), "15");
    run(&rules, &mut store, &[part(30, vec![Some(i(1)), Some(s("6")), None, None])]);
    assert_eq!(store.field("par:1", "weight_kg").unwrap(), "18");
}

#[test]
fn what_cannot_be_computed_is_an_exception_and_keeps_what_was_said() {
    let rules = rules(KILOS_ENTITY, KILOS_MAPPING);
    let mut store = Store::default();
    run(&rules, &mut store, &[parcel(10, Op::Create, "grams", "2500", "a")]);
    run(&rules, &mut store, &[parcel(20, Op::Update, "grams", "heavy", "b")]);
    assert_eq!(store.open("mapping_error"), 1);
    assert_eq!(store.field("par:1", "weight_kg").unwrap(), "2.5");
    assert_eq!(store.field("par:1", "note").unwrap(), "a");
    run(&rules, &mut store, &[parcel(30, Op::Update, "kilos", "2", "c")]);
    assert_eq!(store.open("mapping_error"), 0, "mended");
    assert_eq!(store.field("par:1", "weight_kg").unwrap(), "2");
}

#[test]
fn a_stored_record_is_computed_into_todays_shape_and_back() {
    let mut store = Store::default();
    let old = rules(GRAMS_ENTITY, GRAMS_MAPPING);
    run(&old, &mut store, &[parcel(10, Op::Create, "grams", "2500", "a")]);
    assert_eq!(store.field("par:1", "weight_g").unwrap(), "2500");

    let new = rules(KILOS_ENTITY, KILOS_MAPPING);
    let t = table("public.parcels", &["no*", "kilos", "note"]);
    let cells = vec![Some(i(1)), None, Some(s("b"))];
    let after = Some(RowImage::Partial(cells));
    let noted = ChangeEvent { after, ..event(Op::Update, &t, None, None) };
    run(&new, &mut store, &[tx("erp", 20, vec![noted])]);
    assert_eq!(store.field("par:1", "weight_kg").unwrap(), "2.5");
    assert_eq!(store.field("par:1", "weight_g"), None);
    let last = store.history.last().unwrap();
    assert_eq!(last.changes, r#"{"note":["a","b"]}"#, "a shape is no change");

    let record = store.records.values().next().unwrap();
    let earlier = new.earlier_fields(&record.key, &record.fields).unwrap();
    assert_eq!(earlier.get("weight_g").and_then(|v| v.to_text()).as_deref(), Some("2500"));
    let none = new.earlier_fields(&record.key, &Default::default()).unwrap_err();
    assert!(none.starts_with("weight_g (own.toml:9): "), "{none}");
}

#[test]
fn casts_are_checked_with_file_and_line() {
    let load = |entity: &str, mapping: &str| {
        let mut entities = Entities::default();
        assert_eq!(entities.extend(&[text("own.toml", entity)]), []);
        let sources: [Name; 1] = ["erp".into()];
        let known = Known { sources: &sources, targets: &[] };
        let problems = Rules::load(
            entities,
            &[text("erp.toml", mapping)],
            &[text("rules.toml", OWNED)],
            &known,
        );
        let problems = problems.unwrap_err();
        problems
            .into_iter()
            .map(|p| format!("{}:{}: {}", p.file, p.line, p.what))
            .collect::<Vec<_>>()
    };
    let entity = KILOS_ENTITY.replace("old.weight_g", "old.weight").replace("rec.", "rec.x");
    assert_eq!(
        load(&entity, KILOS_MAPPING),
        [
            "own.toml:7: parcel had no field `weight`",
            "own.toml:9: parcel has no field `xweight_kg`",
        ]
    );
    for (expr, what) in [
        ("dec(old.kilos)", "`kilos` is computed from itself"),
        ("1 + 1", "the expression reads no column of `old`"),
        ("dec(row.grams)", "the expression uses `row`, which is not known here"),
    ] {
        let mapping = KILOS_MAPPING.replace("dec(old.grams) / 1000", expr);
        assert_eq!(load(KILOS_ENTITY, &mapping), [format!("erp.toml:5: {what}")]);
    }
    // Against the database as it is: what is computed must be a column by now.
    let rules = rules(KILOS_ENTITY, KILOS_MAPPING);
    let live = table("public.parcels", &["no*", "weight", "note"]);
    let problems: Vec<u32> =
        rules.verify("erp", &[(*live).clone()]).iter().map(|p| p.line).collect();
    assert_eq!(problems, [5, 8], "erp.toml:5 computes kilos, erp.toml:8 reads it");
}

#[test]
fn a_test_block_shows_what_an_old_row_becomes() {
    let mut entities = Entities::default();
    assert_eq!(entities.extend(&[text("own.toml", KILOS_ENTITY)]), []);
    let sources: [Name; 1] = ["erp".into()];
    let trial = |weight: &str| {
        format!(
            "{OWNED}[[test]]\nname = \"grams\"\nevents = [ {{ from = \"erp.parcels\", op = \"c\", \
             key = [\"no\"], after = {{ no = 1, grams = 2500 }} }} ]\n\
             expect = {{ weight_kg = \"{weight}\" }}\n"
        )
    };
    for (weight, good) in [("2.5", true), ("2500", false)] {
        let rules = Rules::load(
            entities.clone(),
            &[text("erp.toml", KILOS_MAPPING)],
            &[text("rules.toml", &trial(weight))],
            &Known { sources: &sources, targets: &[] },
        );
        let results = rules.unwrap().run_tests();
        assert_eq!(results.iter().all(|r| r.failures.is_empty()), good, "{results:?}");
    }
}
