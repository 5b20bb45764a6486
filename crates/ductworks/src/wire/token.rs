//! The secret that admits to a duct.

use std::fmt;
use std::io;
use std::str::FromStr;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::hex;

/// A secret of 32 random bytes. Whoever proves to know it is let in.
///
/// Its `Debug` shows nothing of it, its memory is wiped when it is dropped, and two are compared in
/// the same time whatever they are. `Display` is its text, which is as secret.
///
/// ```
/// use ductworks::wire::Token;
///
/// let token = Token::generate()?;
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// assert_eq!(token.to_string().parse::<Token>()?, token);
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone)]
pub struct Token(Zeroizing<[u8; Self::LEN]>);

impl Token {
    /// The length of the secret, in bytes. Its text has twice as many hexadecimal digits.
    pub const LEN: usize = 32;

    /// A new one, of the system's randomness.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the system has none.
    pub fn generate() -> Result<Self> {
        random().map(Self::from)
    }

    /// The key of a handshake's proofs.
    pub(super) fn key(&self) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        // The one way to fail is a key of more than 255 blocks.
        let _ = Hkdf::<Sha256>::new(Some(b"ductworks v2"), &*self.0).expand(b"proofs", &mut *key);
        key
    }
}

/// As many random bytes as asked for.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::os("get random bytes", io::Error::other(e)))?;
    Ok(bytes)
}

impl From<[u8; Token::LEN]> for Token {
    fn from(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Token {}

impl FromStr for Token {
    type Err = Error;

    fn from_str(digits: &str) -> Result<Self> {
        // What is wrong is not told: it may be a secret with a slip in it.
        let text = "bad token: expected 64 hexadecimal digits";
        let malformed = || Error::new(ErrorKind::InvalidAddress, text);
        hex::decode(digits).map(Self::from).ok_or_else(malformed)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::encode(&*self.0, f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
