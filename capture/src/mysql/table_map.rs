//! The TABLE_MAP event: what the columns of the next row events are.

use std::collections::HashMap;
use std::sync::Arc;

use super::charset::Charset;
use super::kind::Kind;
use super::wire::{Input, Malformed, bit};

/// More columns than any table may have (MySQL 4096, MariaDB 4096).
const COLUMNS_MAX: usize = 4096;

/// A parsed table map.
#[derive(Clone, Debug)]
pub(super) struct TableMap {
    /// Database.
    pub(super) database: String,
    /// Table.
    pub(super) table: String,
    /// Columns in the order of the row images.
    pub(super) columns: Vec<WireColumn>,
    /// Place in the primary key by column, when the log says so.
    pub(super) key: Option<Vec<Option<u16>>>,
}

/// A column as the log describes it.
#[derive(Clone, Debug)]
pub(super) struct WireColumn {
    /// Kind; members, character set and sign may be missing, see the flags.
    pub(super) kind: Kind,
    /// False when declared NOT NULL.
    pub(super) nullable: bool,
    /// Name, with `binlog_row_metadata=FULL`.
    pub(super) name: Option<String>,
    /// True when the log said whether the number is signed.
    pub(super) signed_known: bool,
    /// True when the log said which character set it is.
    pub(super) charset_known: bool,
    /// True when the log had the members of the ENUM or SET.
    pub(super) members_known: bool,
    /// The type in the table map.
    code: u8,
    /// Members of an ENUM or SET as they are in the log: in the column's character set.
    choices: Vec<Vec<u8>>,
    /// The character set of those, where the log says it.
    choice_charset: Option<Charset>,
}

/// What must be known of the server to read its optional metadata.
#[derive(Clone, Debug, Default)]
pub(super) struct Collations {
    /// Character sets by collation id.
    pub(super) charsets: HashMap<u64, Charset>,
    /// MariaDB counts geometries among the columns with a character set, MySQL does not.
    pub(super) geometries_counted: bool,
}

impl Collations {
    fn get(&self, id: usize) -> Option<&Charset> {
        self.charsets.get(&(id as u64))
    }

    fn counts(&self, column: &WireColumn) -> bool {
        column.is_text() || (self.geometries_counted && column.code == GEOMETRY)
    }
}

/// Table id of a table map or row event's data.
pub(super) fn table_id(input: &mut Input<'_>) -> Result<u64, Malformed> {
    input.uint(6)
}

