//! A source, a store and one target of each kind, each on a server of its own that can be killed;
//! and the account of what the source has committed, by which all of them are judged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crossdock_harness::service::Service;
use crossdock_harness::{DaemonOptions, Field, MariaDb, MySql, Postgres, parquet_rows, wait_until};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value as Json;

use crate::world::{self, Kind, LIMIT, Source, World};

/// Parcels that there are; they only change, so that a late round takes as long as an early one.
const PARCELS: u32 = 60;
/// Parcels that are as heavy are refused by everybody who can, until that is lifted. No other
/// weight begins with a 1, by which the service knows them.
const HEAVY: u32 = 1_000;

/// What the source commits stands in `written` in order: an account that knows no Crossdock.
const ON_POSTGRES: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight int);
     CREATE TABLE written (n bigserial, no int, weight int);
     CREATE FUNCTION account() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO written (no, weight) VALUES (NEW.no, NEW.weight); RETURN NEW; END $$;
     CREATE TRIGGER account AFTER INSERT OR UPDATE ON parcels
         FOR EACH ROW EXECUTE FUNCTION account();
     CREATE PUBLICATION crossdock FOR TABLE parcels;
     GRANT SELECT ON parcels TO crossdock;
     INSERT INTO parcels SELECT n, n + 200 FROM generate_series(1, {}) AS n;";
/// The same.
const ON_MARIADB: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight int);
     CREATE TABLE written (n bigint AUTO_INCREMENT PRIMARY KEY, no int, weight int);
     CREATE TRIGGER added AFTER INSERT ON parcels FOR EACH ROW
         INSERT INTO written (no, weight) VALUES (NEW.no, NEW.weight);
     CREATE TRIGGER changed AFTER UPDATE ON parcels FOR EACH ROW
         INSERT INTO written (no, weight) VALUES (NEW.no, NEW.weight);
     INSERT INTO parcels SELECT seq, seq + 200 FROM seq_1_to_{};";
const ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                      no = \"integer\"\nweight = \"integer\"\n";
const MAPPING: &str = "source = \"shop\"\n\n[[table]]\ntable = \"{}.parcels\"\n\
     entity = \"parcel\"\n\n[table.fields]\nno = \"no\"\nweight = \"weight\"\n";
const LANES: &str = "[entity.parcel]\nowner = \"shop\"\n\n\
     [[lane]]\nname = \"critical\"\nkinds = [\"even\"]\nweight = 8\n\n\
     [[lane]]\nname = \"rest\"\ndefault = true\n";
/// `seen` has every attempt that was committed, also of a row that is there already.
const POSTGRES: &str = "CREATE TABLE inbox (event_id text PRIMARY KEY, no int, weight int,
         kind text);
     CREATE TABLE seen (n serial, event_id text, no int, weight int, kind text);
     CREATE TABLE mood (refuses int);
     INSERT INTO mood VALUES (1);
     CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
            IF NEW.weight >= 1000 AND (SELECT refuses FROM mood) = 1 THEN
                RAISE EXCEPTION 'too heavy';
            END IF;
            INSERT INTO seen (event_id, no, weight, kind)
            VALUES (NEW.event_id, NEW.no, NEW.weight, NEW.kind); RETURN NEW; END $$;
     CREATE TRIGGER see BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION see();
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;
     GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO crossdock;";
const MYSQL: &str = "CREATE TABLE inbox (event_id varchar(40) PRIMARY KEY, no int, weight int,
         kind varchar(10));
     CREATE TABLE seen (n int AUTO_INCREMENT PRIMARY KEY, event_id varchar(40), no int,
         weight int, kind varchar(10));
     CREATE TABLE mood (refuses int);
     INSERT INTO mood VALUES (1);
     DELIMITER //
     CREATE TRIGGER see BEFORE INSERT ON inbox FOR EACH ROW BEGIN
         IF NEW.weight >= 1000 AND (SELECT refuses FROM mood) = 1 THEN
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'too heavy';
         END IF;
         INSERT INTO seen (event_id, no, weight, kind)
         VALUES (NEW.event_id, NEW.no, NEW.weight, NEW.kind);
     END//";

