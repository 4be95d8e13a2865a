//! S6, S14: regions extend the lifecycle of a locked base where it lets them, and only there; what
//! they say is about their own records.

use crossdock_canonical::{Known, Rules};
use crossdock_model::canonical::Name;
use crossdock_model::time::parse_instant;
use crossdock_model::{Op, Problem, SourceText};
use crossdock_schema_registry::Entities;

use crate::demo::{Business, rules_with};
use crate::store::{Look, Store, Tx, i, put, run_at, s, table, text, tx};

const MAPPING: &str = "source = \"wms\"\n[[table]]\ntable = \"public.shipments\"\n\
    entity = \"shipment\"\n[table.fields]\nsite = \"site\"\nshipment_no = \"no\"\n";
const BASE: &str = r#"
[ruleset]
name = "base"
locked = true
[entity.shipment]
owner = "wms"
[[normalise]]
source = "wms.shipments"
when = 'row.done == "loaded"'
emit = "shipment.loaded"
event_time = "at"
[[normalise]]
source = "wms.shipments"
when = 'row.done == "departed"'
emit = "shipment.departed"
event_time = "at"
[lifecycle.shipment]
field = "status"
order = ["planned", "loaded", "departed"]
initial = "planned"
OVERLAYS
[[lifecycle.shipment.dwell]]
state = "loaded"
max = "8h"
exception = "stuck"
"#;
/// Line of `[lifecycle.shipment]` in it.
const BASE_LINE: u32 = 17;
const SEALED: &str = r#"[lifecycle.shipment]
add = { sealed = "loaded" }
[[lifecycle.shipment.transition]]
to = "sealed"
on = ["yard.sealed"]
[[lifecycle.shipment.dwell]]
state = "sealed"
max = "1h"
when = 'rec.site == "US"'
exception = "stuck_sealed"
[[normalise]]
source = "wms.shipments"
when = 'row.done == "sealed"'
emit = "yard.sealed"
event_time = "at"
"#;
const US: &str = "rules/regions/us/10.toml";
const EU: &str = "rules/regions/eu/10.toml";

fn load(open: &str, overlays: &[(&str, &str)]) -> Result<Rules, Vec<Problem>> {
    let sources: [Name; 1] = ["wms".into()];
    let mut rules = vec![text("base.toml", &BASE.replace("OVERLAYS", open))];
    rules.extend(overlays.iter().map(|(file, content)| text(file, content)));
    let mapping: [SourceText; 1] = [text("wms.toml", MAPPING)];
    let known = Known { sources: &sources, targets: &[] };
    Rules::load(Entities::shipped(), &mapping, &rules, &known)
}

fn refused(open: &str, overlay: &str) -> Vec<String> {
    let problems = load(open, &[(US, overlay)]).unwrap_err();
    problems.iter().map(|p| format!("{}:{}: {}", p.file, p.line, p.what)).collect()
}

/// A shipment has come so far, at an hour of the first of May.
fn done(lsn: u64, id: i64, site: &'static str, what: &'static str, hour: u32) -> Tx {
    let t = table("public.shipments", &["id*", "site", "no", "done", "at"]);
    let at = format!("2026-05-01 {hour:02}:00:00");
    let row = vec![i(id), s(site), s(what), s(what), crossdock_model::Value::Text(at.into())];
    let mut row = row;
    row[2] = crossdock_model::Value::Text(format!("{site}-{id}").into());
    tx("wms", lsn, vec![put(if what == "loaded" { Op::Create } else { Op::Update }, &t, row)])
}

fn at(hour: u32) -> i64 {
    parse_instant(&format!("2026-05-01T{hour:02}:00:00Z")).unwrap()
}

