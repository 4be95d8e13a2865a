//! Records as a person wrote them down, step by step: each step says what becomes different, and
//! the store must hold exactly what all steps up to it have said. A record, field, link, piece of
//! evidence or open exception that nobody wrote down is a difference, too.
//!
//! `${name}` is what the driver calls so. A field `"now"` is a point in time within the step; from
//! then on it may not change. A field `""` has no value any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use crossdock_tests::Crossdock;
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::driver::Told;
use crate::store::{Contents, Record};

/// Clocks of servers and of this program are one, but a commit may wait.
const SLACK: Duration = Duration::from_secs(2);

/// The file, and what it has come to so far.
pub struct Expected {
    steps: Vec<Table>,
    folds: Vec<Table>,
    source: String,
    taken: usize,
    vars: BTreeMap<String, String>,
    now: Contents,
}

/// When a step was taken.
pub struct Moment {
    /// It began.
    pub from: SystemTime,
    /// All of it has arrived.
    pub to: SystemTime,
}

impl Expected {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut file: Table = text.parse().with_context(|| path.display().to_string())?;
        let steps = tables(file.remove("step"))?;
        let folds = tables(file.remove("fold"))?;
        let source = file.get("source").and_then(Value::as_str).context("`source`")?.to_string();
        let (vars, now) = (BTreeMap::new(), Contents::default());
        Ok(Self { steps, folds, source, taken: 0, vars, now })
    }

    /// Takes the next step and says what is different in the store.
    pub fn compare(&mut self, told: &Told, is: &Contents, moment: &Moment) -> Result<Vec<String>> {
        let step = self.steps.get(self.taken).context("more steps than expected")?.clone();
        self.taken += 1;
        let name = step.get("name").and_then(Value::as_str).unwrap_or_default();
        if name != told.name {
            bail!("step {} came instead of {name}", told.name);
        }
        self.vars.extend(told.vars.clone());
        let before = std::mem::take(&mut self.now);
        self.now = self.after(&step, before.clone(), is, moment)?;
        let mut found = different(&self.now, is);
        for (key, count) in entries(&step, "versions")? {
            let key = self.filled(key)?;
            let version = |c: &Contents| c.records.get(&key).map_or(0, |r| r.version);
            let grown = version(is) - version(&before);
            if count.as_integer() != Some(grown) {
                found.push(format!("{key} has {grown} new versions, expected {count}"));
            }
        }
        // What has been reported is not reported again.
        self.now = is.clone();
        Ok(found.into_iter().map(|line| format!("[{name}] {line}")).collect())
    }

    /// Steps that the driver did not take.
    pub fn not_taken(&self) -> Vec<String> {
        let rest = self.steps.iter().skip(self.taken);
        rest.map(|step| format!("step {:?} was not taken", step.get("name"))).collect()
    }

    /// Rows that the system is known to change often in one transaction: that it did.
    pub fn compare_folds(&self, crossdock: &Crossdock) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for fold in &self.folds {
            let text = |name: &str| fold.get(name).and_then(Value::as_str).unwrap_or_default();
            let table = text("table");
            let arguments =
                ["events", "--source", &self.source, "--format", "json", "--tables", table];
            let output = crossdock.run(&arguments)?;
            let lines = String::from_utf8(output.stdout)?;
            let mut changes: BTreeMap<(String, String), i64> = BTreeMap::new();
            for line in lines.lines() {
                let event: Json = serde_json::from_str(line)?;
                if event["table"] == table && event["op"] == "u" {
                    let row = event["after"][text("key")].to_string();
                    *changes.entry((event["transaction"].to_string(), row)).or_default() += 1;
                }
            }
            let most = changes.values().max().copied().unwrap_or_default();
            let wanted = fold.get("updates").and_then(Value::as_integer).unwrap_or_default();
            println!("{table}: one row changed up to {most} times in one transaction");
            if most < wanted {
                differences.push(format!("{table}: no row changed {wanted} times at once"));
            }
        }
        Ok(differences)
    }

    /// What must be there after a step.
    fn after(
        &self,
        step: &Table,
        mut now: Contents,
        is: &Contents,
        moment: &Moment,
    ) -> Result<Contents> {
        for (key, fields) in entries(step, "records")? {
            let key = self.filled(key)?;
            let empty = || Record { version: 0, fields: BTreeMap::new(), links: BTreeMap::new() };
            let record = now.records.entry(key.clone()).or_insert_with(empty);
            for (field, value) in fields.as_table().context("fields of a record")? {
                if let Some(links) = value.as_table() {
                    for (name, to) in links {
                        let to = self.filled(to.as_str().context("the key of a link")?)?;
                        record.links.insert(name.clone(), to);
                    }
                    continue;
                }
                let seen = is.records.get(&key).and_then(|r| r.fields.get(field));
                match self.value(value, seen, moment)? {
                    Some(value) => record.fields.insert(field.clone(), value),
                    None => record.fields.remove(field),
                };
            }
        }
        for key in texts(step, "gone") {
            now.records.remove(&self.filled(key)?);
        }
        for (key, kinds) in entries(step, "evidence")? {
            let kinds = kinds.as_array().context("a list of kinds of evidence")?;
            let kinds = kinds.iter().filter_map(Value::as_str).map(str::to_string);
            now.evidence.entry(self.filled(key)?).or_default().extend(kinds);
        }
        if step.contains_key("exceptions") {
            let open = texts(step, "exceptions").into_iter().map(|text| self.filled(text));
            now.exceptions = open.collect::<Result<BTreeSet<_>>>()?;
        }
        Ok(now)
    }

    /// A value as JSON; `None` for none.
    fn value(&self, value: &Value, seen: Option<&Json>, moment: &Moment) -> Result<Option<Json>> {
        let text = match value {
            Value::String(text) => self.filled(text)?,
            Value::Integer(number) => return Ok(Some((*number).into())),
            Value::Boolean(value) => return Ok(Some((*value).into())),
            other => bail!("a value cannot be {other}"),
        };
        Ok(match text.as_str() {
            "" => None,
            "now" => {
                let within = |seen: &&Json| seen.as_str().is_some_and(|t| is_within(t, moment));
                Some(seen.filter(within).cloned().unwrap_or_else(|| "now".into()))
            }
            _ => Some(text.into()),
        })
    }

    /// A text with the driver's names filled in.
    fn filled(&self, text: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').context("`${` without `}`")?;
            let value = self.vars.get(name).with_context(|| format!("nobody said {name}"))?;
            filled.push_str(before);
            filled.push_str(value);
            rest = after;
        }
        Ok(filled + rest)
    }
}

