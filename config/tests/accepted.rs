//! What good files become.

use std::time::Duration;

use crossdock_config::{
    ClientCertificate, DatabaseKind, OnGap, Place, SnapshotMode, Tls, template,
};
use crossdock_model::TableName;
use crossdock_model::database::ZeroDates;
use secrecy::ExposeSecret;

use crate::world::{HEAD, SOURCE, World, accepted};

const FULL: &str = r#"
[crossdock]
name = "demo"
state_dir = "var/state"
listen = "127.0.0.1:9999"
[journal]
segment = "64MiB"
retain = "48h"
retain_bytes = "1GiB"
[store]
host = "db.example"
port = "${STORE_PORT:-5432}"
database = "${NOTHING:-canonical}"
user = "crossdock"
password_env = "STORE_PASSWORD"
tls = "verify-full"
ca_file = "ca.pem"
[source.wms]
kind = "mariadb"
host = "127.0.0.1"
port = 3307
database = "wms"
user = "reader"
server_id = 7101
zero_dates = "epoch"
tables = ["wms.stock", "wms.picks"]
snapshot = "when-needed"
snapshot_workers = 4
snapshot_rows_per_second = 20000
on_gap = "resync"
[source.erp]
kind = "postgres"
host = "/run/postgresql"
database = "erp"
user = "reader"
password_file = "erp.secret"
slot = "slot_1"
publication = "publication_1"
slot_failover = "off"
[target.erp]
source = "erp"
user = "writer"
password_env = "ERP_PASSWORD"
[target.copy]
kind = "mysql"
host = "mysql.example"
database = "copy"
user = "writer"
tls_client_cert = "ca.pem"
tls_client_key = "erp.secret"
batch_rows = 1000
[target.lake]
kind = "file"
folder = "lake"
format = "parquet"
region = "eu"
[mirror.stock]
source = "wms"
target = "copy"
tables = ["wms.stock", "wms.moves"]
"#;

#[test]
fn every_key_is_understood() {
    let world = World::new(FULL);
    world.file("ca.pem", b"-----BEGIN CERTIFICATE-----");
    world.file("erp.secret", b"from a file \n");
    let config = world.load().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.name, "demo");
    assert_eq!(config.state_dir, world.path("var/state"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9999");
    assert_eq!(config.journal.segment_bytes, 67_108_864);
    assert_eq!(config.journal.retain, Duration::from_secs(172_800));
    assert_eq!(config.journal.retain_bytes, 1_073_741_824);

    let store = &config.store;
    assert_eq!(
        (&*store.name, store.kind, &*store.host),
        ("store", DatabaseKind::Postgres, "db.example")
    );
    assert_eq!((store.port, &*store.database, &*store.user), (15_432, "canonical", "crossdock"));
    assert_eq!(store.password.expose_secret(), "s3cret-store");
    assert_eq!(store.tls, Tls::VerifyFull { ca_file: Some(world.path("ca.pem")), client: None });

    let names: Vec<_> = config.sources.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["wms", "erp"], "in the order of the file");
    let wms = config.source("wms").unwrap();
    assert_eq!((wms.connection.kind, wms.connection.port), (DatabaseKind::Mariadb, 3307));
    assert_eq!((&*wms.slot, &*wms.publication, wms.server_id), ("", "", 7101));
    assert_eq!(wms.tables, [TableName::new("wms", "stock"), TableName::new("wms", "picks")]);
    assert_eq!((wms.on_gap, wms.zero_dates), (OnGap::Resync, ZeroDates::Epoch));
    let read = (wms.snapshot.mode, wms.snapshot.workers, wms.snapshot.rows_per_second);
    assert_eq!(read, (SnapshotMode::WhenNeeded, 4, Some(20_000)));
    assert_eq!(wms.connection.password.expose_secret(), "");
    assert_eq!(wms.at, (world.path("crossdock.toml").display().to_string(), 18));
    let erp = config.source("erp").unwrap();
    assert!(erp.connection.is_socket());
    assert_eq!(erp.connection.port, 5432);
    assert_eq!(erp.connection.password.expose_secret(), "from a file ");
    let read = (erp.snapshot.mode, erp.snapshot.workers, erp.snapshot.rows_per_second);
    assert_eq!((read, erp.on_gap), ((SnapshotMode::Initial, 2, None), OnGap::Halt));
    let log = (&*erp.slot, &*erp.publication, erp.server_id);
    assert_eq!(log, ("slot_1", "publication_1", 0));
    assert!(!erp.slot_failover);

    let back = config.target("erp").unwrap();
    assert_eq!(back.source.as_deref(), Some("erp"));
    assert!(back.database().unwrap().same_database(&erp.connection));
    assert_eq!(&*back.database().unwrap().user, "writer");
    assert_eq!(back.database().unwrap().password.expose_secret(), "s3cret-erp");
    assert_eq!(back.batch_rows, 500);
    let copy = config.target("copy").unwrap();
    assert_eq!((copy.database().unwrap().port, copy.batch_rows), (3306, 1000));
    let lake = config.target("lake").unwrap();
    let Place::File(file) = &lake.place else { panic!("{lake:?}") };
    assert!(file.parquet);
    assert_eq!((&*lake.region, &*copy.region, &*wms.region), ("eu", "", ""));
    let client =
        ClientCertificate { cert_file: world.path("ca.pem"), key_file: world.path("erp.secret") };
    assert_eq!(
        copy.database().unwrap().tls,
        Tls::VerifyFull { ca_file: None, client: Some(client) }
    );

    assert_eq!((&*config.mirrors[0].source, &*config.mirrors[0].target), ("wms", "copy"));
    let tables: Vec<_> = config.tables_of("wms").iter().map(ToString::to_string).collect();
    assert_eq!(tables, ["wms.moves", "wms.picks", "wms.stock"]);
    assert_eq!(config.files, [world.path("crossdock.toml")]);
}

#[test]
fn little_is_enough() {
    let world = World::new(&format!("{HEAD}{SOURCE}"));
    let config = world.load().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.state_dir, world.path("state"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9180");
    assert_eq!(config.journal, crossdock_config::JournalConfig::default());
    assert_eq!(config.store.tls, Tls::Disable);
    let source = &config.sources[0];
    assert_eq!(source.slot, "crossdock_demo_erp");
    assert_eq!(source.publication, "crossdock_demo_erp");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_server_id_is_derived_from_the_names() {
    let id = |installation: &str, source: &str| {
        let head = HEAD.replace("demo", installation);
        let section = SOURCE.replace("erp]", &format!("{source}]")).replace("postgres", "mysql");
        accepted(&format!("{head}{section}")).sources[0].server_id
    };
    assert!((1_000_000_000..2_000_000_000).contains(&id("demo", "wms")));
    assert_eq!(id("demo", "wms"), id("demo", "wms"));
    assert_ne!(id("demo", "wms"), id("demo", "tms"));
    assert_ne!(id("demo", "wms"), id("test", "wms"));
}

#[test]
fn the_template_is_a_good_config() {
    let config = accepted(template());
    assert_eq!((config.sources.len(), config.targets.len()), (1, 1));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}
