//! Evidence in the words of others: EPCIS 2.0 events, as JSON-LD.

use std::collections::BTreeMap;

use crossdock_model::canonical::{Evidence, Name, RecordKey};
use crossdock_model::time::instant_text;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

/// What kinds of evidence are in EPCIS's vocabulary.
const VOCABULARY: &str = include_str!("../codes/epcis.toml");
/// JSON-LD context of EPCIS 2.0.
const CONTEXT: &str = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld";
/// Names of our own in an event.
const NAMESPACE: &str = "urn:crossdock:epcis:";

#[derive(Deserialize)]
struct Vocabulary {
    kind: BTreeMap<String, Kind>,
    transaction: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    event_type: Option<String>,
    step: Option<String>,
    disposition: Option<String>,
}

/// Makes EPCIS events.
pub struct Epcis {
    vocabulary: Vocabulary,
    id_base: String,
}

impl Epcis {
    /// `id_base` stands before the key of a record in the identifiers of things and transactions:
    /// `https://id.example.org/` or `urn:example:`.
    pub fn new(id_base: &str) -> Self {
        let nothing = Vocabulary { kind: BTreeMap::new(), transaction: BTreeMap::new() };
        let vocabulary = toml::from_str(VOCABULARY).unwrap_or(nothing);
        debug_assert!(!vocabulary.kind.is_empty(), "the vocabulary cannot be read");
        Self { vocabulary, id_base: id_base.to_string() }
    }

    /// The head of a document; the events are its `epcisBody.eventList`. `now_micros` is its
    /// creation, microseconds since the Unix epoch.
    pub fn document(now_micros: i64) -> Json {
        json!({
            "@context": [CONTEXT, { "crossdock": NAMESPACE }],
            "type": "EPCISDocument",
            "schemaVersion": "2.0",
            "creationDate": instant_text(now_micros),
            "epcisBody": { "eventList": [] },
        })
    }

    /// One event. What was withdrawn is declared not to have happened, at `now_micros`. `links` are
    /// those of the record that it is about.
    pub fn event(
        &self,
        evidence: &Evidence,
        links: &BTreeMap<Name, RecordKey>,
        now_micros: i64,
    ) -> Json {
        let known = self.vocabulary.kind.get(&*evidence.kind).cloned();
        let kind =
            known.unwrap_or_else(|| Kind { step: Some("other".to_string()), ..Kind::default() });
        let event_type = kind.event_type.unwrap_or_else(|| "ObjectEvent".to_string());
        let mut event = Map::new();
        let mut put = |name: &str, value: Json| _ = event.insert(name.to_string(), value);
        put("type", json!(event_type));
        put("eventID", json!(format!("urn:uuid:{}", evidence.id)));
        put("eventTime", json!(instant_text(evidence.event_micros)));
        put("eventTimeZoneOffset", json!("+00:00"));
        put("recordTime", json!(instant_text(evidence.recorded_micros)));
        if evidence.withdrawn {
            let at = instant_text(now_micros);
            put("errorDeclaration", json!({ "declarationTime": at, "reason": "did_not_occur" }));
        }
        let mut transactions: Vec<Json> =
            links.values().filter_map(|to| self.transaction(to)).collect();
        if event_type == "TransactionEvent" {
            transactions.extend(self.transaction(&evidence.record));
            put("action", json!("ADD"));
        } else {
            put("action", json!("OBSERVE"));
        }
        put("epcList", json!([self.id(&evidence.record)]));
        for (name, value) in [("bizStep", kind.step), ("disposition", kind.disposition)] {
            if let Some(value) = value {
                put(name, json!(value));
            }
        }
        if !transactions.is_empty() {
            put("bizTransactionList", json!(transactions));
        }
        put("crossdock:kind", json!(&*evidence.kind));
        put("crossdock:source", json!(&*evidence.row.source));
        put("crossdock:authority", json!(evidence.authority));
        event.into()
    }

    fn transaction(&self, record: &RecordKey) -> Option<Json> {
        let kind = self.vocabulary.transaction.get(&*record.entity)?;
        Some(json!({ "type": kind, "bizTransaction": self.id(record) }))
    }

    /// The identifier of a record: what a URI does not allow is escaped. A `%` in a key is the
    /// beginning of an escape already.
    fn id(&self, record: &RecordKey) -> String {
        let mut id = self.id_base.clone();
        for byte in record.key.bytes() {
            match byte {
                _ if byte.is_ascii_alphanumeric() || b"-._~:%".contains(&byte) => {
                    id.push(char::from(byte));
                }
                _ => id.push_str(&format!("%{byte:02X}")),
            }
        }
        id
    }
}
