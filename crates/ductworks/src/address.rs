//! Where a duct can be reached.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::hex;
use crate::ticket::is_ticket;

/// The longest path of a Unix socket, in bytes: `sun_path` of `unix(7)` less its closing NUL.
pub(crate) const UNIX_PATH_MAX: usize = 107;

/// Where a duct can be reached: `unix:PATH`, `tcp:HOST:PORT`, `tcp:[IPV6]:PORT`, `tls:HOST:PORT`, or
/// `tls:HOST:PORT?pin=PIN`, which says [by which key](Pin) the listener is known.
///
/// An address is a plain string that survives a command line and an environment variable. An
/// absolute path alone is taken as a Unix address too, which is how the original library hands its
/// addresses on.
///
/// ```
/// use ductworks::Address;
///
/// let address: Address = "tcp:[::1]:4000".parse()?;
/// assert_eq!(address.host(), Some("::1"));
/// assert_eq!(address.port(), Some(4000));
/// assert_eq!(address.to_string(), "tcp:[::1]:4000");
///
/// assert_eq!("/run/duct".parse::<Address>()?.to_string(), "unix:/run/duct");
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
        pin: Option<Pin>,
    },
}

/// The key of a listener that speaks TLS: the SHA-256 of its certificate's SubjectPublicKeyInfo (RFC 5280,
/// section 4.1), in text 64 hexadecimal digits. It is no secret.
///
/// ```
/// use ductworks::Pin;
///
/// let pin = Pin::from([0xab; 32]);
/// assert_eq!(pin.to_string(), "ab".repeat(32));
/// assert_eq!(pin.to_string().parse::<Pin>()?, pin);
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Pin {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        hex::decode(text).map(Self).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidAddress,
                format!(
                    "bad pin {:?}: expected 64 hexadecimal digits",
                    hex::masked(text)
                ),
            )
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::encode(&self.0, f)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl Address {
    /// The address of a Unix socket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidAddress`] if the path is empty, longer than 107 bytes (`unix(7)`), not
    /// UTF-8, contains a NUL, or looks like a [ticket](crate::Ticket).
    ///
    /// ```
    /// # use ductworks::Address;
    /// assert_eq!(Address::unix("/run/duct")?.to_string(), "unix:/run/duct");
    /// assert!(Address::unix("x".repeat(108)).is_err());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        refuse_ticket(&path.to_string_lossy())?;
        let fault = match path.to_str() {
            None => "it is not UTF-8, so it could not be handed on as text".into(),
            Some("") => "it is empty".into(),
            Some(text) if text.contains('\0') => "it contains a NUL character".into(),
            Some(text) if text.len() > UNIX_PATH_MAX => format!(
                "it has {} bytes, and a Unix socket's path has at most {UNIX_PATH_MAX}; use a \
                 shorter directory",
                text.len()
            ),
            Some(_) => return Ok(Self(Repr::Unix(path))),
        };
        Err(Error::new(
            ErrorKind::InvalidAddress,
            format!(
                "bad socket path {}: {fault}",
                hex::masked(&path.to_string_lossy())
            ),
        ))
    }

    /// The address of a TCP port. A host is a name or an IP address; port 0 lets the system choose
    /// one when it is bound.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidAddress`] if the host is empty or holds a bracket, a control character
    /// or white space, or a colon without being an IPv6 address.
    ///
    /// ```
    /// # use ductworks::Address;
    /// assert_eq!(Address::tcp("::1", 80)?.to_string(), "tcp:[::1]:80");
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn tcp(host: impl Into<String>, port: u16) -> Result<Self> {
        let host = checked_host(host.into())?;
        Ok(Self(Repr::Tcp { host, port }))
    }

    /// The address of a TCP port where TLS is spoken, by whoever has the pinned key. Without a pin, the
    /// listener is known by a certificate for its name.
    ///
    /// # Errors
    ///
    /// As for [`tcp`](Self::tcp).
    ///
    /// ```
    /// # use ductworks::Address;
    /// assert_eq!(Address::tls("example.com", 80, None)?.to_string(), "tls:example.com:80");
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn tls(host: impl Into<String>, port: u16, pin: Option<Pin>) -> Result<Self> {
        let host = checked_host(host.into())?;
        Ok(Self(Repr::Tls { host, port, pin }))
    }

    /// Its text as errors show it, in which a secret that was pasted to it by mistake does not stand.
    pub(crate) fn shown(&self) -> String {
        hex::masked(&self.to_string())
    }

    /// The same port of another host.
    pub(crate) fn at(&self, host: String) -> Result<Self> {
        match self.0 {
            Repr::Unix(_) => Ok(self.clone()),
            Repr::Tcp { port, .. } => Self::tcp(host, port),
            Repr::Tls { port, pin, .. } => Self::tls(host, port, pin),
        }
    }

    /// The path, if this is a Unix address.
    ///
    /// ```
    /// # use ductworks::Address;
    /// let address: Address = "unix:/run/duct".parse()?;
    /// assert_eq!(address.path(), Some("/run/duct".as_ref()));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Repr::Unix(path) => Some(path),
            Repr::Tcp { .. } | Repr::Tls { .. } => None,
        }
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Repr::Tls { .. })
    }

    /// The key by which the listener is known, if the address says.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        match &self.0 {
            Repr::Tls { pin, .. } => pin.as_ref(),
            Repr::Unix(_) | Repr::Tcp { .. } => None,
        }
    }

    /// The host without brackets, if this is a TCP address, with TLS or without.
    ///
    /// ```
    /// # use ductworks::Address;
    /// assert_eq!("tcp:localhost:80".parse::<Address>()?.host(), Some("localhost"));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.0 {
            Repr::Tcp { host, .. } | Repr::Tls { host, .. } => Some(host),
            Repr::Unix(_) => None,
        }
    }

    /// The port, if this is a TCP address, with TLS or without.
    ///
    /// ```
    /// # use ductworks::Address;
    /// assert_eq!("tcp:localhost:80".parse::<Address>()?.port(), Some(80));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match &self.0 {
            Repr::Tcp { port, .. } | Repr::Tls { port, .. } => Some(*port),
            Repr::Unix(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        refuse_ticket(text)?;
        if text.starts_with('/') {
            return Self::unix(text);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        let expected = |why: &str| {
            Error::new(
                ErrorKind::InvalidAddress,
                format!(
                    "bad address {:?}: {why}; expected unix:PATH, tcp:HOST:PORT, \
                     tcp:[IPV6]:PORT or tls:HOST:PORT",
                    hex::masked(text)
                ),
            )
        };
        let (rest, is_tls) = match (text.strip_prefix("tcp:"), text.strip_prefix("tls:")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(expected("no known scheme")),
        };
        let (rest, pin) = match rest.split_once('?') {
            Some((rest, query)) if is_tls => {
                let pin = query
                    .strip_prefix("pin=")
                    .ok_or_else(|| expected("behind the question mark stands no pin=PIN"))?;
                (rest, Some(pin.parse()?))
            }
            _ => (rest, None),
        };
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(expected("there is no port"));
        };
        let host = match host.strip_prefix('[') {
            Some(inner) => inner
                .strip_suffix(']')
                .ok_or_else(|| expected("a bracket is not closed"))?,
            None if host.contains(':') => {
                return Err(expected("an IPv6 address stands in brackets"));
            }
            None => host,
        };
        // u16's own parser takes a leading plus sign.
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(expected("the port is not a number"));
        }
        let port = port
            .parse()
            .map_err(|_| expected("the port is not a number from 0 to 65535"))?;
        match is_tls {
            true => Self::tls(host, port, pin),
            false => Self::tcp(host, port),
        }
    }
}

