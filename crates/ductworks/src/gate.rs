//! Waiting that can be ended from outside: by a deadline, a signal, another thread, or a close.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::process;
use crate::spin::Looking;
use crate::turn::Forkable;

/// Until when an operation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// It may not wait at all.
    Now,
    /// Until this moment.
    At(Instant),
    /// For as long as it takes.
    Never,
}

impl Deadline {
    /// The deadline that lies `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        // A moment too far away to express is as good as never.
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Never, Self::At)
    }

    /// What is left: nothing at all once the deadline has passed, `Some(None)` for ever.
    fn left(self) -> Option<Option<Duration>> {
        match self {
            Self::Now => None,
            Self::Never => Some(None),
            Self::At(moment) => {
                let left = moment.saturating_duration_since(Instant::now());
                (!left.is_zero()).then_some(Some(left))
            }
        }
    }

    /// Whether there is any time left to wait.
    pub(crate) fn allows_waiting(self) -> bool {
        self.left().is_some()
    }

    /// The moment, where there is one: now for what may not wait.
    pub(crate) fn moment(self) -> Option<Instant> {
        match self {
            Self::Now => Some(Instant::now()),
            Self::At(moment) => Some(moment),
            Self::Never => None,
        }
    }

    /// The deadline that lies `pause` from now, or this one where it is sooner.
    pub(crate) fn or_after(self, pause: Duration) -> Self {
        Instant::now()
            .checked_add(pause)
            .map_or(self, |moment| self.or_at(moment))
    }

    /// That moment, or this deadline where it is sooner.
    pub(crate) fn or_at(self, moment: Instant) -> Self {
        match self {
            Self::Now => Self::Now,
            Self::At(own) => Self::At(own.min(moment)),
            Self::Never => Self::At(moment),
        }
    }

    pub(crate) fn error(self) -> Error {
        match self {
            Self::Now => Error::new(ErrorKind::WouldBlock, "the operation would have to wait"),
            _ => Error::new(ErrorKind::TimedOut, "timed out"),
        }
    }
}

/// What the caller of a blocking operation wants done around its waits. A language binding releases
/// its interpreter here and looks for signals.
pub trait Hook {
    /// Runs `wait`, which blocks this thread in one system call.
    fn block(&mut self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// How long a wait may last before [`interrupted`](Self::interrupted) is called even so. A signal
    /// that comes in the moment before the wait begins does not interrupt it.
    fn attention(&self) -> Option<Duration> {
        None
    }

    /// Called when a signal has interrupted the wait.
    ///
    /// # Errors
    ///
    /// An error ends the operation with [`ErrorKind::Interrupted`], and is its
    /// [source](Error::into_source).
    fn interrupted(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

/// How one operation waits: its deadline, and the caller's hook if there is one.
pub struct Wait<'a> {
    /// Until when.
    pub deadline: Deadline,
    hook: Option<&'a mut dyn Hook>,
    pub(crate) looking: Looking,
    /// How many frames of the other end's duct this operation has heard.
    pub(crate) heard: u16,
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait")
            .field("deadline", &self.deadline)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

impl Wait<'static> {
    /// Waits until the deadline; a signal does not end it.
    #[must_use]
    pub fn until(deadline: Deadline) -> Self {
        Self {
            deadline,
            hook: None,
            looking: Looking::NotYet,
            heard: 0,
        }
    }
}

impl<'a> Wait<'a> {
    /// Waits until the deadline, through the hook.
    #[must_use]
    pub fn hooked(deadline: Deadline, hook: &'a mut dyn Hook) -> Self {
        Self {
            deadline,
            hook: Some(hook),
            looking: Looking::NotYet,
            heard: 0,
        }
    }
}

/// What a wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something can be read, or the end has come.
    Readable,
    /// Something can be written, or the other end is gone.
    Writable,
    /// Either of the two.
    Both,
}

impl Interest {
    fn flags(self) -> PollFlags {
        match self {
            Self::Readable => PollFlags::IN,
            Self::Writable => PollFlags::OUT,
            Self::Both => PollFlags::IN | PollFlags::OUT,
        }
    }
}

/// Which queue a sleeping thread belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// It waits for the descriptor.
    Descriptor,
    /// It waits for its turn to send.
    Send,
    /// It waits for its turn to receive.
    Receive,
}

/// The state that all operations on one descriptor share: whether it has been closed, who uses it
/// at this moment, and who sleeps.
///
/// Closing wakes every sleeper. It then waits until no thread is inside a system call on the
/// descriptor, so that its number can safely be given back.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicBool,
    active: ActiveCount,
    sleepers: Forkable<Vec<Sleeper>>,
}

#[derive(Debug)]
struct Sleeper {
    queue: Queue,
    waker: Arc<Waker>,
}

