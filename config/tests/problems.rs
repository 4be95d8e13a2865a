//! One mistake each, and exactly what the user is told.

use crate::world::{HEAD, SOURCE, World, refused};

/// A good config with lines added below the source: the first of them is line 17.
fn below(lines: &str) -> String {
    format!("{HEAD}{}{lines}\n", SOURCE.trim_end_matches('\n').to_string() + "\n")
}

/// A good config in which a text is replaced.
fn with(from: &str, to: &str) -> String {
    let good = format!("{HEAD}{SOURCE}");
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1)
}

#[test]
fn unknown_keys_and_sections() {
    refused(
        &below("tabels = [\"public.orders\"]"),
        "
crossdock.toml:17: unknown key `tabels` in [source.erp]
    did you mean `tables`?",
    );
    refused(
        &below("[sorce.wms]"),
        "
crossdock.toml:17: unknown section `sorce`
    did you mean `source`?",
    );
    refused(
        &with("name = \"demo\"", "name = \"demo\"\nzebra = 1"),
        "
crossdock.toml:3: unknown key `zebra` in [crossdock]
    possible here: name, state_dir, listen, entities, mappings, rules",
    );
}

#[test]
fn a_registry_without_a_password() {
    refused(
        &below("[registry]"),
        "
crossdock.toml:17: [registry] has no password
    add `password_env = \"NAME\"` or `password_file = \"/run/secrets/…\"`",
    );
}

#[test]
fn missing_sections_and_keys() {
    refused(
        "",
        "
crossdock.toml: has no section [crossdock]
    add `[crossdock]` and below it `name = \"demo\"`
crossdock.toml: has no section [store]
    add `[store]` with the PostgreSQL database that keeps the records
crossdock.toml: has no source
    add `[source.NAME]` with the database to capture",
    );
    refused(
        &with("host = \"localhost\"\n", ""),
        "
crossdock.toml:11: [source.erp] has no `host`
    add `host = \"127.0.0.1\"`",
    );
    refused(
        &with("kind = \"postgres\"\n", ""),
        "
crossdock.toml:11: [source.erp] has no `kind`
    add `kind = \"postgres\"`",
    );
    refused(
        &with("host = \"localhost\"", "host = \" \""),
        "
crossdock.toml:13: `host` is empty
    write for example `host = \"127.0.0.1\"`",
    );
}

#[test]
fn wrong_types() {
    refused(
        &with("host = \"localhost\"", "host = 5"),
        "
crossdock.toml:13: `host` is a number
    `host` takes a text in quotes",
    );
    refused(
        &below("tables = \"public.orders\""),
        "
crossdock.toml:17: `tables` is a text
    `tables` takes a list of texts, `[\"…\", \"…\"]`",
    );
    refused(
        &below("port = true"),
        "
crossdock.toml:17: `port` is true or false
    `port` takes a number",
    );
    refused(
        &format!("journal = 5\n{HEAD}{SOURCE}"),
        "
crossdock.toml:1: `journal` is a number, not a section
    write `[journal]` and its settings below it",
    );
}

#[test]
fn syntax_errors() {
    refused(
        &with("host = \"localhost\"", "host = localhost"),
        "
crossdock.toml:13: string values must be quoted, expected literal string
    mend the TOML: texts stand in quotes, one setting a line",
    );
    refused(
        &below("kind = \"mysql\""),
        "
crossdock.toml:17: duplicate key
    mend the TOML: texts stand in quotes, one setting a line",
    );
}

#[test]
fn values_that_cannot_be() {
    refused(
        &below("port = 70_000"),
        "
crossdock.toml:17: `port` is not a whole number: `70000`
    write a number from 1 to 65535",
    );
    refused(
        &with("postgres", "oracle"),
        "
crossdock.toml:12: `kind` cannot be `oracle`
    write one of: postgres, mysql, mariadb",
    );
    refused(
        &below("[journal]\nsegment = \"128 megs\"\nretain = \"forever\""),
        "
crossdock.toml:18: `segment` cannot be `128 megs`
    write it like \"128MiB\", from 1MiB to 4GiB
crossdock.toml:19: `retain` cannot be `forever`
    write it like \"7d\", from 1s to 3650d",
    );
    refused(
        &below("[journal]\nsegment = \"1GiB\"\nretain_bytes = \"1GiB\""),
        "
crossdock.toml:19: `retain_bytes` is less than two segments
    only whole segments are removed: make `segment` smaller or `retain_bytes` larger",
    );
    refused(
        &with("name = \"demo\"", "name = \"Demo 1\"\nlisten = \"localhost\""),
        "
crossdock.toml:2: `Demo 1` cannot be the name of an installation
    use a small letter, then small letters, digits and `_`, at most 40 together
crossdock.toml:3: `listen` is not an address and port: `localhost`
    write for example `listen = \"127.0.0.1:9180\"`",
    );
    refused(
        &below("tables = [\n  \"orders\",\n  \"public.lines\", \"public.lines\",\n]"),
        "
crossdock.toml:18: `orders` is not the name of a table
    write schema and table: \"public.orders\" (MySQL, MariaDB: \"database.orders\")
crossdock.toml:19: `public.lines` is listed twice
    remove one of them",
    );
}

