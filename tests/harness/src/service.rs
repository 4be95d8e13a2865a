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
    /// A body that has this is refused.
    refused: Option<String>,
    life: Life,
}

/// Whether a service is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Up,
    /// It takes one more request, and dies before it answers.
    Dying,
    Down,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A status; with 503 comes `Retry-After: 3`.
    Code(u16),
    /// Takes it, and hangs up without an answer.
    TakeAndDie,
    /// Hangs up, and takes nothing.
    Die,
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

    /// Bodies that have a text are refused with 422 from now on; none with `None`.
    pub fn refuse(&self, text: Option<&str>) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.refused = text.map(str::to_owned);
    }

    /// Kills it: what it is asked next it takes and does not answer, and nothing after that, until
    /// it is started again. What it has taken stays known.
    pub fn kill(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).life = Life::Dying;
    }

    /// Starts a killed service again.
    pub fn start_again(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).life = Life::Up;
    }
}

impl Log {
    /// Answers a request, and notes that it was taken when it was.
    fn answer(&mut self, asked: Taken) -> Answer {
        let key = asked.key().to_string();
        self.asked.push(key.clone());
        let refused = self.refused.as_ref().is_some_and(|text| asked.body.contains(text));
        let answer = match (self.life, self.answers.get_mut(&key)) {
            (Life::Down, _) => return Answer::Die,
            (Life::Dying, _) => {
                self.life = Life::Down;
                if refused { Answer::Die } else { Answer::TakeAndDie }
            }
            (Life::Up, _) if refused => Answer::Code(422),
            (Life::Up, Some(answers)) if answers.len() > 1 => answers.remove(0),
            (Life::Up, Some(answers)) => answers.first().copied().unwrap_or(Answer::Code(200)),
            (Life::Up, None) => Answer::Code(200),
        };
        let takes = matches!(answer, Answer::Code(200..=299) | Answer::TakeAndDie);
        if takes && self.known.insert(key) {
            self.taken.push(asked);
        }
        answer
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
        let answer = log.lock().ok()?.answer(taken);
        match answer {
            Answer::Code(code) => {
                let after = if code == 503 { "Retry-After: 3\r\n" } else { "" };
                // In one piece: the rest of it would wait for an acknowledgement, 40 ms each time.
                let answer = format!("HTTP/1.1 {code} X\r\n{after}Content-Length: 2\r\n\r\nok");
                reader.get_mut().write_all(answer.as_bytes()).ok()?;
            }
            Answer::TakeAndDie | Answer::Die => return None,
            Answer::Silence => std::thread::sleep(Duration::from_secs(3)),
        }
    }
}
