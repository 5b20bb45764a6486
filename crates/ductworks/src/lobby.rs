//! Where those who have connected wait until they have proved themselves.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::channel::Channel;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Interest, Queue, Wait};
use crate::listener::Listener;
use crate::process;
use crate::stream::Socket;
use crate::wire::{Answer, Handshake};

/// How many may wait at the same time. Where more come, the one that has waited longest has to go.
const GUESTS_MAX: usize = 64;

/// Accepts the connections of a [`Listener`] that pass a handshake.
///
/// Everybody who connects gets a handshake of their own, all of them at the same time and without a
/// thread. Who says something wrong, or has not finished within the lobby's patience, is turned away;
/// listening goes on, and nobody has to wait for anybody else.
///
/// ```
/// use ductworks::Listener;
/// use ductworks::engine::{Deadline, Lobby, Socket, Wait, greet};
/// use ductworks::wire::Challenge;
/// use std::time::Duration;
///
/// let listener = Listener::bind_private()?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(move || {
///     let patience = Duration::from_secs(10);
///     let wait = &mut Wait::until(Deadline::after(patience));
///     let socket = ductworks::ConnectOptions::new().connect_socket(&address, wait)?;
///     greet(&socket, Challenge::client(b"key", rand()), wait).map(|()| socket)
/// });
/// # fn rand() -> [u8; 40] { [3; 40] }
///
/// let lobby = Lobby::new(Duration::from_secs(10), || {
///     Ok(Challenge::listener(b"key", rand()))
/// });
/// let ours = lobby.accept(&listener, &mut Wait::until(Deadline::Never))?;
/// let theirs = client.join().expect("no panic")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
pub struct Lobby<H: Handshake> {
    patience: Duration,
    make: Box<dyn Fn() -> Result<H> + Send + Sync>,
    room: Mutex<Option<Room<H>>>,
}

/// The guests, and the descriptor that is ready when one of them, or the door, is.
struct Room<H: Handshake> {
    guests: Vec<Guest<H>>,
    ready: OwnedFd,
    process: u32,
}

struct Guest<H: Handshake> {
    socket: OwnedFd,
    channel: Channel<H::Framing>,
    handshake: H,
    until: Option<Instant>,
}

/// What became of a guest.
enum Outcome {
    Waits,
    Accepted,
    Refused,
}

impl<H: Handshake> fmt::Debug for Lobby<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl<H: Handshake> Lobby<H> {
    /// A lobby in which everybody has so much time for the handshake that `make` makes for them.
    #[must_use]
    pub fn new(patience: Duration, make: impl Fn() -> Result<H> + Send + Sync + 'static) -> Self {
        Self {
            patience,
            make: Box::new(make),
            room: Mutex::default(),
        }
    }

    /// Waits for somebody who passes the handshake, and returns their socket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the listener is closed, [`ErrorKind::WouldBlock`],
    /// [`ErrorKind::TimedOut`], [`ErrorKind::Interrupted`], [`ErrorKind::Io`]. A failed handshake is
    /// none.
    pub fn accept(&self, listener: &Listener, wait: &mut Wait<'_>) -> Result<OwnedFd> {
        let until = wait.deadline;
        let mut over = None;
        loop {
            let (ready, next) = {
                let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
                let room = Room::of_this_process(&mut room, listener)?;
                if let Some(socket) = self.serve(room, listener)? {
                    return Ok(socket);
                }
                // Not before a last look: the guests' time may be up as well.
                if let Some(error) = over {
                    return Err(error);
                }
                let next = room.guests.iter().filter_map(|guest| guest.until).min();
                // The lobby's own may be replaced while this thread sleeps.
                let ready = rustix::io::fcntl_dupfd_cloexec(&room.ready, 0)
                    .map_err(|e| Error::os("wait for connections", e))?;
                (ready, next)
            };
            wait.deadline = next.map_or(until, |next| until.or_at(next));
            let descriptor = Some((ready.as_fd(), Interest::Readable));
            let slept = listener
                .gate()
                .sleep(descriptor, Queue::Descriptor, || true, wait);
            wait.deadline = until;
            match slept {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    over = (!until.allows_waiting()).then(|| listener.late(error));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets in who is at the door, and hears whoever has something to say.
    fn serve(&self, room: &mut Room<H>, listener: &Listener) -> Result<Option<OwnedFd>> {
        // Not for as long as somebody goes on connecting: the guests are to be heard as well.
        for _ in 0..GUESTS_MAX {
            let Some(socket) = listener.next_socket()? else {
                break;
            };
            if room.guests.len() == GUESTS_MAX {
                room.remove(0);
            }
            if let Some(guest) = Guest::new(socket, (self.make)()?, self.patience) {
                room.add(guest)?;
            }
        }
        let mut index = 0;
        while let Some(guest) = room.guests.get_mut(index) {
            match guest.hear() {
                Outcome::Waits => index += 1,
                Outcome::Refused => drop(room.remove(index)),
                Outcome::Accepted => return Ok(Some(room.remove(index).socket)),
            }
        }
        Ok(None)
    }
}

impl<H: Handshake> Room<H> {
    /// A forked process shares its parent's epoll instance, and must not touch it.
    fn of_this_process<'a>(
        slot: &'a mut Option<Self>,
        listener: &Listener,
    ) -> Result<&'a mut Self> {
        let process = process::id();
        if slot.as_ref().is_none_or(|room| room.process != process) {
            let failed = |e: Errno| Error::os("make an epoll instance", e);
            let ready = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
            let data = epoll::EventData::new_u64(0);
            epoll::add(&ready, listener, data, epoll::EventFlags::IN).map_err(failed)?;
            *slot = Some(Self {
                guests: Vec::new(),
                ready,
                process,
            });
        }
        slot.as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Io, "there is no room"))
    }

    fn add(&mut self, guest: Guest<H>) -> Result<()> {
        let data = epoll::EventData::new_u64(1);
        epoll::add(&self.ready, &guest.socket, data, epoll::EventFlags::IN)
            .map_err(|e| Error::os("watch a connection", e))?;
        self.guests.push(guest);
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Guest<H> {
        let guest = self.guests.remove(index);
        // Closing alone would not do where a forked process holds a copy.
        let _ = epoll::delete(&self.ready, &guest.socket);
        guest
    }
}

