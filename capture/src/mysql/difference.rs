//! JSON documents of which only differences were logged (`binlog_row_value_options=PARTIAL_JSON`).

use super::jsonb;
use super::wire::{Input, Malformed};

const DEPTH_MAX: u32 = 128;
const BAD: Malformed = Malformed("JSON difference that is not valid");
const ELSEWHERE: Malformed = Malformed("JSON difference to another document");

/// A document of which parts may be exchanged; texts and numbers stay as they were written.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Scalar(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// One step of a path.
enum Leg {
    Member(String),
    Element(usize),
}

/// The document that the differences make of `before`, both as the server prints them.
pub(super) fn apply(before: &str, differences: &[u8]) -> Result<String, Malformed> {
    let mut input = Input::new(differences);
    if input.is_empty() {
        return Ok(before.to_string());
    }
    let mut document = parse(before)?;
    while !input.is_empty() {
        let operation = input.u8()?;
        let path = std::str::from_utf8(input.lenenc_bytes()?).map_err(|_| BAD)?;
        let path = legs(path)?;
        let value = match operation {
            0 | 1 => Some(parse(&jsonb::to_text(input.lenenc_bytes()?)?)?),
            _ => None,
        };
        match (operation, value) {
            (0, Some(value)) => *document.at(&path)? = value,
            (1, Some(value)) => document.insert(&path, value)?,
            (2, None) => document.remove(&path)?,
            _ => return Err(BAD),
        }
    }
    let mut text = String::with_capacity(before.len());
    document.write(&mut text);
    Ok(text)
}

impl Node {
    fn at(&mut self, path: &[Leg]) -> Result<&mut Node, Malformed> {
        let mut node = self;
        for leg in path {
            node = match (node, leg) {
                (Node::Array(elements), Leg::Element(at)) => elements.get_mut(*at),
                (Node::Object(members), Leg::Member(name)) => {
                    members.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value)
                }
                _ => None,
            }
            .ok_or(ELSEWHERE)?;
        }
        Ok(node)
    }

    fn insert(&mut self, path: &[Leg], value: Node) -> Result<(), Malformed> {
        let (last, parents) = path.split_last().ok_or(BAD)?;
        match (self.at(parents)?, last) {
            (Node::Array(elements), Leg::Element(at)) => {
                elements.insert((*at).min(elements.len()), value);
            }
            (Node::Object(members), Leg::Member(name)) => {
                // The server sorts keys by length, then by bytes.
                let order = |key: &str| (key.len(), key.to_string());
                let at = members.partition_point(|(key, _)| order(key) < order(name));
                if members.get(at).is_some_and(|(key, _)| key == name) {
                    return Err(ELSEWHERE);
                }
                members.insert(at, (name.clone(), value));
            }
            _ => return Err(ELSEWHERE),
        }
        Ok(())
    }

    fn remove(&mut self, path: &[Leg]) -> Result<(), Malformed> {
        let (last, parents) = path.split_last().ok_or(BAD)?;
        match (self.at(parents)?, last) {
            (Node::Array(elements), Leg::Element(at)) if *at < elements.len() => {
                elements.remove(*at);
            }
            (Node::Object(members), Leg::Member(name)) => {
                let at = members.iter().position(|(key, _)| key == name).ok_or(ELSEWHERE)?;
                members.remove(at);
            }
            _ => return Err(ELSEWHERE),
        }
        Ok(())
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Scalar(text) => out.push_str(text),
            Node::Array(elements) => {
                out.push('[');
                for (i, element) in elements.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    element.write(out);
                }
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    jsonb::quoted(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn parse(text: &str) -> Result<Node, Malformed> {
    let mut rest = text;
    let node = node(&mut rest, 0)?;
    match rest.trim_start().is_empty() {
        true => Ok(node),
        false => Err(BAD),
    }
}

/// Takes `sign` away if it comes next.
fn ate(rest: &mut &str, sign: char) -> bool {
    match rest.trim_start().strip_prefix(sign) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

fn node(rest: &mut &str, depth: u32) -> Result<Node, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("JSON document nested too deeply"));
    }
    if ate(rest, '[') {
        let mut elements = Vec::new();
        while !ate(rest, ']') {
            if !elements.is_empty() && !ate(rest, ',') {
                return Err(BAD);
            }
            elements.push(node(rest, depth + 1)?);
        }
        return Ok(Node::Array(elements));
    }
    if ate(rest, '{') {
        let mut members = Vec::new();
        while !ate(rest, '}') {
            if !members.is_empty() && !ate(rest, ',') {
                return Err(BAD);
            }
            let key = serde_json::from_str(scalar(rest)?).map_err(|_| BAD)?;
            if !ate(rest, ':') {
                return Err(BAD);
            }
            members.push((key, node(rest, depth + 1)?));
        }
        return Ok(Node::Object(members));
    }
    Ok(Node::Scalar(scalar(rest)?.to_string()))
}

