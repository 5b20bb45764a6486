//! Looking a little longer for an answer before sleeping, where that pays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a receiver goes on looking before it sleeps. To be woken from sleep on another core
/// takes that long or longer, and costs the sender as well.
const LOOK: Duration = Duration::from_micros(20);

/// How long after it has been in vain. Where both ends sleep, each answer comes only after the other
/// end has been woken; one longer look finds it, and from then on both are awake.
const LONG_LOOK: Duration = Duration::from_micros(150);

/// The most waits in a row that sleep at once after looking has failed again and again.
const LONGEST_REST: u32 = 1024;

/// Learns whether looking pays: each failure doubles the number of waits that sleep at once, a
/// success begins anew. So where both ends share a core, or messages are rare, nearly every wait
/// sleeps at once.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    /// How many waits are still to sleep at once.
    rest: AtomicU32,
    /// How many did so after the last failure.
    last_rest: AtomicU32,
}

/// One operation's looking.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Looking {
    #[default]
    NotYet,
    Until(Instant),
    GivenUp,
}

impl Spin {
    /// Whether to look once more instead of sleeping now.
    pub(crate) fn looks_again(&self, looking: &mut Looking) -> bool {
        match *looking {
            Looking::NotYet => {
                let rest = self.rest.load(Ordering::Relaxed);
                if rest > 0 {
                    self.rest.store(rest - 1, Ordering::Relaxed);
                    *looking = Looking::GivenUp;
                    return false;
                }
                let look = match self.last_rest.load(Ordering::Relaxed) {
                    0 => LOOK,
                    _ => LONG_LOOK,
                };
                *looking = Looking::Until(Instant::now() + look);
                true
            }
            Looking::Until(end) if Instant::now() < end => {
                std::hint::spin_loop();
                true
            }
            Looking::Until(_) => {
                self.failed();
                *looking = Looking::GivenUp;
                false
            }
            Looking::GivenUp => false,
        }
    }

    /// Tells that there was something to read.
    pub(crate) fn found(&self, looking: &mut Looking) {
        let Looking::Until(end) = std::mem::take(looking) else {
            return;
        };
        // A thread that lost its core while it looked would have slept better.
        match Instant::now() < end {
            true => self.last_rest.store(0, Ordering::Relaxed),
            false => self.failed(),
        }
    }

    fn failed(&self) {
        let rest = self.last_rest.load(Ordering::Relaxed);
        let rest = (2 * rest).clamp(1, LONGEST_REST);
        self.last_rest.store(rest, Ordering::Relaxed);
        self.rest.store(rest, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(spin: &Spin) -> bool {
        let mut looking = Looking::default();
        let looked = spin.looks_again(&mut looking);
        while spin.looks_again(&mut looking) {}
        looked
    }

    #[test]
    fn waits_in_vain_make_the_next_ones_sleep_at_once() {
        let spin = Spin::default();
        let looked = (0..3000).filter(|_| looks(&spin)).count();
        assert!((10..=20).contains(&looked), "{looked}");
    }

    #[test]
    fn a_success_makes_looking_worth_while_again() {
        let spin = Spin::default();
        while !looks(&spin) || spin.rest.load(Ordering::Relaxed) < 8 {}
        while spin.rest.load(Ordering::Relaxed) > 0 {
            assert!(!looks(&spin));
        }
        let mut looking = Looking::Until(Instant::now() + Duration::from_secs(60));
        spin.found(&mut looking);
        assert!(looks(&spin));
        assert_eq!(spin.rest.load(Ordering::Relaxed), 1);
    }
}
