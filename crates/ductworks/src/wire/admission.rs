//! Who is admitted by a token, and how often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Token;

/// The token of a listener, while it lasts.
#[derive(Debug)]
pub struct Admission {
    token: Mutex<Token>,
    /// How often it has been renewed.
    generation: AtomicU64,
    reusable: bool,
}

/// The generation of a token that admits nobody.
const NEVER: u64 = u64::MAX;

impl Admission {
    /// A token that admits one after the other, or only one: then another takes its place.
    #[must_use]
    pub fn new(token: Token, reusable: bool) -> Self {
        Self {
            token: Mutex::new(token),
            generation: AtomicU64::new(0),
            reusable,
        }
    }

    /// The token that admits at present.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn current(&self) -> (Token, u64) {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        (token.clone(), self.generation.load(Ordering::SeqCst))
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        generation != NEVER && self.generation.load(Ordering::SeqCst) == generation
    }

    /// Somebody has been let in.
    pub(super) fn used(&self) {
        if self.reusable {
            return;
        }
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        match Token::generate() {
            Ok(next) => {
                *token = next;
                self.generation.fetch_add(1, Ordering::SeqCst);
            }
            // Without randomness nobody is admitted any more.
            Err(_) => self.generation.store(NEVER, Ordering::SeqCst),
        }
    }
}