#[test]
fn a_region_adds_a_state_where_the_base_lets_it() {
    let rules = load("overlays = [\"states\"]", &[(US, SEALED)]).unwrap();
    let mut store = Store::default();
    run_at(&rules, &mut store, at(9), &[done(10, 1, "US", "loaded", 8)], &[]);
    assert_eq!(store.field("shp:US:US-1", "status").unwrap(), "loaded");
    run_at(&rules, &mut store, at(9), &[done(20, 1, "US", "sealed", 9)], &[]);
    assert_eq!(store.field("shp:US:US-1", "status").unwrap(), "sealed");
    run_at(&rules, &mut store, at(9), &[done(30, 2, "EU", "loaded", 8)], &[]);
    run_at(&rules, &mut store, at(9), &[done(40, 2, "EU", "sealed", 9)], &[]);
    // Its limit is about its own records.
    let due = store.due(at(11));
    run_at(&rules, &mut store, at(11), &[], &due);
    let stuck: Vec<_> = store.exceptions.values().filter(|e| e.open).collect();
    assert_eq!(stuck.len(), 1, "{stuck:?}");
    assert_eq!(stuck[0].text, "shp:US:US-1 has been sealed for more than 1h.");
    // What is behind it in the base is still behind it.
    run_at(&rules, &mut store, at(11), &[done(50, 1, "US", "departed", 10)], &[]);
    assert_eq!(store.field("shp:US:US-1", "status").unwrap(), "departed");
    assert_eq!(store.open("stuck_sealed"), 0);

    // The matrix and the checks show who has added what.
    let states = rules.states();
    let names: Vec<&str> = states.iter().map(|s| &*s.state).collect();
    assert_eq!(names, ["planned", "loaded", "sealed", "departed"]);
    assert_eq!(states[2].region.as_deref(), Some("us"));
    assert_eq!(states[2].ways, [format!("yard.sealed ({US}:3)")]);
    assert_eq!(
        states[2].limits,
        [format!("at most 1h when rec.site == \"US\": stuck_sealed ({US}:6)")]
    );
    assert_eq!(
        rules.additions(),
        [format!(
            "region us extends the lifecycle of shipment ({US}:1): states sealed; 1 transitions; \
             1 limits"
        )]
    );
}

#[test]
fn what_the_base_does_not_leave_open_is_refused_with_file_and_line() {
    let base = format!("the lifecycle at base.toml:{BASE_LINE} is locked");
    assert_eq!(refused("", SEALED)[0], format!("{US}:2: `sealed` cannot be added: {base}"));
    let early =
        "[[lifecycle.shipment.transition]]\nto = \"departed\"\non = [\"shipment.loaded\"]\n";
    assert_eq!(
        refused("overlays = [\"states\", \"limits\"]", early),
        [format!("{US}:2: a transition to `departed` cannot be added: {base}")]
    );
    let limit =
        "[[lifecycle.shipment.dwell]]\nstate = \"planned\"\nmax = \"1h\"\nexception = \"x\"\n";
    assert_eq!(
        refused("overlays = [\"states\"]", limit),
        [format!("{US}:1: a limit of `planned` cannot be added: {base}")]
    );
    // A limit that the base has already stays the base's, even where limits may be added.
    let own = limit.replace("planned", "loaded");
    let line = BASE_LINE + 5;
    assert_eq!(
        refused("overlays = [\"limits\"]", &own),
        [format!("{US}:1: the limit of `loaded` at base.toml:{line} is locked")]
    );
    let whole = "[lifecycle.shipment]\nfield = \"status\"\norder = [\"planned\"]\n\
                 initial = \"planned\"\n";
    let problems = refused("overlays = [\"states\"]", whole);
    assert!(problems[0].starts_with(&format!("{US}:1: the lifecycle of shipment is locked")));
    for (overlay, what) in [
        ("[lifecycle.shipment]\nadd = { x = \"gone\" }\n", "`gone` is no state behind which `x`"),
        (
            "[lifecycle.shipment]\nside = [\"loaded\"]\n",
            "`loaded` is a state already, at base.toml",
        ),
        ("[lifecycle.load]\nadd = { x = \"y\" }\n", "load has no lifecycle that could be extended"),
        ("[lifecycle.shipment]\ninitial = \"loaded\"\n", "unknown key `initial`"),
    ] {
        let problems = refused("overlays = [\"states\"]", overlay);
        assert!(problems.iter().any(|p| p.contains(what)), "{what}: {problems:?}");
    }
    let unknown = load("overlays = [\"state\"]", &[]).unwrap_err();
    assert!(unknown[0].what.contains("overlays cannot add `state`"), "{unknown:?}");
}

