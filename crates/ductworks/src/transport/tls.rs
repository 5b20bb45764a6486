//! TLS 1.3 over TCP: who is known by what, and the sessions.
//!
//! One version, no resumption and no early data, so that every connection has keys of its own and
//! nothing can be replayed. Whether a client may come in is not said by TLS: it hears of every
//! refusal in the same words, from the handshake that follows.

mod identity;
mod inbound;
mod session;
mod verify;

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::address::{Address, Pin};
use crate::error::{Error, ErrorKind, Result};
use crate::hex;

pub use identity::{Identity, Roots};
pub(crate) use session::Progress;
pub use session::Session;

use verify::{AnyClient, PinnedServer};

/// What both ends say that they speak inside (ALPN, RFC 7301).
const PROTOCOL: &[u8] = b"ductworks/2";

/// The label of the number that a session gives to both its ends and to nobody else (RFC 8446,
/// section 7.5).
const BINDING_LABEL: &[u8] = b"EXPORTER-ductworks-v2";

fn provider() -> Arc<CryptoProvider> {
    let groups: Vec<&'static dyn SupportedKxGroup> = default_provider().kx_groups;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: groups,
        ..default_provider()
    })
}

/// What a listener answers with.
#[derive(Clone)]
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    /// Who says which clients may come in, if certificates of theirs are asked for.
    authority: Option<Arc<dyn ClientCertVerifier>>,
}

impl Acceptor {
    pub(crate) fn new(identity: &Identity, client_roots: Option<&Roots>) -> Result<Self> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?;
        let authority = match client_roots {
            None => None,
            Some(roots) => {
                let builder = WebPkiClientVerifier::builder_with_provider(
                    roots.store(),
                    Arc::clone(&provider),
                );
                Some(builder.build().map_err(unusable)?)
            }
        };
        let builder = match &authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                builder.with_client_cert_verifier(Arc::new(AnyClient(Arc::clone(authority))))
            }
        };
        let resolver = SingleCertAndKey::from(identity.certified_key());
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            authority,
        })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// What a client begins with.
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// For a listener that is known by its pin, or else by a certificate from one of the roots for its
    /// name.
    pub(crate) fn new(
        address: &Address,
        roots: Option<&Roots>,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?;
        let builder = match address.pin() {
            Some(pin) => {
                let verifier = PinnedServer::new(*pin, provider);
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
            }
            None => {
                let roots = roots.cloned().map_or_else(Roots::system, Ok)?;
                builder.with_root_certificates(roots.store())
            }
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let resolver = SingleCertAndKey::from(identity.certified_key());
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let host = address.host().unwrap_or_default();
        let name = ServerName::try_from(host.to_owned());
        // With a pin the name means nothing, and need not be one that a certificate could be for.
        let name = name.or_else(|error| match address.pin() {
            Some(_) => ServerName::try_from("ductworks").map(|name| name.to_owned()),
            None => Err(error),
        });
        let name = name.map_err(|error| {
            let text = format!(
                "bad host {:?}: no certificate can be for it: {error}",
                hex::masked(host)
            );
            Error::new(ErrorKind::InvalidAddress, text)
        })?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }
}

fn unusable(error: impl fmt::Display) -> Error {
    let text = format!("cannot set TLS up: {error}");
    Error::new(ErrorKind::InvalidInput, text)
}

/// The hash of a certificate's key.
fn pin_of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Result<Pin, webpki::Error> {
    use sha2::{Digest, Sha256};
    let certificate = webpki::EndEntityCert::try_from(certificate)?;
    let key = certificate.subject_public_key_info();
    Ok(Pin::from(<[u8; 32]>::from(Sha256::digest(key.as_ref()))))
}
