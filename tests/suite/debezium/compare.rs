//! Event by event: what varies is masked, what differs on purpose is evened out, the rest must
//! be the same text, order of fields included.

use std::collections::BTreeSet;

use serde_json::Value as Json;

/// A difference on purpose; see `docs/debezium.md` for the reasons.
pub struct Difference {
    /// Its heading in the documentation.
    pub name: &'static str,
    /// Evens it out in ours and theirs; true when it was there.
    pub even: fn(&mut Json, &mut Json) -> bool,
}

/// Compares files and remembers which differences have occurred.
pub struct Comparison {
    differences: &'static [Difference],
    seen: BTreeSet<&'static str>,
    failures: Vec<String>,
}

impl Comparison {
    pub fn new(differences: &'static [Difference]) -> Self {
        Self { differences, seen: BTreeSet::new(), failures: Vec::new() }
    }

    pub fn file(&mut self, file: &str, ours: Vec<Json>, theirs: Vec<Json>) {
        let before = self.failures.len();
        // A change of schema is an event of its own for MySQL and MariaDB: not here.
        let theirs: Vec<Json> =
            theirs.into_iter().filter(|event| event["destination"] != "o").collect();
        if ours.len() != theirs.len() {
            self.failures.push(format!("{file}: {} events, not {}", ours.len(), theirs.len()));
        }
        for (n, (mut ours, mut theirs)) in ours.into_iter().zip(theirs).enumerate() {
            mask(&mut ours);
            mask(&mut theirs);
            even_floats(&mut ours, &theirs);
            for difference in self.differences {
                if (difference.even)(&mut ours, &mut theirs) {
                    self.seen.insert(difference.name);
                }
            }
            let (our_text, their_text) = (ours.to_string(), theirs.to_string());
            if our_text != their_text {
                let at = where_they_part("", &ours, &theirs);
                self.failures.push(format!("{file}:{}: {at}", n + 1));
            }
        }
        let failed = self.failures.len() - before;
        eprintln!(
            "{file}: {}",
            if failed == 0 { "same".into() } else { format!("{failed} differ") }
        );
    }

    pub fn finish(&self) {
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
        let page = include_str!("../../../docs/debezium.md");
        for difference in self.differences {
            let name = difference.name;
            assert!(self.seen.contains(name), "never occurred: {name}");
            assert!(page.contains(&format!("| {name} |")), "not in docs/debezium.md: {name}");
        }
    }
}

/// Replaces what differs from run to run, but for nulls.
fn mask(event: &mut Json) {
    let transaction = event["destination"] == "o.transaction";
    each_object(event, &mut |path, name, value| {
        let of_run = matches!(
            name,
            "ts_ms"
                | "ts_us"
                | "ts_ns"
                | "lsn"
                | "sequence"
                | "txId"
                | "gtid"
                | "file"
                | "pos"
                | "server_id"
                | "__lsn"
                | "__source_ts_ms"
        );
        let named = match name {
            "version" => path.ends_with("source"),
            "id" => transaction || path.ends_with("transaction"),
            "__debezium.context.runId" => true,
            _ => of_run && !path.contains("schema"),
        };
        let schema = path.contains("schema");
        if named && !schema && !value.is_null() && !value.is_object() {
            *value = Json::from("masked");
        }
        if name == "__debezium.context.runId" && value.is_object() {
            value["payload"] = Json::from("masked");
        }
    });
}

/// The JSON reader may be a unit in the last place off, depending on how a number is written
/// (`-1.0E30`, `-1e+30`): such numbers are the same.
fn even_floats(ours: &mut Json, theirs: &Json) {
    match (ours, theirs) {
        (Json::Object(ours), Json::Object(theirs)) => {
            for (name, value) in ours {
                if let Some(other) = theirs.get(name) {
                    even_floats(value, other);
                }
            }
        }
        (ours @ Json::Number(_), Json::Number(_)) if ours.is_f64() && theirs.is_f64() => {
            let (a, b) = (ours.as_f64().unwrap_or(0.0), theirs.as_f64().unwrap_or(1.0));
            if a.to_bits().abs_diff(b.to_bits()) <= 1 {
                *ours = theirs.clone();
            }
        }
        _ => {}
    }
}

/// Calls `each` for every field of every object: path of the object, name, value.
pub fn each_object(json: &mut Json, each: &mut dyn FnMut(&str, &str, &mut Json)) {
    fn walk(path: &str, json: &mut Json, each: &mut dyn FnMut(&str, &str, &mut Json)) {
        match json {
            Json::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    each(path, name, value);
                    walk(&format!("{path}.{name}"), value, each);
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| walk(path, item, each)),
            _ => {}
        }
    }
    walk("", json, each);
}

/// The first places where two events differ, for the message.
fn where_they_part(path: &str, ours: &Json, theirs: &Json) -> String {
    match (ours, theirs) {
        (Json::Object(a), Json::Object(b)) => {
            let names = |map: &serde_json::Map<String, Json>| {
                map.keys().cloned().collect::<Vec<String>>().join(",")
            };
            let mut found = Vec::new();
            if names(a) != names(b) {
                found.push(format!("{path}: fields {} not {}", names(a), names(b)));
            }
            for (name, value) in a {
                let text = value.to_string();
                if let Some(other) = b.get(name).filter(|o| format!("{o}") != text) {
                    found.push(where_they_part(&format!("{path}.{name}"), value, other));
                }
            }
            found.join("; ")
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            let differing = pairs.filter(|(_, (x, y))| x.to_string() != y.to_string());
            let texts = differing.map(|(i, (x, y))| where_they_part(&format!("{path}[{i}]"), x, y));
            texts.collect::<Vec<_>>().join("; ")
        }
        _ => format!("{path}: {ours} not {theirs}"),
    }
}
