//! A flood of price changes waits, over a restart and a rewind, until an operator releases it.

use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

const TABLE: &str =
    "CREATE TABLE products (sku text PRIMARY KEY, price numeric NOT NULL, name text);
                     INSERT INTO products SELECT 'P' || n, 10, 'a' FROM generate_series(1, 2000) n;
                     CREATE PUBLICATION crossdock FOR TABLE products;
                     GRANT SELECT ON products TO crossdock;";
const ENTITY: &str = "[entity.product]\nprefix = \"prd\"\nkey = [\"sku\"]\n\
                      [entity.product.fields]\nsku = \"text\"\nprice = \"decimal\"\nname = \"text\"\n";
const MAPPING: &str = "source = \"shop\"\n\n[[table]]\ntable = \"public.products\"\n\
                       entity = \"product\"\n\n[table.fields]\nsku = \"sku\"\nprice = \"price\"\n\
                       name = \"name\"\n";
const RULES: &str = r#"
[entity.product]
owner = "shop"
[[quarantine]]
name = "mass_change"
on = "product"
rate = { changes = 500, window = "1m", source = "shop", column = "price" }
scope = "stream"
exception = "mass_price_change"
"#;
const TENS: &str = "SELECT count(*) FROM crossdock.record WHERE fields->>'price' = '10'";
const OPEN: &str =
    "SELECT count(*) FROM crossdock.v_open_exceptions WHERE kind = 'mass_price_change'";
const STOPPED: &str = "SELECT rule || ' ' || rows_waiting FROM crossdock.v_stopped";

fn in_store(world: &World, sql: &str) -> String {
    world.store.sql("canonical", sql).unwrap().trim().to_string()
}

#[test]
fn a_flood_waits_until_it_is_released() {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    world.file("entities/product.toml", ENTITY);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/guard.toml", RULES);
    world.start();
    assert_eq!(in_store(&world, TENS), "2000");
    let refused = world.refused(&["rules", "release", "mass_change"]);
    assert!(refused.contains("has stopped anything"), "{refused}");

    world.sql("UPDATE products SET price = 11 WHERE sku = 'P1'");
    world.sql("UPDATE products SET price = price * 2 WHERE sku <> 'P1'");
    world.sql("UPDATE products SET name = 'b' WHERE sku = 'P1'");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let name = "SELECT fields->>'name' FROM crossdock.record WHERE key = 'prd:P1'";
    assert_eq!(in_store(&world, name), "b", "what is no flood goes on");
    let waits = |world: &World| {
        let seen = [TENS, OPEN, STOPPED].map(|sql| in_store(world, sql));
        assert_eq!(seen, ["1999", "1", "mass_change 1999"]);
    };
    waits(&world);
    let status = world.crossdock.status().unwrap();
    let said = status["rules"]["stopped"][0].as_str().unwrap().to_string();
    assert!(said.contains("crossdock rules release mass_change"), "{said}");
    assert!(world.crossdock.page("/metrics").unwrap().contains("crossdock_rate_guards_stopped 1"));

    assert!(world.crossdock.stop().unwrap());
    world.start();
    waits(&world);
    world.done(&["rewind", "--integrate", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    waits(&world);

    let said = world.done(&["rules", "release", "mass_change"]);
    assert!(said.contains("taken now"), "{said}");
    let all = |world: &World| [TENS, OPEN, STOPPED].map(|sql| in_store(world, sql));
    let done = wait_until(LIMIT, || all(&world) == ["0", "0", ""]);
    assert!(done, "{:?} {}", all(&world), world.crossdock.log_tail());
    let twenty = "SELECT count(*) FROM crossdock.record WHERE fields->>'price' = '20'";
    assert_eq!(in_store(&world, twenty), "1999");
    assert!(world.crossdock.status().unwrap()["rules"]["stopped"].as_array().unwrap().is_empty());
    world.sql("UPDATE products SET price = 30 WHERE sku = 'P2'");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(in_store(&world, twenty), "1998", "it counts anew");
}
