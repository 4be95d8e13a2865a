//! One cell of a row event becomes a value.

use std::borrow::Cow;

use crossdock_model::{Value, time};

use super::charset::Charset;
use super::kind::{Codec, Kind};
use super::wire::{Input, Malformed};
use super::{event, jsonb, text};

const DAY_MICROS: i64 = 86_400_000_000;

impl Codec {
    /// Reads the cell at the cursor.
    #[inline]
    pub(super) fn read<'a>(&self, input: &mut Input<'a>) -> Result<Value<'a>, Malformed> {
        Ok(match &self.kind {
            Kind::Int { width, unsigned } => int(input, *width, *unsigned)?,
            Kind::Float => Value::Float32(f32::from_le_bytes(input.array()?)),
            Kind::Double => Value::Float(f64::from_le_bytes(input.array()?)),
            Kind::Decimal { precision, scale } => {
                Value::Decimal(decimal(input, *precision, *scale)?.into())
            }
            Kind::Year => match input.u8()? {
                0 => Value::Int(0),
                year => Value::Int(1900 + i64::from(year)),
            },
            Kind::Date => self.dated(date(input.uint(3)?))?,
            Kind::Time { digits } => time2(input, *digits)?,
            Kind::Datetime { digits } => self.dated(datetime2(input, *digits)?)?,
            Kind::Timestamp { digits } => self.dated(timestamp2(input, *digits)?)?,
            Kind::OldTime => old_time(input)?,
            Kind::OldDatetime => self.dated(old_datetime(input.u64()?))?,
            Kind::OldTimestamp => self.dated(timestamp(i64::from(input.u32()?), 0, 0))?,
            Kind::Bit { bits } => self::bits(*bits, input.take(usize::from(bits.div_ceil(8)))?),
            Kind::Char { bytes, charset } => {
                let stored = input.prefixed(if *bytes > 255 { 2 } else { 1 })?;
                match charset {
                    Charset::Binary => padded(stored, usize::from(*bytes)),
                    charset => self.text(charset, stored)?,
                }
            }
            Kind::Varchar { bytes, charset } => {
                let stored = input.prefixed(if *bytes > 255 { 2 } else { 1 })?;
                self.unpacked(charset, stored)?
            }
            Kind::Blob { prefix, charset } => {
                let stored = input.prefixed(usize::from(*prefix))?;
                self.unpacked(charset, stored)?
            }
            Kind::Enum { width, members } => {
                let index = input.uint(usize::from(*width))?;
                Value::Text(enum_member(members, index)?.into())
            }
            Kind::Set { width, members } => {
                let map = input.uint(usize::from(*width))?;
                Value::Text(set_members(members, map)?.into())
            }
            Kind::BinaryJson { prefix } => {
                let stored = input.prefixed(usize::from(*prefix))?;
                Value::Json(jsonb::to_text(stored)?.into())
            }
            Kind::Geometry { prefix } => {
                Value::Bytes(Cow::Borrowed(input.prefixed(usize::from(*prefix))?))
            }
            Kind::Uuid => Value::Uuid(uuid(input.prefixed(1)?)?),
            Kind::Inet { bytes } => inet(input.prefixed(1)?, *bytes)?,
            Kind::Unknown(why) => return Err(Malformed(why)),
        })
    }

    /// Text or bytes of a column that may be compressed.
    #[inline]
    fn unpacked<'a>(&self, charset: &Charset, stored: &'a [u8]) -> Result<Value<'a>, Malformed> {
        match (self.compressed, stored) {
            // An empty value has no header, and a short one says that it is as it was.
            (false, _) | (true, []) => self.text(charset, stored),
            (true, [0, plain @ ..]) => self.text(charset, plain),
            (true, packed) => {
                let plain = event::inflate(packed)?;
                Ok(self.text(charset, &plain)?.into_owned())
            }
        }
    }

    /// Text or bytes, whichever the character set says.
    pub(super) fn text<'a>(
        &self,
        charset: &Charset,
        stored: &'a [u8],
    ) -> Result<Value<'a>, Malformed> {
        Ok(match charset {
            Charset::Binary => Value::Bytes(Cow::Borrowed(stored)),
            charset if self.json => Value::Json(charset.decode(stored)?.into()),
            charset => Value::Text(charset.decode(stored)?.into()),
        })
    }
}

