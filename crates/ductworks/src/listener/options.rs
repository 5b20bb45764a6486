//! How to listen.

use std::sync::Arc;
use std::time::Duration;

use super::Listener;
use crate::address::Address;
use crate::door::Door;
use crate::duct::{Settings, settings_methods};
use crate::error::{Error, ErrorKind, Result};
use crate::lobby::Lobby;
use crate::transport::{self, Wire};
#[cfg(feature = "tls")]
use crate::transport::{Acceptor, Identity, Roots};
use crate::wire::{Admission, Greeting, Token};

/// How to listen, where the defaults do not fit.
///
/// ```
/// use ductworks::ListenOptions;
///
/// let listener = ListenOptions::new().backlog(16).bind("tcp:127.0.0.1:0")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ListenOptions {
    backlog: u16,
    insecure_network: bool,
    v1: bool,
    reusable: bool,
    handshake_timeout: Duration,
    settings: Settings,
    advertise: Option<String>,
    without_token: bool,
    #[cfg(feature = "tls")]
    identity: Option<Identity>,
    #[cfg(feature = "tls")]
    client_roots: Option<Roots>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 128,
            insecure_network: false,
            v1: false,
            reusable: false,
            handshake_timeout: Duration::from_secs(10),
            settings: Settings::default(),
            advertise: None,
            without_token: false,
            #[cfg(feature = "tls")]
            identity: None,
            #[cfg(feature = "tls")]
            client_roots: None,
        }
    }
}

impl ListenOptions {
    /// The defaults: a token that admits one after the other, 10 seconds for a handshake, messages of
    /// up to 64 MiB, a backlog of 128, the loopback interface only where nothing is encrypted, and a new
    /// key where something is.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections may wait to be accepted (`listen(2)`); more are made to wait or try
    /// again.
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Allows a TCP address that other hosts can reach. Whoever can read along there can read and
    /// change what is sent, the token's proof notwithstanding.
    pub fn insecure_network(mut self, allow: bool) -> Self {
        self.insecure_network = allow;
        self
    }

    /// Listens for those who speak version 1 of the protocol, the original library among them. They
    /// bring no token: whoever can reach the address is let in. At a Unix address version 2 is spoken
    /// with those who know it, without a token either.
    pub fn v1(mut self, allow: bool) -> Self {
        self.v1 = allow;
        self
    }

    /// Lets one ticket admit any number of children. Without, each admits one, and then the listener
    /// has another.
    pub fn reusable(mut self, reusable: bool) -> Self {
        self.reusable = reusable;
        self
    }

    /// How long a handshake may take: some time, for nobody is let in without. Who is slower is turned away.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    settings_methods!();

    /// The host that the address and the ticket name, where others reach this one by another name than it
    /// listens at. Without, that of a `tls:` address for all interfaces is an IP address of this host.
    pub fn advertise(mut self, host: impl Into<String>) -> Self {
        self.advertise = Some(host.into());
        self
    }

    /// Listens at a `tls:` address with this key. Without, each listener makes one of its own. The address
    /// and the ticket tell the key's pin; a client with a certificate authority may leave it out.
    #[cfg(feature = "tls")]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Admits clients at a `tls:` address only with a certificate from one of these authorities, beside
    /// the token.
    #[cfg(feature = "tls")]
    pub fn client_roots(mut self, roots: Roots) -> Self {
        self.client_roots = Some(roots);
        self
    }

    /// Asks for no token where the client's certificate [is asked for](Self::client_roots). Then the
    /// address alone is the ticket, and admits any number of clients.
    #[cfg(feature = "tls")]
    pub fn without_token(mut self, without: bool) -> Self {
        self.without_token = without;
        self
    }

