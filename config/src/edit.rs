//! Changes that commands make to the config file, with everything else left as it was written.

use crossdock_model::TableName;
use toml_edit::{Array, DocumentMut, Item, Value};

/// The text of a config file with a table added to the list `tables` of `[source.NAME]`; comments
/// and layout stay.
///
/// # Errors
/// Why the text cannot be changed, without any of its settings.
pub fn with_table(text: &str, source: &str, table: &TableName) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| e.message().to_string())?;
    let section = document
        .get_mut("source")
        .and_then(|sources| sources.get_mut(source))
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| format!("there is no section [source.{source}]"))?;
    let tables = section.entry("tables").or_insert(Item::Value(Value::Array(Array::new())));
    let tables = tables.as_array_mut().ok_or("`tables` is not a list")?;
    // Variables are replaced in this list: `${` must stay what it is.
    push(tables, &table.to_string().replace("${", "$${"));
    Ok(document.to_string())
}

/// Adds a text at the end of a list, on a line of its own where the last one has one.
fn push(list: &mut Array, text: &str) {
    let last = list.len().checked_sub(1).and_then(|last| list.get_mut(last));
    let Some(decor) = last.map(Value::decor_mut) else {
        list.push(text);
        return;
    };
    let before = decor.prefix().and_then(|p| p.as_str()).unwrap_or("").to_string();
    let Some((_, indent)) = before.rsplit_once('\n') else {
        list.push(text);
        return;
    };
    // What stands between the last item and the bracket: a comment on its line belongs to it.
    let mut behind = decor.suffix().and_then(|s| s.as_str()).unwrap_or("").to_string();
    decor.set_suffix("");
    behind.push_str(list.trailing().as_str().unwrap_or(""));
    let (comment, rest) = behind.split_once('\n').unwrap_or((&behind, ""));
    let mut item = Value::from(text);
    item.decor_mut().set_prefix(format!("{comment}\n{indent}"));
    list.push_formatted(item);
    list.set_trailing_comma(true);
    list.set_trailing(format!("\n{rest}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(tables: &str) -> String {
        let text =
            format!("# Ours.\n[source.erp]\nkind = \"postgres\" # 17\n{tables}\n\n[store]\n");
        let table = TableName::new("public", "lines");
        let text = with_table(&text, "erp", &table).unwrap();
        let rest = text.strip_prefix("# Ours.\n[source.erp]\nkind = \"postgres\" # 17\n").unwrap();
        rest.strip_suffix("\n[store]\n").unwrap().to_string()
    }

    #[test]
    fn the_rest_of_the_file_stays() {
        assert_eq!(added(""), "tables = [\"public.lines\"]\n\n");
        assert_eq!(added("tables = []"), "tables = [\"public.lines\"]\n");
        assert_eq!(
            added("tables = [\"public.orders\"] # more"),
            "tables = [\"public.orders\", \"public.lines\"] # more\n"
        );
        let expected = "tables = [\n  # the first\n  \"a.b\",\n  \"c.d\", # the last\n  \
                        \"public.lines\",\n]\n";
        let lines = "tables = [\n  # the first\n  \"a.b\",\n  \"c.d\"";
        assert_eq!(added(&format!("{lines}, # the last\n]")), expected);
        assert_eq!(added(&format!("{lines} # the last\n]")), expected);
        assert_eq!(
            added("tables = [\n  \"a.b\"]"),
            "tables = [\n  \"a.b\",\n  \"public.lines\",\n]\n"
        );
    }

    #[test]
    fn what_cannot_be_changed_is_said() {
        let table = TableName::new("public", "lines");
        let add = |text| with_table(text, "erp", &table).unwrap_err();
        assert_eq!(add("[source.wms]\n"), "there is no section [source.erp]");
        assert_eq!(add("[source.erp]\ntables = 1\n"), "`tables` is not a list");
        assert!(!add("[source.erp]\npassword = s3cret").contains("s3cret"));
    }
}
