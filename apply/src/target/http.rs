//! A service that takes deliveries over HTTP: each is one POST with an identity and a signature.
//!
//! There are no transactions here. A delivery that was not answered is posted again with the same
//! `Idempotency-Key`; how far the service has come is kept in the canonical store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use ring::hmac;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::document::{deliveries, document};
use super::{Target, TargetBatch, TargetProgress};
use crate::store::TargetLedger;
use crate::{ApplyError, ConnectOptions, HttpOptions, connect, points};

/// What a service answers beyond this is not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Progress is noted after this many deliveries; as many may be posted again after a crash.
const NOTED_EVERY: usize = 20;
/// Nobody may ask to be left alone for longer.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// A service that takes deliveries over HTTP. One connection at a time, made anew when it breaks.
pub struct HttpTarget {
    options: HttpOptions,
    installation: String,
    place: Place,
    ledger: TargetLedger,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// The parts of a URL.
struct Place {
    host: String,
    port: u16,
    path: String,
    tls: Option<TlsConnector>,
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTarget").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl HttpTarget {
    /// Opens the ledger in the canonical store; the service is connected to when it is needed.
    pub async fn open(
        options: &HttpOptions,
        installation: &str,
        store: &ConnectOptions,
    ) -> Result<Self, ApplyError> {
        Ok(Self {
            place: place(options)?,
            options: options.clone(),
            installation: installation.to_string(),
            ledger: TargetLedger::open(store, &options.name).await?,
            sender: None,
        })
    }

    /// Sets the progress of a stream back. Returns where it was.
    pub async fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        self.ledger.rewind(stream, seq).await
    }

    /// Connects and hangs up.
    pub(super) async fn probe(options: &HttpOptions) -> Result<(), ApplyError> {
        let place = place(options)?;
        let reaching = connect_to(&place);
        match tokio::time::timeout(options.timeout, reaching).await {
            Ok(reached) => reached.map(|_| ()).map_err(|e| lost(options, unreached(e))),
            Err(_) => Err(busy(options, "no answer in time")),
        }
    }

    /// Posts one delivery; once more when a connection that was kept turns out to be dead.
    async fn post(&mut self, event_id: Uuid, body: String) -> Result<(), ApplyError> {
        let body = Bytes::from(body);
        let kept = self.sender.as_ref().is_some_and(|s| !s.is_closed());
        let mut answered = self.ask(event_id, &body).await;
        if kept && matches!(&answered, Err(Failed::Connection(_))) {
            answered = self.ask(event_id, &body).await;
        }
        match answered {
            Ok((status, headers)) => judge(&self.options, status, &headers),
            Err(failed) => Err(lost(&self.options, failed)),
        }
    }

    async fn ask(
        &mut self,
        event_id: Uuid,
        body: &Bytes,
    ) -> Result<(StatusCode, HeaderMap), Failed> {
        let timeout = self.options.timeout;
        let asking = async {
            let mut sender = match self.sender.take().filter(|s| !s.is_closed()) {
                Some(sender) => sender,
                None => connect_to(&self.place).await.map_err(unreached)?,
            };
            sender.ready().await.map_err(broken)?;
            let request = self.request(event_id, body)?;
            let answer = sender.send_request(request).await.map_err(broken)?;
            let (head, rest) = answer.into_parts();
            // The connection can be used again only when the answer has been read to its end.
            if Limited::new(rest, ANSWER_BYTES_MAX).collect().await.is_ok() {
                self.sender = Some(sender);
            }
            Ok((head.status, head.headers))
        };
        tokio::time::timeout(timeout, asking).await.unwrap_or(Err(Failed::TimedOut))
    }

