//! Columns that refer to rows of several tables by a text such as `shipment,2`.

use crossdock_model::{ChangeEvent, Op, Value};

use crate::store::{Look, Store, i, load, put, run, s, table, tx};

const MOVES: &str = r#"
source = "erp"
[[table]]
table = "public.moves"
entity = "shipment_line"
lookup.shipment = { table = "public.shipments", key = "document", prefix = "shipment," }
when = 'present(shipment.no)'
[table.fields]
site = { value = "EU" }
shipment_no = "shipment.no"
line_no = "id"
qty = "qty"
"#;

const RULES: &str = "[entity.shipment_line]\nowner = \"erp\"\n";

fn a_move(id: i64, document: Value<'static>) -> ChangeEvent {
    let t = table("public.moves", &["id*", "document", "qty"]);
    put(Op::Create, &t, vec![i(id), document, s("2.5")])
}

fn shipment(op: Op, no: &str) -> ChangeEvent {
    put(op, &table("public.shipments", &["id*", "no"]), vec![i(2), s(no)])
}

#[test]
fn a_text_refers_to_a_row_of_the_table_whose_name_it_begins_with() {
    let rules = load(&[("erp.toml", MOVES)], RULES).unwrap_or_else(|p| panic!("{p:?}"));
    let mut store = Store::default();
    let others = [s("return,2"), s("shipment"), s(""), Value::Null, i(2)];
    let moves = (10..).zip(others).map(|(id, document)| a_move(id, document));
    let mut events: Vec<ChangeEvent> = moves.collect();
    events.push(a_move(1, s("shipment,2")));
    run(&rules, &mut store, &[tx("erp", 10, events)]);
    let waiting = |store: &Store| store.rows.values().filter(|r| !r.waiting_for.is_empty()).count();
    assert_eq!(waiting(&store), 1, "only the move of a shipment waits for it");
    assert!(store.records.is_empty());

    run(&rules, &mut store, &[tx("erp", 20, vec![shipment(Op::Create, "S2")])]);
    assert_eq!(waiting(&store), 0);
    assert_eq!(store.field("shl:EU:S2:1", "qty").as_deref(), Some("2.5"));
    assert_eq!(store.records.len(), 1);

    // A new number of the shipment is a new key of its line.
    run(&rules, &mut store, &[tx("erp", 30, vec![shipment(Op::Update, "S3")])]);
    assert_eq!(store.field("shl:EU:S3:1", "qty").as_deref(), Some("2.5"));
}
