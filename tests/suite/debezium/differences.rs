//! Where Crossdock differs from Debezium on purpose. Names are headings in `docs/debezium.md`,
//! which gives the reasons. Each function evens out one of them, and no more than that.

use serde_json::{Map, Value as Json, json};

use super::compare::{Difference, each_object};

pub const POSTGRES: &[Difference] = &[
    Difference { name: "Types that Debezium leaves out", even: left_out },
    Difference { name: "The type `name`", even: name },
    Difference { name: "Numbers rounded to tens", even: negative_scale },
    Difference { name: "Arrays of arrays", even: nested },
    Difference { name: "The date `infinity`", even: date_infinity },
    Difference { name: "The time 24:00", even: time_24 },
    Difference { name: "Partitions", even: partitions },
    Difference { name: "Defaults of changed tables", even: late_default },
    Difference { name: "Counts of logical messages", even: message_counts },
    Difference { name: "Outbox rows without payload", even: no_payload },
];

pub const MARIADB: &[Difference] = &[
    Difference { name: "Large unsigned integers", even: unsigned },
    Difference { name: "The year 0", even: year_0 },
    Difference { name: "Long and negative times", even: long_times },
    Difference { name: "The number `row`", even: row_number },
    Difference { name: "The text `query`", even: query },
];

pub const MYSQL: &[Difference] = &[
    Difference { name: "Large unsigned integers", even: unsigned },
    Difference { name: "The year 0", even: year_0 },
    Difference { name: "The number `row`", even: row_number },
    Difference { name: "The number `thread`", even: thread },
    Difference { name: "Blanks in JSON of MySQL", even: json_blanks },
    Difference { name: "Headers of MySQL", even: unrecorded_headers },
];

/// Columns that are not in Debezium's events at all.
const LEFT_OUT: &[&str] = &[
    "c_line",
    "c_lseg",
    "c_box",
    "c_path",
    "c_polygon",
    "c_circle",
    "c_int4multi",
    "c_tsq",
    "c_comp",
    "c_pglsn",
    "c_xid",
];

/// The rows in an event: before and after, or the value itself.
fn rows(event: &mut Json) -> Vec<&mut Map<String, Json>> {
    let value = &mut event["value"];
    let value = match value.get("payload").is_some_and(|payload| payload.get("op").is_some()) {
        true => &mut value["payload"],
        false => value,
    };
    if value.get("op").is_none() {
        return value.as_object_mut().into_iter().collect();
    }
    let Some(fields) = value.as_object_mut() else { return Vec::new() };
    let images = fields.iter_mut().filter(|(name, _)| matches!(&***name, "before" | "after"));
    images.filter_map(|(_, image)| image.as_object_mut()).collect()
}

/// Takes theirs for ours in a column where `differs` says so.
fn cells(
    ours: &mut Json,
    theirs: &mut Json,
    column: &str,
    differs: impl Fn(&Json, &Json) -> bool,
) -> bool {
    let mut found = false;
    for (ours, theirs) in rows(ours).into_iter().zip(rows(theirs)) {
        if let (Some(ours), Some(theirs)) = (ours.get_mut(column), theirs.get(column))
            && differs(ours, theirs)
        {
            *ours = theirs.clone();
            found = true;
        }
    }
    found
}

fn left_out(ours: &mut Json, _: &mut Json) -> bool {
    let mut values = 0;
    for row in rows(ours) {
        let gone = LEFT_OUT.iter().filter_map(|name| row.shift_remove(*name));
        values += gone.filter(Json::is_string).count();
    }
    each_object(ours, &mut |_, name, fields| {
        if let ("fields", Json::Array(fields)) = (name, fields) {
            fields.retain(|f| !f["field"].as_str().is_some_and(|f| LEFT_OUT.contains(&f)));
        }
    });
    values == LEFT_OUT.len()
}

fn name(ours: &mut Json, theirs: &mut Json) -> bool {
    cells(ours, theirs, "c_name", |ours, theirs| ours == "nm" && theirs.is_null())
}

fn negative_scale(ours: &mut Json, theirs: &mut Json) -> bool {
    each_object(ours, &mut |_, name, value| {
        if name == "parameters" && value["scale"] == "-2" {
            value["scale"] = "2046".into();
        }
    });
    // 123 hundreds.
    cells(ours, theirs, "c_num_neg", |ours, theirs| {
        matches!(ours.as_str(), Some("ew==" | "12300")) && theirs.to_string().len() > 1_000
    })
}

fn nested(ours: &mut Json, theirs: &mut Json) -> bool {
    cells(ours, theirs, "a_int2d", |ours, theirs| {
        *ours == json!([[1, 2], [3, 4]]) && *theirs == json!([null, null])
    })
}