/// A ticket is no address, and its secret is not to be shown in an error. A path that looks like one could not
/// be told from it in text.
fn refuse_ticket(text: &str) -> Result<()> {
    match is_ticket(text) {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::InvalidAddress,
            "expected an address, and got a ticket, which is a secret and for connecting; the address is the \
             part before its #",
        )),
    }
}

fn checked_host(host: String) -> Result<String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '?' | '#');
    let fault = match host.contains(':') {
        _ if host.is_empty() || host.contains(odd) => "",
        true if !is_ipv6(&host) => {
            "; with a colon in it, that is an IPv6 address, and a port is no part of it"
        }
        _ => return Ok(host),
    };
    Err(Error::new(
        ErrorKind::InvalidAddress,
        format!(
            "bad host {:?}: expected a name or an IP address{fault}",
            hex::masked(&host)
        ),
    ))
}

/// An IPv6 address, which an interface may follow (RFC 4007, section 11).
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "any"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // The constructor admits UTF-8 only, so nothing is lost here.
            Repr::Unix(path) => write!(f, "unix:{}", path.display()),
            Repr::Tcp { host, port } => write_port(f, "tcp", host, *port),
            Repr::Tls { host, port, pin } => {
                write_port(f, "tls", host, *port)?;
                match pin {
                    Some(pin) => write!(f, "?pin={pin}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn write_port(f: &mut fmt::Formatter<'_>, scheme: &str, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "{scheme}:[{host}]:{port}"),
        false => write!(f, "{scheme}:{host}:{port}"),
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown())
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts() -> impl Strategy<Value = String> {
        let ipv6 = any::<Ipv6Addr>;
        prop_oneof![
            "[a-z0-9.-]{1,40}",
            ipv6().prop_map(|host| host.to_string()),
            (ipv6(), "[a-z0-9]{1,9}").prop_map(|(host, zone)| format!("{host}%{zone}")),
        ]
    }

    proptest! {
        #[test]
        fn every_address_survives_its_text(host in hosts(), port: u16, path in "[^\0]{1,26}", pin: Option<[u8; 32]>) {
            prop_assume!(!is_ticket(&path)); // Such a path is refused.
            let tls = Address::tls(host.clone(), port, pin.map(Pin::from)).unwrap();
            prop_assert_eq!(&tls.to_string().parse::<Address>().unwrap(), &tls);
            let tcp = Address::tcp(host, port).unwrap();
            prop_assert_eq!(&tcp.to_string().parse::<Address>().unwrap(), &tcp);
            let unix = Address::unix(path).unwrap();
            prop_assert_eq!(&unix.to_string().parse::<Address>().unwrap(), &unix);
        }

        #[test]
        fn any_text_parses_or_is_refused_without_a_panic(text in ".*") {
            let _ = text.parse::<Address>();
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_what_was_expected() {
        for text in [
            "",
            "tcp:",
            "tcp:host",
            "tcp:host:",
            "tcp:host:65536",
            "tcp:host:+1",
            "tcp::1:80",
            "tcp:[::1:80",
            "tcp::80",
            "unix:",
            "udp:host:1",
            "relative/path",
            "tcp:a b:1",
            "tcp:host:1?pin=00",
            "tls:host",
            "tls:host:1?",
            "tls:host:1?pin=",
            "tls:host:1?pin=00",
            "tls:host:1?key=00",
            "tcp:[host]:80:80",
            "tcp:[host:80]:80",
            "tls:[127.0.0.1:80]:80",
            "tls:[::1%]:80",
            "tls:[::1::]:80",
            "unix:a\0b",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{text:?}: {error}");
        }
    }
}
