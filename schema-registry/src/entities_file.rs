//! Reads an entities file, and says everything that is wrong with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use crossdock_model::canonical::Name;
use crossdock_model::names::shared;
use crossdock_model::problem::line_of;
use crossdock_model::{Named, Problem, SourceText};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{Cast, Earlier, EntityDef, FieldType};

/// Larger files are refused unread.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Longer names do not fit where databases and metrics put them.
const NAME_BYTES_MAX: usize = 63;
/// Names with a meaning of their own in expressions (`rec.key`).
const RESERVED: [&str; 3] = ["key", "rec", "event_id"];

type Map = Named<EntityDef>;

/// Takes what is sound of `file` into `entities`; returns what is not.
pub(crate) fn read(file: &SourceText, entities: &mut Map) -> Vec<Problem> {
    let mut reader = Reader { file, problems: Vec::new() };
    if file.text.len() > FILE_BYTES_MAX {
        reader.problem(0..0, "the file is larger than 1 MiB".into(), "Divide it.");
        return reader.problems;
    }
    match DeTable::parse(&file.text) {
        Ok(table) => reader.file(table.get_ref(), entities),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            reader.problem(span, error.message().to_string(), "Correct the TOML syntax.");
        }
    }
    reader.problems.sort_by_key(|problem| problem.line);
    reader.problems
}

/// A field as it is written.
struct Field {
    name: Name,
    kind: FieldType,
    /// Earlier names.
    was: Vec<Name>,
    /// How it is computed from fields of earlier versions, or for those who read these.
    cast: Option<Cast>,
    at: Range<usize>,
}

/// What stands behind a field's name.
#[derive(Default)]
struct Written {
    kind: String,
    was: Vec<Name>,
    cast: Option<Cast>,
}

