//! The schema registry, as a serialiser meets it.

use serde_json::{Value as Json, json};

use crate::world::{LIMIT, World};

const TABLE: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight text);
                     CREATE PUBLICATION crossdock FOR TABLE parcels;
                     GRANT SELECT ON parcels TO crossdock;";

fn entity(weight: &str) -> String {
    format!(
        "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
         no = \"integer\"\nweight = \"{weight}\"\n"
    )
}

fn ask(world: &World, what: &str, headers: &[&str], body: &Json) -> (u16, Json) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = world.crossdock.ask(what, headers, &body).unwrap();
    (status, serde_json::from_str(&answer).unwrap_or(Json::Null))
}

fn read(world: &World, path: &str) -> (u16, Json) {
    ask(world, &format!("GET {path}"), &[], &Json::Null)
}

/// A `crossdock` whose registry has the password `pw`, running.
fn started() -> World {
    let mut world = World::new(TABLE, "publication = \"crossdock\"\ntables = [\"public.parcels\"]");
    world.append("\n[registry]\npassword_env = \"PW\"\n");
    world.file("entities/parcel.toml", &entity("text"));
    world.start();
    world
}

#[test]
fn a_serialiser_registers_and_finds_schemas() {
    let world = started();
    let order = r#"{"type":"record","name":"Order","fields":[{"name":"no","type":"long"}]}"#;
    let sent = json!({ "schema": order });
    let post = "POST /subjects/orders-value/versions";
    // user "any", password "pw"
    let login = ["Authorization: Basic YW55OnB3"];

    assert_eq!(ask(&world, post, &[], &sent).0, 401);
    assert_eq!(ask(&world, post, &["Authorization: Bearer wrong"], &sent).0, 401);
    let (status, registered) = ask(&world, post, &login, &sent);
    assert_eq!(status, 200, "{registered}");
    let id = registered["id"].as_u64().unwrap();
    assert_eq!(ask(&world, post, &login, &sent), (200, json!({ "id": id })));

    assert_eq!(read(&world, &format!("/schemas/ids/{id}")), (200, json!({ "schema": order })));
    let found = json!({ "subject": "orders-value", "version": 1, "id": id, "schema": order });
    assert_eq!(ask(&world, "POST /subjects/orders-value", &[], &sent), (200, found.clone()));
    assert_eq!(read(&world, "/subjects/orders-value/versions/latest"), (200, found));
    assert_eq!(read(&world, "/subjects/orders-value/versions"), (200, json!([1])));
    assert_eq!(read(&world, "/subjects/nobody/versions").1["error_code"], 40401);
    assert_eq!(read(&world, "/subjects/orders-value/versions/2").1["error_code"], 40402);
    assert_eq!(read(&world, "/schemas/ids/999999").1["error_code"], 40403);

    let text = json!({ "schema": order.replace("long", "string") });
    let check = "POST /compatibility/subjects/orders-value/versions/latest?verbose=true";
    let (_, checked) = ask(&world, check, &[], &text);
    assert_eq!(checked["is_compatible"], false);
    assert!(checked["messages"][0].as_str().unwrap().contains("'no'"), "{checked}");
    let (status, refused) = ask(&world, post, &login, &text);
    assert_eq!((status, &refused["error_code"]), (409, &json!(409)), "{refused}");
    let none = json!({ "compatibility": "NONE" });
    assert_eq!(ask(&world, "PUT /config/orders-value", &login, &none), (200, none));
    assert_eq!(ask(&world, post, &login, &text).0, 200);
    assert_eq!(read(&world, "/subjects/orders-value/versions"), (200, json!([1, 2])));

    let broken = ask(&world, post, &login, &json!({ "schema": "{" }));
    assert_eq!((broken.0, &broken.1["error_code"]), (422, &json!(42201)));
    let sideways = json!({ "compatibility": "SIDEWAYS" });
    assert_eq!(ask(&world, "PUT /config", &login, &sideways).1["error_code"], 42203);
    let general = json!({ "compatibilityLevel": "BACKWARD" });
    assert_eq!(read(&world, "/config"), (200, general));
}

#[test]
fn an_entity_that_readers_would_not_survive_is_refused_until_it_is_allowed() {
    let mut world = started();
    let latest = "/subjects/crossdock.parcel/versions/latest";
    let (_, first) = read(&world, latest);
    assert_eq!(first["version"], 1);
    let schema: Json = serde_json::from_str(first["schema"].as_str().unwrap()).unwrap();
    assert_eq!(schema["fields"][4]["type"], json!(["null", "string"]));
    assert_eq!(read(&world, "/entities/parcel/json-schema").1["required"], json!(["no"]));
    assert!(world.done(&["schema", "show", "parcel"]).contains("\"name\": \"weight\""));

    assert!(world.crossdock.stop().unwrap());
    world.file("entities/parcel.toml", &entity("boolean"));
    let said = world.refused(&["schema", "check"]);
    assert!(said.contains("crossdock.parcel") && said.contains("'weight'"), "{said}");
    let said = world.refused(&["run"]);
    assert!(said.contains("crossdock.parcel") && said.contains("/config/"), "{said}");

    // A field more is a new version, and so is one that has got another name.
    let renamed = entity("text")
        .replace("weight = \"text\"", "mass = { type = \"text\", was = [\"weight\"] }");
    world.file("entities/parcel.toml", &(renamed + "seal = \"text\"\n"));
    world.crossdock.start().unwrap();
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(read(&world, latest).1["version"], 2);
    assert!(world.done(&["schema", "list"]).contains("crossdock.parcel"));
    assert!(world.done(&["schema", "show", "parcel", "--version", "1"]).contains("\"weight\""));
    assert!(world.done(&["schema", "show", "parcel", "--version", "2"]).contains("\"mass\""));
    assert!(
        world.refused(&["schema", "show", "parcel", "--version", "3"]).contains("there are: 1, 2")
    );
    let put = "INSERT INTO crossdock.record VALUES
               ('parcel', 'par:7', 3, false, '{\"no\": 7, \"mass\": \"2.5\", \"seal\": \"x\"}', '[]', '{}')";
    world.store.sql("canonical", put).unwrap();
    let then = world.done(&["schema", "record", "par:7", "--version", "1"]);
    let then: Json = serde_json::from_str(&then).unwrap();
    let expected = json!({
        "_key": "par:7", "_version": 3, "_deleted": false, "no": 7, "weight": "2.5"
    });
    assert_eq!(then, expected);
}
