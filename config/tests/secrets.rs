//! Where passwords come from, and that nobody ever sees them.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use crate::world::{HEAD, SOURCE, World, refused};

fn with(setting: &str) -> String {
    format!("{HEAD}{}", SOURCE.replace("password_env = \"ERP_PASSWORD\"", setting))
}

#[test]
fn no_output_shows_a_password() {
    let world = World::new(&with("password_file = \"erp.secret\""));
    world.file("erp.secret", b"s3cret-file\n");
    let config = world.load().unwrap();
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn no_message_shows_a_password_or_a_variable() {
    let bad = [
        with("password = \"s3cret\""),
        with("password_env = \"s3cret!\""),
        with("password_env = s3cret"),
        with("password = \"s3cret"),
        with("password = \"ok\" s3cret"),
        with("password_file = \"none\"\nport = \"${SECRET_HOST}\""),
        with("kind = \"${SECRET_HOST}\"").replace("kind = \"postgres\"\n", ""),
        with("slot = \"${SECRET_HOST}\"\ntables = [\"${SECRET_HOST}\"]"),
        with("tls = \"${SECRET_HOST}\"").replace("localhost", "${SECRET_HOST}"),
    ];
    for text in bad {
        let world = World::new(&text);
        let errors = world.load().unwrap_err();
        let shown = format!("{errors} {errors:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn a_password_in_the_file_is_refused() {
    refused(
        &with("password = \"s3cret\""),
        "
crossdock.toml:16: a password does not belong in this file
    use `password_env = \"NAME\"` (an environment variable) or `password_file = \"/run/secrets/…\"`",
    );
}

#[test]
fn variables_with_passwords() {
    refused(
        &with("password_env = \"NOBODY\""),
        "
crossdock.toml:16: the environment variable NOBODY with the password is not set
    set NOBODY; leave `password_env` out when none is needed",
    );
    refused(
        &with("password_env = \"NOTHING\""),
        "
crossdock.toml:16: the environment variable NOTHING with the password is empty
    set NOTHING; leave `password_env` out when none is needed",
    );
    refused(
        &with("password_env = \"s3cret!\""),
        "
crossdock.toml:16: `password_env` is not the name of an environment variable
    write the variable's name (letters, digits, `_`), not the password",
    );
    refused(
        &with("password_env = \"ERP_PASSWORD\"\npassword_file = \"x\""),
        "
crossdock.toml:17: `password_env` and `password_file` are both given
    keep one of them",
    );
}

#[test]
fn files_with_passwords() {
    let config = with("password_file = \"erp.secret\"");
    refused(
        &config,
        "
crossdock.toml:16: the password file erp.secret cannot be read: entity not found
    create it, readable by the user that runs crossdock",
    );
    let world = World::new(&config);
    world.file("erp.secret", b"\n");
    assert!(world.messages().starts_with("crossdock.toml:16: erp.secret is empty\n"));
    world.file("erp.secret", b"s3cret\xff");
    assert!(world.messages().contains("erp.secret cannot be read: it is not UTF-8 text"));
    world.file("erp.secret", &[b'x'; 5000]);
    assert!(world.messages().contains("it is longer than 4096 bytes"));

    let path = world.file("erp.secret", b"s3cret");
    set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(
        world.warnings(),
        "crossdock.toml:16: others than its owner can read erp.secret\n    chmod 600 erp.secret"
    );
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.warnings(), "");
}