struct Reader<'f> {
    file: &'f SourceText,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, at: Range<usize>, what: String, remedy: &str) {
        let line = line_of(&self.file.text, at.start);
        let file = self.file.file.clone();
        self.problems.push(Problem { file, line, what, remedy: remedy.into() });
    }

    fn file(&mut self, table: &DeTable<'_>, entities: &mut Map) {
        for (key, value) in table {
            match (&**key.get_ref(), value.get_ref()) {
                ("entity", DeValue::Table(named)) => {
                    for (name, block) in named {
                        self.entity(name, block, entities);
                    }
                }
                (other, _) => {
                    let what = format!("unknown key `{other}`");
                    self.problem(key.span(), what, "An entities file has [entity.NAME] blocks.");
                }
            }
        }
    }

    fn entity(
        &mut self,
        name: &Spanned<Cow<'_, str>>,
        block: &Spanned<DeValue<'_>>,
        entities: &mut Map,
    ) {
        let DeValue::Table(block_table) = block.get_ref() else {
            let what = format!("`entity.{}` is not a table", name.get_ref());
            return self.problem(name.span(), what, "Write [entity.NAME] with prefix and key.");
        };
        self.name(name.get_ref(), name.span(), "entity");
        let get = |key: &str| block_table.iter().find(|(k, _)| k.get_ref() == key);
        let fields = get("fields").map(|(_, v)| self.fields(name.get_ref(), v, "up"));
        let earlier = get("earlier").map(|(_, v)| self.fields(name.get_ref(), v, "down"));
        let prefix = get("prefix").and_then(|(_, v)| self.text(v).map(|t| (t, v.span())));
        let key = get("key").map(|(_, v)| (self.texts(v), v.span()));
        let known = entities.get(&**name.get_ref()).cloned();
        let mut def = match known {
            Some(def) => self.kept(def, &prefix, &key),
            None => self.made(name, prefix, key.as_ref().map(|(k, _)| k), entities),
        };
        for Field { name: field, kind, was, cast, at } in fields.unwrap_or_default() {
            if !was.is_empty() {
                def.was.insert(field.clone(), was);
            }
            if let Some(cast) = cast {
                def.up.insert(field.clone(), cast);
            }
            match def.fields.get(&field) {
                Some(old) if *old != kind => {
                    let what = format!("field `{field}` of `{}` is {old} already", def.name);
                    self.problem(at, what, "Use another name: a field never changes its type.");
                }
                Some(_) => {}
                None => drop(def.fields.insert(field, kind)),
            }
        }
        self.earlier(&mut def, earlier.unwrap_or_default());
        self.earlier_names(&def, name.span());
        if let Some((key, span)) = key {
            for part in key.iter().filter(|part| !def.fields.contains_key(*part)) {
                let what = format!("key field `{part}` is not among the fields of `{}`", def.name);
                self.problem(span.clone(), what, "Add it below [entity.NAME.fields].");
            }
        }
        for (key, _) in block_table {
            if !matches!(&**key.get_ref(), "prefix" | "key" | "fields" | "earlier") {
                let what = format!("unknown key `{}` in entity `{}`", key.get_ref(), def.name);
                self.problem(key.span(), what, "An entity has prefix, key, fields and earlier.");
            }
        }
        entities.insert(def.name.clone(), def);
    }

    /// Fields that there are no more.
    fn earlier(&mut self, def: &mut EntityDef, fields: Vec<Field>) {
        for Field { name, kind, was, cast, at } in fields {
            if def.fields.contains_key(&name) {
                let what = format!("`{name}` is still a field of `{}`", def.name);
                self.problem(at.clone(), what, "Take it out here, or among the fields.");
            }
            if !was.is_empty() {
                let what = format!("`{name}` is no field any more, and cannot have been another");
                self.problem(at, what, "Take `was` out.");
            }
            def.earlier.insert(name, Earlier { kind, down: cast });
        }
    }

    /// An earlier name that is still one cannot be told from it.
    fn earlier_names(&mut self, def: &EntityDef, at: Range<usize>) {
        for (field, was) in &def.was {
            for old in was.iter().filter(|old| def.fields.contains_key(*old)) {
                let written = self.file.text.find(&format!("{field} =")).unwrap_or(at.start);
                let what = format!("`{field}` was `{old}`, which is still a field");
                self.problem(written..written, what, "Take the old field out, or the old name.");
            }
        }
    }

    /// An entity that exists: its identity must be repeated as it is, or not at all.
    fn kept(
        &mut self,
        def: EntityDef,
        prefix: &Option<(Name, Range<usize>)>,
        key: &Option<(Vec<Name>, Range<usize>)>,
    ) -> EntityDef {
        if let Some((prefix, at)) = prefix.as_ref().filter(|(p, _)| *p != def.prefix) {
            let what = format!("entity `{}` has prefix `{}`, not `{prefix}`", def.name, def.prefix);
            self.problem(at.clone(), what, "Leave the prefix out: keys must stay as they are.");
        }
        if let Some((_, at)) = key.as_ref().filter(|(k, _)| *k != def.key) {
            let what = format!("entity `{}` has another key: {}", def.name, def.key.join(", "));
            self.problem(at.clone(), what, "Leave the key out: keys must stay as they are.");
        }
        def
    }

    /// A new entity.
    fn made(
        &mut self,
        name: &Spanned<Cow<'_, str>>,
        prefix: Option<(Name, Range<usize>)>,
        key: Option<&Vec<Name>>,
        entities: &Map,
    ) -> EntityDef {
        let text = name.get_ref();
        match &prefix {
            None => {
                let what = format!("entity `{text}` has no prefix");
                self.problem(name.span(), what, "Add prefix = \"abc\".");
            }
            Some((prefix, at)) => {
                if let Some(other) = entities.values().find(|e| e.prefix == *prefix) {
                    let what = format!("prefix `{prefix}` is that of entity `{}`", other.name);
                    self.problem(at.clone(), what, "Take one that no other entity has.");
                }
                let letters = prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                if !letters || !(2..=8).contains(&prefix.len()) {
                    let what = format!("`{prefix}` cannot be a prefix");
                    self.problem(at.clone(), what, "Use 2 to 8 lower-case letters or digits.");
                }
            }
        }
        if key.is_none_or(Vec::is_empty) {
            let what = format!("entity `{text}` has no key");
            self.problem(name.span(), what, "Add key = [\"FIELD\", ...], its natural key.");
        }
        EntityDef {
            name: shared(text),
            prefix: prefix.map_or_else(|| Name::from(""), |(p, _)| p),
            key: key.cloned().unwrap_or_default(),
            fields: Named::new(),
            was: BTreeMap::new(),
            up: BTreeMap::new(),
            earlier: BTreeMap::new(),
        }
    }

    /// Fields with their types; `cast` is the word for an expression of theirs.
    fn fields(&mut self, entity: &str, value: &Spanned<DeValue<'_>>, cast: &str) -> Vec<Field> {
        let DeValue::Table(table) = value.get_ref() else {
            let what = format!("the fields of `{entity}` are not a table");
            self.problem(value.span(), what, "Write lines such as weight = \"decimal\".");
            return Vec::new();
        };
        let mut fields = Vec::with_capacity(table.len());
        for (name, kind) in table {
            let sound = self.name(name.get_ref(), name.span(), "field");
            let written = self.written(kind, cast);
            match FieldType::parse(&written.kind) {
                Some(kind) if sound => {
                    let (name, at) = (shared(name.get_ref()), name.span());
                    fields.push(Field { name, kind, was: written.was, cast: written.cast, at });
                }
                Some(_) => {}
                None => {
                    let what = format!("field `{}` has no known type", name.get_ref());
                    let remedy = "Use text, integer, decimal, boolean, date, instant or json.";
                    self.problem(kind.span(), what, remedy);
                }
            }
        }
        fields
    }

    /// `"decimal"`, or `{ type = "decimal", was = ["weight"], up = "..." }`.
    fn written(&mut self, value: &Spanned<DeValue<'_>>, cast: &str) -> Written {
        let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().unwrap_or("").into();
        let mut written = Written::default();
        let DeValue::Table(table) = value.get_ref() else {
            return Written { kind: text(value), ..written };
        };
        for (key, value) in table {
            match &**key.get_ref() {
                "type" => written.kind = text(value),
                "was" => written.was = self.texts(value),
                word if word == cast => {
                    written.cast = self.text(value).map(|expr| Cast {
                        expr: expr.to_string(),
                        file: self.file.file.as_str().into(),
                        line: line_of(&self.file.text, value.span().start),
                    });
                }
                other => {
                    let what = format!("unknown key `{other}`");
                    let remedy = "A field has type, was (its old names) and up (an expression over \
                                  `old`); one among the earlier ones type and down (over `rec`).";
                    self.problem(key.span(), what, remedy);
                }
            }
        }
        written
    }

    /// Reports a name that cannot be one; true when it can.
    fn name(&mut self, name: &str, at: Range<usize>, of: &str) -> bool {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if RESERVED.contains(&name) {
            let what = format!("`{name}` has a meaning of its own and cannot be a {of}");
            self.problem(at, what, "Use another name.");
            return false;
        }
        if !first || !rest || name.len() > NAME_BYTES_MAX {
            let what = format!("`{name}` cannot be the name of a {of}");
            let remedy = "Use lower-case letters, digits and _, a letter first, 63 at most.";
            self.problem(at, what, remedy);
            return false;
        }
        true
    }

    fn text(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Name> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.problem(value.span(), "this is not a text".into(), "Put it in quotes.");
        }
        text.map(shared)
    }

    fn texts(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Name> {
        let DeValue::Array(items) = value.get_ref() else {
            let what = "this is not a list of texts".into();
            self.problem(value.span(), what, "Write [\"FIELD\", ...].");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.text(item)).collect()
    }
}
