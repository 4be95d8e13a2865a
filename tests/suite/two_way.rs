//! Two systems that both write, and Crossdock between them: each owns some columns and overwrites
//! the other's too, with triggers and generated columns at work. In the end both hold what the
//! owners said last, nothing runs in circles, and no write of Crossdock's counts as news.

use std::fs;
use std::time::Duration;

use crossdock_harness::{DaemonOptions, MariaDb, MySql, Postgres, free_port, wait_until};
use crossdock_tests::Crossdock;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::world::{Kind, LIMIT, Source};

const PARTS: usize = 12;
/// Writes in one script: a script is one connection, each statement a transaction.
const SCRIPT: usize = 5;
/// Overwrites of one column of one part: a system that insists is not written to for ever.
const OVERWRITES_MAX: usize = 2;

/// The ERP says what a part is; what the warehouse says of it are copies. It counts how often the
/// bin has changed.
const ERP: &str = "
    CREATE TABLE public.parts (id int PRIMARY KEY, no text NOT NULL UNIQUE, description text,
        seen int NOT NULL DEFAULT 0, bin text, label text, touched int);
    CREATE FUNCTION count_bins() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.seen := OLD.seen + 1; RETURN NEW; END $$;
    CREATE TRIGGER count_bins BEFORE UPDATE ON public.parts FOR EACH ROW
        WHEN (OLD.bin IS DISTINCT FROM NEW.bin) EXECUTE FUNCTION count_bins();
    INSERT INTO public.parts (id, no, description) SELECT i, 'P-' || i, 'new'
        FROM generate_series(1, 12) i;
    ALTER TABLE public.parts OWNER TO crossdock;";
/// The warehouse says where a part is and what stands on its label, which is made from the
/// description. It counts how often that has changed.
const WMS_POSTGRES: &str = "
    CREATE TABLE public.parts (id int PRIMARY KEY, no text NOT NULL UNIQUE, description text,
        seen int, bin text, label text, touched int NOT NULL DEFAULT 0,
        long_label text GENERATED ALWAYS AS (description || '!') STORED);
    CREATE FUNCTION make_label() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.touched := OLD.touched + 1; NEW.label := upper(NEW.description); RETURN NEW; END $$;
    CREATE TRIGGER make_label BEFORE UPDATE ON public.parts FOR EACH ROW
        WHEN (OLD.description IS DISTINCT FROM NEW.description) EXECUTE FUNCTION make_label();
    INSERT INTO public.parts (id, no, bin) SELECT i, 'P-' || i, 'A' FROM generate_series(1, 12) i;
    ALTER TABLE public.parts OWNER TO crossdock;";
const WMS_BINLOG: &str = "
    CREATE TABLE parts (id int PRIMARY KEY, no varchar(20) NOT NULL UNIQUE,
        description varchar(40), seen int, bin varchar(40),
        label varchar(40) GENERATED ALWAYS AS (upper(description)) STORED,
        touched int NOT NULL DEFAULT 0);
    CREATE TRIGGER make_label BEFORE UPDATE ON parts FOR EACH ROW
        SET NEW.touched = OLD.touched + IF(OLD.description <=> NEW.description, 0, 1);
    INSERT INTO parts (id, no, bin) VALUES (1,'P-1','A'), (2,'P-2','A'), (3,'P-3','A'),
        (4,'P-4','A'), (5,'P-5','A'), (6,'P-6','A'), (7,'P-7','A'), (8,'P-8','A'), (9,'P-9','A'),
        (10,'P-10','A'), (11,'P-11','A'), (12,'P-12','A');";

const ENTITY: &str = "[entity.part]\nprefix = \"part\"\nkey = [\"no\"]\n[entity.part.fields]\n\
    no = \"text\"\ndescription = \"text\"\nseen = \"integer\"\nbin = \"text\"\nlabel = \"text\"\n\
    touched = \"integer\"\n";
const RULES: &str = r#"
[defaults]
on_violation = "revert"
[entity.part]
owner = "wms"
[entity.part.fields]
description = { owner = "erp" }
seen = { owner = "erp" }

[[subscribe]]
name = "to_warehouse"
target = "wms"
entity = "part"
fields = ["description", "seen"]
table = "WMS.parts"
write = "update"
key = { no = 'rec.no' }
columns = { description = 'rec.description', seen = 'rec.seen' }

[[subscribe]]
name = "to_erp"
target = "erp"
entity = "part"
fields = ["bin", "label", "touched"]
table = "public.parts"
write = "update"
key = { no = 'rec.no' }
columns = { bin = 'rec.bin', label = 'rec.label', touched = 'rec.touched' }
"#;

