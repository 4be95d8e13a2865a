//! PostgreSQL's text form of arrays: `{1,NULL,"a \"b\""}`, nested, with or without bounds.
//!
//! Source: PostgreSQL manual, "Arrays", section "Array Input and Output Syntax".

use crossdock_model::Value;

use super::value::Scalar;

/// PostgreSQL allows six dimensions (`MAXDIM`).
const DEPTH_MAX: u32 = 6;

/// Reads an array; `None` when the text is malformed or an element is not of its type.
pub(super) fn decode<'a>(bytes: &'a [u8], delimiter: u8, scalar: Scalar) -> Option<Value<'a>> {
    let start = match bytes.first()? {
        // Bounds other than 1 come first: `[0:2]={…}`. They do not change the elements.
        b'[' => bytes.iter().position(|b| *b == b'=')? + 1,
        _ => 0,
    };
    let mut input = Input { bytes: bytes.get(start..)?, at: 0, delimiter, scalar };
    let value = input.array(1)?;
    (input.at == input.bytes.len()).then_some(value)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    delimiter: u8,
    scalar: Scalar,
}

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn array(&mut self, depth: u32) -> Option<Value<'a>> {
        if self.next()? != b'{' || depth > DEPTH_MAX {
            return None;
        }
        let mut items = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(Value::Array(items));
        }
        loop {
            items.push(match self.peek()? {
                b'{' => self.array(depth + 1)?,
                b'"' => self.quoted()?,
                _ => self.bare()?,
            });
            match self.next()? {
                b'}' => return Some(Value::Array(items)),
                byte if byte == self.delimiter => {}
                _ => return None,
            }
        }
    }

    fn bare(&mut self) -> Option<Value<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|b| *b == self.delimiter || *b == b'}')?;
        let text = rest.get(..length)?;
        self.at += length;
        match text {
            b"" => None,
            b"NULL" => Some(Value::Null),
            // The server quotes every element with a backslash or a brace in it.
            _ if text.iter().any(|b| matches!(b, b'\\' | b'"' | b'{')) => None,
            _ => self.scalar.decode(text),
        }
    }

    fn quoted(&mut self) -> Option<Value<'a>> {
        self.at += 1;
        let rest = self.bytes.get(self.at..)?;
        let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        if rest.get(plain) == Some(&b'"') {
            self.at += plain + 1;
            return self.scalar.decode(rest.get(..plain)?);
        }
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return self.scalar.decode(&text).map(Value::into_owned),
                b'\\' => text.push(self.next()?),
                byte => text.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ints(values: &[i64]) -> Value<'static> {
        Value::Array(values.iter().map(|v| Value::Int(*v)).collect())
    }

    #[test]
    fn arrays_are_read() {
        let read = |text: &'static str| decode(text.as_bytes(), b',', Scalar::Int);
        assert_eq!(read("{}"), Some(ints(&[])));
        assert_eq!(read("{1,-2}"), Some(ints(&[1, -2])));
        assert_eq!(read("[0:1]={1,2}"), Some(ints(&[1, 2])));
        assert_eq!(read("{{1},{2}}"), Some(Value::Array(vec![ints(&[1]), ints(&[2])])));
        assert_eq!(read("{1,NULL}"), Some(Value::Array(vec![Value::Int(1), Value::Null])));
        for text in ["", "{", "{1", "{1,", "{1,}", "{,}", "{1}}", "1", "{a}", "{{{{{{{1}}}}}}}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn boxes_have_their_own_delimiter() {
        let text = b"{(1,1),(0,0);(2,2),(1,1)}";
        let boxes = ["(1,1),(0,0)", "(2,2),(1,1)"].map(|t| Value::Text(t.into()));
        assert_eq!(decode(text, b';', Scalar::Text), Some(Value::Array(boxes.to_vec())));
    }

    proptest! {
        #[test]
        fn texts_round_trip(texts in proptest::collection::vec(proptest::option::of(".{0,8}"), 0..5)) {
            let items: Vec<String> = texts.iter().map(|t| match t {
                None => "NULL".to_string(),
                Some(t) => format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\"")),
            }).collect();
            let wire = format!("{{{}}}", items.join(","));
            let expected = texts.into_iter()
                .map(|t| t.map_or(Value::Null, |t| Value::Text(t.into())))
                .collect();
            prop_assert_eq!(decode(wire.as_bytes(), b',', Scalar::Text), Some(Value::Array(expected)));
        }
    }
}
