//! What is left of a frame that was written in part.

/// The unwritten rest of an accepted message, which must go out before anything else.
///
/// ```
/// let mut rest = ductworks::wire::Outgoing::default();
/// rest.keep([&b"lo "[..], &b"world"[..]]);
/// assert_eq!(rest.unsent(), b"lo world");
/// rest.advance(3);
/// assert_eq!(rest.unsent(), b"world");
/// rest.advance(5);
/// assert!(rest.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// Whether everything has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// The bytes that are still to be written.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Takes a copy of the rest of a frame, in the order of its parts.
    pub fn keep<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        debug_assert!(self.is_empty(), "one frame at a time");
        self.clear();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Notes that the first `count` unsent bytes have been written. The memory is given back with
    /// the last one.
    pub fn advance(&mut self, count: usize) {
        self.written = (self.written + count).min(self.bytes.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Gives the rest up.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