/// Both systems, the store, and Crossdock between them.
struct Pair {
    erp: Source,
    wms: Source,
    store: Postgres,
    crossdock: Crossdock,
    /// Holds config and state.
    _folder: tempfile::TempDir,
}

fn postgres(database: &str) -> Postgres {
    let server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'pw'").unwrap();
    server.sql("postgres", &format!("CREATE DATABASE {database} OWNER crossdock")).unwrap();
    server
}

fn warehouse(kind: Kind) -> Source {
    let options = DaemonOptions::default();
    let server = match kind {
        Kind::Postgres => Source::Postgres(postgres("wms")),
        Kind::MariaDb => Source::MariaDb(MariaDb::start_with(&options).unwrap()),
        Kind::MySql => Source::MySql(MySql::start_with(&options).unwrap()),
    };
    if kind == Kind::Postgres {
        server.sql("wms", WMS_POSTGRES).unwrap();
        return server;
    }
    let (user, status) = match kind {
        Kind::MySql => ("crossdock@'127.0.0.1'", "CLIENT"),
        _ => ("crossdock@'127.0.0.1'", "CLIENT, SLAVE MONITOR"),
    };
    let sql = format!(
        "CREATE DATABASE wms; CREATE USER {user} IDENTIFIED BY 'pw';
         GRANT ALL ON wms.* TO {user};
         GRANT REPLICATION SLAVE, RELOAD, REPLICATION {status} ON *.* TO {user};"
    );
    server.sql("", &sql).unwrap();
    server.sql("wms", WMS_BINLOG).unwrap();
    server
}

impl Pair {
    fn new(kind: Kind) -> Self {
        let (erp, store) = (postgres("erp"), postgres("canonical"));
        erp.sql("erp", ERP).unwrap();
        let (erp, wms) = (Source::Postgres(erp), warehouse(kind));
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let login = |port: u16, database: &str| {
            format!(
                "host = \"127.0.0.1\"\nport = {port}\nuser = \"crossdock\"\n\
                 password_env = \"PW\"\ndatabase = \"{database}\"\n"
            )
        };
        let config = format!(
            "[crossdock]\nname = \"both\"\nlisten = \"127.0.0.1:{port}\"\n\n\
             [store]\n{}\n[source.erp]\nkind = \"postgres\"\n{}\n[source.wms]\nkind = \"{}\"\n{}\n\
             [target.erp]\nsource = \"erp\"\n[target.wms]\nsource = \"wms\"\n",
            login(store.port(), "canonical"),
            login(erp.port(), "erp"),
            wms.kind(),
            login(wms.port(), "wms"),
        );
        let schema = if kind == Kind::Postgres { "public" } else { "wms" };
        let mapping = |source: &str, schema: &str| {
            let fields = ["no", "description", "seen", "bin", "label", "touched"];
            let fields = fields.map(|f| format!("{f} = \"{f}\"\n")).concat();
            format!(
                "source = \"{source}\"\n[[table]]\ntable = \"{schema}.parts\"\nentity = \"part\"\n\
                 [table.fields]\n{fields}"
            )
        };
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("crossdock.toml", &config);
        write("entities/part.toml", ENTITY);
        write("mappings/erp.toml", &mapping("erp", "public"));
        write("mappings/wms.toml", &mapping("wms", schema));
        write("rules/parts.toml", &RULES.replace("WMS", schema));
        let env = [("PW".to_string(), "pw".to_string())];
        let path = folder.path().join("crossdock.toml");
        let crossdock = Crossdock::new(&path, &env, port, folder.path());
        Self { erp, wms, store, crossdock, _folder: folder }
    }

    /// A column of all parts in a system, by number of the part.
    fn column(&self, system: &str, column: &str) -> Vec<String> {
        let server = if system == "erp" { &self.erp } else { &self.wms };
        let sql = format!("SELECT {column} FROM parts ORDER BY id");
        server.sql(system, &sql).unwrap().lines().map(str::to_owned).collect()
    }

    fn ask(&self, sql: &str) -> String {
        self.store.sql("canonical", sql).unwrap().trim().to_owned()
    }
}

/// What one system's application writes, and what it said last of what it owns.
struct Writer {
    own: &'static str,
    others: &'static [&'static str],
    last: Vec<String>,
    overwritten: Vec<usize>,
    scripts: Vec<String>,
}