#[inline]
fn int<'a>(input: &mut Input<'_>, width: u8, unsigned: bool) -> Result<Value<'a>, Malformed> {
    let raw = input.uint(usize::from(width))?;
    if unsigned {
        return Ok(if width == 8 { Value::UInt(raw) } else { Value::Int(raw as i64) });
    }
    let spare = 64 - 8 * u32::from(width);
    Ok(Value::Int((raw << spare) as i64 >> spare))
}

/// BINARY(n) is stored without its trailing zero bytes.
fn padded(stored: &[u8], bytes: usize) -> Value<'_> {
    if stored.len() >= bytes {
        return Value::Bytes(Cow::Borrowed(stored));
    }
    let mut whole = stored.to_vec();
    whole.resize(bytes, 0);
    Value::Bytes(Cow::Owned(whole))
}

/// Bytes that decimal digits take: nine to four bytes, fewer for the rest.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn decimal(input: &mut Input<'_>, precision: u8, scale: u8) -> Result<String, Malformed> {
    const BAD: Malformed = Malformed("decimal that is not one");
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let whole = precision.checked_sub(scale).ok_or(BAD)?;
    let bytes_of = |digits: usize| digits / 9 * 4 + DIGIT_BYTES[digits % 9];
    let length = bytes_of(whole) + bytes_of(scale);
    let mut raw = [0; 128];
    let raw = raw.get_mut(..length).ok_or(BAD)?;
    raw.copy_from_slice(input.take(length)?);
    let first = raw.first_mut().ok_or(BAD)?;
    let negative = *first & 0x80 == 0;
    // The sign bit is stored inverted, and a negative number with all bits inverted.
    *first ^= 0x80;
    if negative {
        raw.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut digits = Input::new(raw);
    let mut text = String::with_capacity(precision + 3);
    if negative {
        text.push('-');
    }
    let start = text.len();
    push_group(&mut text, &mut digits, whole % 9)?;
    for _ in 0..whole / 9 {
        push_group(&mut text, &mut digits, 9)?;
    }
    let zeros = text[start..].bytes().take_while(|b| *b == b'0').count();
    text.drain(start..start + zeros);
    if text.len() == start {
        text.push('0');
    }
    if scale > 0 {
        text.push('.');
        for _ in 0..scale / 9 {
            push_group(&mut text, &mut digits, 9)?;
        }
        push_group(&mut text, &mut digits, scale % 9)?;
    }
    Ok(text)
}

fn push_group(text: &mut String, input: &mut Input<'_>, digits: usize) -> Result<(), Malformed> {
    use std::fmt::Write as _;
    if digits > 0 {
        let group = input.uint_be(DIGIT_BYTES[digits])?;
        let _ = write!(text, "{group:0digits$}");
    }
    Ok(())
}

/// A date, or the text of one that no calendar has (`0000-00-00`).
pub(super) fn date_of<'a>(year: u64, month: u64, day: u64) -> Value<'a> {
    match days(year, month, day) {
        Some(days) => Value::Date(days),
        None => Value::Text(format!("{year:04}-{month:02}-{day:02}").into()),
    }
}

fn days(year: u64, month: u64, day: u64) -> Option<i32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let days = time::days(i64::try_from(year).ok()?, month as u32, day as u32);
    i32::try_from(days).ok()
}

fn date<'a>(packed: u64) -> Value<'a> {
    date_of(packed >> 9, packed >> 5 & 15, packed & 31)
}

/// Reads the fraction of a second as microseconds.
fn fraction(input: &mut Input<'_>, digits: u8) -> Result<i64, Malformed> {
    Ok(match digits {
        0 => 0,
        1 | 2 => input.uint_be(1)? as i64 * 10_000,
        3 | 4 => input.uint_be(2)? as i64 * 100,
        _ => input.uint_be(3)? as i64,
    })
}

