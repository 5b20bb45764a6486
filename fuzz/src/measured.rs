//! Memory that notices when more of it is asked for than may be.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;

use ductworks::wire::Body;

/// What is promised beside the double of what has arrived, in bytes: `docs/semantics.md`, "Limits and
/// memory".
const HEADROOM: usize = 64 * 1024;

thread_local! {
    static READY: Cell<usize> = const { Cell::new(0) };
}

/// A vector that panics when it has to be larger than is promised.
#[derive(Debug, Default)]
pub(crate) struct Measured(Vec<u8>);

impl Measured {
    /// Sets how many bytes lie ready behind those that have arrived, for which there may be memory.
    pub(crate) fn expect(ready: usize) {
        READY.set(ready);
    }

    /// Memory that was made for a larger message.
    pub(crate) fn roomy() -> Self {
        Self(Vec::with_capacity(2048))
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

// SAFETY: it is the vector's own implementation.
unsafe impl Body for Measured {
    fn len(&self) -> usize {
        Body::len(&self.0)
    }

    fn capacity(&self) -> usize {
        Body::capacity(&self.0)
    }

    fn reserve(&mut self, total: usize) -> io::Result<()> {
        let received = self.0.len();
        let most = (2 * received + HEADROOM).max(received + READY.get());
        assert!(
            total <= most,
            "memory for {total} bytes after {received} of them, and the most is {most}"
        );
        Body::reserve(&mut self.0, total)
    }

    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        Body::spare(&mut self.0)
    }

    unsafe fn filled(&mut self, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { Body::filled(&mut self.0, count) };
    }

    fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn clear(&mut self) {
        Body::clear(&mut self.0);
    }
}
