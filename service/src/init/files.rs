//! The texts of a first config, mapping file and ownership file.

use std::fmt::Write;

use crossdock_model::database::DatabaseKind;

use super::guess::{Draft, From, Link, Mapped};
use super::place::Place;

/// Tables that are captured without being mapped, when nothing was recognised.
const UNMAPPED_MAX: usize = 20;

/// A file to be written, by its path beside the config.
pub type File = (String, String);

/// All files.
pub fn files(name: &str, source: &Place, store: &Place, draft: &Draft) -> Vec<File> {
    let mut all = vec![("crossdock.toml".to_string(), config(name, source, store, draft))];
    if !draft.mapped.is_empty() {
        all.push((format!("mappings/{name}.toml"), mapping(name, draft)));
        all.push(("rules/10-ownership.toml".to_string(), ownership(name, draft)));
    }
    all
}

fn config(name: &str, source: &Place, store: &Place, draft: &Draft) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line("# Written by `crossdock init`. Look it over, then: crossdock check".into());
    line("[crossdock]".into());
    line(format!("name = {}                 # of this installation", quoted(name)));
    line(String::new());
    line(
        "[store]                         # PostgreSQL: canonical records, history, exceptions"
            .into(),
    );
    place(&mut line, store, false);
    line(String::new());
    line(format!("[source.{name}]"));
    place(&mut line, source, true);
    if draft.mapped.is_empty() {
        let tables = draft.left.iter().take(UNMAPPED_MAX);
        let tables: Vec<String> = tables.map(|(table, _)| quoted(&table.to_string())).collect();
        line(
            "# No table was recognised. These are captured as they are; map them in mappings/."
                .into(),
        );
        line(format!("tables = [{}]", tables.join(", ")));
    }
    out
}

fn place(line: &mut impl FnMut(String), place: &Place, kind: bool) {
    if kind {
        line(format!("kind = {}", quoted(word(place.kind))));
    }
    line(format!("host = {}", quoted(&place.host)));
    line(format!("port = {}", place.port));
    line(format!("database = {}", quoted(&place.database)));
    line(format!("user = {}", quoted(&place.user)));
    line(format!("password_env = {}", quoted(&place.password_env)));
}

fn word(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Postgres => "postgres",
        DatabaseKind::Mysql => "mysql",
        DatabaseKind::Mariadb => "mariadb",
    }
}

fn mapping(name: &str, draft: &Draft) -> String {
    let mut out = String::from(
        "# Written by `crossdock init` from the database's catalog: guesses by names, types and\n\
         # foreign keys. Correct what is wrong; what each line means: docs/mapping-and-rules.md\n",
    );
    put(&mut out, &format!("source = {}", quoted(name)));
    let zoneless = draft.mapped.iter().flat_map(|m| m.zoneless.iter().map(move |c| (m, c)));
    let zoneless: Vec<String> = zoneless.map(|(m, c)| format!("{}.{c}", m.table)).collect();
    if !zoneless.is_empty() {
        put(
            &mut out,
            "# timezone = \"Europe/Berlin\"     # of times without a zone; UTC without it:",
        );
        zoneless.iter().for_each(|column| put(&mut out, &format!("#   {column}")));
    }
    for table in &draft.mapped {
        put(&mut out, "");
        table_block(&mut out, table);
    }
    if !draft.left.is_empty() {
        put(&mut out, "\n# Not mapped:");
    }
    for (table, why) in &draft.left {
        put(&mut out, &format!("#   {table}: {why}"));
    }
    out
}

fn table_block(out: &mut String, mapped: &Mapped) {
    put(out, "[[table]]");
    put(out, &format!("table = {}", quoted(&mapped.table.to_string())));
    put(out, &format!("entity = {}", quoted(&mapped.entity)));
    for (name, lookup) in &mapped.lookups {
        let (table, key) = (quoted(&lookup.table.to_string()), quoted(&lookup.key));
        put(out, &format!("lookup.{name} = {{ table = {table}, key = {key} }}"));
    }
    put(out, "\n[table.fields]");
    for (field, from) in &mapped.fields {
        let remark = match from {
            From::Constant(_) => "     # part of the key: this system has no column for it",
            _ if mapped.doubtful.contains(field) => {
                "     # part of the key: is there a better one?"
            }
            _ => "",
        };
        put(out, &format!("{field} = {}{remark}", value(from)));
    }
    if !mapped.left.is_empty() {
        put(out, &format!("# not mapped: {}", mapped.left.join(", ")));
    }
    if !mapped.links.is_empty() {
        put(out, "\n[table.links]");
    }
    for (name, Link { entity, key }) in &mapped.links {
        let of = (name != entity).then(|| format!("entity = {}", quoted(entity)));
        let key = key.iter().map(|(field, from)| format!("{field} = {}", value(from)));
        let parts: Vec<String> = of.into_iter().chain(key).collect();
        put(out, &format!("{name} = {{ {} }}", parts.join(", ")));
    }
}

fn value(from: &From) -> String {
    match from {
        From::Column(column) => quoted(column),
        From::Lookup(lookup, column) => quoted(&format!("{lookup}.{column}")),
        From::Constant(value) => format!("{{ value = {} }}", quoted(value)),
    }
}

fn ownership(name: &str, draft: &Draft) -> String {
    let mut out = String::from(
        "# Written by `crossdock init`: so far one system says everything. Once another one has\n\
         # the same fields, say here who owns which: crossdock rules matrix shows it.\n\
         [ruleset]\nname = \"ownership\"\nversion = 1\n\n\
         [defaults]\non_violation = \"quarantine\"       # ignore | quarantine | revert | accept\n",
    );
    for mapped in &draft.mapped {
        put(&mut out, &format!("\n[entity.{}]\nowner = {}", mapped.entity, quoted(name)));
    }
    out
}

fn put(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}