impl<H: Handshake> Guest<H> {
    /// Begins the handshake. Nothing if the other end is gone already.
    fn new(socket: OwnedFd, mut handshake: H, patience: Duration) -> Option<Self> {
        let opening = handshake.opening();
        let channel = Channel::default();
        channel.set_message_limit(H::MESSAGE_MAX);
        let guest = Self {
            socket,
            channel,
            handshake,
            until: Instant::now().checked_add(patience),
        };
        guest.says(opening).then_some(guest)
    }

    /// Takes what the guest has said, without waiting for more.
    fn hear(&mut self) -> Outcome {
        loop {
            let now = &mut Wait::until(Deadline::Now);
            let message = match self.channel.receive(&Socket(&self.socket), now) {
                Ok(message) => message,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return match self.until {
                        Some(until) if until <= Instant::now() => Outcome::Refused,
                        _ => Outcome::Waits,
                    };
                }
                Err(_) => return Outcome::Refused,
            };
            let (reply, end) = match self.handshake.answer(&message) {
                Answer::Next(reply) => (Some(reply), None),
                Answer::Accept(reply) => (reply, Some(Outcome::Accepted)),
                Answer::Refuse { farewell, .. } => (farewell, Some(Outcome::Refused)),
            };
            match (self.says(reply), end) {
                (false, _) => return Outcome::Refused,
                (true, Some(outcome)) => return outcome,
                (true, None) => {}
            }
        }
    }

    /// Says something to the guest. Who does not listen to so little has no room for more.
    fn says(&self, message: Option<Vec<u8>>) -> bool {
        let Some(message) = message else {
            return true;
        };
        let now = &mut Wait::until(Deadline::Now);
        let sent = self.channel.send(&Socket(&self.socket), &[&message], now);
        sent.is_ok() && !self.channel.has_unsent()
    }
}

/// Goes through a handshake on a connected socket, as the end that has something to lose by waiting
/// for ever: `wait` bounds it as a whole.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] if either end refuses the other; [`ErrorKind::TimedOut`],
/// [`ErrorKind::Disconnected`], [`ErrorKind::Truncated`], [`ErrorKind::Reset`],
/// [`ErrorKind::TooLarge`], [`ErrorKind::Protocol`], [`ErrorKind::Interrupted`], [`ErrorKind::Io`].
pub fn greet<H: Handshake>(socket: &OwnedFd, mut handshake: H, wait: &mut Wait<'_>) -> Result<()> {
    let channel = Channel::<H::Framing>::default();
    channel.set_message_limit(H::MESSAGE_MAX);
    let stream = Socket(socket);
    if let Some(opening) = handshake.opening() {
        channel.send(&stream, &[&opening], wait)?;
    }
    loop {
        let message = channel.receive(&stream, wait)?;
        match handshake.answer(&message) {
            Answer::Next(reply) => channel.send(&stream, &[&reply], wait)?,
            Answer::Accept(Some(reply)) => return channel.send(&stream, &[&reply], wait),
            Answer::Accept(None) => return Ok(()),
            Answer::Refuse { farewell, reason } => {
                if let Some(farewell) = farewell {
                    // The reason is what counts, whether they hear of it or not.
                    let _ = channel.send(&stream, &[&farewell], wait);
                }
                return Err(Error::new(ErrorKind::PermissionDenied, reason));
            }
        }
    }
}