/// TIME: 24 bits of sign, hours, minutes and seconds and the fraction after them, all of it one
/// big-endian number offset so that it sorts; negative times borrow from the fraction.
fn time2<'a>(input: &mut Input<'_>, digits: u8) -> Result<Value<'a>, Malformed> {
    let bytes = usize::from(digits.min(6).div_ceil(2));
    let packed = input.uint_be(3 + bytes)? as i64 - (0x80_0000_i64 << (8 * bytes));
    let abs = packed.abs();
    let (hms, part) = (abs >> (8 * bytes), abs & ((1 << (8 * bytes)) - 1));
    let micros = match bytes {
        0 => 0,
        1 => part * 10_000,
        2 => part * 100,
        _ => part,
    };
    let seconds = (hms >> 12 & 0x3ff) * 3600 + (hms >> 6 & 0x3f) * 60 + (hms & 0x3f);
    Ok(Value::Time((seconds * 1_000_000 + micros) * packed.signum()))
}

fn datetime2<'a>(input: &mut Input<'_>, digits: u8) -> Result<Value<'a>, Malformed> {
    let packed = input.uint_be(5)?.wrapping_sub(0x80_0000_0000);
    let micros = fraction(input, digits)?;
    let (ymd, hms) = (packed >> 17 & 0x3f_ffff, packed & 0x1_ffff);
    let (year_month, day) = (ymd >> 5, ymd & 31);
    let clock = [hms >> 12, hms >> 6 & 63, hms & 63];
    Ok(datetime_of([year_month / 13, year_month % 13, day], clock, micros, digits))
}

/// A wall-clock time, or the text of one that no calendar has.
pub(super) fn datetime_of<'a>(
    [year, month, day]: [u64; 3],
    [hour, minute, second]: [u64; 3],
    micros: i64,
    digits: u8,
) -> Value<'a> {
    let clock = (hour * 60 + minute) * 60 + second;
    match days(year, month, day) {
        Some(days) => {
            let clock = clock as i64 * 1_000_000 + micros;
            Value::Timestamp(i64::from(days) * DAY_MICROS + clock)
        }
        None => {
            let mut text =
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
            text.push_str(&fraction_text(micros, digits));
            Value::Text(text.into())
        }
    }
}

fn fraction_text(micros: i64, digits: u8) -> String {
    match digits {
        0 => String::new(),
        n => format!(".{:.*}", usize::from(n.min(6)), format!("{micros:06}")),
    }
}

fn timestamp2<'a>(input: &mut Input<'_>, digits: u8) -> Result<Value<'a>, Malformed> {
    let seconds = input.uint_be(4)? as i64;
    let micros = fraction(input, digits)?;
    Ok(timestamp(seconds, micros, digits))
}

/// An instant; second 0 is the server's zero timestamp.
fn timestamp<'a>(seconds: i64, micros: i64, digits: u8) -> Value<'a> {
    match (seconds, micros) {
        (0, 0) => Value::Text(format!("0000-00-00 00:00:00{}", fraction_text(0, digits)).into()),
        _ => Value::TimestampTz(seconds * 1_000_000 + micros),
    }
}

fn old_time<'a>(input: &mut Input<'_>) -> Result<Value<'a>, Malformed> {
    let raw = input.uint(3)?;
    let packed = ((raw << 40) as i64) >> 40;
    let abs = packed.abs();
    let seconds = abs / 10_000 * 3600 + abs / 100 % 100 * 60 + abs % 100;
    Ok(Value::Time(seconds * 1_000_000 * packed.signum()))
}

fn old_datetime<'a>(packed: u64) -> Value<'a> {
    let (ymd, hms) = (packed / 1_000_000, packed % 1_000_000);
    datetime_of(
        [ymd / 10_000, ymd / 100 % 100, ymd % 100],
        [hms / 10_000, hms / 100 % 100, hms % 100],
        0,
        0,
    )
}

