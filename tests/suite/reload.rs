//! Rule files that change while Crossdock runs, and the commands that say what rules mean.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_harness::wait_until;
use crossdock_tests::binary;

use crate::world::{LIMIT, World};

const TABLE: &str = "CREATE TABLE products (sku text PRIMARY KEY, price numeric NOT NULL);
                     INSERT INTO products SELECT 'P' || n, 1 FROM generate_series(1, 20) n;
                     CREATE PUBLICATION crossdock FOR TABLE products;
                     GRANT SELECT ON products TO crossdock;";
const ENTITY: &str = "[entity.product]\nprefix = \"prd\"\nkey = [\"sku\"]\n\
                      [entity.product.fields]\nsku = \"text\"\nprice = \"decimal\"\n";
/// Every product's price in the store, by its sku.
const RECORDS: &str = "SELECT substr(key, 5) || '|' || (fields->>'price') FROM crossdock.record
                       WHERE entity = 'product' ORDER BY 1";
/// Products of which each of the two says something.
const SAID_TWICE: &str = "SELECT count(*) FROM crossdock.record
                          WHERE position('\\x73686f70'::bytea IN said) > 0
                            AND position('\\x6465706f74'::bytea IN said) > 0";

fn mapping(source: &str) -> String {
    format!(
        "source = \"{source}\"\n\n[[table]]\ntable = \"public.products\"\nentity = \"product\"\n\n\
         [table.fields]\nsku = \"sku\"\nprice = \"price\"\n"
    )
}

fn rules(owner: &str) -> String {
    format!(
        "[ruleset]\nname = \"prices\"\nversion = 1\n\n[defaults]\non_violation = \"ignore\"\n\n\
         [entity.product.fields]\nprice = {{ owner = \"{owner}\" }}\n\n[[test]]\n\
         name = \"the shop says the price\"\n\
         given = {{ entity = \"product\", key = \"X\", state = {{ price = \"5\" }} }}\n\
         change = {{ from = \"{owner}\", set = {{ price = \"6\" }} }}\n\
         expect = {{ applied = [\"price\"] }}\n"
    )
}

/// Two databases on one server that both have prices; the shop owns them.
fn started() -> World {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    world.server.sql("postgres", "CREATE DATABASE depot OWNER crossdock").unwrap();
    world.server.sql("depot", TABLE).unwrap();
    world.append(&format!(
        "\n[source.depot]\nkind = \"postgres\"\nhost = \"127.0.0.1\"\nport = {}\n\
         user = \"crossdock\"\npassword_env = \"PW\"\ndatabase = \"depot\"\n\
         publication = \"crossdock\"\n",
        world.server.port()
    ));
    world.file("entities/product.toml", ENTITY);
    world.file("mappings/shop.toml", &mapping("shop"));
    world.file("mappings/depot.toml", &mapping("depot"));
    world.file("rules/prices.toml", &rules("shop"));
    world.start();
    world
}

fn in_store(world: &World, sql: &str) -> String {
    world.store.sql("canonical", sql).unwrap().trim().to_string()
}

fn hash(world: &World) -> String {
    let status = world.crossdock.status().unwrap();
    status["rules"]["hash"].as_str().unwrap().to_string()
}

