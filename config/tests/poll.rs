//! A source without a log: what its sections become, and what the user is told.

use std::time::Duration;

use crossdock_model::TableName;

use crate::world::{HEAD, SOURCE, World, accepted, refused};

/// A good config with lines added below the source: the first of them is line 17.
fn below(lines: &str) -> String {
    format!("{HEAD}{}\n{lines}\n", SOURCE.trim_end_matches('\n'))
}

const VIEW: &str = "[source.erp.poll.\"public.orders_view\"]\nkey = \"order_no\"\n\
    cursor = [\"changed_at\", \"n\"]";

#[test]
fn tables_and_views_are_polled() {
    let lines = format!(
        "capture = \"poll\"\n{VIEW}\n[source.erp.poll.\"public.parties\"]\nkey = [\"a\", \"b\"]\n\
         cursor = \"v\"\nevery = \"1m\"\noverlap = \"0s\"\nreconcile = \"never\""
    );
    let config = accepted(&below(&lines));
    let source = config.source("erp").unwrap();
    assert!(source.is_polled());
    assert_eq!((&*source.slot, &*source.publication, source.server_id), ("", "", 0));
    let [view, parties] = &source.poll[..] else { panic!("{:?}", source.poll) };
    assert_eq!(view.table, TableName::new("public", "orders_view"));
    assert_eq!((&view.key[..], view.cursor.len()), (&["order_no".to_string()][..], 2));
    assert_eq!((view.every, view.overlap), (Duration::from_secs(10), Duration::from_secs(30)));
    assert_eq!(view.reconcile, Some(Duration::from_secs(6 * 60 * 60)));
    assert_eq!((parties.key.len(), &parties.cursor[..]), (2, &["v".to_string()][..]));
    assert_eq!((parties.every, parties.overlap), (Duration::from_secs(60), Duration::ZERO));
    assert_eq!(parties.reconcile, None);
    let tables: Vec<String> = config.tables_of("erp").iter().map(ToString::to_string).collect();
    assert_eq!(tables, ["public.orders_view", "public.parties"]);
    assert!(!accepted(&below("capture = \"log\"")).source("erp").unwrap().is_polled());
}

#[test]
fn what_belongs_to_a_log_is_refused() {
    refused(
        &below(&format!("capture = \"poll\"\nslot = \"s\"\ntables = [\"public.a\"]\n{VIEW}")),
        "
crossdock.toml:18: `slot` has no meaning with `capture = \"poll\"`
    remove it: no log is read
crossdock.toml:19: `tables` has no meaning with `capture = \"poll\"`
    remove it: no log is read",
    );
    refused(
        &below(VIEW),
        "
crossdock.toml:17: [source.erp.poll] has no meaning where the log is read
    add `capture = \"poll\"`, or remove the section",
    );
    refused(
        &below("capture = \"pole\""),
        "
crossdock.toml:17: `capture` cannot be `pole`
    write one of: log, poll",
    );
}

#[test]
fn something_must_be_polled() {
    refused(
        &below("capture = \"poll\""),
        "
crossdock.toml:11: [source.erp] has nothing to poll
    add `[source.erp.poll.\"public.orders\"]` with `key` and `cursor`",
    );
    refused(
        &below("capture = \"poll\"\n[source.erp.poll.orders]\nkey = [\"a\", \"a\"]"),
        "
crossdock.toml:18: [source.erp.poll.orders] has no `cursor`
    add `cursor = [\"changed_at\"]`
crossdock.toml:18: `orders` is not the name of a table or view
    write schema and table in quotes: [source.NAME.poll.\"public.orders\"]
crossdock.toml:19: `key` names `a` twice
    remove one of them",
    );
    refused(
        &below(
            "capture = \"poll\"\n[source.erp.poll.\"a.b\"]\nkey = []\ncursor = 5\nevery = \"0s\"\n\
             reconcile = \"sometimes\"\noverlp = \"1s\"",
        ),
        "
crossdock.toml:19: `key` names no column
    write `key = [\"id\"]`
crossdock.toml:20: `cursor` is a number
    `cursor` takes a text in quotes
crossdock.toml:21: `every` cannot be `0s`
    write it like \"10s\", from 1s to 1d
crossdock.toml:22: `reconcile` cannot be `sometimes`
    write it like \"6h\", from 1s to 365d
crossdock.toml:23: unknown key `overlp` in [source.erp.poll.a.b]
    did you mean `overlap`?",
    );
}

#[test]
fn what_is_wanted_must_be_polled_and_what_is_written_is_warned_of() {
    let lines = format!(
        "capture = \"poll\"\n{VIEW}\n[target.erp]\nsource = \"erp\"\n[target.copy]\n\
         kind = \"postgres\"\nhost = \"localhost\"\ndatabase = \"copy\"\nuser = \"u\"\n\
         [mirror.m]\nsource = \"erp\"\ntarget = \"copy\"\ntables = [\"public.orders\"]"
    );
    refused(
        &below(&lines),
        "
crossdock.toml:28: mirror `m` copies `public.orders` of source `erp`, which is not polled
    add `[source.erp.poll.\"public.orders\"]` with `key` and `cursor`",
    );
    let good = lines.replace("tables = [\"public.orders\"]", "tables = [\"public.orders_view\"]");
    let warnings = World::new(&below(&good)).warnings();
    assert!(
        warnings
            .contains("crossdock.toml:21: target `erp` writes into source `erp`, which is polled"),
        "{warnings}"
    );
}
