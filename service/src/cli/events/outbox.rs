//! `crossdock events --outbox`: the settings of the event router, by Debezium's names.

use anyhow::Context;
use clap::Args;
use crossdock_model::debezium::{
    OutboxOptions, OutboxRouter, Placement, Record, Routed, TopicRule,
};

/// Debezium's settings of the outbox event router.
#[derive(Args)]
pub(super) struct OutboxArguments {
    /// With --outbox: a payload that is a JSON text is sent as JSON.
    #[arg(long)]
    table_expand_json_payload: bool,
    /// With --outbox: further columns, such as `type:header:eventType,tenant:envelope`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    table_fields_additional_placement: Vec<Placement>,
    /// With --outbox: what becomes of further columns that are not there.
    #[arg(long, value_name = "MODE", value_parser = ["error", "ignore"], default_value = "error")]
    table_field_additional_missing: String,
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    table_field_event_id: String,
    #[arg(long, value_name = "COLUMN", default_value = "aggregateid")]
    table_field_event_key: String,
    #[arg(long, value_name = "COLUMN", default_value = "payload")]
    table_field_event_payload: String,
    /// With --outbox: what becomes of an updated row, which is not sent: `fatal` stops.
    #[arg(long, value_name = "MODE", value_parser = ["warn", "error", "fatal"], default_value = "warn")]
    table_op_invalid_behavior: String,
    #[arg(long, value_name = "COLUMN", default_value = "aggregatetype")]
    route_by_field: String,
    /// [default: (?<routedByValue>.*)]
    #[arg(long, value_name = "REGEX")]
    route_topic_regex: Option<String>,
    /// [default: outbox.event.${routedByValue}]
    #[arg(long, value_name = "TOPIC")]
    route_topic_replacement: Option<String>,
    #[arg(long)]
    route_tombstone_on_empty_payload: bool,
    /// With --outbox: logical messages of this prefix are events as well: JSON objects with the
    /// fields that a row of an outbox table has.
    #[arg(long, value_name = "PREFIX")]
    outbox_message_prefix: Option<String>,
    /// With --outbox: events whose id is among so many that came last are dropped.
    #[arg(long, value_name = "N", default_value = "100000")]
    outbox_remembered_ids: usize,
}

/// The router, and what is done with what it does not send.
pub(super) struct Outbox {
    router: OutboxRouter,
    updates_are_fatal: bool,
}

impl Outbox {
    pub(super) fn new(arguments: &OutboxArguments) -> anyhow::Result<Self> {
        let regex = arguments.route_topic_regex.as_deref();
        let options = OutboxOptions {
            id: arguments.table_field_event_id.clone(),
            key: arguments.table_field_event_key.clone(),
            payload: arguments.table_field_event_payload.clone(),
            route_by: arguments.route_by_field.clone(),
            topic: TopicRule::new(regex, arguments.route_topic_replacement.as_deref())
                .context("--route-topic-regex")?,
            tombstone_on_empty_payload: arguments.route_tombstone_on_empty_payload,
            expand_json_payload: arguments.table_expand_json_payload,
            additional: arguments.table_fields_additional_placement.clone(),
            ignore_missing: arguments.table_field_additional_missing == "ignore",
            message_prefix: arguments.outbox_message_prefix.clone(),
            remembered_ids: arguments.outbox_remembered_ids,
        };
        let updates_are_fatal = arguments.table_op_invalid_behavior == "fatal";
        Ok(Self { router: OutboxRouter::new(options), updates_are_fatal })
    }

    /// What is sent of a record.
    pub(super) fn apply(&mut self, record: Record) -> anyhow::Result<Option<Record>> {
        match self.router.apply(record) {
            Routed::Sent(record) => Ok(Some(*record)),
            Routed::Dropped => Ok(None),
            Routed::Duplicate => {
                tracing::debug!("an event of the outbox came a second time: not sent");
                Ok(None)
            }
            Routed::Updated if self.updates_are_fatal => {
                anyhow::bail!("a row of an outbox table was updated, and only inserts are events")
            }
            Routed::Updated => {
                tracing::warn!("a row of an outbox table was updated: not sent");
                Ok(None)
            }
            Routed::Unreadable(record) => {
                tracing::warn!(
                    "a logical message of the outbox's prefix is no JSON object with the fields \
                     of an event: sent as a message"
                );
                Ok(Some(*record))
            }
            Routed::Missing(column) => anyhow::bail!(
                "an outbox event has no `{column}`, which --table-fields-additional-placement \
                 asks for: add the column, or give --table-field-additional-missing ignore"
            ),
        }
    }
}
