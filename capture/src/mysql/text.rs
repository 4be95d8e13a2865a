//! One cell of a text result becomes the same value that the stream gives for it.

use std::borrow::Cow;

use crossdock_model::{Value, time};

use super::cell;
use super::charset::Charset;
use super::kind::{Codec, Kind};
use super::wire::Malformed;

impl Codec {
    /// The value of a cell that the server sent as text; text columns are UTF-8 by then.
    pub(super) fn parse<'a>(&self, sent: &'a [u8]) -> Result<Value<'a>, Malformed> {
        Ok(match &self.kind {
            Kind::Int { width: 8, unsigned: true } => Value::UInt(number(sent)?),
            Kind::Int { .. } | Kind::Year => Value::Int(number(sent)?),
            Kind::Float => Value::Float32(number::<f64>(sent)? as f32),
            Kind::Double => Value::Float(number(sent)?),
            Kind::Decimal { .. } => Value::Decimal(decimal(utf8(sent)?)),
            Kind::Date => {
                let [year, month, day] = ymd(utf8(sent)?)?;
                self.dated(cell::date_of(year, month, day))?
            }
            Kind::Time { .. } | Kind::OldTime => clock(utf8(sent)?)?,
            Kind::Datetime { digits } => self.dated(moment(utf8(sent)?, *digits)?)?,
            Kind::OldDatetime => self.dated(moment(utf8(sent)?, 0)?)?,
            Kind::Timestamp { digits } => self.dated(instant(moment(utf8(sent)?, *digits)?))?,
            Kind::OldTimestamp => self.dated(instant(moment(utf8(sent)?, 0)?))?,
            Kind::Bit { bits } => cell::bits(*bits, sent),
            Kind::Char { charset, .. }
            | Kind::Varchar { charset, .. }
            | Kind::Blob { charset, .. } => match charset {
                Charset::Binary => self.text(charset, sent)?,
                _ => self.text(&Charset::Utf8, sent)?,
            },
            Kind::Enum { .. } | Kind::Set { .. } | Kind::Inet { bytes: 4 } => {
                Value::Text(Cow::Borrowed(utf8(sent)?))
            }
            // The server writes some addresses with dots at their end.
            Kind::Inet { .. } => {
                let address: std::net::Ipv6Addr =
                    utf8(sent)?.parse().map_err(|_| Malformed("text that is not an address"))?;
                Value::Text(Cow::Owned(inet6(address.octets())))
            }
            Kind::BinaryJson { .. } => Value::Json(Cow::Borrowed(utf8(sent)?)),
            Kind::Geometry { .. } => Value::Bytes(Cow::Borrowed(sent)),
            Kind::Uuid => Value::Uuid(uuid(utf8(sent)?)?),
            Kind::Unknown(why) => return Err(Malformed(why)),
        })
    }
}

fn utf8(sent: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(sent).map_err(|_| Malformed("text that is not UTF-8"))
}

fn number<T: std::str::FromStr>(sent: &[u8]) -> Result<T, Malformed> {
    utf8(sent)?.parse().map_err(|_| Malformed("text that is not a number of its column's type"))
}

/// ZEROFILL puts zeros in front; the log has none.
fn decimal(sent: &str) -> Cow<'_, str> {
    match sent.strip_prefix('0') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            let bare = rest.trim_start_matches('0');
            match bare.starts_with('.') || bare.is_empty() {
                true => Cow::Owned(format!("0{bare}")),
                false => Cow::Borrowed(bare),
            }
        }
        _ => Cow::Borrowed(sent),
    }
}

fn parts(text: &str, separator: char) -> Result<[u64; 3], Malformed> {
    const BAD: Malformed = Malformed("text that is not a date or time");
    let mut numbers = [0; 3];
    let mut found = text.splitn(3, separator);
    for number in &mut numbers {
        *number = found.next().and_then(|part| part.parse().ok()).ok_or(BAD)?;
    }
    // Wider numbers than the server can store would overflow further on.
    match numbers.iter().all(|n| *n <= 9999) {
        true => Ok(numbers),
        false => Err(BAD),
    }
}

fn ymd(text: &str) -> Result<[u64; 3], Malformed> {
    parts(text, '-')
}

/// Hours, minutes, seconds, and microseconds.
fn hms(text: &str) -> Result<([u64; 3], i64), Malformed> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let micros = format!("{fraction:0<6.6}");
    let micros = micros.parse().map_err(|_| Malformed("text that is not a time"))?;
    Ok((parts(whole, ':')?, micros))
}

fn clock(text: &str) -> Result<Value<'static>, Malformed> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let ([hour, minute, second], micros) = hms(text)?;
    let seconds = ((hour * 60 + minute) * 60 + second) as i64;
    Ok(Value::Time(sign * (seconds * 1_000_000 + micros)))
}

fn moment(text: &str, digits: u8) -> Result<Value<'static>, Malformed> {
    let (date, rest) = text.split_once(' ').ok_or(Malformed("text that is not a date and time"))?;
    let (clock, micros) = hms(rest)?;
    Ok(cell::datetime_of(ymd(date)?, clock, micros, digits))
}

/// Sessions run in UTC, so the wall clock is the instant.
fn instant(moment: Value<'_>) -> Value<'_> {
    match moment {
        Value::Timestamp(micros) => Value::TimestampTz(micros),
        zero => zero,
    }
}

fn uuid(text: &str) -> Result<[u8; 16], Malformed> {
    const BAD: Malformed = Malformed("text that is not a UUID");
    let mut raw = [0; 16];
    let mut digits = text.bytes().filter(|b| *b != b'-');
    for byte in &mut raw {
        for _ in 0..2 {
            let digit = digits.next().and_then(|d| char::from(d).to_digit(16)).ok_or(BAD)?;
            *byte = *byte << 4 | digit as u8;
        }
    }
    match digits.next() {
        None => Ok(raw),
        Some(_) => Err(BAD),
    }
}

/// An IPv6 address as the server writes it: mapped IPv4 addresses with dots.
pub(super) fn inet6(raw: [u8; 16]) -> String {
    std::net::Ipv6Addr::from(raw).to_string()
}

/// Microseconds since the epoch of `NOW(6)` in a UTC session.
pub(super) fn now_micros(text: &str) -> Option<i64> {
    time::parse_instant(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, text: &str) -> Value<'static> {
        let codec = Codec::new(kind, false, true, Default::default());
        codec.parse(text.as_bytes()).unwrap().into_owned()
    }

    #[test]
    fn texts_of_the_server() {
        let dec = || Kind::Decimal { precision: 10, scale: 3 };
        assert_eq!(parse(dec(), "0000005.000"), Value::Decimal("5.000".into()));
        assert_eq!(parse(dec(), "0000000.500"), Value::Decimal("0.500".into()));
        assert_eq!(parse(dec(), "-0.500"), Value::Decimal("-0.500".into()));
        let time = Kind::Time { digits: 2 };
        assert_eq!(parse(time, "-838:59:59.10"), Value::Time(-3_020_399_100_000));
        let at = Kind::Datetime { digits: 3 };
        assert_eq!(
            parse(at.clone(), "2026-00-00 00:00:00.000").to_text().unwrap(),
            "2026-00-00 00:00:00.000"
        );
        assert_eq!(parse(at, "1970-01-01 00:00:00.001"), Value::Timestamp(1000));
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(parse(Kind::Uuid, id).to_text().unwrap(), id);
    }
}
