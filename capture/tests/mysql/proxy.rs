//! Proxies: one that changes packets of the server on their way, and one that can be shut.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is done to an event: its bytes from the header to before the checksum.
pub type Change = fn(&mut Vec<u8>);

/// Stands before the server on a port of its own, and changes each event of type `kind`. Events
/// have checksums, which are made right again. Ends with the test's runtime.
pub async fn start(server: u16, kind: u8, change: Change) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(packets(from_server, to_client, kind, change));
        }
    });
    port
}

async fn packets(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    kind: u8,
    change: Change,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head).await?;
        let [a, b, c, number] = head;
        let mut packet = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        from.read_exact(&mut packet).await?;
        // A zero, then the event: four bytes of time, and its type.
        if packet.first() == Some(&0) && packet.len() > 24 && packet.get(5) == Some(&kind) {
            packet = changed(&packet, change);
        }
        let [a, b, c, _] = (packet.len() as u32).to_le_bytes();
        to.write_all(&[a, b, c, number]).await?;
        to.write_all(&packet).await?;
    }
}

fn changed(packet: &[u8], change: Change) -> Vec<u8> {
    let mut event = packet[1..packet.len() - 4].to_vec();
    change(&mut event);
    let sum = crc32fast::hash(&event).to_le_bytes();
    let mut changed = vec![0];
    changed.extend(event);
    changed.extend(sum);
    changed
}

/// What happens to connections.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Open,
    /// Nothing passes, and nobody is told.
    Silent,
    Cut,
}

/// A way to the server that can be shut. Ends with the test's runtime.
pub struct Gate {
    pub port: u16,
    way: watch::Sender<Way>,
}

impl Gate {
    pub fn open(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Lets connections starve without a word.
    pub fn silence(&self) {
        self.way.send_replace(Way::Silent);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }
}

/// Opens a gate before a server, on a port of its own.
pub async fn gate(server: u16) -> Gate {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (way, seen) = watch::channel(Way::Open);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(pass(from_client, to_server, seen.clone()));
            tokio::spawn(pass(from_server, to_client, seen.clone()));
        }
    });
    Gate { port, way }
}

/// Once silent, a connection stays so: what was held back never comes.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            // When the gate is gone, connections stay as they are.
            Ok(()) = way.changed() => None,
            read = from.read(&mut bytes) => Some(read),
        };
        let now = *way.borrow();
        match (read, now) {
            (_, Way::Silent) => std::future::pending().await,
            (None, Way::Open) => {}
            (Some(Ok(read @ 1..)), Way::Open) if to.write_all(&bytes[..read]).await.is_ok() => {}
            _ => return,
        }
    }
}
