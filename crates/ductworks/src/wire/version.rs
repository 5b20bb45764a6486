//! Which wire two ends speak, where that is known only at run time.

use super::{CONTROL_LEN, Control, Framing, Head, Parsed, V1, V2, Violation};

/// The version of the protocol that a duct speaks. How the ends came together decides which, never
/// what one of them happens to send.
///
/// ```
/// use ductworks::wire::{Framing, Version};
///
/// assert_eq!(Version::V1.head(2).expect("2 bytes fit").as_ref().len(), 5);
/// assert_eq!(Version::V2.head(2).expect("2 bytes fit").as_ref().len(), 16);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// The original library's wire.
    #[default]
    V1,
    /// This library's own.
    V2,
}

#[deny(clippy::missing_trait_methods)] // A default would not be what the other one does.
impl Framing for Version {
    fn payload_max(&self) -> u64 {
        match self {
            Self::V1 => V1.payload_max(),
            Self::V2 => V2.payload_max(),
        }
    }

    fn frame_min(&self) -> usize {
        match self {
            Self::V1 => V1.frame_min(),
            Self::V2 => V2.frame_min(),
        }
    }

    fn head(&self, len: usize) -> Option<Head> {
        match self {
            Self::V1 => V1.head(len),
            Self::V2 => V2.head(len),
        }
    }

    fn head_with(&self, len: usize, descriptors: usize) -> Option<Head> {
        match self {
            Self::V1 => V1.head_with(len, descriptors),
            Self::V2 => V2.head_with(len, descriptors),
        }
    }

    fn descriptors(&self, head: &[u8]) -> u8 {
        match self {
            Self::V1 => V1.descriptors(head),
            Self::V2 => V2.descriptors(head),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation> {
        match self {
            Self::V1 => V1.parse(bytes),
            Self::V2 => V2.parse(bytes),
        }
    }

    fn control(&self, control: &Control) -> Option<[u8; CONTROL_LEN]> {
        match self {
            Self::V1 => V1.control(control),
            Self::V2 => V2.control(control),
        }
    }

    fn says_farewell(&self) -> bool {
        match self {
            Self::V1 => V1.says_farewell(),
            Self::V2 => V2.says_farewell(),
        }
    }
}