#[test]
fn an_owner_changes_under_load_and_no_change_is_lost() {
    let world = started();
    let before = hash(&world);
    let (reloaded, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (database, step) in [("shop", 1), ("depot", 100)] {
            let (world, reloaded, done) = (&world, &reloaded, &done);
            scope.spawn(move || {
                let sql = format!(
                    "UPDATE products SET price = price + {step}
                     WHERE sku = ANY (ARRAY(SELECT 'P' || (1 + random() * 19)::int
                                            FROM generate_series(1, 5)))"
                );
                while !done.load(Ordering::Relaxed) {
                    world.server.sql(database, &sql).unwrap();
                }
                assert!(reloaded.load(Ordering::Relaxed));
                let all = format!("UPDATE products SET price = price + {step}");
                world.server.sql(database, &all).unwrap();
            });
        }
        let judged = "SELECT count(*) > 30 FROM crossdock.history";
        assert!(wait_until(LIMIT, || in_store(&world, judged) == "t"));
        world.file("rules/prices.toml", &rules("depot"));
        let said = world.done(&["rules", "reload"]);
        assert!(said.contains("are in force") && said.contains(&before), "{said}");
        reloaded.store(true, Ordering::Relaxed);
        let after = format!(
            "SELECT count(*) > 30 FROM crossdock.history WHERE ruleset = '{}'",
            hash(&world)
        );
        assert!(wait_until(LIMIT, || in_store(&world, &after) == "t"));
        done.store(true, Ordering::Relaxed);
    });
    let mut world = world;
    world.crossdock.wait_caught_up(LIMIT).unwrap();

    let prices = "SELECT sku || '|' || price FROM products ORDER BY 1";
    let depot = world.server.sql("depot", prices).unwrap();
    assert_eq!(in_store(&world, RECORDS), depot.trim(), "the owner's last values");
    assert_eq!(in_store(&world, SAID_TWICE), "20", "what the other says is kept");
    let shop = world.server.sql("shop", prices).unwrap();
    let sold: Vec<&str> = shop.trim().lines().collect();
    let explained = world.done(&["rules", "explain", "prd:P7", "price"]);
    let price = sold.iter().find_map(|l| l.strip_prefix("P7|")).unwrap();
    assert!(explained.contains("owner     depot"), "{explained}");
    assert!(explained.contains(&format!("shop says {price} (public.products row P7)")));
    assert!(explained.contains(&format!("rules     {}", hash(&world))), "{explained}");
    assert!(explained.contains("committed") && explained.contains("by depot"), "{explained}");
    let record = "SELECT string_agg(by_whom || '|' || accepted, ',' ORDER BY id)
                  FROM crossdock.ruleset_change";
    let record = in_store(&world, record);
    assert!(record.starts_with("start|true,operator ") && record.ends_with("|true"), "{record}");
    assert_eq!(in_store(&world, "SELECT hash FROM crossdock.v_ruleset"), hash(&world));
}