impl Gate {
    /// Whether [`close`](Self::close) has been called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes the gate: operations that wait, and all later ones, fail with
    /// [`ErrorKind::Closed`]. Returns whether it was open until now, without waiting for those that
    /// are at work.
    pub fn shut(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::SeqCst);
        self.wake_all();
        was_open
    }

    /// [Shuts](Self::shut) the gate and waits until nobody is inside, which is at once.
    pub fn close(&self) -> bool {
        let was_open = self.shut();
        self.await_others(0);
        was_open
    }

    /// Waits until no more than so many are inside a gate that has been shut, which is at once.
    pub(crate) fn await_others(&self, staying: u32) {
        // A thread that is active is inside a call that does not block, so this ends at once. The
        // bound is for a call that the system, or a stream of somebody's own, holds up all the same.
        let patience = Instant::now() + Duration::from_secs(1);
        while self.active.count() > staying && Instant::now() < patience {
            std::thread::yield_now();
        }
    }

    /// Marks this thread as using the descriptor, for one system call that does not block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`].
    pub fn enter(&self) -> Result<Active<'_>> {
        let active = self.hold();
        if self.is_closed() {
            return Err(closed());
        }
        Ok(active)
    }

    /// Marks this thread as using the descriptor, for whoever is closing it.
    pub(crate) fn hold(&self) -> Active<'_> {
        self.active.increment();
        Active(self)
    }

    /// Waits until the descriptor is ready.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`], [`ErrorKind::WouldBlock`] or [`ErrorKind::TimedOut`] at the deadline,
    /// [`ErrorKind::Interrupted`], [`ErrorKind::Io`].
    ///
    /// ```
    /// use ductworks::engine::{Deadline, Gate, Interest, Wait};
    /// use std::{os::fd::AsFd, time::Duration};
    ///
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// drop(theirs);
    /// let mut wait = Wait::until(Deadline::after(Duration::from_secs(1)));
    /// Gate::default().wait(ours.as_fd(), Interest::Readable, &mut wait)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(
        &self,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        if self.is_closed() {
            return Err(closed());
        }
        // A deadline bounds the wait, not the first look.
        let mut look = [PollFd::from_borrowed_fd(descriptor, interest.flags())];
        let at_once = Some(&Timespec::default());
        match rustix::event::poll(&mut look, at_once) {
            Ok(1) if look[0].revents().contains(PollFlags::NVAL) => {
                return Err(Error::os("wait for the descriptor", Errno::BADF));
            }
            Ok(1) => return Ok(()),
            _ => {} // An error shows itself again.
        }
        let descriptor = Some((descriptor, interest));
        while !self.sleep(descriptor, Queue::Descriptor, || true, wait)? {}
        Ok(())
    }

    /// Sleeps until the descriptor is ready, and returns true; or until something else may have
    /// changed, and returns false. Either may be spurious.
    ///
    /// # Errors
    ///
    /// `Closed`, `WouldBlock`, `TimedOut`, `Interrupted`, or the system's own.
    pub(crate) fn sleep(
        &self,
        descriptor: Option<(BorrowedFd<'_>, Interest)>,
        queue: Queue,
        still_wanted: impl FnOnce() -> bool,
        wait: &mut Wait<'_>,
    ) -> Result<bool> {
        let Some(left) = wait.deadline.left() else {
            return Err(wait.deadline.error());
        };
        let waker = Waker::of_this_thread().map_err(|e| Error::os("create an eventfd", e))?;
        let _registered = self.register(queue, &waker);
        // Looked at after registering, so that a change is either seen here or wakes us.
        if self.is_closed() {
            return Err(closed());
        }
        if !still_wanted() {
            return Ok(false);
        }
        let attention = wait.hook.as_ref().and_then(|hook| hook.attention());
        let pause = [left, attention].into_iter().flatten().min();
        let timeout = pause.map(|pause| Timespec {
            tv_sec: pause.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: pause.subsec_nanos().into(),
        });
        let mut outcome = Ok((false, false));
        let mut poll = || outcome = poll_two(descriptor, &waker.event, timeout.as_ref());
        match &mut wait.hook {
            Some(hook) => hook.block(&mut poll),
            None => poll(),
        }
        // A thread that was woken late may have waited on a number that is nobody's any more.
        if self.is_closed() {
            waker.clear();
            return Err(closed());
        }
        match outcome {
            Ok((false, false)) | Err(Errno::INTR) => {
                if let Some(hook) = &mut wait.hook {
                    hook.interrupted().map_err(|error| {
                        Error::new(ErrorKind::Interrupted, "interrupted by a signal")
                            .with_source(error)
                    })?;
                }
                Ok(false)
            }
            Ok((ready, woken)) => {
                if woken {
                    waker.clear();
                }
                Ok(ready)
            }
            Err(error) => Err(Error::os("wait for the descriptor", error)),
        }
    }

    /// Wakes one thread of a queue, if one sleeps there.
    pub(crate) fn wake_one(&self, queue: Queue) {
        let me = process::id();
        // A forked child inherits the entries of threads that it does not have.
        let next = self
            .sleepers
            .take()
            .iter()
            .find(|sleeper| sleeper.queue == queue && sleeper.waker.process == me)
            .map(|sleeper| Arc::clone(&sleeper.waker));
        if let Some(waker) = next {
            waker.wake();
        }
    }

    pub(crate) fn wake_all(&self) {
        let me = process::id();
        for sleeper in self.sleepers.take().iter() {
            if sleeper.waker.process == me {
                sleeper.waker.wake();
            }
        }
    }

    fn register(&self, queue: Queue, waker: &Arc<Waker>) -> Registered<'_> {
        self.sleepers.take().push(Sleeper {
            queue,
            waker: Arc::clone(waker),
        });
        Registered {
            gate: self,
            queue,
            waker: Arc::clone(waker),
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this end has been closed")
}

/// How many threads of this process are active. A forked child does not have the threads that its
/// parent counted, so the count is kept together with the process that it is of.
#[derive(Debug, Default)]
struct ActiveCount(AtomicU64);

impl ActiveCount {
    fn update(&self, change: impl Fn(u32) -> u32) {
        let me = process::id();
        // The closure never refuses, so the outcome tells nothing.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, |word| {
                let count = Self::of(me, word);
                Some(u64::from(me) << 32 | u64::from(change(count)))
            });
    }

    fn of(me: u32, word: u64) -> u32 {
        match (word >> 32) as u32 == me {
            true => word as u32,
            false => 0,
        }
    }

    fn increment(&self) {
        self.update(|count| count + 1);
    }

    fn decrement(&self) {
        self.update(|count| count.saturating_sub(1));
    }

    fn count(&self) -> u32 {
        Self::of(process::id(), self.0.load(Ordering::SeqCst))
    }
}