    fn request(&self, event_id: Uuid, body: &Bytes) -> Result<Request<Full<Bytes>>, Failed> {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let timestamp = seconds.map_or(0, |s| s.as_secs()).to_string();
        let mut request = Request::post(&self.place.path)
            .header(HOST, format!("{}:{}", self.place.host, self.place.port))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("crossdock/", env!("CARGO_PKG_VERSION")))
            .header("idempotency-key", event_id.to_string())
            .header("x-crossdock-timestamp", &timestamp);
        let secret = self.options.secret.expose_secret();
        if !secret.is_empty() {
            let signature = signature(secret.as_bytes(), &timestamp, body);
            request = request.header("x-crossdock-signature", format!("v1={signature}"));
        }
        request.body(Full::new(body.clone())).map_err(broken)
    }
}

impl Target for HttpTarget {
    async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        self.ledger.progress(stream).await
    }

    async fn apply(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        let done = self.progress(&batch.stream).await?.map_or(0, |p| p.seq);
        if batch.upto <= done {
            return Ok(None);
        }
        let mut posted = 0;
        let mut noted = done;
        for (at, (told, writes)) in deliveries(batch).enumerate() {
            if told.place <= done {
                continue;
            }
            let body = document(&self.installation, told, writes);
            if let Err(error) = self.post(told.event_id, body).await {
                if noted > done {
                    self.ledger.note(&batch.stream, noted).await?;
                }
                return Err(error);
            }
            points::pass("http.after_post", &self.options.name);
            posted += 1;
            noted = told.place;
            if (at + 1) % NOTED_EVERY == 0 {
                self.ledger.note(&batch.stream, noted).await?;
            }
        }
        self.ledger.note(&batch.stream, batch.upto).await?;
        Ok(Some(posted))
    }
}

enum Failed {
    Connection(String),
    /// There is somebody, and he is not to be trusted: what is wrong, and what to do.
    Untrusted(String, &'static str),
    TimedOut,
}

/// Why there is no connection. What a certificate or the lack of one stops is not tried again and
/// again as if it were a cable.
fn unreached(error: std::io::Error) -> Failed {
    use rustls::{CertificateError as Bad, Error as Tls};
    let tls = error.get_ref().and_then(|cause| cause.downcast_ref::<Tls>());
    let remedy = match tls {
        Some(Tls::InvalidCertificate(bad)) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => {
                "renew the service's certificate, and look at the clocks of both machines"
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "look at the clocks of both machines"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "write the host name that the certificate is for into `url`"
            }
            Bad::UnknownIssuer => {
                "name the certificate of the authority that has signed the service's in `ca_file`"
            }
            _ => "correct the service's certificate, or name its authority's in `ca_file`",
        },
        Some(Tls::InvalidMessage(_)) => {
            "write the port at which the service speaks TLS, or http:// for one that does not"
        }
        Some(Tls::PeerIncompatible(_) | Tls::AlertReceived(_)) => {
            "let the service speak TLS 1.2 or 1.3, and ask for no certificate of ours"
        }
        _ => return broken(error),
    };
    Failed::Untrusted(tls.map_or_else(String::new, ToString::to_string), remedy)
}

fn lost(options: &HttpOptions, failed: Failed) -> ApplyError {
    match failed {
        Failed::Connection(what) => busy(options, &what),
        Failed::TimedOut => busy(options, "no answer in time"),
        Failed::Untrusted(what, remedy) => ApplyError::Definite {
            what: format!("{}: the service cannot be trusted: {what}", options.name),
            remedy: remedy.into(),
        },
    }
}

/// What went wrong with the connection; never the content of a request or an answer.
fn broken(error: impl std::error::Error) -> Failed {
    let mut text = error.to_string();
    if let Some(cause) = error.source() {
        text.push_str(&format!(": {cause}"));
    }
    Failed::Connection(text)
}

fn busy(options: &HttpOptions, what: &str) -> ApplyError {
    ApplyError::Busy { what: format!("{}: posting failed: {what}", options.name), after: None }
}

