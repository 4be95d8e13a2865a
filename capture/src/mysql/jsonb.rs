//! MySQL's binary JSON becomes JSON text.

use std::fmt::Write as _;

use crossdock_model::Value;

use super::wire::{Input, Malformed};

const DEPTH_MAX: u32 = 128;
const BAD: Malformed = Malformed("binary JSON that is not valid");

/// Text of a stored document. An empty one is what the server stores for a lost value: `null`.
pub(super) fn to_text(stored: &[u8]) -> Result<String, Malformed> {
    let mut out = String::with_capacity(stored.len());
    match stored.split_first() {
        None => out.push_str("null"),
        Some((kind, body)) => value(*kind, body, &mut out, 0)?,
    }
    Ok(out)
}

fn value(kind: u8, body: &[u8], out: &mut String, depth: u32) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("binary JSON nested too deeply"));
    }
    let mut input = Input::new(body);
    match kind {
        0x00 => container(body, false, true, out, depth)?,
        0x01 => container(body, false, false, out, depth)?,
        0x02 => container(body, true, true, out, depth)?,
        0x03 => container(body, true, false, out, depth)?,
        0x04 => literal(input.u8()?, out)?,
        0x05 => push(out, format_args!("{}", input.u16()? as i16)),
        0x06 => push(out, format_args!("{}", input.u16()?)),
        0x07 => push(out, format_args!("{}", input.u32()? as i32)),
        0x08 => push(out, format_args!("{}", input.u32()?)),
        0x09 => push(out, format_args!("{}", input.u64()? as i64)),
        0x0a => push(out, format_args!("{}", input.u64()?)),
        0x0b => double(f64::from_le_bytes(input.array()?), out),
        0x0c => {
            let length = varlen(&mut input)?;
            quoted(std::str::from_utf8(input.take(length)?).map_err(|_| BAD)?, out);
        }
        0x0f => opaque(&mut input, out)?,
        _ => return Err(BAD),
    }
    Ok(())
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

/// The shortest number that is this one, as the server prints it: with an exponent for the very
/// large and very small only, and ".0" behind whole numbers.
fn double(number: f64, out: &mut String) {
    let shortest = format!("{number:e}");
    let (mantissa, power) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let power: i32 = power.parse().unwrap_or(0);
    // Of two that are as short and as near, the server takes the even one.
    let even = |text: String, shortest: String| match text.parse() == Ok(number) {
        true => text,
        false => shortest,
    };
    // Of sixteen digits before the point there must be one behind it.
    if (-15..=14).contains(&power) || (power == 15 && digits > 16) {
        let decimals = i32::try_from(digits).unwrap_or(0) - 1 - power;
        let decimals = usize::try_from(decimals).unwrap_or(0).max(1);
        out.push_str(&even(format!("{number:.decimals$}"), number.to_string()));
    } else {
        let decimals = digits.saturating_sub(1);
        out.push_str(&even(format!("{number:.decimals$e}"), shortest));
    }
}

fn literal(code: u8, out: &mut String) -> Result<(), Malformed> {
    out.push_str(match code {
        0 => "null",
        1 => "true",
        2 => "false",
        _ => return Err(BAD),
    });
    Ok(())
}