#[test]
fn settings_of_a_source() {
    refused(
        &below("slot = \"Crossdock-ERP\""),
        "
crossdock.toml:17: `Crossdock-ERP` cannot be the name of a slot
    `slot` takes 1 to 63 small letters, digits and `_`",
    );
    refused(
        &below("server_id = 5"),
        "
crossdock.toml:17: `server_id` has no meaning for kind `postgres`
    remove it; it is for mysql and mariadb",
    );
    refused(
        &below("slot = \"x\"\npublication = \"x\"").replace("postgres", "mariadb"),
        "
crossdock.toml:17: `slot` has no meaning for kind `mariadb`
    remove it; it is for postgres
crossdock.toml:18: `publication` has no meaning for kind `mariadb`
    remove it; it is for postgres",
    );
    refused(
        &below("on_gap = \"jump\""),
        "
crossdock.toml:17: `on_gap` cannot be `jump`
    write one of: halt, resync",
    );
    refused(
        &below("snapshot = \"when-needed\"\non_gap = \"halt\""),
        "
crossdock.toml:18: `on_gap = \"halt\"` contradicts `snapshot = \"when-needed\"`
    remove `on_gap`, or write `snapshot = \"initial\"`",
    );
    refused(
        &below("snapshot = \"only\"\non_gap = \"resync\""),
        "
crossdock.toml:18: `on_gap` has no meaning with `snapshot = \"only\"`
    remove it: the log is not read",
    );
    refused(
        &below("snapshot = \"always\"\nsnapshot_workers = 0"),
        "
crossdock.toml:17: `snapshot` cannot be `always`
    write one of: initial, never, only, when-needed
crossdock.toml:18: `snapshot_workers` is not a whole number: `0`
    write a number from 1 to 64",
    );
    refused(
        &with("[source.erp]", "[source.\"ERP one\"]"),
        "
crossdock.toml:11: `ERP one` cannot be the name of a source
    use a small letter, then small letters, digits and `_`, at most 40 together",
    );
    refused(
        &below("region = \"EU west\""),
        "
crossdock.toml:17: `EU west` cannot be the name of a region
    use a small letter, then small letters, digits and `_`, at most 40 together",
    );
    refused(
        &with("[source.erp]", "[source.crossdock]"),
        "
crossdock.toml:11: a source cannot be called `crossdock`
    rule files use that word for computed fields",
    );
}

#[test]
fn protection_of_the_connection() {
    refused(
        &with("host = \"localhost\"", "host = \"10.0.0.5\"\ntls = \"disable\""),
        "
crossdock.toml:14: `tls = \"disable\"` to `10.0.0.5`, which is another machine
    write `tls = \"verify-full\"` (and `ca_file` when the certificate is your own)",
    );
    refused(
        &with("host = \"localhost\"", "host = \"/run/postgresql\"\ntls = \"verify-full\""),
        "
crossdock.toml:14: a Unix socket carries no TLS
    write `tls = \"disable\"`, or connect to a host",
    );
    refused(
        &below("tls = \"prefer\""),
        "
crossdock.toml:17: `tls` cannot be `prefer`
    write one of: disable, verify-full",
    );
    refused(
        &with("host = \"localhost\"", "host = \"erp.example\"\nca_file = \"none.pem\""),
        "
crossdock.toml:14: `ca_file` none.pem cannot be read: entity not found
    name a file with certificates in PEM form",
    );
    refused(
        &with("host = \"localhost\"", "host = \"erp.example\"\ntls_client_cert = \"none.pem\""),
        "
crossdock.toml:14: `tls_client_cert` is given without `tls_client_key`
    add `tls_client_key`, or remove `tls_client_cert`",
    );
    refused(
        &below("tls = \"verify-full\"\ntls_client_cert = \"no.crt\"\ntls_client_key = \"no.key\""),
        "
crossdock.toml:18: `tls_client_cert` no.crt cannot be read: entity not found
    name a file with a certificate in PEM form
crossdock.toml:19: `tls_client_key` no.key cannot be read: entity not found
    name a file with its private key in PEM form",
    );
}

#[test]
fn variables() {
    refused(
        &with("host = \"localhost\"", "host = \"${ERP_HOST}\""),
        "
crossdock.toml:13: `host` needs the environment variable ERP_HOST, which is not set
    set ERP_HOST, or give a default: `${ERP_HOST:-default}`",
    );
    refused(
        &with("host = \"localhost\"", "host = \"${ERP HOST}\""),
        "
crossdock.toml:13: `host` has a `${` that begins no variable
    write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself",
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let world = World::new(&with("kind = \"postgres\"", "kind = \"oracle\"\nprot = 5"));
    world.file("entities/a.toml", b"[entity.pallet]\nprefix = \"plt\"\n");
    let messages = world.messages();
    let places: Vec<_> = messages.lines().filter(|l| !l.starts_with(' ')).collect();
    assert_eq!(places.len(), 3, "{messages}");
    assert!(messages.contains("crossdock.toml:12: `kind` cannot be `oracle`"), "{messages}");
    assert!(messages.contains("crossdock.toml:13: unknown key `prot`"), "{messages}");
    assert!(messages.contains("entities/a.toml:"), "{messages}");
}
