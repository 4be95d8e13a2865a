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