#[test]
fn a_broken_set_leaves_the_old_one_in_force_and_says_so() {
    let mut world = started();
    let before = hash(&world);
    let metrics = world.crossdock.page("/metrics").unwrap();
    assert!(metrics.contains(&format!("crossdock_rules_info{{hash=\"{before}\"}} 1")), "{metrics}");
    assert!(metrics.contains("crossdock_rules_reload_failures_total 0"));
    assert!(world.done(&["rules", "reload"]).contains("in force already"));

    let broken = rules("nobody").replace("price = {", "prize = {");
    world.file("rules/prices.toml", &broken);
    let said = world.refused(&["rules", "reload"]);
    for part in
        ["prices.toml:", "nobody owns product.price", "`prize`", "nothing was changed", &before]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // A test that fails.
    world.file("rules/prices.toml", &rules("depot").replace("\"6\"", "\"5\""));
    let said = world.refused(&["rules", "reload"]);
    assert!(said.contains("the shop says the price") && said.contains("expected"), "{said}");
    // A column that is not there; and what cannot be changed without a restart.
    world.file("rules/prices.toml", &rules("depot"));
    world.file("mappings/depot.toml", &mapping("depot").replace("= \"price\"", "= \"prize\""));
    let said = world.refused(&["rules", "reload"]);
    assert!(said.contains("source depot") && said.contains("prize"), "{said}");
    world.file("mappings/depot.toml", &mapping("depot"));
    let config = std::fs::read_to_string(world.config()).unwrap();
    world.append(
        "\n[target.late]\nkind = \"postgres\"\nhost = \"127.0.0.1\"\nport = 1\n\
                  user = \"a\"\npassword_env = \"PW\"\ndatabase = \"b\"\n",
    );
    let said = world.refused(&["rules", "reload"]);
    assert!(said.contains("[target.late] is new: restart crossdock"), "{said}");
    std::fs::write(world.config(), config).unwrap();

    assert_eq!(hash(&world), before);
    let status = world.crossdock.status().unwrap();
    assert!(status["rules"]["refused"].as_str().unwrap().contains("target.late"), "{status:#}");
    let metrics = world.crossdock.page("/metrics").unwrap();
    assert!(metrics.contains("crossdock_rules_reload_failures_total 4"), "{metrics}");
    let refused = "SELECT count(*) FROM crossdock.ruleset_change WHERE NOT accepted";
    assert_eq!(in_store(&world, refused), "4");
    world.sql("UPDATE products SET price = 77 WHERE sku = 'P3'");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert!(in_store(&world, RECORDS).contains("P3|77"), "the shop still owns it");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(world.crossdock.pid().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    assert!(wait_until(LIMIT, || hash(&world) != before), "{}", world.crossdock.log_tail());
    let by = "SELECT by_whom FROM crossdock.v_ruleset";
    assert!(wait_until(LIMIT, || in_store(&world, by) == "SIGHUP"));
    assert!(world.crossdock.status().unwrap()["rules"]["refused"].is_null());
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let world = World::new(TABLE, "publication = \"crossdock\"");
    world.file("entities/product.toml", ENTITY);
    world.file("mappings/shop.toml", &mapping("shop"));
    world.file("rules/prices.toml", &rules("shop"));
    for words in [["rules", "matrix"], ["rules", "test"], ["schema", "list"]] {
        let mut command = Command::new(binary().unwrap());
        command.args(words).arg("--config").arg(world.config()).env("PW", "pw");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let said = String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned();
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    }
}

#[test]
fn other_files_are_compared_before_they_are_in_force() {
    let mut world = started();
    world.sql("UPDATE products SET price = 7 WHERE sku = 'P3'");
    world.server.sql("depot", "UPDATE products SET price = 8 WHERE sku IN ('P3', 'P4')").unwrap();
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let history = "SELECT count(*) FROM crossdock.history";
    let before = in_store(&world, history);

    world.file("next/prices.toml", &rules("depot"));
    let folder = world.config().parent().unwrap().join("next").display().to_string();
    let diff = |more: &[&str]| {
        let words = ["rules", "diff", "--rules", &folder, "--replay", "1h"];
        world.crossdock.run(&[&words[..], more].concat()).unwrap()
    };
    let differs = diff(&[]);
    let said = String::from_utf8_lossy(&differs.stdout).into_owned();
    assert_eq!(
        differs.status.code(),
        Some(1),
        "{said}{}",
        String::from_utf8_lossy(&differs.stderr)
    );
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let line = |line: usize| lines.get(line).copied().unwrap_or_default();
    assert_eq!((line(0), line(2)), ("prd:P3", "prd:P4"), "{said}");
    assert!(line(1).contains("7 -> 8") && line(1).contains("prices.toml:"), "{said}");
    assert!(line(3).contains("1 -> 8"), "{said}");
    assert!(said.contains("2 of 20 records differ"), "{said}");

    let json = diff(&["--json"]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(found["records"].as_array().unwrap().len(), 2);
    let field = &found["records"][0]["fields"][0];
    assert_eq!(
        (&field["field"], &field["old"], &field["new"]),
        (&"price".into(), &"7".into(), &"8".into())
    );

    let bounded = diff(&["--max-records", "5"]);
    assert!(String::from_utf8_lossy(&bounded.stdout).contains("not compared"));

    // The same files differ in nothing; and nothing was written.
    world.file("next/prices.toml", &rules("shop"));
    assert_eq!(diff(&[]).status.code(), Some(0));
    assert_eq!(in_store(&world, history), before);
}
