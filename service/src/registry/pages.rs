//! The registry over HTTP, with the paths, bodies and error codes of Confluent's Schema Registry,
//! so that existing serialisers find their schemas here. Reading is open like `/status`;
//! registering needs the password of `[registry]`. Only Avro is taken; nothing is ever deleted.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use crossdock_apply::ApplyError;
use crossdock_schema_registry::{Compatibility, Refused, SubjectVersion, Subjects, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Registry;
use crate::in_force::InForce;

/// Longer names of subjects are refused.
const NAME_CHARS_MAX: usize = 249;
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What the pages are made from.
pub struct Access {
    /// What is registered.
    pub registry: Registry,
    /// Who knows it may register; nobody, when there is none.
    pub password: Option<SecretString>,
    /// The rules in force, for their entities.
    pub rules: watch::Receiver<InForce>,
}

type Shared = State<Arc<Access>>;

/// `/subjects`, `/schemas`, `/compatibility`, `/config`, `/mode`, `/entities`.
pub fn router(access: Access) -> Router {
    Router::new()
        .route("/subjects", get(names))
        .route("/subjects/{subject}", post(find))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_schema))
        .route("/schemas/types", get(|| async { Json(json!(["AVRO"])) }))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/versions", get(schema_versions))
        .route("/compatibility/subjects/{subject}/versions", post(check_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check_one))
        .route("/config", get(level).put(set_level))
        .route("/config/{subject}", get(subject_level).put(set_subject_level))
        .route("/mode", get(mode))
        .route("/entities/{name}/json-schema", get(entity_json_schema))
        .with_state(Arc::new(access))
}

/// An answer that is an error: status, code of the registry, message.
#[derive(Debug)]
struct Problem(StatusCode, u32, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(status, code, message) = self;
        let body = Json(json!({ "error_code": code, "message": message }));
        (status, [(CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        Problem(StatusCode::INTERNAL_SERVER_ERROR, 50001, error.to_string())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (status, code) = match refused {
            Refused::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, 42201),
            Refused::Incompatible { .. } => (StatusCode::CONFLICT, 409),
            Refused::Full(_) => (StatusCode::UNPROCESSABLE_ENTITY, 42205),
        };
        Problem(status, code, refused.to_string())
    }
}

type Answer = Result<Response, Problem>;

fn answer(body: Value) -> Answer {
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], Json(body)).into_response())
}

fn no_subject(subject: &str) -> Problem {
    Problem(StatusCode::NOT_FOUND, 40401, format!("Subject '{subject}' not found."))
}

/// A schema that somebody sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Value>,
}

type Body<T> = Result<Json<T>, JsonRejection>;

fn body<T>(body: Body<T>) -> Result<T, Problem> {
    let unreadable =
        |e: JsonRejection| Problem(StatusCode::UNPROCESSABLE_ENTITY, 422, e.body_text());
    body.map(|Json(body)| body).map_err(unreadable)
}

/// The text of a schema; other types than Avro, and references, are not taken.
fn text(sent: Body<Sent>) -> Result<String, Problem> {
    let sent = body(sent)?;
    let invalid = |what: String| Problem(StatusCode::UNPROCESSABLE_ENTITY, 42201, what);
    match sent.schema_type.as_deref() {
        None | Some("" | "AVRO") if sent.references.is_empty() => Ok(sent.schema),
        None | Some("" | "AVRO") => Err(invalid("schema references are not supported".into())),
        Some(other) => Err(invalid(format!("schema type {other} is not supported, only AVRO"))),
    }
}

/// The version with a number, or `latest`.
fn find_version<'s>(
    subjects: &'s Subjects,
    subject: &str,
    number: &str,
) -> Result<&'s SubjectVersion, Problem> {
    let versions = subjects.versions(subject);
    if versions.is_empty() {
        return Err(no_subject(subject));
    }
    let found = match number {
        "latest" | "-1" => versions.last(),
        number => {
            let number: u32 = number.parse().map_err(|_| {
                let what = format!("The version '{number}' is neither a number nor 'latest'.");
                Problem(StatusCode::UNPROCESSABLE_ENTITY, 42202, what)
            })?;
            versions.iter().find(|v| v.version == number)
        }
    };
    let none = || Problem(StatusCode::NOT_FOUND, 40402, format!("Version {number} not found."));
    found.ok_or_else(none)
}

