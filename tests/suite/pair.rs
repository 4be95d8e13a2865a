//! An ERP and a warehouse that both write, with triggers and generated columns at work, and a
//! Crossdock between them.

use std::fs;

use crossdock_harness::{DaemonOptions, MariaDb, MySql, Postgres, free_port};
use crossdock_tests::Crossdock;

use crate::world::{Kind, Source};

/// Parts that both systems have.
pub const PARTS: usize = 12;

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

/// Both systems, the store, and Crossdock between them.
pub struct Pair {
    pub erp: Source,
    pub wms: Source,
    pub store: Postgres,
    pub crossdock: Crossdock,
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
    /// The warehouse of a kind, and rules in which `WMS` stands for the schema of its table.
    pub fn new(kind: Kind, rules: &str) -> Self {
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
        write("rules/parts.toml", &rules.replace("WMS", schema));
        let env = [("PW".to_string(), "pw".to_string())];
        let path = folder.path().join("crossdock.toml");
        let crossdock = Crossdock::new(&path, &env, port, folder.path());
        Self { erp, wms, store, crossdock, _folder: folder }
    }

    /// A column of all parts in a system, by number of the part.
    pub fn column(&self, system: &str, column: &str) -> Vec<String> {
        let server = if system == "erp" { &self.erp } else { &self.wms };
        let sql = format!("SELECT {column} FROM parts ORDER BY id");
        server.sql(system, &sql).unwrap().lines().map(str::to_owned).collect()
    }

    /// Asks the canonical store.
    pub fn ask(&self, sql: &str) -> String {
        self.store.sql("canonical", sql).unwrap().trim().to_owned()
    }
}