/// HMAC-SHA256 of timestamp, a point, and the body, in hexadecimal digits.
fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an answer means.
fn judge(options: &HttpOptions, status: StatusCode, headers: &HeaderMap) -> Result<(), ApplyError> {
    let name = &options.name;
    let code = status.as_u16();
    let what = format!("{name}: the service answered {code}");
    match code {
        200..=299 => Ok(()),
        409 if options.conflict_is_done => Ok(()),
        408 | 425 | 429 | 500..=599 => {
            Err(ApplyError::Busy { what, after: retry_after(headers, SystemTime::now()) })
        }
        401 | 403 | 407 => Err(ApplyError::Definite {
            what,
            remedy: "correct `secret_env` or `secret_file`, or let the service accept it".into(),
        }),
        300..=399 => Err(ApplyError::Definite {
            what,
            remedy: "write the URL that it redirects to into `url`".into(),
        }),
        _ => Err(ApplyError::Refused {
            what,
            remedy: "look into the service's log for the delivery with this event_id".into(),
            code: format!("HTTP {code}"),
            parent: false,
        }),
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(asked.min(PAUSE_MAX))
}

fn place(options: &HttpOptions) -> Result<Place, ApplyError> {
    let wrong = |why: &str| ApplyError::Definite {
        what: format!("{}: `url` {why}", options.name),
        remedy: "write it like \"https://portal.example/hooks\"".into(),
    };
    let uri: Uri = options.url.parse().map_err(|_| wrong("is no URL"))?;
    let tls = match uri.scheme_str() {
        Some("https") => {
            let config = connect::tls_config(&options.name, options.ca_file.as_deref())?;
            Some(TlsConnector::from(Arc::new(config)))
        }
        Some("http") => None,
        _ => return Err(wrong("begins neither with https:// nor with http://")),
    };
    let host = uri.host().ok_or_else(|| wrong("names no host"))?;
    let default = if tls.is_some() { 443 } else { 80 };
    Ok(Place {
        host: host.to_string(),
        port: uri.port_u16().unwrap_or(default),
        path: uri.path_and_query().map_or("/", |p| p.as_str()).to_string(),
        tls,
    })
}

type Connecting = Result<SendRequest<Full<Bytes>>, std::io::Error>;

async fn connect_to(place: &Place) -> Connecting {
    let bare = place.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, place.port)).await?;
    stream.set_nodelay(true)?;
    match &place.tls {
        None => begin(stream).await,
        Some(tls) => {
            let name = ServerName::try_from(bare.to_string()).map_err(std::io::Error::other)?;
            begin(tls.connect(name, stream).await?).await
        }
    }
}

async fn begin<S>(stream: S) -> Connecting
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Ends with the connection, or when the sender is dropped; errors reach the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_can_be_checked_by_others() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature(b"secret", "1700000000", b"{\"a\":1}"), expected);
    }

    #[test]
    fn answers_are_sorted() {
        let options = HttpOptions {
            name: "portal".into(),
            url: "http://localhost/".into(),
            secret: "".into(),
            timeout: Duration::from_secs(1),
            conflict_is_done: true,
            ca_file: None,
        };
        let of = |code: u16, after: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = after.parse() {
                headers.insert(RETRY_AFTER, value);
            }
            judge(&options, StatusCode::from_u16(code).unwrap(), &headers)
        };
        for done in [200, 201, 202, 204, 409] {
            assert!(of(done, "").is_ok(), "{done}");
        }
        for refused in [400, 404, 410, 413, 422] {
            assert!(matches!(of(refused, ""), Err(ApplyError::Refused { .. })), "{refused}");
        }
        for halts in [301, 401, 403] {
            assert!(matches!(of(halts, ""), Err(ApplyError::Definite { .. })), "{halts}");
        }
        let pause = |code, after| match of(code, after) {
            Err(ApplyError::Busy { after, .. }) => after.map(|a| a.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(pause(503, "7"), Some(7));
        assert_eq!(pause(429, "99999"), Some(600));
        assert_eq!(pause(429, "Fri, 31 Dec 1999 23:59:59 GMT"), Some(0));
        assert_eq!(pause(500, "soon"), None);
    }
}
