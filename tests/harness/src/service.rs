//! A service that is told things over HTTP: what it was asked, and what it answers.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

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
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = shared.clone();
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Ok(Self { port, log })
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

/// Answers requests of one connection; an odd one ends it.
fn serve(stream: TcpStream, log: &Mutex<Log>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
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
                stream.write_all(answer.as_bytes()).ok()?;
            }
            Answer::TakeAndDie => return None,
            Answer::Silence => std::thread::sleep(Duration::from_secs(3)),
        }
    }
}