/// The server right-aligns the bits of a BIT, [`Value::Bits`] wants the first bit highest.
pub(super) fn bits(bits: u16, stored: &[u8]) -> Value<'_> {
    let spare = u32::from((8 - bits % 8) % 8);
    if spare == 0 {
        return Value::Bits(u32::from(bits), Cow::Borrowed(stored));
    }
    let mut shifted = Vec::with_capacity(stored.len());
    for (i, byte) in stored.iter().enumerate() {
        let next = stored.get(i + 1).map_or(0, |next| next >> (8 - spare));
        shifted.push(byte << spare | next);
    }
    Value::Bits(u32::from(bits), Cow::Owned(shifted))
}

fn enum_member(members: &[String], index: u64) -> Result<String, Malformed> {
    // Index 0 is what the server stores for a value that was not valid.
    match index {
        0 => Ok(String::new()),
        n => usize::try_from(n - 1)
            .ok()
            .and_then(|at| members.get(at))
            .cloned()
            .ok_or(Malformed("ENUM index without a member")),
    }
}

fn set_members(members: &[String], map: u64) -> Result<String, Malformed> {
    if members.len() < 64 && map >> members.len() != 0 {
        return Err(Malformed("SET bit without a member"));
    }
    let set = members.iter().take(64).enumerate().filter(|(i, _)| map >> i & 1 == 1);
    Ok(set.map(|(_, member)| member.as_str()).collect::<Vec<_>>().join(","))
}

/// MariaDB stores a UUID of version 1 to 5 with its parts in reverse order, so that it sorts by
/// time; the highest bit of byte 6 (the variant, once moved) tells. Trailing zeros are left out.
fn uuid(stored: &[u8]) -> Result<[u8; 16], Malformed> {
    let mut raw = [0; 16];
    raw.get_mut(..stored.len())
        .ok_or(Malformed("UUID longer than 16 bytes"))?
        .copy_from_slice(stored);
    if raw[6] & 0x80 == 0 {
        return Ok(raw);
    }
    let [n0, n1, n2, n3, n4, n5, s0, s1, h0, h1, m0, m1, l0, l1, l2, l3] = raw;
    Ok([l0, l1, l2, l3, m0, m1, h0, h1, s0, s1, n0, n1, n2, n3, n4, n5])
}

