//! A proxy that changes packets of the server on their way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

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