/// Appends a JSON text with its quotes.
pub(super) fn quoted(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn varlen(input: &mut Input<'_>) -> Result<usize, Malformed> {
    let mut length = 0_usize;
    for i in 0..5 {
        let byte = input.u8()?;
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(BAD)
}

fn container(
    body: &[u8],
    array: bool,
    small: bool,
    out: &mut String,
    depth: u32,
) -> Result<(), Malformed> {
    let width = if small { 2 } else { 4 };
    let mut head = Input::new(body);
    let count = head.uint(width)? as usize;
    let size = head.uint(width)? as usize;
    let whole = body.get(..size).ok_or(BAD)?;
    let keys_at = head.at();
    let entries_at = if array { keys_at } else { keys_at + count * (width + 2) };
    out.push(if array { '[' } else { '{' });
    for i in 0..count {
        if i > 0 {
            out.push_str(", ");
        }
        if !array {
            let mut entry = Input::new(whole).rewound(keys_at + i * (width + 2));
            let at = entry.uint(width)? as usize;
            let length = usize::from(entry.u16()?);
            let key = Input::new(whole).rewound(at).take(length)?;
            quoted(std::str::from_utf8(key).map_err(|_| BAD)?, out);
            out.push_str(": ");
        }
        let mut entry = Input::new(whole).rewound(entries_at + i * (width + 1));
        let kind = entry.u8()?;
        let inlined = matches!(kind, 0x04..=0x06) || (!small && matches!(kind, 0x07 | 0x08));
        let from = match inlined {
            true => entry.at(),
            false => entry.uint(width)? as usize,
        };
        // A value lies behind its container's head: nesting can't go round in circles.
        if !inlined && from <= keys_at {
            return Err(BAD);
        }
        value(kind, whole.get(from..).ok_or(BAD)?, out, depth + 1)?;
    }
    out.push(if array { ']' } else { '}' });
    Ok(())
}

/// Values that JSON has no type for: decimals are numbers, dates and times are texts, the rest is
/// base64 as the server prints it.
fn opaque(input: &mut Input<'_>, out: &mut String) -> Result<(), Malformed> {
    use super::kind::{Codec, Kind};
    let field = input.u8()?;
    let length = varlen(input)?;
    let body = input.take(length)?;
    let mut body = Input::new(body);
    match field {
        246 => {
            let (precision, scale) = (body.u8()?, body.u8()?);
            let kind = Kind::Decimal { precision, scale };
            let codec = Codec::new(kind, false, true, Default::default());
            match codec.read(&mut body)? {
                // With its scale, as the server prints it.
                Value::Decimal(number) => out.push_str(&number),
                _ => return Err(BAD),
            }
        }
        7 | 10 | 12 => {
            let packed = body.u64()?;
            let (micros, packed) = (packed & 0xff_ffff, packed >> 24);
            let (ymd, hms) = (packed >> 17, packed & 0x1_ffff);
            let (month, day) = (ymd >> 5, ymd & 31);
            let mut text = format!("{:04}-{:02}-{day:02}", month / 13, month % 13);
            if field != 10 {
                let (h, m, s) = (hms >> 12, hms >> 6 & 63, hms & 63);
                push(&mut text, format_args!(" {h:02}:{m:02}:{s:02}.{micros:06}"));
            }
            quoted(&text, out);
        }
        11 => {
            let packed = body.u64()? as i64;
            let sign = if packed < 0 { "-" } else { "" };
            let abs = packed.unsigned_abs();
            let (micros, hms) = (abs & 0xff_ffff, abs >> 24);
            let (h, m, s) = (hms >> 12 & 0x3ff, hms >> 6 & 63, hms & 63);
            quoted(&format!("{sign}{h:02}:{m:02}:{s:02}.{micros:06}"), out);
        }
        _ => quoted(&format!("base64:type{field}:{}", base64(body.rest())), out),
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let wide = (0..3)
            .fold(0_usize, |sum, i| sum << 8 | chunk.get(i).map_or(0, |byte| usize::from(*byte)));
        for i in 0..4 {
            match i <= chunk.len() {
                true => out.push(char::from(DIGITS[wide >> (18 - 6 * i) & 63])),
                false => out.push('='),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_by_hand() {
        assert_eq!(to_text(&[]).unwrap(), "null");
        assert_eq!(to_text(&[0x04, 1]).unwrap(), "true");
        assert_eq!(to_text(&[0x0c, 2, b'h', b'"']).unwrap(), "\"h\\\"\"");
        // {"a": -1}: one key at 11, value inlined.
        let object = [0x00, 1, 0, 12, 0, 11, 0, 1, 0, 0x05, 0xff, 0xff, b'a'];
        assert_eq!(to_text(&object).unwrap(), "{\"a\": -1}");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(to_text(&[0x02, 0, 0, 4, 0]).unwrap(), "[]");
        let numbers = [
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (-1_322_508_106_492_271.8, "-1322508106492271.8"),
            (1_234_567_890_123_456.0, "1.234567890123456e15"),
            (1_533_686_614_110_655.2, "1533686614110655.2"),
            (-96_300_000.0, "-96300000.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (0.0, "0.0"),
        ];
        for (number, printed) in numbers {
            let mut text = String::new();
            double(number, &mut text);
            assert_eq!(text, printed);
        }
        // As MySQL 9.7 logged it.
        let logged = b"\x00\x01\0\x23\0\x0b\0\x01\0\x02\x0c\0a\x03\0\x17\0\x05\x01\0\
                       \x0b\x0d\0\x0c\x15\0\0\0\0\0\0\0\x04\x40\x01x";
        assert_eq!(to_text(logged).unwrap(), "{\"a\": [1, 2.5, \"x\"]}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_text_or_an_error(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let _ = to_text(&bytes);
        }
    }
}