fn inet<'a>(stored: &[u8], bytes: u8) -> Result<Value<'a>, Malformed> {
    let mut raw = [0; 16];
    raw.get_mut(..stored.len())
        .filter(|_| stored.len() <= usize::from(bytes))
        .ok_or(Malformed("network address that is too long"))?
        .copy_from_slice(stored);
    let [a, b, c, d, ..] = raw;
    let text = match bytes {
        4 => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
        _ => text::inet6(raw),
    };
    Ok(Value::Text(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, bytes: &[u8]) -> Value<'static> {
        let codec = Codec::new(kind, false, true, Default::default());
        codec.read(&mut Input::new(bytes)).unwrap().into_owned()
    }

    #[test]
    fn compressed_columns() {
        use std::io::Write as _;
        let kind = Kind::Varchar { bytes: 301, charset: Charset::Utf8 };
        let codec = Codec::new(kind, false, true, Default::default());
        let codec = Codec { compressed: true, ..codec };
        let read = |stored: &[u8]| {
            let cell = [&(stored.len() as u16).to_le_bytes()[..], stored].concat();
            codec.read(&mut Input::new(&cell)).map(Value::into_owned)
        };
        let long = "ü".repeat(60);
        let mut wrapped = flate2::write::ZlibEncoder::new(vec![0x81, 120], Default::default());
        wrapped.write_all(long.as_bytes()).unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(vec![0x89, 120], Default::default());
        bare.write_all(long.as_bytes()).unwrap();
        let (wrapped, bare) = (wrapped.finish().unwrap(), bare.finish().unwrap());
        assert_eq!(read(&wrapped), Ok(Value::Text(long.clone().into())));
        assert_eq!(read(&bare), Ok(Value::Text(long.into())));
        assert_eq!(read(b"\0short"), Ok(Value::Text("short".into())));
        assert_eq!(read(b""), Ok(Value::Text("".into())));
        for broken in [&b"\x10short"[..], &wrapped[..10], &[0x81, 120], &[0x84, 0xff, 0xff]] {
            assert!(read(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        let kind = || Kind::Decimal { precision: 14, scale: 4 };
        let positive = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        let negative = positive.map(|b| !b);
        assert_eq!(read(kind(), &positive), Value::Decimal("1234567890.1234".into()));
        assert_eq!(read(kind(), &negative), Value::Decimal("-1234567890.1234".into()));
        let zero = [0x80, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(kind(), &zero), Value::Decimal("0.0000".into()));
    }

    #[test]
    fn integers_by_width_and_sign() {
        let int = |width, unsigned| Kind::Int { width, unsigned };
        assert_eq!(read(int(3, false), &[0xff; 3]), Value::Int(-1));
        assert_eq!(read(int(3, true), &[0xff; 3]), Value::Int(0xff_ffff));
        assert_eq!(read(int(8, true), &[0xff; 8]), Value::UInt(u64::MAX));
        assert_eq!(read(int(8, false), &[0xff; 8]), Value::Int(-1));
    }

    #[test]
    fn times_may_be_negative_and_long() {
        let time = |digits| Kind::Time { digits };
        assert_eq!(read(time(0), &[0x80, 0x10, 0x83]), Value::Time(3_723_000_000));
        // -00:00:00.10 of TIME(2): one less than zero, fraction 256 - 10.
        assert_eq!(read(time(2), &[0x7f, 0xff, 0xff, 0xf6]), Value::Time(-100_000));
        // -838:59:59
        assert_eq!(read(time(0), &[0x4b, 0x91, 0x05]), Value::Time(-3_020_399_000_000));
    }

    #[test]
    fn wall_clock_and_instants() {
        let bytes = [0x99, 0x80, 0x00, 0x00, 0x00];
        // 2019-00-00 is no day of any calendar.
        let odd = read(Kind::Datetime { digits: 0 }, &bytes);
        assert!(matches!(odd, Value::Text(_)), "{odd:?}");
        let packed: u64 = ((2026 * 13 + 11) << 5 | 23) << 17 | 8 << 12 | 15 << 6 | 30;
        let mut bytes = (packed + 0x80_0000_0000).to_be_bytes()[3..].to_vec();
        bytes.extend([0x07, 0xa1, 0x20]);
        let value = read(Kind::Datetime { digits: 6 }, &bytes);
        assert_eq!(value.to_text().unwrap(), "2026-11-23T08:15:30.5");
        let value = read(Kind::Timestamp { digits: 3 }, &[0, 0, 0, 1, 0x13, 0x88]);
        assert_eq!(value, Value::TimestampTz(1_500_000));
        let zero = read(Kind::Timestamp { digits: 3 }, &[0; 6]);
        assert_eq!(zero, Value::Text("0000-00-00 00:00:00.000".into()));
    }

    #[test]
    fn times_of_columns_made_before_mysql_5_6() {
        let time = |packed: i32| read(Kind::OldTime, &packed.to_le_bytes()[..3]);
        assert_eq!(time(8_385_959), Value::Time(3_020_399_000_000));
        assert_eq!(time(-10_203), Value::Time(-3_723_000_000));
        let wall = |packed: u64| read(Kind::OldDatetime, &packed.to_le_bytes());
        assert_eq!(wall(20_261_123_081_530).to_text().unwrap(), "2026-11-23T08:15:30");
        assert_eq!(wall(0), Value::Text("0000-00-00 00:00:00".into()));
        let instant = |seconds: u32| read(Kind::OldTimestamp, &seconds.to_le_bytes());
        assert_eq!(instant(1), Value::TimestampTz(1_000_000));
        assert_eq!(instant(0), Value::Text("0000-00-00 00:00:00".into()));
    }

    #[test]
    fn bits_start_at_the_highest_place() {
        let value = read(Kind::Bit { bits: 10 }, &[0b10, 0b1000_0001]);
        assert_eq!(value.to_text().unwrap(), "1010000001");
        assert_eq!(read(Kind::Bit { bits: 1 }, &[1]).to_text().unwrap(), "1");
    }
}