/// A thread that is using the descriptor; see [`Gate::enter`].
#[derive(Debug)]
pub struct Active<'a>(&'a Gate);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.decrement();
    }
}

struct Registered<'a> {
    gate: &'a Gate,
    queue: Queue,
    waker: Arc<Waker>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut sleepers = self.gate.sleepers.take();
        if let Some(at) = sleepers.iter().position(|sleeper| {
            sleeper.queue == self.queue && Arc::ptr_eq(&sleeper.waker, &self.waker)
        }) {
            sleepers.remove(at);
        }
    }
}

/// Ends the sleep of one thread. The descriptor belongs to the thread, not to a duct: a duct keeps
/// a single one, and a thread that never blocks needs none.
#[derive(Debug)]
struct Waker {
    event: OwnedFd,
    process: u32,
}

thread_local! {
    static WAKER: RefCell<Option<Arc<Waker>>> = const { RefCell::new(None) };
}

impl Waker {
    fn of_this_thread() -> io::Result<Arc<Self>> {
        let process = process::id();
        let kept = WAKER.try_with(|slot| match &mut *slot.borrow_mut() {
            Some(waker) if waker.process == process => Ok(Arc::clone(waker)),
            // A forked child shares its parent's eventfd and needs one of its own.
            slot => {
                let waker = Arc::new(Self::new(process)?);
                // The inherited one is left alone: its number may have been closed, and given to
                // somebody else, by a child that closes all it has inherited (daemons do).
                std::mem::forget(slot.replace(Arc::clone(&waker)));
                Ok(waker)
            }
        });
        // A thread that ends, and whose destructors wait, keeps nothing any more.
        kept.unwrap_or_else(|_| Ok(Arc::new(Self::new(process)?)))
    }

    fn new(process: u32) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags)?;
        Ok(Self { event, process })
    }

    fn wake(&self) {
        // The only possible failure is a counter that is full, and then it has rung already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
    }
}

fn poll_two(
    descriptor: Option<(BorrowedFd<'_>, Interest)>,
    event: &OwnedFd,
    timeout: Option<&Timespec>,
) -> Result<(bool, bool), Errno> {
    let bell = PollFd::new(event, PollFlags::IN);
    let Some((descriptor, interest)) = descriptor else {
        let mut fds = [bell];
        rustix::event::poll(&mut fds, timeout)?;
        return Ok((false, !fds[0].revents().is_empty()));
    };
    let mut fds = [PollFd::from_borrowed_fd(descriptor, interest.flags()), bell];
    rustix::event::poll(&mut fds, timeout)?;
    if fds[0].revents().contains(PollFlags::NVAL) {
        return Err(Errno::BADF);
    }
    Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
}
