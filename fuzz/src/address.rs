//! The parser of addresses.

use ductworks::{Address, ErrorKind, Pin};

/// A text. What can be read as an address is written and read again as the same one.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Address>() {
        Ok(address) => {
            check(&address);
            let same = Address::try_from(text).expect("it was just read");
            assert_eq!(same, address);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            assert!(!error.to_string().is_empty());
            // The escape of a NUL ends in a digit.
            let error = error.to_string().replace("\\0", " ");
            assert!(!has_secret(&error), "{error}");
        }
    }
    for address in made_of(text) {
        check(&address);
    }
}

/// The addresses that the constructors make of a text.
pub(crate) fn made_of(text: &str) -> impl Iterator<Item = Address> {
    let port = text.bytes().fold(0, |port: u16, byte| {
        port.wrapping_mul(31).wrapping_add(byte.into())
    });
    let pin = (port % 2 == 0).then_some(Pin::from([port as u8; 32]));
    [
        Address::unix(text),
        Address::tcp(text, port),
        Address::tls(text, port, pin),
    ]
    .into_iter()
    .filter_map(|made| match made {
        Ok(address) => Some(address),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            None
        }
    })
}

/// How many digits in a row may be shown.
const SHOWN_MAX: usize = 24;

/// Whether there are more digits in a row than may be shown, but for those of a pin.
fn has_secret(text: &str) -> bool {
    let (mut before, mut at) = ("", 0);
    let is_digit = |c: char| c.is_ascii_hexdigit();
    text.split_inclusive(|c| !is_digit(c)).any(|part| {
        let run = part.trim_end_matches(|c| !is_digit(c));
        let is_pin = run.len() == 64 && before.ends_with("pin=");
        at += part.len();
        before = &text[..at];
        run.len() > SHOWN_MAX && !is_pin
    })
}

/// What holds for every address.
pub(crate) fn check(address: &Address) {
    let text = address.to_string();
    let again: Address = text.parse().expect("what is written can be read");
    assert_eq!(&again, address);
    assert_eq!(again.to_string(), text);
    let shown = format!("{address:?}");
    assert!(!has_secret(&shown));
    if !has_secret(&text) {
        assert_eq!(shown, format!("Address({text})"));
    }

    match (address.path(), address.host(), address.port()) {
        (Some(path), None, None) => {
            let path = path.to_str().expect("it was text");
            assert!((1..=107).contains(&path.len()) && !path.contains('\0'));
            assert!(!address.is_tls() && address.pin().is_none());
            assert_eq!(text, format!("unix:{path}"));
        }
        (None, Some(host), Some(port)) => {
            assert!(!host.is_empty());
            assert!(!host.contains(|odd: char| odd.is_whitespace() || odd.is_control()));
            let pin = address.pin().copied();
            assert!(pin.is_none() || address.is_tls());
            let made = match address.is_tls() {
                true => Address::tls(host, port, pin),
                false => Address::tcp(host, port),
            };
            assert_eq!(&made.expect("it was one"), address);
            if let Some(pin) = pin {
                assert_eq!(pin.to_string().parse::<Pin>().expect("it was one"), pin);
                assert_eq!(Pin::from(*pin.as_bytes()), pin);
            }
        }
        other => panic!("{address}: {other:?}"),
    }
}
