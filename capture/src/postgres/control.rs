//! What the reader's handle and its thread share.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::ServerIdentity;
use crate::snapshot::Halt;

/// Shared by the handle and the thread of one reader.
#[derive(Default)]
pub(super) struct Control {
    /// Set once: the thread ends as soon as it sees it.
    pub stop: AtomicBool,
    /// Everything before this LSN is durable with the caller.
    pub acknowledged: AtomicU64,
    /// The server that is read, once it is known to be the right one.
    pub server: OnceLock<ServerIdentity>,
    socket: Mutex<Option<TcpStream>>,
    /// Ends this one too.
    above: Option<Arc<Control>>,
}

impl Control {
    /// For threads that end with those of `above`, and may be ended before. They notice when
    /// their next read returns, which is soon.
    pub(super) fn below(above: &Arc<Control>) -> Arc<Self> {
        Arc::new(Self { above: Some(above.clone()), ..Self::default() })
    }

    /// Whether to end.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.above.as_ref().is_some_and(|a| a.stopped())
    }

    /// Ends the thread: also when it waits on the network.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            // The thread is told by its read ending; that the socket is gone already is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// The socket that the thread waits on now. Shut down at once when it comes too late.
    pub(super) fn set_socket(&self, stream: TcpStream) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped() {
            let _ = stream.shutdown(Shutdown::Both);
        } else {
            *socket = Some(stream);
        }
    }
}

impl Halt for Control {
    fn halt(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn is_halted(&self) -> bool {
        self.stopped()
    }
}