/// What the source does besides a few changes that everybody takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heat {
    /// Nothing.
    Light,
    /// Two changes to something that is refused: one of a parcel that is in both lanes, and one
    /// of a parcel that is in one lane alone. What follows of these waits behind them.
    Heavy,
    /// A new parcel that is refused: nothing of it waits yet, so that its own lane meets it.
    Refused,
    /// A new parcel whose first change is in one lane, and its second in both.
    Crossing,
}

/// One delivery as a target has it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    no: u32,
    event: String,
    kind: String,
    weight: u32,
}

/// A target that is a database, on a server of its own.
pub struct Database {
    name: &'static str,
    pub server: Source,
}

/// Everything.
pub struct Plant {
    pub world: World,
    databases: Vec<Database>,
    service: Service,
    refuses: bool,
    /// Where the parcels are in the source, and in the mirror.
    schema: &'static str,
    /// Number of the last parcel.
    fresh: u32,
}

/// Names of the targets: databases, a service, files of lines and of Parquet.
pub fn targets() -> Vec<&'static str> {
    let mysql = MySql::installed().then_some("mysql");
    ["pg", "maria"].into_iter().chain(mysql).chain(["portal", "lines", "lake"]).collect()
}

impl Database {
    /// Starts it, with an empty inbox.
    pub fn new(name: &'static str, kind: Kind) -> Self {
        let options = DaemonOptions::default();
        let server = match kind {
            Kind::Postgres => {
                let server = Postgres::start().unwrap();
                world::database(&server, "told");
                server.sql("told", POSTGRES).unwrap();
                return Self { name, server: Source::Postgres(server) };
            }
            Kind::MariaDb => Source::MariaDb(MariaDb::start_with(&options).unwrap()),
            Kind::MySql => Source::MySql(MySql::start_with(&options).unwrap()),
        };
        let user = "crossdock@'127.0.0.1'";
        let sql = format!(
            "CREATE DATABASE told; CREATE USER {user} IDENTIFIED BY 'pw'; GRANT ALL ON told.* TO {user};"
        );
        server.sql("", &sql).unwrap();
        server.sql("told", MYSQL).unwrap();
        Self { name, server }
    }

    fn told(&self) -> Vec<Told> {
        let sql = "SELECT no, event_id, kind, weight FROM seen ORDER BY n";
        let told = |row: &str| {
            let [no, event, kind, weight] = row.split('|').collect::<Vec<_>>()[..] else {
                panic!("{row}")
            };
            let (event, kind) = (event.into(), kind.into());
            Told { no: no.parse().unwrap(), event, kind, weight: weight.parse().unwrap() }
        };
        self.ask(sql).lines().map(told).collect()
    }

    /// Its section of the config.
    pub fn config(&self) -> String {
        format!(
            "\n[target.{}]\nkind = \"{}\"\nhost = \"127.0.0.1\"\nport = {}\n\
             user = \"crossdock\"\npassword_env = \"PW\"\ndatabase = \"told\"\n\
             exceptions_max = 100000\n",
            self.name,
            self.server.kind(),
            self.server.port()
        )
    }

    /// Where its tables are.
    pub fn schema(&self) -> &'static str {
        schema(self.server.kind())
    }

    /// Runs SQL.
    pub fn ask(&self, sql: &str) -> String {
        self.server.sql("told", sql).unwrap().trim().to_string()
    }

    /// Whether what is heavy is refused.
    pub fn refuse(&self, refuses: bool) {
        self.ask(&format!("UPDATE mood SET refuses = {}", u8::from(refuses)));
    }
}

/// Where the tables of a kind of database are.
fn schema(kind: &str) -> &'static str {
    if kind.starts_with('m') { "told" } else { "public" }
}

