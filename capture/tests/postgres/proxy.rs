//! A network that fails: a proxy before the server that cuts connections, or lets them go silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a connection after some bytes from the server.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Both ends see it closed, in the middle of whatever was under way.
    Cut,
    /// Neither end hears anything any more.
    Silence,
}

/// A proxy on a port of its own; ends with the test's runtime.
pub struct Proxy {
    pub port: u16,
    faults: Arc<AtomicU64>,
}

/// Which connections fail, and how.
#[derive(Clone)]
pub struct Plan {
    pub fault: Fault,
    /// Bytes from the server after which a connection fails, drawn from this range.
    pub after: std::ops::Range<u64>,
    /// So many connections fail; later ones do not.
    pub faults_max: u64,
    pub seed: u64,
}

impl Proxy {
    /// Stands before the server on `server`.
    pub async fn start(server: u16, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::new(AtomicU64::new(0));
        let counter = faults.clone();
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(plan.seed);
            while let Ok((client, _)) = listener.accept().await {
                let bytes = random.random_range(plan.after.clone());
                tokio::spawn(connection(client, server, bytes, plan.clone(), counter.clone()));
            }
        });
        Self { port, faults }
    }

    /// Connections that have failed so far.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Carries one connection. Those for SQL end soon and live on what they get.
async fn connection(
    client: TcpStream,
    server: u16,
    bytes: u64,
    plan: Plan,
    faults: Arc<AtomicU64>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = tokio::spawn(copy(from_client, to_server, u64::MAX));
    let (from_server, to_client) = copy(from_server, to_client, bytes).await;
    if faults.load(Ordering::Relaxed) >= plan.faults_max {
        copy(from_server, to_client, u64::MAX).await;
    } else if faults.fetch_add(1, Ordering::Relaxed) < plan.faults_max {
        match plan.fault {
            Fault::Cut => {}
            // Held open, and never read again.
            Fault::Silence => std::future::pending().await,
        }
    }
    up.abort();
}

/// Copies until so many bytes have passed, or an end is closed.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut left: u64,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match from.read(&mut buffer[..room]).await {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).await.is_ok() => {
                left -= count as u64;
            }
            _ => break,
        }
    }
    (from, to)
}
