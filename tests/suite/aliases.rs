//! A lookup by another column than the primary key, and a sum of rows, with a real source and store
//! and over a restart: list prices that are found by their template, stock as the sum of moves.

use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

const TABLES: &str = "CREATE TABLE products (id int PRIMARY KEY, sku text NOT NULL, template int);
    CREATE TABLE prices (id int PRIMARY KEY, template int, price numeric NOT NULL);
    CREATE TABLE moves (id int PRIMARY KEY, sku text NOT NULL, site text NOT NULL, qty numeric);
    INSERT INTO products VALUES (1, 'P1', 7), (2, 'P2', 8);
    INSERT INTO prices VALUES (70, 7, 10.50);
    INSERT INTO moves VALUES (1, 'P1', 'HH', 10.1), (2, 'P1', 'HH', -3.2);
    CREATE PUBLICATION crossdock FOR ALL TABLES;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO crossdock;";

const MAPPING: &str = r#"
source = "shop"
[[table]]
table = "public.products"
entity = "product"
lookup.price = { table = "public.prices", key = "template", by = "template", optional = true }
[table.fields]
sku = "sku"
list_price = "price.price"
[[table]]
table = "public.moves"
entity = "inventory_position"
[table.fields]
site = "site"
sku = "sku"
on_hand = "qty"
"#;

const RULES: &str = "[entity.product]\nowner = \"shop\"\n[entity.inventory_position]\n\
    owner = \"shop\"\n[entity.inventory_position.fields]\n\
    on_hand = { owner = \"shop\", merge = \"sum\" }\n";

/// Prices of both products and the stock, as the store has them.
const RECORDS: &str = "SELECT string_agg(substr(key, 5) || '=' ||
        coalesce(fields ->> 'list_price', fields ->> 'on_hand', '?'), ' ' ORDER BY key)
    FROM crossdock.record WHERE NOT deleted";

fn becomes(world: &World, expected: &str) {
    let said = || world.store.sql("canonical", RECORDS).unwrap().trim().to_string();
    assert!(wait_until(LIMIT, || said() == expected), "{}\n{}", said(), world.crossdock.log_tail());
}

#[test]
fn prices_found_by_template_and_stock_summed_from_moves_outlive_a_restart() {
    let mut world = World::new(TABLES, "publication = \"crossdock\"");
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/shop.toml", RULES);
    let wrong = MAPPING.replace("by = \"template\"", "by = \"tmpl\"");
    world.file("mappings/shop.toml", &wrong);
    let said = world.refused(&["check"]);
    assert!(said.contains("table `public.prices` has no column `tmpl`"), "{said}");
    world.file("mappings/shop.toml", MAPPING);
    world.start();
    becomes(&world, "HH:P1=6.9 P1=10.5 P2=?");
    world.sql("INSERT INTO prices VALUES (9, 8, 3); INSERT INTO moves VALUES (3, 'P1', 'HH', 1)");
    becomes(&world, "HH:P1=7.9 P1=10.5 P2=3");
    assert!(world.crossdock.stop().unwrap());
    // What was changed meanwhile: one price belongs to the other template now, a move is gone.
    world.sql("UPDATE prices SET template = 8 WHERE id = 70; DELETE FROM moves WHERE id = 2");
    world.start();
    becomes(&world, "HH:P1=11.1 P1=? P2=3");
    let open = "SELECT kind || (context ->> 'rows') FROM crossdock.v_open_exceptions";
    let open = || world.store.sql("canonical", open).unwrap().trim().to_string();
    assert_eq!(open(), r#"ambiguous_lookup["9", "70"]"#);
    world.sql("DELETE FROM prices WHERE id = 9");
    becomes(&world, "HH:P1=11.1 P1=? P2=10.5");
    assert_eq!(open(), "");
    world.sql("UPDATE prices SET template = 7, price = 12");
    becomes(&world, "HH:P1=11.1 P1=12 P2=?");
}
