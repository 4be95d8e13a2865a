//! The outbox event router.

use super::*;

const COLUMNS: [&str; 5] = ["id", "aggregatetype", "aggregateid", "type", "payload"];

fn outbox(columns: &[&str]) -> Arc<TableSchema> {
    table("s", "outbox", &columns.iter().map(|name| (*name, "text")).collect::<Vec<_>>())
}

fn texts(texts: &[&str]) -> Image {
    let value = |text: &&str| match *text {
        "" => Value::Null,
        text => Value::Text(text.to_string().into()),
    };
    Some(RowImage::Full(texts.iter().map(value).collect()))
}

fn message(prefix: &str, content: &str) -> ChangeEvent {
    ChangeEvent {
        op: Op::Message,
        table: None,
        before: None,
        after: None,
        message: Some((prefix.to_string(), content.as_bytes().to_vec())),
        ordinal: 0,
    }
}

fn routed(options: OutboxOptions, changes: Vec<ChangeEvent>) -> Vec<Routed> {
    let records = records(
        Connector::Postgres,
        Options::new(Connector::Postgres),
        whole(header("9", "0/20"), changes),
    );
    let mut router = OutboxRouter::new(options);
    records.into_iter().map(|record| router.apply(record)).collect()
}

fn sent(routed: &Routed) -> &Record {
    match routed {
        Routed::Sent(record) => record,
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn outbox_rows_are_routed_and_others_pass() {
    let outbox = outbox(&COLUMNS);
    let other = table("s", "other", &[("id", "text")]);
    let row = || texts(&["e1", "order", "42", "Created", "{\"a\": [1]}"]);
    let changes = vec![
        event(Op::Create, &outbox, None, row()),
        event(Op::Delete, &outbox, row(), None),
        event(Op::Update, &outbox, row(), row()),
        event(Op::Create, &other, None, texts(&["x"])),
    ];
    let options = OutboxOptions {
        expand_json_payload: true,
        additional: vec!["type:header:eventType".parse().unwrap()],
        ..OutboxOptions::default()
    };
    let routed = routed(options, changes);
    let message = sent(&routed[0]);
    assert_eq!((&*message.destination, &message.key), ("outbox.event.order", &json!("42")));
    assert_eq!(message.value, json!({"a": [1]}));
    assert_eq!(Json::Object(message.headers.clone()), json!({"id": "e1", "eventType": "Created"}));
    // The delete and its tombstone.
    assert_eq!(routed[1..3], [Routed::Dropped, Routed::Dropped]);
    assert_eq!(routed[3], Routed::Updated);
    assert_eq!(sent(&routed[4]).destination, "o.s.other");
    for wrong in ["", "type", "type:", "type:partition", ":header"] {
        assert!(wrong.parse::<Placement>().is_err(), "{wrong}");
    }
}

#[test]
fn columns_and_topics_have_the_names_that_are_asked_for() {
    let outbox = outbox(&["event_id", "kind", "ref", "body", "tenant"]);
    let options = |topic: TopicRule| OutboxOptions {
        id: "event_id".into(),
        route_by: "kind".into(),
        key: "ref".into(),
        payload: "body".into(),
        topic,
        additional: vec!["tenant:envelope".parse().unwrap()],
        ..OutboxOptions::default()
    };
    let changes =
        || vec![event(Op::Create, &outbox, None, texts(&["e1", "order.eu", "7", "hi", "t1"]))];
    let topic = |regex: Option<&str>, replacement: Option<&str>| {
        let rule = TopicRule::new(regex, replacement).unwrap();
        let routed = routed(options(rule), changes());
        let record = sent(&routed[0]);
        assert_eq!(record.value, json!({"payload": "hi", "tenant": "t1"}));
        assert_eq!(record.headers["id"], "e1");
        record.destination.clone()
    };
    assert_eq!(topic(None, None), "outbox.event.order.eu");
    assert_eq!(topic(None, Some("shop.${routedByValue}.v1")), "shop.order.eu.v1");
    assert_eq!(topic(Some("(.*)\\.(.*)"), Some("$2_$1s")), "eu_orders");
    assert_eq!(topic(Some("(?<what>[a-z]+)\\..*"), Some("topic-${what}")), "topic-order");
    // What does not match whole stays.
    assert_eq!(topic(Some("order"), Some("x")), "order.eu");
    assert!(TopicRule::new(Some("(?=x)"), None).is_err());
}

#[test]
fn a_column_that_is_missing_is_an_error_unless_it_is_to_be_ignored() {
    let outbox = outbox(&COLUMNS);
    let row = || vec![event(Op::Create, &outbox, None, texts(&["e1", "o", "1", "T", ""]))];
    let options = OutboxOptions {
        additional: vec!["tenant:header".parse().unwrap(), "type:envelope".parse().unwrap()],
        ..OutboxOptions::default()
    };
    assert_eq!(routed(options.clone(), row()), [Routed::Missing("tenant".into())]);
    let options = OutboxOptions { ignore_missing: true, ..options };
    let all = routed(options.clone(), row());
    let record = sent(&all[0]);
    assert_eq!(record.value, json!({"payload": null, "type": "T"}));
    assert!(!record.headers.contains_key("tenant"));
    let options = OutboxOptions { tombstone_on_empty_payload: true, ..options };
    assert_eq!(sent(&routed(options, row())[0]).value, Json::Null);
}

#[test]
fn logical_messages_are_an_outbox_without_a_table() {
    let event = r#"{"id": "e1", "aggregatetype": "order", "aggregateid": 42, "type": "Created",
                    "payload": {"total": 12.50}}"#;
    let changes = vec![
        message("outbox", event),
        message("other", event),
        message("outbox", "no JSON"),
        message("outbox", r#"{"id": "e2", "aggregatetype": "order"}"#),
        message("outbox", r#"{"id": "e3", "aggregatetype": "order", "aggregateid": "x"}"#),
    ];
    let options = OutboxOptions {
        message_prefix: Some("outbox".into()),
        additional: vec!["type:header".parse().unwrap()],
        ignore_missing: true,
        ..OutboxOptions::default()
    };
    let routed = routed(options, changes);
    let first = sent(&routed[0]);
    assert_eq!((&*first.destination, &first.key), ("outbox.event.order", &json!(42)));
    assert_eq!(first.value, json!({"total": 12.50}));
    assert_eq!(Json::Object(first.headers.clone()), json!({"id": "e1", "type": "Created"}));
    assert_eq!(sent(&routed[1]).destination, "o.message");
    for unreadable in &routed[2..4] {
        assert!(matches!(unreadable, Routed::Unreadable(r) if r.destination == "o.message"));
    }
    assert_eq!(sent(&routed[4]).value, Json::Null);
}

#[test]
fn an_event_that_came_before_is_dropped_while_it_is_remembered() {
    let outbox = outbox(&COLUMNS);
    let create = |id: &str| event(Op::Create, &outbox, None, texts(&[id, "o", "1", "T", "p"]));
    let outcome = |remembered_ids| {
        let ids = ["a", "b", "a", "c", "d", "a", "d", "", ""];
        let options = OutboxOptions { remembered_ids, ..OutboxOptions::default() };
        let routed = routed(options, ids.map(create).to_vec());
        routed.iter().map(|r| if *r == Routed::Duplicate { '-' } else { '+' }).collect::<String>()
    };
    assert_eq!(outcome(100), "++-++--++");
    // The first `a` is forgotten by the time of the last.
    assert_eq!(outcome(3), "++-+++-++");
    assert_eq!(outcome(0), "+++++++++");
}
