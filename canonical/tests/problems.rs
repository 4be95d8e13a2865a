//! One clear problem for each kind of mistake, with file and line.

use crossdock_model::Problem;

use crate::judging::{ERP, RULES, TMS, WMS};
use crate::store::{load, table};

fn problems(mapping: &str, rules: &str) -> Vec<Problem> {
    let files = [("erp.toml", mapping), ("wms_eu.toml", WMS), ("tms.toml", TMS)];
    load(&files, rules).err().unwrap_or_default()
}

#[track_caller]
fn expect(problems: &[Problem], text: &str) {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 1, "{}", all.join("\n"));
    assert!(all[0].contains(text), "{}", all[0]);
}

#[test]
fn sound_files_have_none() {
    assert_eq!(problems(ERP, RULES), []);
}

#[test]
fn mapping_mistakes() {
    let with = |from: &str, to: &str| problems(&ERP.replace(from, to), RULES);
    expect(
        &with("incoterm = \"incoterm\"", "incotrm = \"incoterm\""),
        "erp.toml:8: sales_order has no field `incotrm`\n    did you mean `incoterm`?",
    );
    expect(
        &with("source = \"erp\"", "source = \"erq\""),
        "erp.toml:2: there is no source `erq` in the configuration\n    did you mean `erp`?",
    );
    expect(
        &with("entity = ", "wen = 'true'\nentity = "),
        "erp.toml:5: unknown key `wen` in [table]\n    did you mean `when`?",
    );
    expect(
        &with("entity = ", "when = 'row.a =='\nentity = "),
        "erp.toml:5: the expression cannot be read",
    );
    expect(
        &with("entity = ", "when = 'rov.a == 1'\nentity = "),
        "erp.toml:5: the expression uses `rov`",
    );
    expect(
        &with("entity = ", "when = 'row.a != \"\"'\nentity = "),
        "erp.toml:5: `row.a` may be NULL",
    );
    expect(&with("[table.fields]", "[table.fields"), "erp.toml:6:");
}

#[test]
fn rule_mistakes() {
    let with = |from: &str, to: &str| problems(ERP, &RULES.replacen(from, to, 1));
    let line = |text: &str| {
        let at = RULES.lines().position(|l| l.contains(text)).unwrap() + 1;
        format!("rules.toml:{at}: ")
    };
    expect(
        &with("[entity.sales_order]\nowner = \"erp\"", ""),
        "erp.toml:3: nobody owns sales_order.incoterm, sales_order.total_amount",
    );
    expect(
        &with(
            "[entity.sales_order]\nowner = \"erp\"",
            "[entity.sales_order]\nowner = \"erp\"\n\
             fields.incoterm = [{ owner = \"erp\" }, { owner = \"tms\" }]",
        ),
        "sales_order.incoterm has two owners: erp at rules.toml:8, and this one",
    );
    expect(
        &with("target = \"erp\"", "target = \"erb\""),
        &format!("{}there is no target `erb`", line("target = \"erp\"")),
    );
    expect(
        &with("dedupe = [", "dedup = [\"a\"]\ndedupe = ["),
        "unknown key `dedup` in [release]\n    did you mean `dedupe`?",
    );
    expect(&with("rec.amount) >", "rec.amout) >"), "freight_cost has no field `amout`");
    expect(&with("field = \"status\"", "field = \"stats\""), "shipment has no field `stats`");
    expect(
        &with("[group]", "[[lane]]\nname = \"bulk\"\nslo = \"soon\"\n[group]"),
        "rules.toml:4: `slo` is not a length of time: `soon`",
    );
    expect(
        &with("owner = \"wms\"", "owner = \"wms\"\nfields.status = \"wms\""),
        "shipment.status has two owners: wms at rules.toml:10",
    );
    let deep = format!("when = '{}true{}'", "(".repeat(100), ")".repeat(100));
    expect(&with("when = 'rec.status != \"planned\"'", &deep), "nested more than");
}

#[test]
fn files_are_compared_with_the_database() {
    let files = [("erp.toml", ERP), ("wms_eu.toml", WMS), ("tms.toml", TMS)];
    let rules = load(&files, RULES).unwrap();
    let found = rules.verify(
        "erp",
        &[table("public.orders", &["id*", "order_no", "incotern", "cents"]).as_ref().clone()],
    );
    expect(
        &found,
        "erp.toml:8: table `public.orders` has no column `incoterm`\n    did you mean `incotern`?",
    );
    expect(&rules.verify("erp", &[]), "erp.toml:3: the database has no table `public.orders`");
}
