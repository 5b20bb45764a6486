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
    state: Forkable<T>,
    /// The thread that has the turn, for itself to recognise, or zero.
    thread: AtomicUsize,
    waiting: AtomicUsize,
    queue: Queue,
}

impl<T> fmt::Debug for Turn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("state", &self.state)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl<T: Default> Turn<T> {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            state: Forkable::default(),
            thread: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue,
        }
    }

    /// Takes the turn if nobody has it.
    pub(crate) fn try_take<'a>(&'a self, gate: &'a Gate) -> Option<Held<'a, T>> {
        let taken = Some(self.state.try_take()?);
        self.thread.store(this_thread(), Ordering::Relaxed);
        Some(Held {
            turn: self,
            gate,
            taken,
        })
    }

    /// Whether a thread of this process has the turn.
    pub(crate) fn is_taken(&self) -> bool {
        self.state.is_taken()
    }

    /// Whether this very thread has the turn, which cannot end while it waits for it.
    pub(crate) fn is_own(&self) -> bool {
        self.is_taken() && self.thread.load(Ordering::Relaxed) == this_thread()
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
        if self.is_own() {
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
    /// Given back only by `drop`.
    taken: Option<Taken<'a, T>>,
}

impl<T: Default> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.taken.as_ref().expect("held until it is dropped")
    }
}

impl<T: Default> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.taken.as_mut().expect("held until it is dropped")
    }
}

impl<T: Default> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // First: else this thread could take the next holder's turn for its own.
        self.turn.thread.store(0, Ordering::Relaxed);
        drop(self.taken.take());
        if self.turn.waiting.load(Ordering::SeqCst) != 0 {
            self.gate.wake_one(self.turn.queue);
        }
    }
}

/// State that one thread at a time takes out and puts back. A forked child finds it free, whatever
/// thread of its parent had it: that thread will never come back here, so the child begins afresh.
pub(crate) struct Forkable<T> {
    /// The process of the thread that has the state, or [`FREE`].
    holder: AtomicU32,
    place: AtomicCell<Option<Box<T>>>,
}

const FREE: u32 = 0;

impl<T> fmt::Debug for Forkable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forkable")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl<T: Default> Default for Forkable<T> {
    fn default() -> Self {
        Self {
            holder: AtomicU32::new(FREE),
            place: AtomicCell::new(Some(Box::default())),
        }
    }
}

impl<T: Default> Forkable<T> {
    pub(crate) fn try_take(&self) -> Option<Taken<'_, T>> {
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
        }
        Some(Taken {
            from: self,
            state: Some(self.place.take().unwrap_or_default()),
        })
    }

    /// For state that is held for a few instructions only.
    pub(crate) fn take(&self) -> Taken<'_, T> {
        loop {
            match self.try_take() {
                Some(taken) => return taken,
                None => std::thread::yield_now(),
            }
        }
    }

    /// Whether a thread of this process has the state.
    pub(crate) fn is_taken(&self) -> bool {
        self.holder.load(Ordering::SeqCst) == process::id()
    }
}

/// The state, until it is put back by dropping this.
pub(crate) struct Taken<'a, T: Default> {
    from: &'a Forkable<T>,
    state: Option<Box<T>>,
}

impl<T: Default> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.state.as_deref().expect("there until it is dropped")
    }
}

impl<T: Default> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.state
            .as_deref_mut()
            .expect("there until it is dropped")
    }
}

impl<T: Default> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.from.place.store(self.state.take());
        self.from.holder.store(FREE, Ordering::SeqCst);
    }
}
