//! Every character set of the servers, with all characters it has in common with Unicode's basic
//! plane: what the stream decodes is what the server itself converts for the snapshot, and both
//! are the characters that were put in.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_capture::DatabaseKind;
use crossdock_model::{Op, RowImage};

use super::rig::{Rig, Server, on_both, options};

on_both!(every_character_of_every_set);

/// Characters that are looked for by name in some sets, so that empty ones are noticed.
const MUST_HAVE: &[(&str, &str)] = &[
    ("big5", "中文"),
    ("cp1251", "Жя"),
    ("cp932", "日本語①ｱ"),
    ("eucjpms", "日本語①ｱ"),
    ("euckr", "한글"),
    ("gb18030", "中文Ж한€ꀀ\u{1f69a}"),
    ("gb2312", "中文"),
    ("gbk", "中文"),
    ("greek", "Ωλ"),
    ("hebrew", "שלום"),
    ("latin1", "Müll€"),
    ("latin2", "Łódź"),
    ("latin5", "ğİ"),
    ("latin7", "Žēļš"),
    ("sjis", "日本語ｱ"),
    ("swe7", "Åå"),
    ("tis620", "ไทย"),
    ("ucs2", "日한Ж"),
    ("ujis", "日本語ｱ丂"),
    ("utf16", "日한Ж\u{1f69a}"),
    ("utf16le", "日한Ж\u{1f69a}"),
    ("utf32", "日한Ж\u{1f69a}"),
    ("utf8mb3", "日한Ж"),
    ("utf8mb4", "日한Ж\u{1f69a}"),
];

/// The basic plane without controls, and some characters beyond it.
fn characters() -> impl Iterator<Item = char> {
    let beyond = [0x1_0000, 0x1_f69a, 0x2_0000, 0x10_fffd];
    (0x20..=0xfffd).chain(beyond).filter_map(char::from_u32).filter(|c| !c.is_control())
}

/// A table with a text of each character set, and rows of up to 256 characters.
fn fill(server: &Server, sets: &[String]) {
    let columns: Vec<_> = sets.iter().map(|s| format!("c_{s} TEXT CHARACTER SET {s}")).collect();
    let binary = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
    let mut script = format!(
        "CREATE DATABASE wms; USE wms; SET group_concat_max_len = 1000000, sql_mode = '';
         CREATE TABLE chars(block INT, u VARCHAR(1) {binary}, KEY (block)) ENGINE = MyISAM;
         CREATE TABLE sets(id INT PRIMARY KEY AUTO_INCREMENT, {});\n",
        columns.join(", ")
    );
    let all: Vec<_> = characters().collect();
    for some in all.chunks(2000) {
        let values: Vec<_> = some
            .iter()
            .map(|c| {
                let mut utf8 = [0; 4];
                let bytes = c.encode_utf8(&mut utf8).bytes();
                let digits: String = bytes.map(|byte| format!("{byte:02x}")).collect();
                format!("({}, _utf8mb4 x'{digits}')", u32::from(*c) >> 8)
            })
            .collect();
        script.push_str(&format!("INSERT INTO chars VALUES {};\n", values.join(",")));
    }
    server.sql("", &script).unwrap();
}

fn insert(server: &Server, sets: &[String]) {
    let mut script = "SET group_concat_max_len = 1000000, sql_mode = '';\n".to_string();
    for set in sets {
        script.push_str(&format!(
            "INSERT INTO sets(c_{set}) SELECT GROUP_CONCAT(u ORDER BY u SEPARATOR '') FROM chars \
             WHERE BINARY CONVERT(CONVERT(u USING {set}) USING utf8mb4) = BINARY u \
             GROUP BY block ORDER BY block;\n"
        ));
    }
    server.sql("wms", &script).unwrap();
}

/// The texts by character set.
fn texts(rig: &Rig, op: Op) -> BTreeMap<String, Vec<String>> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in rig.events("sets").into_iter().filter(|event| event.op == op) {
        let schema = event.table.as_ref().unwrap();
        let Some(RowImage::Full(values)) = &event.after else { panic!("{event:?}") };
        for (column, value) in schema.columns.iter().zip(values).skip(1) {
            if let Some(text) = value.to_text() {
                texts.entry(column.name[2..].to_string()).or_default().push(text);
            }
        }
    }
    texts
}

async fn every_character_of_every_set(kind: DatabaseKind) {
    let server = Server::start(kind);
    let sql = "SELECT character_set_name FROM information_schema.character_sets
               WHERE character_set_name <> 'binary' ORDER BY 1";
    let sets: Vec<String> = server.sql("", sql).unwrap().lines().map(String::from).collect();
    assert!(sets.len() > 35, "{sets:?}");
    fill(&server, &sets);
    let options = options(&server, &["wms.sets"]);
    let mut streaming = Rig::open(&options, None).await;
    streaming.snapshot().await;
    insert(&server, &sets);
    let rows: usize =
        server.sql("wms", "SELECT COUNT(*) FROM sets").unwrap().trim().parse().unwrap();
    streaming.until(|rig| rig.events("sets").len() == rows).await;
    let mut other = options.clone();
    other.server_id += 1;
    let mut copying = Rig::open(&other, None).await;
    copying.snapshot().await;
    let (streamed, copied) = (texts(&streaming, Op::Create), texts(&copying, Op::Read));
    assert_eq!(streamed.keys().collect::<Vec<_>>(), sets.iter().collect::<Vec<_>>());
    for set in &sets {
        assert_eq!(streamed[set], copied[set], "{set}");
        // Characters come in the order of the basic plane; one that is wrong is out of place.
        let characters: Vec<char> = streamed[set].concat().chars().collect();
        assert!(characters.is_sorted(), "{set}");
        let found: BTreeSet<char> = characters.iter().copied().collect();
        assert_eq!(found.len(), characters.len(), "{set}");
        let missing = MUST_HAVE.iter().filter(|(name, _)| name == set);
        let missing: String =
            missing.flat_map(|(_, text)| text.chars()).filter(|c| !found.contains(c)).collect();
        assert!(missing.is_empty(), "{set} lacks {missing}");
    }
}
