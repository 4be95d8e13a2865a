//! What the server does to its log on disk does not show: checksums, encryption.

use crossdock_capture::DatabaseKind;
use crossdock_model::Position;

use super::rig::{Rig, Server, on_both, options};

on_both!(checksums_are_turned_off_and_on_again);

const ITEM: &str = "CREATE DATABASE wms; USE wms; CREATE TABLE item(id INT PRIMARY KEY, n INT);";

async fn checksums_are_turned_off_and_on_again(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", ITEM).unwrap();
    let options = options(&server, &["wms.item"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let begin = rig.durable.clone().unwrap();
    let mut places: Vec<Position> = vec![begin];
    for (id, checksum) in [(1, "NONE"), (2, "NONE"), (3, "CRC32"), (4, "CRC32"), (5, "NONE")] {
        let change = format!(
            "SET GLOBAL binlog_checksum = {checksum}; FLUSH BINARY LOGS;
             INSERT INTO wms.item VALUES ({id}, {id})"
        );
        server.sql("", &change).unwrap();
        rig.until(|rig| rig.events("item").len() == id).await;
        places.push(rig.durable.clone().unwrap());
    }
    // From each place to the end, by GTID, and by file and offset.
    for (read, place) in places.into_iter().enumerate() {
        let Position::Binlog { file, offset, .. } = place.clone() else { panic!("{place:?}") };
        let bare = Position::Binlog { file, offset, gtid: String::new() };
        for from in [place, bare] {
            let mut other = options.clone();
            other.server_id += 1;
            let mut again = Rig::open(&other, Some(&from)).await;
            let missing = 5 - read;
            again.until(|rig| rig.events("item").len() == missing).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_binlog_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("1;{}\n", "0123456789abcdef".repeat(4))).unwrap();
    let (keys, readable) = (
        keys.display().to_string(),
        std::process::Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(folder.path())
            .status()
            .unwrap(),
    );
    assert!(readable.success());
    let settings = [
        ("plugin_load_add", "file_key_management"),
        ("file_key_management_filename", keys.as_str()),
        ("encrypt_binlog", "ON"),
    ];
    let server = Server::start_with(DatabaseKind::Mariadb, &settings);
    server.sql("", ITEM).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.item"]), None).await;
    rig.snapshot().await;
    for id in 1..=3 {
        server
            .sql("wms", &format!("INSERT INTO item VALUES ({id}, 0); FLUSH BINARY LOGS"))
            .unwrap();
    }
    rig.until(|rig| rig.events("item").len() == 3).await;
    let file = server.sql("", "SHOW BINARY LOGS").unwrap();
    assert!(file.lines().count() > 3, "{file}");
    let encrypted = server.sql("", "SELECT @@encrypt_binlog").unwrap();
    assert_eq!(encrypted.trim(), "1");
}
