//! One thread's turn with a piece of state, while others wait for theirs.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crossbeam_utils::atomic::AtomicCell;

use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Queue, Wait};
use crate::process;

/// How often a busy turn is looked at before the thread sleeps: a holder that does not sleep itself
/// is done within about a microsecond.
const LOOKS: usize = 64;

/// A lock whose waiters can be ended by a deadline, a signal or a close, and which a forked child
/// can recover.
///
/// The state travels: whoever has the turn owns it and puts it back. Where the holder is a thread of
/// the process that forked this one, it will never come back here; the child notices by the process
/// id and begins with a fresh state, whatever the thread was doing with the old one.
pub(crate) struct Turn<T> {
    /// The process of the thread that has the turn, or [`FREE`].
    holder: AtomicU32,
    /// The thread that has the turn, for itself to recognise.
    thread: AtomicUsize,
    place: AtomicCell<Option<Box<T>>>,
    waiting: AtomicUsize,
    queue: Queue,
}

const FREE: u32 = 0;

impl<T> fmt::Debug for Turn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("holder", &self.holder)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl<T: Default> Turn<T> {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            holder: AtomicU32::new(FREE),
            thread: AtomicUsize::new(0),
            place: AtomicCell::new(Some(Box::default())),
            waiting: AtomicUsize::new(0),
            queue,
        }
    }

    /// Takes the turn if nobody has it.
    pub(crate) fn try_take<'a>(&'a self, gate: &'a Gate) -> Option<Held<'a, T>> {
        let me = process::id();
        let take = |from| {
            self.holder
                .compare_exchange(from, me, Ordering::SeqCst, Ordering::SeqCst)
        };
        if let Err(holder) = take(FREE) {
            if holder == me {
                return None;
            }
            take(holder).ok()?;
            // The waiters that were counted stayed behind as well.
            self.waiting.store(0, Ordering::SeqCst);
        }
        self.thread.store(this_thread(), Ordering::Relaxed);
        Some(Held {
            turn: self,
            gate,
            state: Some(self.place.take().unwrap_or_default()),
        })
    }

    /// Whether a thread of this process has the turn.
    pub(crate) fn is_taken(&self) -> bool {
        self.holder.load(Ordering::SeqCst) == process::id()
    }

    /// Waits for the turn.
    ///
    /// # Errors
    ///
    /// Those of [`Gate::sleep`], and [`ErrorKind::Reentered`].
    pub(crate) fn take<'a>(&'a self, gate: &'a Gate, wait: &mut Wait<'_>) -> Result<Held<'a, T>> {
        for _ in 0..LOOKS {
            if let Some(held) = self.try_take(gate) {
                return Ok(held);
            }
            std::hint::spin_loop();
        }
        // A thread's own turn cannot end while it waits for it.
        if self.is_taken() && self.thread.load(Ordering::Relaxed) == this_thread() {
            return Err(Error::new(
                ErrorKind::Reentered,
                "a signal handler or a callback used the duct in the same direction as the operation \
                 of this thread that it interrupts",
            ));
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = loop {
            if let Some(held) = self.try_take(gate) {
                break Ok(held);
            }
            if let Err(error) = gate.sleep(None, self.queue, || self.is_taken(), wait) {
                break Err(error);
            }
        };
        let others = self.waiting.fetch_sub(1, Ordering::SeqCst) > 1;
        if others && outcome.is_err() {
            // This thread may have been woken for a turn that it does not take.
            gate.wake_one(self.queue);
        }
        outcome
    }
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

/// The state, while it is one's turn.
pub(crate) struct Held<'a, T: Default> {
    turn: &'a Turn<T>,
    gate: &'a Gate,
    /// Taken only by `drop`.
    state: Option<Box<T>>,
}

impl<T: Default> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.state.as_deref().expect("held until it is dropped")
    }
}

impl<T: Default> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.state.as_deref_mut().expect("held until it is dropped")
    }
}

impl<T: Default> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.turn.place.store(self.state.take());
        self.turn.holder.store(FREE, Ordering::SeqCst);
        if self.turn.waiting.load(Ordering::SeqCst) != 0 {
            self.gate.wake_one(self.turn.queue);
        }
    }
}
