//! Settings that are good, but not together.

use crate::world::{HEAD, SOURCE, World, refused};

/// A good config with sections added: the first line of them is line 18.
fn with(sections: &str) -> String {
    format!("{HEAD}{SOURCE}{sections}\n")
}

const COPY: &str = r#"[target.copy]
kind = "postgres"
host = "localhost"
database = "copy"
user = "writer"
"#;

#[test]
fn names_that_are_not_there() {
    refused(
        &with("[target.erp]\nsource = \"epr\""),
        "
crossdock.toml:19: there is no source `epr`
    did you mean `erp`?",
    );
    refused(
        &with("[mirror.m]\nsource = \"wms_eu\"\ntarget = \"copy\"\ntables = [\"public.orders\"]"),
        "
crossdock.toml:19: there is no source `wms_eu`
    add `[source.NAME]` with that name, or use one that is there
crossdock.toml:20: there is no target `copy`
    add `[target.NAME]` with that name, or use one that is there",
    );
}

#[test]
fn a_target_that_is_a_source_has_no_place_of_its_own() {
    refused(
        &with("[target.erp]\nsource = \"erp\"\nhost = \"localhost\"\ntls = \"disable\""),
        "
crossdock.toml:20: `host` is given although `source` says which database it is
    remove `host` or `source`
crossdock.toml:21: `tls` is given although `source` says which database it is
    remove `tls` or `source`",
    );
}

#[test]
fn a_target_with_a_sources_name_is_that_database() {
    refused(
        &with(&COPY.replace("[target.copy]", "[target.erp]")),
        "
crossdock.toml:18: target `erp` is another database than the source of that name
    values are written back to a source through the target of its name: write \
         `source = \"erp\"`, or choose another name",
    );
}

#[test]
fn slots_and_server_ids_are_not_shared() {
    let twice = |one: &str, two: &str| {
        let second = SOURCE.replace("[source.erp]", "[source.erp_2]").trim_end().to_string();
        format!("{HEAD}{}\n{one}\n{second}\n{two}\n", SOURCE.trim_end())
    };
    refused(
        &twice("slot = \"x\"", "slot = \"x\""),
        "
crossdock.toml:18: sources `erp` and `erp_2` use the same slot
    give each its own `slot`",
    );
    refused(
        &twice("server_id = 5", "server_id = 5").replace("\"postgres\"", "\"mysql\""),
        "
crossdock.toml:18: sources `erp` and `erp_2` use the same server_id
    give each its own `server_id`",
    );
}

#[test]
fn mirrors() {
    let mirror = |name: &str| {
        format!("[mirror.{name}]\nsource=\"erp\"\ntarget=\"copy\"\ntables=[\"public.orders\"]\n")
    };
    refused(
        &with(&format!("{COPY}{}{}", mirror("one"), mirror("two"))),
        "
crossdock.toml:27: mirrors `one` and `two` both write `public.orders` of target `copy`
    take the table out of one of them",
    );
    refused(
        &with(&format!("{COPY}{}", mirror("copy"))),
        "
crossdock.toml:23: mirror `copy` has the name of a target
    progress is kept by name: choose another name",
    );
    refused(
        &with(&format!("[target.copy]\nsource = \"erp\"\n{}", mirror("one"))),
        "
crossdock.toml:20: [mirror.one] copies tables onto themselves: source and target are one
    choose a target on another server (or, on PostgreSQL, in another database)",
    );
    let mysql = COPY.replace("postgres", "mysql").replace("localhost", "127.0.0.1");
    refused(
        &with(&format!("{mysql}{}", mirror("one"))).replace("postgres", "mysql"),
        "
crossdock.toml:23: [mirror.one] copies tables onto themselves: source and target are one
    choose a target on another server (or, on PostgreSQL, in another database)",
    );
    refused(
        &with(&format!("{COPY}[mirror.one]\nsource = \"erp\"\ntarget = \"copy\"")),
        "
crossdock.toml:23: [mirror.one] has no `tables`
    add `tables = [\"public.orders\"]`",
    );
}

#[test]
fn one_folder_has_one_purpose() {
    let head = HEAD.replace("name = \"demo\"", "name = \"demo\"\nrules = \"mappings\"");
    let world = World::new(&format!("{head}{SOURCE}"));
    world.file("mappings/README.md", b"");
    assert_eq!(
        world.messages(),
        "crossdock.toml:3: `rules` and `mappings` name the same folder\n    \
         keep each kind of file in a folder of its own"
    );
}