impl Writer {
    fn random(
        rng: &mut StdRng,
        writes: usize,
        own: &'static str,
        others: &'static [&'static str],
        first: &str,
    ) -> Self {
        let (last, overwritten) = (vec![first.to_owned(); PARTS], vec![0; PARTS * others.len()]);
        let mut writer = Self { own, others, last, overwritten, scripts: Vec::new() };
        let statements: Vec<String> = (0..writes).map(|n| writer.write(rng, n)).collect();
        writer.scripts = statements.chunks(SCRIPT).map(|script| script.concat()).collect();
        writer
    }

    fn write(&mut self, rng: &mut StdRng, n: usize) -> String {
        let part = rng.random_range(0..PARTS);
        let mut set = Vec::new();
        let other = rng.random_range(0..self.others.len());
        let overwritten = &mut self.overwritten[part * self.others.len() + other];
        if rng.random_bool(0.4) && *overwritten < OVERWRITES_MAX {
            *overwritten += 1;
            let value = if self.others[other].ends_with('d') || self.others[other] == "seen" {
                format!("{}", 1_000 + n)
            } else {
                format!("'overwritten {n}'")
            };
            set.push(format!("{} = {value}", self.others[other]));
        }
        if set.is_empty() || rng.random_bool(0.3) {
            let words = ["bolt", "nut", "gear"];
            self.last[part] = format!("{} {n}", words.choose(rng).unwrap());
            set.push(format!("{} = '{}'", self.own, self.last[part]));
        }
        format!("UPDATE parts SET {} WHERE id = {};\n", set.join(", "), part + 1)
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn both_converge(kind: Kind) {
    let seed = number("TWO_WAY_SEED", 1);
    let writes = usize::try_from(number("TWO_WAY_WRITES", 60)).unwrap();
    println!("TWO_WAY_SEED={seed} TWO_WAY_WRITES={writes}");
    let mut rng = StdRng::seed_from_u64(seed);
    let erp = Writer::random(&mut rng, writes, "description", &["bin", "label", "touched"], "new");
    let wms = Writer::random(&mut rng, writes, "bin", &["description", "seen"], "A");
    let mut pair = Pair::new(kind);
    pair.crossdock.start().unwrap();
    pair.crossdock.wait_caught_up(LIMIT).unwrap();
    std::thread::scope(|scope| {
        let (one, other) = (&pair.erp, &pair.wms);
        scope.spawn(|| erp.scripts.iter().for_each(|s| _ = one.sql("erp", s).unwrap()));
        scope.spawn(|| wms.scripts.iter().for_each(|s| _ = other.sql("wms", s).unwrap()));
    });
    pair.crossdock.wait_caught_up(LIMIT).unwrap();

    for system in ["erp", "wms"] {
        assert_eq!(pair.column(system, "description"), erp.last, "{system}");
        assert_eq!(pair.column(system, "bin"), wms.last, "{system}");
        let labels: Vec<String> = erp.last.iter().map(|text| text.to_uppercase()).collect();
        assert_eq!(pair.column(system, "label"), labels, "{system}: made by the warehouse");
    }
    for counted in ["seen", "touched"] {
        assert_eq!(pair.column("erp", counted), pair.column("wms", counted), "{counted}");
    }
    rests(&pair, writes);
}

/// Nothing goes on, nothing went in circles, and no write of ours was taken for news.
fn rests(pair: &Pair, writes: usize) {
    let sums = "SELECT sum(version), max(version) FROM crossdock.record;
                SELECT count(*) FROM crossdock.delivery";
    let before = pair.ask(sums);
    let moved = || pair.ask(sums) != before;
    assert!(!wait_until(Duration::from_secs(2), moved), "{before}, then {}", pair.ask(sums));
    let versions: usize = before.split('|').next().unwrap().parse().unwrap();
    // A write of an owner makes a version, and so do its trigger's echoes: at most one from each
    // of the two systems' counters. A write that is put back can make a counter move twice.
    let most = PARTS * 4 + writes * 2 * 4;
    assert!(versions <= most, "{versions} versions after {writes} writes on each side");
    let status = pair.crossdock.status().unwrap();
    assert_eq!(status["echo_leaked_total"], 0, "{status:#}");
    for counted in ["echo_dropped_total", "withheld_total"] {
        assert!(status[counted].as_u64().unwrap() > 0, "{counted}: nothing was tried: {status:#}");
    }
    let open = pair.ask("SELECT count(*) FROM crossdock.exception WHERE open");
    assert_eq!(open, "0", "{}", pair.ask("SELECT kind, text FROM crossdock.exception WHERE open"));
}

#[test]
fn two_way_postgres_converges() {
    both_converge(Kind::Postgres);
}

#[test]
fn two_way_mariadb_converges() {
    both_converge(Kind::MariaDb);
}

#[test]
fn two_way_mysql_converges() {
    if MySql::installed() {
        both_converge(Kind::MySql);
    }
}