/// Database and table of a table map, without the rest.
pub(super) fn names(input: &mut Input<'_>) -> Result<(String, String), Malformed> {
    let mut name = || -> Result<String, Malformed> {
        let text = input.prefixed(1)?;
        input.u8()?;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    Ok((name()?, name()?))
}

/// Parses the event's data.
pub(super) fn parse(data: &[u8], collations: &Collations) -> Result<TableMap, Malformed> {
    let mut input = Input::new(data);
    table_id(&mut input)?;
    input.u16()?;
    let (database, table) = names(&mut input)?;
    let count = input.lenenc()?;
    if count > COLUMNS_MAX {
        return Err(Malformed("more columns than a table can have"));
    }
    let codes = input.take(count)?;
    let mut meta = Input::new(input.lenenc_bytes()?);
    let nullable = input.take(count.div_ceil(8))?;
    let mut columns = Vec::with_capacity(count);
    for (i, code) in codes.iter().enumerate() {
        let (kind, code) = kind(*code, &mut meta)?;
        columns.push(WireColumn {
            kind,
            nullable: bit(nullable, i),
            name: None,
            signed_known: false,
            // Vectors are bytes, whatever the log says of its texts.
            charset_known: code == VECTOR,
            members_known: false,
            code,
            choices: Vec::new(),
            choice_charset: None,
        });
    }
    let mut map = TableMap { database, table, columns, key: None };
    while !input.is_empty() {
        let field = input.u8()?;
        let value = Input::new(input.lenenc_bytes()?);
        map.optional(field, value, collations)?;
    }
    map.columns.iter_mut().for_each(WireColumn::name_members);
    Ok(map)
}

/// Type code of MySQL's vectors.
const VECTOR: u8 = 242;
/// Type codes of MariaDB's columns with the attribute COMPRESSED.
const BLOB_COMPRESSED: u8 = 140;
const VARCHAR_COMPRESSED: u8 = 141;
/// Type code of geometries.
const GEOMETRY: u8 = 255;

/// Kind of a column by type code and metadata, and the code once CHAR has been told from ENUM.
fn kind(code: u8, meta: &mut Input<'_>) -> Result<(Kind, u8), Malformed> {
    let int = |width| Kind::Int { width, unsigned: false };
    let charset = Charset::Binary;
    Ok((
        match code {
            1 => int(1),
            2 => int(2),
            3 => int(4),
            8 => int(8),
            9 => int(3),
            4 | 5 => {
                meta.u8()?;
                if code == 4 { Kind::Float } else { Kind::Double }
            }
            7 => Kind::OldTimestamp,
            10 | 14 => Kind::Date,
            11 => Kind::OldTime,
            12 => Kind::OldDatetime,
            13 => Kind::Year,
            15 | VARCHAR_COMPRESSED => Kind::Varchar { bytes: meta.u16()?, charset },
            16 => {
                let (rest, bytes) = (meta.u8()?, meta.u8()?);
                Kind::Bit { bits: u16::from(bytes) * 8 + u16::from(rest) }
            }
            17 => Kind::Timestamp { digits: meta.u8()? },
            18 => Kind::Datetime { digits: meta.u8()? },
            19 => Kind::Time { digits: meta.u8()? },
            VECTOR => Kind::Blob { prefix: meta.u8()?, charset },
            245 => Kind::BinaryJson { prefix: meta.u8()? },
            246 => Kind::Decimal { precision: meta.u8()?, scale: meta.u8()? },
            249..=252 | BLOB_COMPRESSED => Kind::Blob { prefix: meta.u8()?, charset },
            247 | 248 | 253 | 254 => return string(meta.u8()?, meta.u8()?),
            GEOMETRY => Kind::Geometry { prefix: meta.u8()? },
            _ => return Err(Malformed("column of a type that is not known")),
        },
        code,
    ))
}

/// CHAR, ENUM and SET share a type code; the metadata tells them apart and hides the upper two
/// bits of a CHAR's length in the type.
fn string(real: u8, low: u8) -> Result<(Kind, u8), Malformed> {
    let (code, bytes) = match real & 0x30 {
        0x30 => (real, u16::from(low)),
        high => (real | 0x30, u16::from(low) | u16::from(high ^ 0x30) << 4),
    };
    let members = || Arc::from([]);
    Ok((
        match code {
            247 => Kind::Enum { width: low, members: members() },
            248 => Kind::Set { width: low, members: members() },
            253 | 254 => Kind::Char { bytes, charset: Charset::Binary },
            _ => return Err(Malformed("string column of a type that is not known")),
        },
        code,
    ))
}

impl WireColumn {
    fn is_numeric(&self) -> bool {
        matches!(self.code, 1..=5 | 8 | 9 | 13 | 246)
    }

    fn is_text(&self) -> bool {
        matches!(self.code, 15 | BLOB_COMPRESSED | VARCHAR_COMPRESSED | VECTOR | 249..=254)
    }

    /// Each value may be compressed.
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.code, BLOB_COMPRESSED | VARCHAR_COMPRESSED)
    }

    fn is_choice(&self) -> bool {
        matches!(self.code, 247 | 248)
    }

    fn set_charset(&mut self, charset: Option<&Charset>) {
        let Some(known) = charset else { return };
        self.charset_known = true;
        match &mut self.kind {
            Kind::Char { charset, .. }
            | Kind::Varchar { charset, .. }
            | Kind::Blob { charset, .. } => *charset = known.clone(),
            _ => {}
        }
    }
}

