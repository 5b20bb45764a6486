//! Keys with certificates, and those who vouch for them.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{pin_of, provider};
use crate::address::Pin;
use crate::error::{Error, ErrorKind, Result};

/// A private key and its certificate, by which an end of a TLS connection is known.
///
/// Its `Debug` does not show the key.
///
/// ```
/// use ductworks::{Identity, ListenOptions};
///
/// let identity = Identity::generate()?;
/// let listener = ListenOptions::new().identity(identity.clone()).bind("tls:127.0.0.1:0")?;
/// assert_eq!(listener.address().pin(), Some(&identity.pin()));
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    pin: Pin,
}

impl Identity {
    /// A new key, on the curve P-256, with a certificate of its own making: nobody vouches for it, and it
    /// is known by its [pin](Self::pin).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the system has no randomness.
    pub fn generate() -> Result<Self> {
        let failed = |error: rcgen::Error| {
            let text = format!("could not make a key: {error}");
            Error::new(ErrorKind::Io, text)
        };
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let parameters = rcgen::CertificateParams::new(["ductworks".into()]).map_err(failed)?;
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self::new(vec![certificate.der().clone()], key)
    }

    /// The first private key of one PEM text, and all certificates of another, of which the first is the
    /// key's own. The two may be the same text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if there is none, or only an encrypted one, or they do not belong together.
    ///
    /// ```
    /// use ductworks::{ErrorKind, Identity};
    ///
    /// let error = Identity::from_pem("no key", "no certificate").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidInput);
    /// ```
    pub fn from_pem(key: impl AsRef<[u8]>, certificates: impl AsRef<[u8]>) -> Result<Self> {
        let key = key.as_ref();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match is_encrypted(key) {
            true => unusable(
                "expected a private key in PEM, and got one that is encrypted: decrypt it first, with \
                 \"openssl pkey -in ENCRYPTED -out DECRYPTED\", say",
            ),
            false => unusable(format_args!("expected a private key in PEM: {error}")),
        })?;
        Self::new(certificates_of(certificates.as_ref())?, key)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self> {
        let own = chain.first().ok_or_else(|| unusable("no certificate"))?;
        let pin = pin_of(own)
            .map_err(|error| unusable(format_args!("bad certificate of one's own: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| unusable(format_args!("the key does not fit: {error}")))?;
        Ok(Self {
            key: Arc::new(key),
            pin,
        })
    }

    /// What this key is known by.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.pin
    }

    pub(super) fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::clone(&self.key)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// The certificates of those who vouch for others: certificate authorities.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Those that the system trusts, wherever it keeps them; the environment variables `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if there are none.
    pub fn system() -> Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first();
            let why = why.map_or_else(|| "none is there".into(), ToString::to_string);
            let text = format!("expected certificates that the system trusts: {why}");
            return Err(unusable(text));
        }
        Ok(Self(Arc::new(store)))
    }

    /// All certificates of a PEM text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if there are none, or one is malformed.
    pub fn from_pem(certificates: impl AsRef<[u8]>) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for certificate in certificates_of(certificates.as_ref())? {
            store.add(certificate).map_err(|error| {
                unusable(format_args!("bad certificate of an authority: {error}"))
            })?;
        }
        Ok(Self(Arc::new(store)))
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// Whether a PEM text has a key that a passphrase protects: in PKCS #8 (RFC 7468, section 11), or with the
/// older header of RFC 1421.
fn is_encrypted(pem: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    let is_in = |mark: &[u8]| pem.windows(mark.len()).any(|part| part == mark);
    marks.into_iter().any(is_in)
}

fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(format_args!("expected certificates in PEM: {error}")))?;
    match certificates.is_empty() {
        true => Err(unusable("expected certificates in PEM, and found none")),
        false => Ok(certificates),
    }
}

fn unusable(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, what.to_string())
}
