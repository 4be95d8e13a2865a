//! The text of an hstore value.

use serde_json::{Map, Value as Json};

/// Reads `"k"=>"v", "n"=>NULL`; `None` when it is not that.
pub(super) fn parse(text: &str) -> Option<Map<String, Json>> {
    let mut map = Map::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let after = after.trim_start().strip_prefix("=>")?.trim_start();
        let (value, after) = match after.strip_prefix("NULL") {
            Some(after) => (Json::Null, after),
            None => {
                let (value, after) = quoted(after)?;
                (Json::from(value), after)
            }
        };
        map.insert(key, value);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => "",
            None => return None,
        };
    }
    Some(map)
}

/// A text in quotes, with what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut letters = body.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, body.get(at + 1..)?)),
            '\\' => out.push(letters.next()?.1),
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_become_maps() {
        for (text, map) in [
            ("", json!({})),
            (r#""k"=>"v", "n"=>NULL"#, json!({"k": "v", "n": null})),
            (r#""a\"b"=>"c\\d, e""#, json!({"a\"b": "c\\d, e"})),
            (r#""null"=>"NULL""#, json!({"null": "NULL"})),
        ] {
            assert_eq!(parse(text).map(Json::Object), Some(map), "{text}");
        }
        for text in ["x", r#""k""#, r#""k"=>"v" "n"=>NULL"#, r#""k"=>"v"#, "\"k\\"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
