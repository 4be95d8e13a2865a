//! A service that is told things over HTTP: what it was asked, and what it answers.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

impl Taken {
    /// Its `Idempotency-Key`; empty without one.
    pub fn key(&self) -> &str {
        self.headers.get("idempotency-key").map_or("", String::as_str)
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Log {
    /// What was taken, each key once.
    pub taken: Vec<Taken>,
    /// The key of every request.
    pub asked: Vec<String>,
    /// Of a service that speaks TLS: what came over the wire, as it came.
    pub wire: Vec<u8>,
    known: HashSet<String>,
    /// What is answered to a key, first things first; the last answer stays.
    answers: BTreeMap<String, Vec<Answer>>,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A status; with 503 comes `Retry-After: 3`.
    Code(u16),
    /// Takes it, and hangs up without an answer.
    TakeAndDie,
    /// Says nothing.
    Silence,
}

/// The service, on a port of its own, until the test ends.
#[derive(Debug)]
pub struct Service {
    port: u16,
    log: Arc<Mutex<Log>>,
}

impl Service {
    /// Starts it.
    pub fn start() -> Result<Self> {
        Self::listen(serve)
    }

    fn listen(
        answer: impl Fn(TcpStream, &Mutex<Log>) -> Option<()> + Clone + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || answer(stream, &log));
            }
        });
        Ok(Self { port, log })
    }

    /// Starts one that speaks TLS, with the certificate `NAME.crt` and the key `NAME.key` of a
    /// folder.
    pub fn start_tls(folder: &Path, name: &str) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.crt")))?;
        let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>()?, key)?;
        let config = Arc::new(config);
        Self::listen(move |stream, log| {
            let tls = ServerConnection::new(config.clone()).ok()?;
            serve(StreamOwned::new(tls, Wire { stream, log }), log)
        })
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What has happened so far.
    pub fn log(&self) -> Arc<Mutex<Log>> {
        self.log.clone()
    }

    /// What is answered to a key, first things first; the last answer stays.
    pub fn answers(&self, key: &str, answers: &[Answer]) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.answers.insert(key.to_string(), answers.to_vec());
    }
}

/// A connection of which is kept what comes.
struct Wire<'l> {
    stream: TcpStream,
    log: &'l Mutex<Log>,
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(into)?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.wire.extend(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Answers requests of one connection; an odd one ends it.
fn serve(stream: impl Read + Write, log: &Mutex<Log>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_string());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let taken = Taken { headers, body: String::from_utf8(body).ok()? };
        let key = taken.key().to_string();
        let answer = {
            let mut log = log.lock().ok()?;
            log.asked.push(key.clone());
            let answer = match log.answers.get_mut(&key) {
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers.first().copied().unwrap_or(Answer::Code(200)),
                None => Answer::Code(200),
            };
            let takes = matches!(answer, Answer::Code(200..=299) | Answer::TakeAndDie);
            if takes && log.known.insert(key) {
                log.taken.push(taken);
            }
            answer
        };
        match answer {
            Answer::Code(code) => {
                let after = if code == 503 { "Retry-After: 3\r\n" } else { "" };
                // In one piece: the rest of it would wait for an acknowledgement, 40 ms each time.
                let answer = format!("HTTP/1.1 {code} X\r\n{after}Content-Length: 2\r\n\r\nok");
                reader.get_mut().write_all(answer.as_bytes()).ok()?;
            }
            Answer::TakeAndDie => return None,
            Answer::Silence => std::thread::sleep(Duration::from_secs(3)),
        }
    }
}