fn rules() -> String {
    let mut rules = LANES.to_string();
    for target in targets() {
        // The names of the targets begin as those of the kinds do.
        let schema = schema(target);
        // Two rules for one record, in two lanes.
        for (kind, when) in [("all", "true"), ("even", "rec.weight % 2 == 0")] {
            rules += &format!(
                "\n[[subscribe]]\nname = \"{target}_{kind}\"\nkind = \"{kind}\"\n\
                 entity = \"parcel\"\nfields = [\"weight\"]\nwhen = '{when}'\n\
                 target = \"{target}\"\ntable = \"{schema}.inbox\"\nwrite = \"insert\"\n\
                 key = {{ event_id = 'event_id' }}\n\
                 columns = {{ no = 'rec.no', weight = 'rec.weight', kind = '\"{kind}\"' }}\n"
            );
        }
    }
    rules
}

impl Plant {
    /// Starts all servers, with a source of some kind, and so many workers for each target that can
    /// have several; Crossdock has been caught up once and stands.
    pub fn new(source: Kind, workers: usize) -> Self {
        let table = |text: &str| text.replace("{}", &PARCELS.to_string());
        let (mut world, schema) = match source {
            Kind::Postgres => {
                (World::new(&table(ON_POSTGRES), "publication = \"crossdock\""), "public")
            }
            kind => {
                let tables = "tables = [\"shop.parcels\"]";
                (World::on_binlog(kind, &table(ON_MARIADB), tables), "shop")
            }
        };
        let mirrored = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; GRANT USAGE ON SCHEMA {schema} TO crossdock;
             CREATE TABLE {schema}.parcels (no int PRIMARY KEY, weight int);
             GRANT ALL ON {schema}.parcels TO crossdock"
        );
        world.store.sql("copy", &mirrored).unwrap();
        let service = Service::start().unwrap();
        let mut databases =
            vec![Database::new("pg", Kind::Postgres), Database::new("maria", Kind::MariaDb)];
        if MySql::installed() {
            databases.push(Database::new("mysql", Kind::MySql));
        }
        world.file("entities/all.toml", ENTITY);
        world.file("mappings/shop.toml", &MAPPING.replace("{}", schema));
        world.file("rules/all.toml", &rules());
        let workers = format!("workers = {workers}\n");
        databases.iter().for_each(|database| world.append(&(database.config() + &workers)));
        world.append(&format!(
            "\n[target.portal]\nkind = \"http\"\nurl = \"http://127.0.0.1:{}/hooks\"\n\
             on_conflict = \"done\"\nexceptions_max = 100000\n{workers}\n[target.lines]\nkind = \"file\"\n\
             folder = \"lines\"\nrotate_bytes = \"4KiB\"\n\n[target.lake]\nkind = \"file\"\n\
             folder = \"lake\"\nrotate_bytes = \"4KiB\"\nformat = \"parquet\"\n\n[mirror.parcels]\nsource = \"shop\"\n\
             target = \"copy\"\ntables = [\"{schema}.parcels\"]\n",
            service.port()
        ));
        world.start();
        world.crossdock.kill();
        let mut plant = Self { world, databases, service, refuses: false, schema, fresh: PARCELS };
        plant.refuse(true);
        plant
    }

    /// Whether everybody who can refuses what is heavy.
    pub fn refuse(&mut self, refuses: bool) {
        if self.refuses != refuses {
            self.databases.iter().for_each(|database| database.refuse(refuses));
            self.service.refuse(refuses.then_some("\"weight\":1"));
            self.refuses = refuses;
        }
    }

    /// Lets what was refused be tried again.
    pub fn retry(&self) {
        let retry = ["exceptions", "retry", "--all", "--by", "test"];
        // Without effect while the store is away.
        let _ = self.world.crossdock.run(&retry);
    }

    /// The source commits some changes.
    pub fn change(&mut self, random: &mut StdRng, heat: Heat) {
        let mut sql = String::new();
        let mut put = |no: u32, weight: u32| {
            sql += &format!("UPDATE parcels SET weight = {weight} WHERE no = {no};\n");
        };
        for _ in 0..3 {
            put(random.random_range(1..=PARCELS), random.random_range(200..900));
        }
        let mut heavy = |odd| HEAVY + 2 * random.random_range(0..450) + odd;
        match heat {
            Heat::Light => {}
            Heat::Heavy => {
                for odd in [0, 1] {
                    let weight = heavy(odd);
                    put(weight % PARCELS + 1, weight);
                }
            }
            Heat::Refused => {
                // In one lane alone: else it is taken out of both, and no lane passes over it.
                let weight = heavy(1);
                self.fresh += 1;
                sql += &format!("INSERT INTO parcels VALUES ({}, {weight});\n", self.fresh);
            }
            Heat::Crossing => {
                self.fresh += 1;
                let no = self.fresh;
                sql += &format!("INSERT INTO parcels VALUES ({no}, 201);\n");
                sql += &format!("UPDATE parcels SET weight = 202 WHERE no = {no};\n");
            }
        }
        self.world.sql(&sql);
    }

    /// Kills the server of a target; that of files is the disk, which stays.
    pub fn kill_target(&mut self, target: &str) {
        match self.databases.iter_mut().find(|database| database.name == target) {
            Some(database) => database.server.kill(),
            None => self.service.kill(),
        }
    }

    /// Starts everything again that was killed.
    pub fn start_servers(&mut self) {
        self.world.server.start_again();
        self.world.store.start_again().unwrap();
        self.databases.iter_mut().for_each(|database| database.server.start_again());
        self.service.start_again();
    }

    /// Everything that was refused is let in, and everybody has been told everything, once and in
    /// order.
    pub fn settle(&mut self) {
        self.refuse(false);
        if self.world.crossdock.pid().is_none() {
            self.world.crossdock.start().unwrap();
        }
        let open = "SELECT count(*) FROM crossdock.parked
                    WHERE state IN ('failed', 'behind', 'again')";
        let mut left = u64::MAX;
        let settled = loop {
            // One that was refused just now may come after those that are tried again.
            self.retry();
            let before = left;
            let fewer = wait_until(LIMIT, || {
                let now = self.world.store.sql("canonical", open);
                left = now.ok().and_then(|n| n.trim().parse().ok()).unwrap_or(left);
                left < before || left == 0
            });
            if !fewer || left == 0 {
                break fewer;
            }
        };
        let waiting = "SELECT p.target, p.state, coalesce(e.kind, '-'), count(*), min(p.seq),
                           min(p.again), max(p.again), max(p.attempts), max(p.changed_at)
                       FROM crossdock.parked p LEFT JOIN crossdock.exception e ON e.id = p.exception
                       GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        let waiting = || self.world.store.sql("canonical", waiting).unwrap();
        let status =
            || self.world.crossdock.status().map_or_else(|e| e.to_string(), |s| s.to_string());
        let log = self.world.crossdock.log_tail();
        assert!(settled, "deliveries wait for ever\n{}\n{}\n{log}", waiting(), status());
        self.world.crossdock.wait_caught_up(LIMIT).unwrap();
        let account = self.account();
        for name in targets() {
            let owed = self.owed(name);
            let mut told = Vec::new();
            let same = wait_until(LIMIT, || {
                told = by_parcel(self.told(name));
                told.len() >= owed.len()
            });
            let log = self.world.crossdock.log_tail();
            assert!(same, "{name}: {} owed, {} told\n{log}", owed.len(), told.len());
            check(name, &account, &owed, told);
        }
        self.check_copies();
    }

    fn check_copies(&self) {
        let rows = format!("SELECT no, weight FROM {}.parcels ORDER BY no", self.schema);
        let expected = self.world.sql(&rows);
        let mirrored = || self.world.store.sql("copy", &rows).unwrap().trim() == expected;
        assert!(wait_until(LIMIT, mirrored), "the mirror differs");
        let records = "SELECT fields ->> 'no', fields ->> 'weight' FROM crossdock.record
                       ORDER BY (fields ->> 'no')::int";
        assert_eq!(self.world.store.sql("canonical", records).unwrap().trim(), expected);
        let log = self.world.crossdock.log_tail();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// The weights that each parcel has had, as the source has it.
    fn account(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut account: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for row in self.world.sql("SELECT no, weight FROM written ORDER BY n").lines() {
            let (no, weight) = row.split_once('|').unwrap();
            let weights = account.entry(no.parse().unwrap()).or_default();
            let weight = weight.parse().unwrap();
            // The same once more is no change.
            if weights.last() != Some(&weight) {
                weights.push(weight);
            }
        }
        account
    }

    /// Ids of what a target is owed, in the order of each parcel.
    fn owed(&self, target: &str) -> Vec<(u32, String)> {
        let sql = format!(
            "SELECT substr(key, 5), event_id FROM crossdock.delivery WHERE target = '{target}'
             ORDER BY substr(key, 5)::int, seq"
        );
        let rows = self.world.store.sql("canonical", &sql).unwrap();
        let pair = |row: &str| {
            let (no, event) = row.split_once('|').unwrap();
            (no.parse().unwrap(), event.to_string())
        };
        rows.lines().map(pair).collect()
    }

    fn told(&self, target: &str) -> Vec<Told> {
        match (target, self.databases.iter().find(|database| database.name == target)) {
            (_, Some(database)) => database.told(),
            ("portal", None) => {
                let taken = self.service.log().lock().unwrap().taken.clone();
                taken.iter().map(|taken| document(&taken.body)).collect()
            }
            ("lake", None) => {
                let folder = self.world.config().with_file_name("lake");
                let closed = parquet_rows(&folder).unwrap();
                closed.iter().map(row).chain(lines(&folder)).collect()
            }
            _ => lines(&self.world.config().with_file_name("lines")),
        }
    }
}