#[test]
fn over_a_base_that_is_not_locked_a_region_has_limits_of_its_own() {
    let short = "[[lifecycle.shipment.dwell]]\nstate = \"loaded\"\nmax = \"2h\"\n\
                 when = 'rec.site == \"US\"'\nexception = \"stuck\"\n";
    let open = BASE.replace("locked = true", "").replace("OVERLAYS", "");
    let sources: [Name; 1] = ["wms".into()];
    let known = Known { sources: &sources, targets: &[] };
    let files = [text("base.toml", &open), text(US, short)];
    let rules = Rules::load(Entities::shipped(), &[text("wms.toml", MAPPING)], &files, &known);
    let (rules, mut store) = (rules.unwrap(), Store::default());
    run_at(&rules, &mut store, at(8), &[done(10, 1, "US", "loaded", 8)], &[]);
    run_at(&rules, &mut store, at(8), &[done(20, 2, "EU", "loaded", 8)], &[]);
    let mut due: Vec<i64> = store.deadlines.values().map(|d| d.due_micros).collect();
    due.sort();
    assert_eq!(due, [at(10), at(16)]);
}

#[test]
fn rules_that_do_not_know_a_regions_state_are_doubtful() {
    let base = BASE.to_string()
        + "[entity.sales_order.fields]\nfulfilment = \"crossdock\"\n[[project]]\n\
           entity = \"shipment\"\nfield = \"customs_status\"\n\
           value = 'rec.status in [\"loaded\", \"departed\"] ? \"gone\" : \"here\"'\n";
    let sources: [Name; 1] = ["wms".into()];
    let known = Known { sources: &sources, targets: &[] };
    let base = base.replace("OVERLAYS", "overlays = [\"states\"]");
    let files = [text("base.toml", &base), text(US, SEALED)];
    let entities = {
        let mut entities = Entities::shipped();
        let more = "[entity.shipment.fields]\ncustoms_status = \"text\"\n";
        assert_eq!(entities.extend(&[text("own.toml", more)]), []);
        entities
    };
    let rules = Rules::load(entities, &[text("wms.toml", MAPPING)], &files, &known).unwrap();
    let doubts: Vec<String> = rules.doubts().iter().map(|d| d.what.clone()).collect();
    let expected = "`loaded` is named here, and not `sealed`, which region us puts behind it";
    assert!(doubts.iter().any(|d| d == expected), "{doubts:?}");
}

/// S14: two regions under one base, each with limits of its own and the same meaning of "shipped".
#[test]
fn s14_two_regions_live_under_one_base() {
    let dwell = |site: &str, max: &str| {
        format!(
            "[[lifecycle.shipment.dwell]]\nstate = \"packed\"\nmax = \"{max}\"\n\
             when = 'rec.site == \"{site}\"'\nexception = \"stuck_packed\"\n\
             owner_team = \"warehouse_{site}\"\n"
        )
    };
    let (eu, us) = (dwell("EU", "2h"), dwell("US", "24h"));
    let rules = rules_with(&[(EU, &eu), (US, &us)]).unwrap();
    assert_eq!(rules.additions().len(), 2);
    let mut b = Business::under(rules);
    b.ordered(1, &["EU", "US"]);
    for site in ["EU", "US"] {
        b.happens(|l| l.packed(1, site));
        assert_eq!(b.field(&format!("shp:{site}:{site}-1"), "status"), "packed");
    }
    let mut due: Vec<(String, i64)> = b
        .store
        .deadlines
        .values()
        .map(|d| (d.record.key.to_string(), (d.due_micros - at(0)) / 3_600_000_000))
        .collect();
    due.sort();
    // Packed at eight in Hamburg; two hours on there, a day on in the US.
    assert_eq!(due[0], ("shp:EU:EU-1".into(), 10));
    assert_eq!(due[1].0, "shp:US:US-1");
    assert!(due[1].1 >= 24, "{due:?}");
    // A state of its own would break what the demo's locked base says of orders: it is refused.
    let sealed = "[lifecycle.shipment]\nadd = { sealed = \"loaded\" }\n";
    let problems = rules_with(&[(US, sealed)]).unwrap_err();
    assert!(problems.iter().any(|p| p.file == US && p.line == 2), "{problems:?}");
}
