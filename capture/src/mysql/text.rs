//! One cell of a text result becomes the same value that the stream gives for it.

use std::borrow::Cow;

use crossdock_model::{Str, Value, time};

use super::cell;
use super::charset::Charset;
use super::kind::{Codec, Kind};
use super::wire::Malformed;

const BAD_TIME: Malformed = Malformed("text that is not a date or time");

impl Codec {
    /// The value of a cell that the server sent as text; text columns are UTF-8 by then.
    pub(super) fn parse<'a>(&self, sent: &'a [u8]) -> Result<Value<'a>, Malformed> {
        Ok(match &self.kind {
            Kind::Int { width: 8, unsigned: true } => Value::UInt(number(sent)?),
            Kind::Int { .. } | Kind::Year => Value::Int(integer(sent)?),
            Kind::Float => Value::Float32(number::<f64>(sent)? as f32),
            Kind::Double => Value::Float(number(sent)?),
            Kind::Decimal { .. } => Value::Decimal(decimal(utf8(sent)?).into()),
            Kind::Date => {
                let [year, month, day] = ymd(sent)?;
                self.dated(cell::date_of(year, month, day))?
            }
            Kind::Time { .. } | Kind::OldTime => clock(sent)?,
            Kind::Datetime { digits } => self.dated(moment(sent, *digits)?)?,
            Kind::OldDatetime => self.dated(moment(sent, 0)?)?,
            Kind::Timestamp { digits } => self.dated(instant(moment(sent, *digits)?))?,
            Kind::OldTimestamp => self.dated(instant(moment(sent, 0)?))?,
            Kind::Bit { bits } => cell::bits(*bits, sent),
            Kind::Char { charset, .. }
            | Kind::Varchar { charset, .. }
            | Kind::Blob { charset, .. } => match charset {
                Charset::Binary => self.text(charset, sent)?,
                _ => self.text(&Charset::Utf8, sent)?,
            },
            Kind::Enum { .. } | Kind::Set { .. } | Kind::Inet { bytes: 4 } => {
                Value::Text(Str::Borrowed(utf8(sent)?))
            }
            // The server writes some addresses with dots at their end.
            Kind::Inet { .. } => {
                let address: std::net::Ipv6Addr =
                    utf8(sent)?.parse().map_err(|_| Malformed("text that is not an address"))?;
                Value::Text(inet6(address.octets()).into())
            }
            Kind::BinaryJson { .. } => Value::Json(Str::Borrowed(utf8(sent)?)),
            Kind::Geometry { .. } => Value::Bytes(Cow::Borrowed(sent)),
            Kind::Uuid => Value::Uuid(uuid(utf8(sent)?)?),
            Kind::Unknown(why) => return Err(Malformed(why)),
        })
    }
}

fn utf8(sent: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(sent).map_err(|_| Malformed("text that is not UTF-8"))
}

/// Most are short: no more digits than can't overflow are counted here.
#[inline]
fn integer(sent: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = sent.strip_prefix(b"-").map_or((false, sent), |rest| (true, rest));
    if !(1..=18).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return number(sent);
    }
    let size = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Ok(if negative { -size } else { size })
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

/// Three numbers with separators between them. Wider ones than the server can store would overflow
/// further on.
fn parts(text: &[u8], separator: u8) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut rest = text;
    for (n, number) in numbers.iter_mut().enumerate() {
        let end = if n < 2 { rest.iter().position(|b| *b == separator)? } else { rest.len() };
        let (digits, behind) = rest.split_at_checked(end)?;
        *number = small(digits)?;
        rest = behind.get(1..).unwrap_or_default();
    }
    Some(numbers)
}

/// A number of one to four digits.
fn small(digits: &[u8]) -> Option<u64> {
    let fits = (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn ymd(text: &[u8]) -> Result<[u64; 3], Malformed> {
    parts(text, b'-').ok_or(BAD_TIME)
}

/// Hours, minutes, seconds, and microseconds.
fn hms(text: &[u8]) -> Result<([u64; 3], i64), Malformed> {
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, fraction) = text.split_at_checked(point).ok_or(BAD_TIME)?;
    let mut micros = 0;
    let mut digits = fraction.iter().skip(1);
    for _ in 0..6 {
        micros = micros * 10
            + match digits.next() {
                Some(digit) if digit.is_ascii_digit() => i64::from(digit - b'0'),
                Some(_) => return Err(BAD_TIME),
                None => 0,
            };
    }
    Ok((parts(whole, b':').ok_or(BAD_TIME)?, micros))
}

fn clock(text: &[u8]) -> Result<Value<'static>, Malformed> {
    let (sign, text) = text.strip_prefix(b"-").map_or((1, text), |rest| (-1, rest));
    let ([hour, minute, second], micros) = hms(text)?;
    let seconds = ((hour * 60 + minute) * 60 + second) as i64;
    Ok(Value::Time(sign * (seconds * 1_000_000 + micros)))
}

fn moment(text: &[u8], digits: u8) -> Result<Value<'static>, Malformed> {
    let space = text.iter().position(|b| *b == b' ').ok_or(BAD_TIME)?;
    let (date, rest) = text.split_at_checked(space).ok_or(BAD_TIME)?;
    let (clock, micros) = hms(rest.get(1..).unwrap_or_default())?;
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

    fn codec(kind: Kind) -> Codec {
        Codec::new(kind, false, true, Default::default())
    }

    fn parse(kind: Kind, text: &str) -> Value<'static> {
        codec(kind).parse(text.as_bytes()).unwrap().into_owned()
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
        let int = || Kind::Int { width: 8, unsigned: false };
        assert_eq!(parse(int(), "-9223372036854775808"), Value::Int(i64::MIN));
        assert_eq!(parse(int(), "-120"), Value::Int(-120));
        for bad in ["", "-", "+", "1x", "99999999999999999999"] {
            assert!(codec(int()).parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "2026-01", "2026-01-01", "2026-01-01 10:00", "2026-01-01 10:00:00.1x"] {
            let at = codec(Kind::Datetime { digits: 0 });
            assert!(at.parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(parse(Kind::Uuid, id).to_text().unwrap(), id);
    }
}
