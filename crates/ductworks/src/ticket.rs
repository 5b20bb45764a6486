//! What a child needs to be let in.

use std::fmt;
use std::str::FromStr;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::hex;
use crate::wire::Token;

/// An [`Address`], and the secret that admits to it.
///
/// Its text (`Display`) is `ADDRESS#TOKEN`, made for an environment variable or for a person to paste on
/// another host. It is a secret as a whole: not for a command line, which every user of the host can
/// read. Its `Debug` does not show the token, whose memory is wiped when the ticket is dropped.
///
/// An address alone is a ticket as well, without a token; it admits where none is asked for.
///
/// ```
/// use ductworks::{Listener, Ticket};
///
/// let listener = Listener::bind_private()?;
/// let text = listener.ticket().to_string(); // unix:/run/user/1000/ductworks-.../duct#0f3c...
/// let ticket: Ticket = text.parse()?;
/// assert_eq!(ticket.address(), listener.address());
/// assert!(format!("{ticket:?}").ends_with("#(..))"));
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    address: Address,
    token: Option<Token>,
}

impl Ticket {
    /// A ticket for an address.
    #[must_use]
    pub fn new(address: Address, token: Option<Token>) -> Self {
        Self { address, token }
    }

    /// Where to connect. There is no secret in it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The secret, if the ticket has one.
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }
}

impl FromStr for Ticket {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // White space comes with pasting, but a path may end with it.
        let pasted = text.trim();
        let is_path = pasted.starts_with('/') || pasted.starts_with("unix:");
        let sign = match is_path {
            // A path may contain the sign too; what stands behind it is a token, or a part of the path.
            true => hex::sign_of_token(pasted),
            // No other address contains it, so an error never repeats what stands behind.
            false => pasted.find('#'),
        };
        let Some(sign) = sign else {
            let text = if is_path { text } else { pasted };
            return Ok(Self::new(text.parse()?, None));
        };
        let token = pasted[sign + 1..].parse()?;
        Ok(Self::new(pasted[..sign].parse()?, Some(token)))
    }
}

/// Whether a text is a ticket with a token, perhaps with a slip in it: for those who take addresses that are not
/// this crate's, and must not show a secret.
///
/// ```
/// use ductworks::engine::is_ticket;
///
/// let listener = ductworks::Listener::bind_private()?;
/// assert!(is_ticket(&listener.ticket().to_string()));
/// assert!(!is_ticket(&listener.address().to_string()));
/// # Ok::<(), ductworks::Error>(())
/// ```
#[must_use]
pub fn is_ticket(text: &str) -> bool {
    hex::sign_of_token(text.trim_end()).is_some()
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match &self.token {
            Some(token) => write!(f, "#{token}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map_or("", |_| "#(..)");
        write!(f, "Ticket({}{token})", self.address.shown())
    }
}

impl From<Address> for Ticket {
    fn from(address: Address) -> Self {
        Self::new(address, None)
    }
}

impl From<&Address> for Ticket {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<&Ticket> for Ticket {
    fn from(ticket: &Ticket) -> Self {
        ticket.clone()
    }
}

impl TryFrom<&str> for Ticket {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<String> for Ticket {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for Ticket {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    proptest! {
        #[test]
        fn every_ticket_survives_its_text(path in "[^\0]{1,26}", secret: [u8; 32], port: u16) {
            prop_assume!(!is_ticket(&path)); // Such a path is refused.
            for address in [Address::unix(path).unwrap(), Address::tcp("::1", port).unwrap()] {
                for token in [None, Some(Token::from(secret))] {
                    let ticket = Ticket::new(address.clone(), token);
                    prop_assert_eq!(&ticket.to_string().parse::<Ticket>().unwrap(), &ticket);
                }
            }
        }

        #[test]
        fn no_debug_text_shows_the_secret(secret: [u8; 32]) {
            let token = Token::from(secret);
            let text = token.to_string();
            let ticket = Ticket::new(Address::unix("/run/duct").unwrap(), Some(token));
            let shown = format!("{ticket:?}{ticket:#?}");
            prop_assert!(!shown.contains(&text[..8]));
        }
    }

    #[test]
    fn white_space_around_a_pasted_ticket_is_no_part_of_it() {
        let token = Token::from([7; 32]);
        for address in ["unix:/run/duct", "tcp:host:1", "tls:host:1"] {
            let text = format!(" {address}#{token}\r\n");
            let ticket: Ticket = text.parse().unwrap();
            assert_eq!(ticket.address().to_string(), address);
            assert_eq!(ticket.token(), Some(&token));
        }
    }

    #[test]
    fn a_path_may_contain_the_sign_that_begins_a_token() {
        let ticket: Ticket = "unix:/run/duct#1".parse().unwrap();
        assert_eq!(
            (ticket.address().to_string(), ticket.token()),
            ("unix:/run/duct#1".into(), None)
        );
    }

    #[test]
    fn a_token_with_a_slip_is_refused_and_not_repeated() {
        for text in ["tcp:host:1#12", "tcp:host:1#", "tcp:host:1#zz"] {
            let error = text.parse::<Ticket>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
        }
        let secret = "ab".repeat(32);
        for text in [
            format!("tcp:host:1#{secret}tcp:host:1#{secret}"), // pasted twice
            format!("udp:host:1#{secret}"),
            format!("udp:host:1#{}", &secret[1..]),
        ] {
            let error = text.parse::<Ticket>().unwrap_err();
            assert!(!error.to_string().contains("abab"), "{error}");
        }
        let slip = format!("unix:/run/duct#{}", "g".repeat(64));
        let error = slip.parse::<Ticket>().unwrap_err();
        assert!(!error.to_string().contains("ggg"), "{error}");
        for digits in [16, 63, 65, 128] {
            let slip = format!("unix:/run/duct#{}", "ab".repeat(64).get(..digits).unwrap());
            let error = slip.parse::<Ticket>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            assert!(!error.to_string().contains("abab"), "{error}");
        }
    }
}
