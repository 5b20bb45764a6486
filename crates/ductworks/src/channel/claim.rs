//! Several processes at one end: what is said between the frames is not to come into the middle of one.

use std::sync::atomic::Ordering;

use super::Channel;
use crate::process;
use crate::stream::Stream;
use crate::wire::{Body, Framing};

impl<F: Framing, B: Body> Channel<F, B> {
    /// Whether other processes may have the end, or may still have it, and something to say through it between
    /// the messages.
    pub(super) fn is_claimable(&self) -> bool {
        self.framing.says_farewell() && self.life.may_be_elsewhere()
    }

    /// Lets other processes that have this end know that a frame may go out in several pieces.
    pub(super) fn claim<S: Stream>(&self, stream: &S) -> bool {
        if self.is_claimable()
            && let Ok(_active) = self.gate.enter()
        {
            stream.claim();
            return true;
        }
        false
    }

    /// Lets them know that it has gone out.
    pub(super) fn release<S: Stream>(&self, stream: &S) {
        if self.is_claimable()
            && let Ok(_active) = self.gate.enter()
        {
            stream.release();
        }
    }

    /// Whether another process that has this end is in the middle of a frame.
    pub(super) fn is_taken_elsewhere<S: Stream>(&self, stream: &S) -> bool {
        let is_own = self.sending.load(Ordering::SeqCst) == process::id();
        self.is_claimable() && !is_own && stream.is_claimed()
    }
}
