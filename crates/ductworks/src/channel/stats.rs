//! Counting what goes through a channel.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::gate::Wait;

/// What has gone through one end of a duct, counted in this process.
///
/// ```
/// let (a, b) = ductworks::pair()?;
/// a.send_bytes(b"hello")?;
/// b.recv_bytes()?;
/// assert_eq!(a.stats().sent.messages, 1);
/// assert_eq!(b.stats().received.bytes, 5);
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The messages that were accepted for sending.
    pub sent: Traffic,
    /// The messages that were received whole.
    pub received: Traffic,
    /// How often a thread had to wait: for the other end to send, or to make room by receiving.
    pub waits: u64,
}

/// The messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// How many there were.
    pub messages: u64,
    /// The bytes of all payloads together.
    pub bytes: u64,
    /// The bytes of the largest payload.
    pub largest: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: Count,
    pub(super) received: Count,
    waits: AtomicU64,
}

/// Written under the lock of its direction only, so a load and a store are enough.
#[derive(Debug, Default)]
pub(super) struct Count {
    messages: AtomicU64,
    bytes: AtomicU64,
    largest: AtomicUsize,
}

impl Counters {
    /// Counts a wait, if the deadline lets it come to one.
    pub(super) fn wait(&self, wait: &Wait<'_>) {
        if wait.deadline.allows_waiting() {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Stats {
        Stats {
            sent: self.sent.read(),
            received: self.received.read(),
            waits: self.waits.load(Ordering::Relaxed),
        }
    }
}

impl Count {
    pub(super) fn count(&self, len: usize) {
        let add = |counter: &AtomicU64, more: u64| {
            counter.store(
                counter.load(Ordering::Relaxed).wrapping_add(more),
                Ordering::Relaxed,
            );
        };
        add(&self.messages, 1);
        add(&self.bytes, len as u64);
        if len > self.largest.load(Ordering::Relaxed) {
            self.largest.store(len, Ordering::Relaxed);
        }
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::SeqCst)
    }

    fn read(&self) -> Traffic {
        Traffic {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            largest: self.largest.load(Ordering::Relaxed),
        }
    }
}