/// The lines of a folder, in the order of its files.
fn lines(folder: &Path) -> Vec<Told> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().contains(".jsonl"));
    paths.sort();
    let text: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(document).collect()
}

/// A delivery as Parquet has it: a column that is nothing but a field has that field's type.
fn row(row: &BTreeMap<String, Field>) -> Told {
    let number = |name: &str| match row[name] {
        Field::Long(number) => u32::try_from(number).unwrap(),
        ref other => panic!("{name} is {other}"),
    };
    let text = |name: &str| match &row[name] {
        Field::Str(text) => text.clone(),
        other => panic!("{name} is {other}"),
    };
    Told {
        no: number("no"),
        event: text("_event_id"),
        kind: text("kind"),
        weight: number("weight"),
    }
}

/// A delivery as services and files have it.
fn document(text: &str) -> Told {
    let document: Json = serde_json::from_str(text).unwrap();
    let columns = &document["writes"][0]["columns"];
    let number = |value: &Json| u32::try_from(value.as_u64().unwrap()).unwrap();
    Told {
        no: number(&columns["no"]),
        event: document["event_id"].as_str().unwrap().into(),
        kind: columns["kind"].as_str().unwrap().into(),
        weight: number(&columns["weight"]),
    }
}

/// Sorts by parcel, and keeps the order of each.
fn by_parcel(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by_key(|told| told.no);
    told
}

/// Nothing is lost, doubled or out of order: by the store's account, and by the source's.
fn check(name: &str, account: &BTreeMap<u32, Vec<u32>>, owed: &[(u32, String)], told: Vec<Told>) {
    let ids: Vec<(u32, String)> = told.iter().map(|t| (t.no, t.event.clone())).collect();
    let first = owed.iter().zip(&ids).find(|(a, b)| a != b);
    assert!(owed == ids, "{name}: {} owed, {} told, {first:?}", owed.len(), ids.len());
    for (no, weights) in account {
        let of = |kind: &str| -> Vec<u32> {
            told.iter().filter(|t| t.no == *no && t.kind == kind).map(|t| t.weight).collect()
        };
        assert_eq!(of("all"), *weights, "{name}: what parcel {no} has weighed");
        let even: Vec<u32> = weights.iter().copied().filter(|w| w % 2 == 0).collect();
        assert_eq!(of("even"), even, "{name}: even weights of parcel {no}");
    }
}