/// A text with its quotes, a number, or a word.
fn scalar<'a>(rest: &mut &'a str) -> Result<&'a str, Malformed> {
    let text = rest.trim_start();
    let end = match text.starts_with('"') {
        true => quoted_end(text).ok_or(BAD)?,
        false => text.find([',', ']', '}', ':', ' ']).unwrap_or(text.len()),
    };
    let (scalar, behind) = text.split_at_checked(end).ok_or(BAD)?;
    *rest = behind;
    match scalar.is_empty() {
        true => Err(BAD),
        false => Ok(scalar),
    }
}

/// Behind the closing quote of a text that begins with one.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The legs of a path such as `$.a[1]."b c"`.
fn legs(path: &str) -> Result<Vec<Leg>, Malformed> {
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut legs = Vec::new();
    while !rest.is_empty() {
        if legs.len() > DEPTH_MAX as usize {
            return Err(BAD);
        }
        if let Some(member) = rest.strip_prefix('.') {
            let end = match member.starts_with('"') {
                true => quoted_end(member).ok_or(BAD)?,
                false => member.find(['.', '[']).unwrap_or(member.len()),
            };
            let (name, behind) = member.split_at_checked(end).ok_or(BAD)?;
            legs.push(Leg::Member(match name.starts_with('"') {
                true => serde_json::from_str(name).map_err(|_| BAD)?,
                false => name.to_string(),
            }));
            rest = behind;
        } else {
            let element = rest.strip_prefix('[').ok_or(BAD)?;
            let (index, behind) = element.split_once(']').ok_or(BAD)?;
            legs.push(Leg::Element(index.trim().parse().map_err(|_| BAD)?));
            rest = behind;
        }
    }
    Ok(legs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Operation, path, and a document as binary JSON.
    fn difference(operation: u8, path: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![operation, path.len() as u8];
        bytes.extend(path.as_bytes());
        if operation != 2 {
            bytes.push(value.len() as u8);
            bytes.extend(value);
        }
        bytes
    }

    const TRUE: &[u8] = &[4, 1];

    #[test]
    fn differences_by_hand() {
        let before = "{\"a\": [1, 2.50, \"x, ]\\\"\"], \"b c\": {\"d\": null}}";
        let after = |d: Vec<u8>| apply(before, &d).unwrap();
        assert_eq!(apply(before, &[]).unwrap(), before);
        assert_eq!(
            after(difference(0, "$.a[1]", TRUE)),
            "{\"a\": [1, true, \"x, ]\\\"\"], \"b c\": {\"d\": null}}"
        );
        assert_eq!(after(difference(2, "$.a", &[])), "{\"b c\": {\"d\": null}}");
        assert_eq!(
            after([difference(1, "$.aa", TRUE), difference(2, "$.\"b c\".d", &[])].concat()),
            "{\"a\": [1, 2.50, \"x, ]\\\"\"], \"aa\": true, \"b c\": {}}"
        );
        assert_eq!(apply("[]", &difference(1, "$[0]", TRUE)).unwrap(), "[true]");
        assert_eq!(apply("[1]", &difference(1, "$[0]", TRUE)).unwrap(), "[true, 1]");
    }

    #[test]
    fn differences_to_other_documents_are_errors() {
        for (operation, path) in [(0, "$.x"), (2, "$[1]"), (1, "$"), (1, "$.a.b"), (3, "$.a")] {
            assert!(apply("{\"a\": 1}", &difference(operation, path, TRUE)).is_err(), "{path}");
        }
        assert!(apply("[1", &difference(0, "$[0]", TRUE)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_document_or_an_error(
            before in "[\\[\\]{}\",: \\\\a1]{0,40}",
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = apply(&before, &bytes);
        }
    }
}
