//! Folders and files beside the config file.

use std::path::Path;

use crossdock_config::load;

use crate::world::{HEAD, SOURCE, World};

fn good() -> String {
    format!("{HEAD}{SOURCE}")
}

const PALLET: &str = r#"[entity.pallet]
prefix = "plt"
key = ["pallet_no"]
[entity.pallet.fields]
pallet_no = "text"
"#;

#[test]
fn a_config_that_is_not_there() {
    let errors = load(Path::new("/nowhere/crossdock.toml"), &|_| None).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "/nowhere/crossdock.toml: cannot be read: entity not found\n    \
         name a file that is there"
    );
}

#[test]
fn text_that_is_not_utf_8() {
    let world = World::new("");
    world.file("crossdock.toml", b"[crossdock]\nname = \"\xff\"\n");
    assert_eq!(world.messages(), "crossdock.toml:2: is not UTF-8 text\n    save it as UTF-8");
}

#[test]
fn files_are_read_in_name_order_from_folders_beside_the_config() {
    let world = World::new(&good().replace("name = \"demo\"", "name = \"demo\"\nentities = \"e\""));
    world.file("e/b.toml", b"");
    world.file("e/a.toml", PALLET.as_bytes());
    world.file("e/.a.toml.swp", b"\xff");
    world.file("e/.hidden.toml", b"\xff");
    world.file("e/notes.txt", b"\xff");
    world.file("mappings/notes.md", b"");
    let config = world.load().unwrap_or_else(|e| panic!("{e}"));
    let expected = ["crossdock.toml", "e/a.toml", "e/b.toml"].map(|name| world.path(name));
    assert_eq!(config.files, expected);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn several_folders_are_read_one_after_the_other() {
    let head = "name = \"demo\"\nentities = [\"own\", \"e\"]";
    let world = World::new(&good().replace("name = \"demo\"", head));
    world.file("e/a.toml", PALLET.as_bytes());
    world.file("own/b.toml", b"");
    let config = world.load().unwrap_or_else(|e| panic!("{e}"));
    let expected = ["crossdock.toml", "own/b.toml", "e/a.toml"].map(|name| world.path(name));
    assert_eq!(config.files, expected);
    let head = "name = \"demo\"\nrules = [\"f\", \"f\", \"no\", \"\"]";
    world.file("f/README.md", b"");
    world.file("crossdock.toml", good().replace("name = \"demo\"", head).as_bytes());
    assert_eq!(
        world.messages(),
        "crossdock.toml:3: `rules` is empty\n    name a path, or remove the key\n\
         crossdock.toml:3: `rules` names no, which is no folder\n    \
         create it, or name the folder that is meant\n\
         crossdock.toml:3: `rules` names a folder twice\n    name it once"
    );
}

#[test]
fn a_folder_that_is_named_must_be_there() {
    let world =
        World::new(&good().replace("name = \"demo\"", "name = \"demo\"\nrules = \"ruels\""));
    assert_eq!(
        world.messages(),
        "crossdock.toml:3: `rules` names ruels, which is no folder\n    \
         create it, or name the folder that is meant"
    );
}

#[test]
fn files_further_down_are_a_warning() {
    let world = World::new(&good());
    world.file("rules/old/10-owners.toml", b"");
    assert_eq!(
        world.warnings(),
        "crossdock.toml:1: files in rules/old are not read\n    move them to rules"
    );
}

#[test]
fn problems_of_entity_files_are_reported_with_their_place() {
    let world = World::new(&good());
    world.file("entities/a.toml", PALLET.replace("\"text\"", "\"txet\"").as_bytes());
    world.file("entities/b.toml", b"\xff");
    let messages = world.messages();
    assert!(messages.contains("entities/a.toml:5: "), "{messages}");
    assert!(messages.contains("entities/b.toml:1: is not UTF-8 text"), "{messages}");
}

#[test]
fn a_state_dir_that_is_a_file() {
    let text = good().replace("name = \"demo\"", "name = \"demo\"\nstate_dir = \"state.db\"");
    let world = World::new(&text);
    world.file("state.db", b"");
    assert_eq!(
        world.messages(),
        "crossdock.toml:3: `state_dir` state.db is not a folder\n    \
         name a folder; it is created when it is missing"
    );
}

#[test]
fn an_open_door_is_a_warning() {
    let text = good().replace("name = \"demo\"", "name = \"demo\"\nlisten = \"0.0.0.0:9180\"");
    assert_eq!(
        World::new(&text).warnings(),
        "crossdock.toml:3: `listen` lets other machines read metrics and status, without any login\
         \n    use 127.0.0.1 unless a firewall or proxy guards this port"
    );
}