fn date_infinity(ours: &mut Json, theirs: &mut Json) -> bool {
    cells(ours, theirs, "c_date", |ours, theirs| {
        *ours == i32::MAX && *theirs == -2_147_472_692_i64
            || ours == "infinity" && theirs == "-5877611-06-21Z"
    })
}

fn time_24(ours: &mut Json, theirs: &mut Json) -> bool {
    cells(ours, theirs, "c_time", |ours, theirs| ours == "24:00:00Z" && theirs == "00:00:00Z")
}

fn partitions(_: &mut Json, theirs: &mut Json) -> bool {
    let text = theirs.to_string();
    let root = text.replace("part_1", "part").replace("part_2", "part");
    let differs = root != text;
    if differs {
        *theirs = serde_json::from_str(&root).unwrap();
    }
    differs
}

fn late_default(ours: &mut Json, theirs: &mut Json) -> bool {
    let take = |event: &mut Json| {
        let mut taken = false;
        each_object(event, &mut |_, name, fields| {
            for field in fields.as_array_mut().into_iter().flatten().filter(|_| name == "fields") {
                if matches!(field["field"].as_str(), Some("extra" | "xtra")) {
                    let field = field.as_object_mut();
                    taken |= field.is_some_and(|f| f.shift_remove("default").is_some());
                }
            }
        });
        taken
    };
    // Both read the catalog when they read the change: how late that is, nobody knows.
    let [ours, theirs] = [ours, theirs].map(take);
    ours || theirs
}

fn message_counts(ours: &mut Json, theirs: &mut Json) -> bool {
    const NAME: &str = "/value/data_collections/0/data_collection";
    let (Some(ours), Some(theirs)) = (ours.pointer(NAME), theirs.pointer_mut(NAME)) else {
        return false;
    };
    let differs = theirs.as_str().is_some_and(|name| name.contains("LogicalDecodingMessageId@"));
    if differs {
        *theirs = ours.clone();
    }
    differs
}

fn no_payload(ours: &mut Json, theirs: &mut Json) -> bool {
    let differs = ours["value"].is_null() && theirs["value"] == "null";
    if differs {
        theirs["value"] = Json::Null;
    }
    differs
}

fn unsigned(ours: &mut Json, theirs: &mut Json) -> bool {
    cells(ours, theirs, "c_ubig", |ours, theirs| {
        let wrapped = ours.as_u64().map(|ours| ours as i64);
        wrapped.is_some() && wrapped == theirs.as_i64() && wrapped < Some(0)
    })
}

fn year_0(ours: &mut Json, theirs: &mut Json) -> bool {
    cells(ours, theirs, "c_year", |ours, theirs| *ours == 0 && *theirs == 1900)
}

fn long_times(ours: &mut Json, theirs: &mut Json) -> bool {
    let lost = |ours: &Json, theirs: &Json| ours.is_string() && theirs.is_null();
    ["c_time3", "c_time6"].map(|column| cells(ours, theirs, column, lost)).contains(&true)
}

/// Takes their field of the source block where both are there and differ.
fn of_source(ours: &mut Json, theirs: &Json, field: &str) -> bool {
    for path in ["/value/source", "/value/payload/source"] {
        if let (Some(ours), Some(theirs)) = (ours.pointer_mut(path), theirs.pointer(path))
            && ours[field] != theirs[field]
        {
            ours[field] = theirs[field].clone();
            return true;
        }
    }
    false
}

fn row_number(ours: &mut Json, theirs: &mut Json) -> bool {
    of_source(ours, theirs, "row")
}

fn query(ours: &mut Json, theirs: &mut Json) -> bool {
    of_source(ours, theirs, "query")
}

fn thread(ours: &mut Json, theirs: &mut Json) -> bool {
    of_source(ours, theirs, "thread")
}

fn json_blanks(ours: &mut Json, theirs: &mut Json) -> bool {
    let parsed = |json: &Json| serde_json::from_str::<Json>(json.as_str()?).ok();
    let blanks = |ours: &Json, theirs: &Json| {
        ours != theirs && parsed(ours).is_some_and(|ours| Some(ours) == parsed(theirs))
    };
    ["c_json", "payload"].map(|column| cells(ours, theirs, column, blanks)).contains(&true)
}

fn unrecorded_headers(ours: &mut Json, theirs: &mut Json) -> bool {
    let differs = theirs["headers"] == json!({}) && ours["headers"] != theirs["headers"];
    if differs {
        ours["headers"] = json!({});
    }
    differs
}