fn described(version: &SubjectVersion) -> Value {
    json!({
        "subject": version.subject,
        "version": version.version,
        "id": version.id,
        "schema": version.schema,
    })
}

async fn names(State(access): Shared) -> Answer {
    answer(json!(access.registry.read().await?.names().collect::<Vec<_>>()))
}

async fn versions(State(access): Shared, Path(subject): Path<String>) -> Answer {
    let subjects = access.registry.read().await?;
    let numbers: Vec<u32> = subjects.versions(&subject).iter().map(|v| v.version).collect();
    if numbers.is_empty() { Err(no_subject(&subject)) } else { answer(json!(numbers)) }
}

async fn version(State(access): Shared, Path((subject, n)): Path<(String, String)>) -> Answer {
    answer(described(find_version(&access.registry.read().await?, &subject, &n)?))
}

async fn version_schema(
    State(access): Shared,
    Path((subject, number)): Path<(String, String)>,
) -> Answer {
    let subjects = access.registry.read().await?;
    let schema = find_version(&subjects, &subject, &number)?.schema.clone();
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], schema).into_response())
}

async fn find(State(access): Shared, Path(subject): Path<String>, sent: Body<Sent>) -> Answer {
    let text = text(sent)?;
    let subjects = access.registry.read().await?;
    if subjects.versions(&subject).is_empty() {
        return Err(no_subject(&subject));
    }
    let none = || Problem(StatusCode::NOT_FOUND, 40403, "Schema not found".into());
    answer(described(subjects.find(&subject, &text)?.ok_or_else(none)?))
}

async fn register(
    State(access): Shared,
    Path(subject): Path<String>,
    headers: HeaderMap,
    sent: Body<Sent>,
) -> Answer {
    access.may_change(&headers)?;
    let text = text(sent)?;
    if subject.is_empty() || subject.chars().count() > NAME_CHARS_MAX {
        let what = format!("a subject has 1 to {NAME_CHARS_MAX} characters");
        return Err(Problem(StatusCode::UNPROCESSABLE_ENTITY, 42208, what));
    }
    let registered = access.registry.change(|s| s.register(&subject, &text)).await??;
    answer(json!({ "id": registered.id }))
}

async fn schema(State(access): Shared, Path(id): Path<u32>) -> Answer {
    let subjects = access.registry.read().await?;
    let found = subjects.with_id(id).next().map(|v| json!({ "schema": v.schema }));
    answer(found.ok_or_else(|| no_schema(id))?)
}

async fn schema_versions(State(access): Shared, Path(id): Path<u32>) -> Answer {
    let subjects = access.registry.read().await?;
    let found: Vec<Value> = subjects
        .with_id(id)
        .map(|v| json!({ "subject": v.subject, "version": v.version }))
        .collect();
    if found.is_empty() { Err(no_schema(id)) } else { answer(json!(found)) }
}

fn no_schema(id: u32) -> Problem {
    Problem(StatusCode::NOT_FOUND, 40403, format!("Schema {id} not found"))
}

#[derive(Deserialize)]
struct Verbose {
    #[serde(default)]
    verbose: bool,
}

async fn check_all(
    State(access): Shared,
    Path(subject): Path<String>,
    Query(how): Query<Verbose>,
    sent: Body<Sent>,
) -> Answer {
    let text = text(sent)?;
    let subjects = access.registry.read().await?;
    checked(subjects.check(&subject, &text, |_| true), how.verbose)
}

async fn check_one(
    State(access): Shared,
    Path((subject, number)): Path<(String, String)>,
    Query(how): Query<Verbose>,
    sent: Body<Sent>,
) -> Answer {
    let text = text(sent)?;
    let subjects = access.registry.read().await?;
    let against = find_version(&subjects, &subject, &number)?.version;
    checked(subjects.check(&subject, &text, |v| v.version == against), how.verbose)
}