impl WireColumn {
    /// Makes texts of the members, where their character set is known here: otherwise the catalog
    /// is asked.
    fn name_members(&mut self) {
        let charset = match &self.choice_charset {
            Some(charset) => charset,
            None if self.choices.iter().all(|member| member.is_ascii()) => &Charset::Utf8,
            None => return,
        };
        let texts = self.choices.iter().map(|member| Some(charset.decode(member).ok()?.into()));
        let Some(texts) = texts.collect::<Option<Arc<[String]>>>() else { return };
        if let Kind::Enum { members, .. } | Kind::Set { members, .. } = &mut self.kind {
            self.members_known = !texts.is_empty();
            *members = texts;
        }
    }
}

impl TableMap {
    fn optional(
        &mut self,
        field: u8,
        mut input: Input<'_>,
        collations: &Collations,
    ) -> Result<(), Malformed> {
        match field {
            1 => self.signs(input.rest()),
            2 => self.default_charset(input, collations)?,
            3 => {
                for column in self.columns.iter_mut().filter(|c| collations.counts(c)) {
                    column.set_charset(collations.get(input.lenenc()?));
                }
            }
            4 => {
                for column in &mut self.columns {
                    let name = input.lenenc_bytes()?;
                    column.name = Some(String::from_utf8_lossy(name).into_owned());
                }
            }
            5 | 6 => self.members(if field == 5 { 248 } else { 247 }, input)?,
            10 => {
                let (usual, other) = default_collation(input)?;
                let choices = self.columns.iter_mut().filter(|c| c.is_choice());
                for (i, column) in choices.enumerate() {
                    let collation = *other.get(&i).unwrap_or(&usual);
                    column.choice_charset = collations.get(collation).cloned();
                }
            }
            11 => {
                for column in self.columns.iter_mut().filter(|c| c.is_choice()) {
                    column.choice_charset = collations.get(input.lenenc()?).cloned();
                }
            }
            8 | 9 => {
                let mut key = vec![None; self.columns.len()];
                let mut place = 0;
                while !input.is_empty() {
                    let column = input.lenenc()?;
                    if field == 9 {
                        input.lenenc()?;
                    }
                    *key.get_mut(column).ok_or(Malformed("key column that does not exist"))? =
                        Some(place);
                    place += 1;
                }
                self.key = Some(key);
            }
            _ => {}
        }
        Ok(())
    }

    /// One bit for each number, highest bit first.
    fn signs(&mut self, map: &[u8]) {
        for (i, column) in self.columns.iter_mut().filter(|c| c.is_numeric()).enumerate() {
            let sign = map.get(i / 8).is_some_and(|byte| byte & (0x80 >> (i % 8)) != 0);
            column.signed_known = true;
            if let Kind::Int { unsigned, .. } = &mut column.kind {
                *unsigned = sign;
            }
        }
    }

    fn default_charset(
        &mut self,
        input: Input<'_>,
        collations: &Collations,
    ) -> Result<(), Malformed> {
        let (usual, other) = default_collation(input)?;
        let counted = self.columns.iter_mut().filter(|c| collations.counts(c));
        for (i, column) in counted.enumerate() {
            column.set_charset(collations.get(*other.get(&i).unwrap_or(&usual)));
        }
        Ok(())
    }

    fn members(&mut self, code: u8, mut input: Input<'_>) -> Result<(), Malformed> {
        for column in self.columns.iter_mut().filter(|c| c.is_choice() && c.code == code) {
            column.choices.clear();
            for _ in 0..input.lenenc()? {
                column.choices.push(input.lenenc_bytes()?.to_vec());
            }
        }
        Ok(())
    }
}

/// The most frequent collation, and those of the columns (counted among their likes) that differ.
fn default_collation(mut input: Input<'_>) -> Result<(usize, HashMap<usize, usize>), Malformed> {
    let usual = input.lenenc()?;
    let mut other = HashMap::new();
    while !input.is_empty() {
        let column = input.lenenc()?;
        other.insert(column, input.lenenc()?);
    }
    Ok((usual, other))
}