/// Whether a point in time, as the store writes it, lies within a step.
fn is_within(text: &str, moment: &Moment) -> bool {
    let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let from = since(moment.from).saturating_sub(SLACK).as_secs();
    let to = since(moment.to).saturating_add(SLACK).as_secs();
    seconds(text).is_some_and(|at| (from..=to).contains(&at))
}

/// Seconds since 1970 of `2026-11-23T08:00:00Z`, whatever follows the seconds.
fn seconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !text.ends_with('Z') || year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    // Days by the rule of the Gregorian calendar, in years that begin with March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn different(should: &Contents, is: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    let keys: BTreeSet<_> = should.records.keys().chain(is.records.keys()).collect();
    for key in keys {
        match (should.records.get(key), is.records.get(key)) {
            (Some(_), None) => found.push(format!("{key} is missing")),
            (None, Some(record)) => found.push(format!("{key} is not expected: {record:?}")),
            (Some(should), Some(is)) => {
                differing(key, &should.fields, &is.fields, &mut found);
                differing(key, &should.links, &is.links, &mut found);
            }
            (None, None) => {}
        }
    }
    let keys: BTreeSet<_> = should.evidence.keys().chain(is.evidence.keys()).collect();
    for key in keys {
        let (should, is) = (should.evidence.get(key), is.evidence.get(key));
        if should != is {
            found.push(format!("evidence about {key} is {is:?}, expected {should:?}"));
        }
    }
    if should.exceptions != is.exceptions {
        let (is, should) = (&is.exceptions, &should.exceptions);
        found.push(format!("open exceptions are {is:?}, expected {should:?}"));
    }
    found.extend(is.parked.iter().map(|row| format!("{row} waits for a row that never came")));
    found
}

fn differing<V: PartialEq + std::fmt::Debug>(
    key: &str,
    should: &BTreeMap<String, V>,
    is: &BTreeMap<String, V>,
    found: &mut Vec<String>,
) {
    let names: BTreeSet<_> = should.keys().chain(is.keys()).collect();
    for name in names {
        let (should, is) = (should.get(name), is.get(name));
        if should != is {
            found.push(format!("{key}: {name} is {is:?}, expected {should:?}"));
        }
    }
}

fn tables(value: Option<Value>) -> Result<Vec<Table>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    value.try_into().context("a list of tables")
}

fn entries<'s>(step: &'s Table, name: &str) -> Result<Vec<(&'s String, &'s Value)>> {
    let Some(value) = step.get(name) else { return Ok(Vec::new()) };
    Ok(value.as_table().with_context(|| format!("`{name}` is no table"))?.iter().collect())
}

fn texts<'s>(step: &'s Table, name: &str) -> Vec<&'s str> {
    let list = step.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_counted_from_1970() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2024-02-29T23:59:59.999999Z"), Some(1_709_251_199));
        assert_eq!(seconds("2026-11-23T08:00:00Z"), Some(1_795_420_800));
        assert_eq!(seconds("2026-11-23"), None);
        assert_eq!(seconds("now"), None);
    }
}