    /// Listens at an address.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind`].
    pub fn bind<A>(&self, address: A) -> Result<Listener>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        self.check(&address)?;
        #[cfg(not(feature = "tls"))]
        if address.is_tls() {
            return Err(transport::no_tls_here(&address));
        }
        #[cfg(feature = "tls")]
        let (address, acceptor) = match address.is_tls() {
            true => self
                .secure(&address)
                .map(|(address, acceptor)| (address, Some(acceptor)))?,
            false => (address, None),
        };
        let wires = match address.path() {
            Some(_) => self.wires(),
            None if self.v1 => &[Wire::Plain],
            None => &[Wire::V2],
        };
        let door = Door::bind_to(&address, wires, self.backlog, self.insecure_network)?;
        let door = match self.host_to_tell(&address) {
            Some(host) => door.known_as(host)?,
            None => door,
        };
        let listener = self.listen(door)?;
        #[cfg(feature = "tls")]
        if let Some(acceptor) = acceptor {
            return Ok(listener.secured(acceptor));
        }
        Ok(listener)
    }

    /// Checks that the options mean something at the address: one that is ignored could be the one that
    /// somebody relies on.
    fn check(&self, address: &Address) -> Result<()> {
        let refuse = |fault: &'static str| Err(Error::new(ErrorKind::InvalidInput, fault));
        self.settings.check()?;
        if self.handshake_timeout.is_zero() {
            return refuse(
                "expected a handshake_timeout of more than zero, which is time enough for nobody",
            );
        }
        if self.advertise.is_some() && address.path().is_some() {
            return refuse("a Unix address has no host that could be advertised");
        }
        #[cfg(feature = "tls")]
        if !address.is_tls() && (self.identity.is_some() || self.client_roots.is_some()) {
            return refuse("certificates are shown and asked for at tls: addresses only");
        }
        #[cfg(feature = "tls")]
        if self.without_token && self.client_roots.is_none() {
            return refuse(
                "without a token and without certificates of the clients, which a tls: address can ask for, \
                 anybody would be let in: ask for one of them",
            );
        }
        Ok(())
    }

    /// The host that others are told, where it is not the one that is listened at.
    fn host_to_tell(&self, address: &Address) -> Option<String> {
        let host = address.host()?;
        match &self.advertise {
            Some(host) => Some(host.clone()),
            None => transport::host_instead_of(host),
        }
    }

    /// The address with the pin of a listener's key, and what the listener answers with.
    #[cfg(feature = "tls")]
    fn secure(&self, address: &Address) -> Result<(Address, Acceptor)> {
        if self.v1 {
            return Err(transport::v1_over_tls());
        }
        let identity = self.identity.clone().map_or_else(Identity::generate, Ok)?;
        let pin = identity.pin();
        if let Some(other) = address.pin().filter(|other| **other != pin) {
            let text = format!(
                "bad address {}: the key here has the pin {pin}, not {other}",
                address.shown()
            );
            return Err(Error::new(ErrorKind::InvalidAddress, text));
        }
        let (host, port) = (
            address.host().unwrap_or_default(),
            address.port().unwrap_or(0),
        );
        let address = Address::tls(host, port, Some(pin))?;
        Ok((
            address,
            Acceptor::new(&identity, self.client_roots.as_ref())?,
        ))
    }

    /// Listens at a private, random Unix address.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind_private`].
    pub fn bind_private(&self) -> Result<Listener> {
        let door = Door::bind_private(self.wires(), self.backlog)?;
        self.check(door.address())?;
        self.listen(door)
    }

    /// The name for version 2 is bound first; see [`connect`](crate::connect).
    fn wires(&self) -> &'static [Wire] {
        match self.v1 {
            true => &[Wire::V2, Wire::Plain],
            false => &[Wire::V2],
        }
    }

    fn listen(&self, door: Door) -> Result<Listener> {
        let admission = match self.v1 || self.without_token {
            true => None,
            false => Some(Arc::new(Admission::new(Token::generate()?, self.reusable))),
        };
        let terms = self.settings.terms(door.address());
        let lobby = Lobby::new(Wire::V2, self.handshake_timeout, {
            let admission = admission.clone();
            move || {
                let nonce = Greeting::nonce()?;
                Ok(Greeting::server(admission.as_ref(), &terms, nonce))
            }
        });
        Ok(Listener {
            door,
            lobby,
            admission,
            settings: self.settings.clone(),
        })
    }
}
