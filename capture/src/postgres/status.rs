//! Standby status updates: what the server is told of our progress, and when.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::pgoutput::EPOCH_MICROS;

/// The server is told at least this often.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// A changed acknowledgement is told at most this often.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// A server without a timeout of its own that says nothing for this long, although it has been
/// asked to, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// With a timeout of its own, that time is given to the server too, but not less than this.
const SILENCE_MIN: Duration = Duration::from_secs(10);

/// State of the conversation about progress. Three places in the log are told apart:
/// acknowledged (durable with the caller) ≤ received ≤ where the server is.
pub(super) struct Status {
    interval: Duration,
    silence_max: Duration,
    sent: Instant,
    heard: Instant,
    told: u64,
    reply_is_due: bool,
    server_lsn: u64,
}

impl Status {
    /// `sender_timeout` is the server's `wal_sender_timeout`, zero for none.
    pub(super) fn new(from: u64, sender_timeout: Duration, now: Instant) -> Self {
        let third = match sender_timeout {
            Duration::ZERO => INTERVAL_MAX,
            timeout => timeout / 3,
        };
        Self {
            interval: third.min(INTERVAL_MAX),
            silence_max: match sender_timeout {
                Duration::ZERO => SILENCE_MAX,
                timeout => timeout.max(SILENCE_MIN),
            },
            sent: now,
            heard: now,
            told: from,
            reply_is_due: true,
            server_lsn: 0,
        }
    }

    /// Something arrived, or is not read because nobody takes it.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A keep-alive: everything that commits before `lsn` has been sent.
    pub(super) fn server_is_at(&mut self, lsn: u64) {
        self.server_lsn = self.server_lsn.max(lsn);
    }

    /// Where the last keep-alive said that the server is.
    pub(super) fn server_lsn(&self) -> u64 {
        self.server_lsn
    }

    /// The server asked for a reply at once.
    pub(super) fn reply_is_due(&mut self) {
        self.reply_is_due = true;
    }

    /// Nothing has been heard for so long that the connection must be dead.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        now - self.heard > self.silence_max
    }

    /// The message to send now, if any.
    pub(super) fn due(
        &mut self,
        acknowledged: u64,
        received: u64,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let since = now - self.sent;
        let news = acknowledged > self.told && since >= INTERVAL_MIN;
        if !self.reply_is_due && !news && since < self.interval {
            return None;
        }
        let ask = now - self.heard >= self.interval;
        // What has been received is told apart, so that the server does not ask again and again.
        let written = received.max(self.server_lsn).max(acknowledged);
        self.reply_is_due = false;
        self.sent = now;
        self.told = acknowledged;
        Some(message(written, acknowledged, ask))
    }
}

/// A CopyData message with a standby status update.
fn message(written: u64, acknowledged: u64, ask_for_reply: bool) -> Vec<u8> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(unix.as_micros()).unwrap_or(i64::MAX) - EPOCH_MICROS;
    let mut out = Vec::with_capacity(39);
    out.push(b'd');
    out.extend_from_slice(&38u32.to_be_bytes());
    out.push(b'r');
    // Written, flushed, applied. The slot moves by what is flushed.
    for lsn in [written, acknowledged, acknowledged] {
        out.extend_from_slice(&lsn.to_be_bytes());
    }
    out.extend_from_slice(&micros.to_be_bytes());
    out.push(u8::from(ask_for_reply));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_what_is_durable_and_no_more() {
        let start = Instant::now();
        let mut status = Status::new(100, Duration::from_secs(60), start);
        let first = status.due(100, 100, start).unwrap();
        assert_eq!((first.len(), first[5]), (39, b'r'));
        assert!(status.due(100, 900, start).is_none());
        status.server_is_at(1_000);
        let later = start + INTERVAL_MIN;
        let second = status.due(200, 900, later).unwrap();
        assert_eq!(second[6..14], 1_000u64.to_be_bytes());
        assert_eq!(second[14..22], 200u64.to_be_bytes());
        assert_eq!(second[38], 0);
        let silent = later + INTERVAL_MAX;
        assert_eq!(status.due(200, 900, silent).unwrap()[38], 1);
        assert!(!status.is_dead(silent));
        assert!(status.is_dead(start + SILENCE_MAX + INTERVAL_MIN));
        status.reply_is_due();
        assert!(status.due(200, 900, silent).is_some());
    }
}
