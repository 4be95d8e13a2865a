//! Points and other shapes as Debezium's structs around well-known binary.

use serde_json::{Value as Json, json};

use crate::debezium::value::{base64, float};

/// MySQL's form: reference system (4 bytes), then well-known binary.
pub(super) fn of_mysql(bytes: &[u8], point: bool) -> Json {
    let Some((srid, wkb)) = bytes.split_first_chunk::<4>() else { return Json::Null };
    let srid = match u32::from_le_bytes(*srid) {
        0 => Json::Null,
        srid => Json::from(srid),
    };
    let coordinate = |at: usize| {
        let bytes = wkb.get(at..)?.first_chunk::<8>()?;
        Some(float(f64::from_le_bytes(*bytes)))
    };
    match (point, coordinate(5), coordinate(13)) {
        (true, Some(x), Some(y)) => json!({"x": x, "y": y, "wkb": base64(wkb), "srid": srid}),
        _ => json!({"wkb": base64(wkb), "srid": srid}),
    }
}

/// PostgreSQL's `(1.5,2.5)`.
pub(super) fn of_postgres_point(text: &str) -> Json {
    let inner = text.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let Some((x, y)) = inner.and_then(|inner| inner.split_once(',')) else {
        return Json::from(text);
    };
    let (Ok(x), Ok(y)) = (x.trim().parse::<f64>(), y.trim().parse::<f64>()) else {
        return Json::from(text);
    };
    // Little-endian, a point.
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend_from_slice(&x.to_le_bytes());
    wkb.extend_from_slice(&y.to_le_bytes());
    json!({"x": float(x), "y": float(y), "wkb": base64(&wkb), "srid": null})
}

/// Of the type in PostGIS's extended form, which puts a reference system behind it.
const HAS_SRID: u32 = 0x2000_0000;

/// PostGIS's text: its extended well-known binary, in hexadecimal digits. It is handed on whole.
pub(super) fn of_postgis(text: &str) -> Json {
    let Some(bytes) = from_hex(text.as_bytes()) else { return Json::from(text) };
    let Some(([order, kind @ ..], rest)) = bytes.split_first_chunk::<5>() else {
        return Json::from(text);
    };
    let number = |bytes: [u8; 4]| match order {
        0 => u32::from_be_bytes(bytes),
        _ => u32::from_le_bytes(bytes),
    };
    let srid = match rest.first_chunk::<4>() {
        Some(srid) if number(*kind) & HAS_SRID != 0 => Json::from(number(*srid).cast_signed()),
        _ => Json::Null,
    };
    json!({"wkb": base64(&bytes), "srid": srid})
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes =
        pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok());
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}
