//! The parser of tickets, and their secret.

use ductworks::wire::Token;
use ductworks::{ErrorKind, Ticket};

use crate::address;

/// A text. What can be read as a ticket is written and read again as the same one, and nothing but its
/// `Display` shows the token.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            check(&ticket);
            address::check(ticket.address());
            if let Some(token) = ticket.token() {
                assert!(text.trim().to_lowercase().ends_with(&token.to_string()));
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            // What is no token is a part of the path, and no secret.
            let text = text.trim();
            let is_path = text.starts_with('/') || text.starts_with("unix:");
            let is_like_one = |(sign, _): &(usize, &str)| is_like_a_token(&text[sign + 1..]);
            let sign = match is_path {
                true => text
                    .rmatch_indices('#')
                    .find(is_like_one)
                    .map(|(sign, _)| sign),
                false => text.find('#'),
            };
            if let Some(sign) = sign {
                let (address, secret) = (&text[..sign], &text[sign + 1..]);
                let other = format!("{address}#{}", with_other_digits(secret));
                let other = other.parse::<Ticket>().expect_err("it is as wrong");
                assert_eq!(format!("{error:?}"), format!("{other:?}"), "it tells");
            }
        }
    }
    let secret = text.bytes().fold(0x5a, |mixed: u8, byte| {
        mixed.rotate_left(3).wrapping_add(byte)
    });
    for address in address::made_of(text) {
        check(&Ticket::new(
            address.clone(),
            Some(Token::from([secret; 32])),
        ));
        check(&Ticket::new(address, None));
    }
}

/// The same text with other hexadecimal digits in the place of those that there are.
fn with_other_digits(text: &str) -> String {
    let other = |c: char| match c {
        '0'..='8' | 'a'..='e' | 'A'..='E' => char::from(c as u8 + 1),
        '9' => '0',
        'f' => 'a',
        'F' => 'A',
        _ => c,
    };
    text.chars().map(other).collect()
}

/// A token, or one with a slip.
fn is_like_a_token(end: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_hexdigit();
    let is_long = end.len() >= Token::LEN / 2;
    end.len() == 2 * Token::LEN
        || (is_long && end.chars().all(is_digit))
        || end
            .split(|c| !is_digit(c))
            .any(|run| run.len() >= Token::LEN)
}

fn check(ticket: &Ticket) {
    let text = ticket.to_string();
    let again: Ticket = text.parse().expect("what is written can be read");
    assert!(again == *ticket && again.to_string() == text);
    let shown = format!("{ticket:?}{ticket:#?}");
    match ticket.token() {
        Some(token) => {
            let secret = token.to_string();
            assert_eq!(text, format!("{}#{secret}", ticket.address()));
            let address = ticket.address().to_string();
            assert!(address.contains(&secret) || !shown.contains(&secret));
            assert!(shown.contains("#(..)"));
            assert!(!format!("{token:?}{token:#?}").contains(&secret[..8]));
        }
        None => assert_eq!(text, ticket.address().to_string()),
    }
}
