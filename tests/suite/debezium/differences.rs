//! Where Crossdock differs from Debezium on purpose. Names are headings in `docs/debezium.md`.

use serde_json::{Value as Json, json};

use super::compare::{Difference, each_object};

pub const POSTGRES: &[Difference] = &[
    Difference { name: "Types that Debezium leaves out", even: left_out },
];

pub const MARIADB: &[Difference] = &[];

/// Columns that are not in Debezium's events at all.
const LEFT_OUT: &[&str] = &[
    "c_line", "c_lseg", "c_box", "c_path", "c_polygon", "c_circle", "c_int4multi", "c_tsq",
    "c_comp", "c_pglsn", "c_xid",
];

fn left_out(ours: &mut Json, _: &mut Json) -> bool {
    let mut there = false;
    let mut clean = |json: &mut Json| match json {
        Json::Object(row) if row.contains_key("c_pglsn") => {
            there = true;
            LEFT_OUT.iter().for_each(|name| drop(row.shift_remove(*name)));
        }
        Json::Array(fields) => fields.retain(|field| {
            let name = field["field"].as_str().unwrap_or("");
            !LEFT_OUT.contains(&name)
        }),
        _ => {}
    };
    clean(&mut ours["value"]);
    each_object(ours, &mut |_, _, value| clean(value));
    there
}