fn checked(result: Result<(), Refused>, verbose: bool) -> Answer {
    let messages = match result {
        Ok(()) => Vec::new(),
        Err(Refused::Incompatible { reasons, .. }) => reasons,
        Err(refused) => return Err(refused.into()),
    };
    let mut body = json!({ "is_compatible": messages.is_empty() });
    if verbose {
        body["messages"] = json!(messages);
    }
    answer(body)
}

async fn level(State(access): Shared) -> Answer {
    let level = access.registry.read().await?.level("");
    answer(json!({ "compatibilityLevel": level.to_string() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fallback {
    #[serde(default)]
    default_to_global: bool,
}

async fn subject_level(
    State(access): Shared,
    Path(subject): Path<String>,
    Query(fallback): Query<Fallback>,
) -> Answer {
    let subjects = access.registry.read().await?;
    let own = subjects.own_level(&subject);
    let level = own.or_else(|| fallback.default_to_global.then(|| subjects.level(&subject)));
    let none = || {
        let what = format!("Subject '{subject}' has no compatibility level of its own");
        Problem(StatusCode::NOT_FOUND, 40408, what)
    };
    answer(json!({ "compatibilityLevel": level.ok_or_else(none)?.to_string() }))
}

#[derive(Deserialize)]
struct SentLevel {
    compatibility: String,
}

async fn set_level(state: Shared, headers: HeaderMap, sent: Body<SentLevel>) -> Answer {
    set(state, "", &headers, sent).await
}

async fn set_subject_level(
    state: Shared,
    Path(subject): Path<String>,
    headers: HeaderMap,
    sent: Body<SentLevel>,
) -> Answer {
    set(state, &subject, &headers, sent).await
}

async fn set(
    State(access): Shared,
    subject: &str,
    headers: &HeaderMap,
    sent: Body<SentLevel>,
) -> Answer {
    access.may_change(headers)?;
    let invalid = |what| Problem(StatusCode::UNPROCESSABLE_ENTITY, 42203, what);
    let level: Compatibility = body(sent)?.compatibility.parse().map_err(invalid)?;
    let set = |subjects: &mut Subjects| {
        subjects.set_level(subject, level);
        Ok::<_, Problem>(())
    };
    access.registry.change(set).await??;
    answer(json!({ "compatibility": level.to_string() }))
}

async fn mode(State(access): Shared) -> Answer {
    let mode = if access.password.is_some() { "READWRITE" } else { "READONLY" };
    answer(json!({ "mode": mode }))
}

async fn entity_json_schema(State(access): Shared, Path(name): Path<String>) -> Answer {
    let none = || Problem(StatusCode::NOT_FOUND, 404, format!("there is no entity {name}"));
    let rules = access.rules.borrow().rules.clone();
    let schema = json_schema(rules.entities().entity(&name).ok_or_else(none)?);
    Ok(([(CONTENT_TYPE, "application/schema+json")], Json(schema)).into_response())
}

impl Access {
    /// Basic authentication with any user, as serialisers send it, or a bearer token.
    fn may_change(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(password) = &self.password else {
            let what = "registering is closed: give [registry] a password in the config file";
            return Err(Problem(StatusCode::FORBIDDEN, 40301, what.into()));
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| given(value.to_str().ok()?));
        // Digests are compared, so that the time taken tells nothing about the password.
        let right = Sha256::digest(password.expose_secret().as_bytes());
        match given {
            Some(given) if Sha256::digest(given.as_bytes()) == right => Ok(()),
            _ => Err(Problem(StatusCode::UNAUTHORIZED, 40101, "wrong or no password".into())),
        }
    }
}

/// The password in an authorisation header.
fn given(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_string());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    Some(pair.split_once(':')?.1.to_string())
}

#[cfg(test)]
mod tests {
    use super::given;

    #[test]
    fn a_password_is_read_from_either_header() {
        assert_eq!(given("Bearer abc"), Some("abc".into()));
        assert_eq!(given("Basic dXNlcjphOmI="), Some("a:b".into()));
        for wrong in ["", "Basic", "Basic !", "Basic dXNlcg==", "Digest abc"] {
            assert_eq!(given(wrong), None, "{wrong}");
        }
    }
}
