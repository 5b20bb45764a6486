//! Where those who have connected wait until they have proved themselves.

mod guest;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::channel::Channel;
use crate::connection::{Connection, Link};
use crate::door::{Door, Knock, Refusal, epoll_instance, watch};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Interest, Queue, Wait};
use crate::process;
use crate::transport::{self, Session, Wire};
use crate::turn::Forkable;
use crate::wire::{Answer, Handshake};
use guest::{Guest, Outcome};

/// How many may wait at the same time.
const GUESTS_MAX: usize = 64;

/// How many of these may be of one host on the network without being the first to go.
const GUESTS_OF_A_HOST_MAX: usize = 8;

/// How long everybody may stay, however many come: time enough for a handshake with somebody who speaks.
const GRACE: Duration = Duration::from_millis(250);

/// How much of a time in which nobody heard the guests counts against them.
const UNHEARD_MAX: Duration = GRACE;

/// Accepts the connections at a [`Door`] that pass a handshake.
///
/// Everybody who connects gets a handshake of their own, all of them at the same time and without a
/// thread. Who says something wrong, or has not finished within the lobby's patience, is turned away;
/// listening goes on, and nobody has to wait for anybody else.
///
/// ```
/// use ductworks::engine::{Connection, Deadline, Door, Lobby, Wait, Wire, greet};
/// use ductworks::wire::Challenge;
/// use std::time::Duration;
///
/// let door = Door::bind_private(&[Wire::Plain], 128)?;
/// let address = door.address().clone();
/// let client = std::thread::spawn(move || {
///     let patience = Duration::from_secs(10);
///     let wait = &mut Wait::until(Deadline::after(patience));
///     let socket = ductworks::ConnectOptions::new().connect_socket(&address, wait)?;
///     let connection = Connection::from(socket);
///     greet(&connection, Challenge::client(b"key", rand()), wait).map(|_| connection)
/// });
/// # fn rand() -> [u8; 40] { [3; 40] }
///
/// let lobby = Lobby::new(Wire::Plain, Duration::from_secs(10), || {
///     Ok(Challenge::listener(b"key", rand()))
/// });
/// let ours = lobby.accept(&door, &mut Wait::until(Deadline::Never))?.connection;
/// let theirs = client.join().expect("no panic")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
pub struct Lobby<H: Handshake> {
    wire: Wire,
    patience: Duration,
    make: Box<dyn Fn() -> Result<H> + Send + Sync>,
    log: Option<Log>,
    secure: Option<Secure>,
    /// A forked child begins with another one, also where a thread of its parent was serving.
    room: Forkable<Option<Room<H>>>,
}

type Log = Box<dyn Fn(&Refusal) + Send + Sync>;

type Secure = Box<dyn Fn() -> Session + Send + Sync>;

/// Who was let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Admitted<H> {
    /// The connection.
    pub connection: Connection,
    /// The handshake that it has passed; nothing where its wire has none.
    pub handshake: Option<H>,
}

/// The guests, who make the door ready as those who knock do.
struct Room<H: Handshake> {
    guests: Vec<Guest<H>>,
    /// What is ready instead of the door, in a forked process.
    own: Option<OwnedFd>,
    process: u32,
    /// How many threads are hearing the guests, or wait for them.
    hosts: usize,
    /// Since when there is none.
    unheard: Instant,
    /// Those whose refusal has not been told yet.
    refused: Vec<Refusal>,
    /// How many were refused in all, and the last of them.
    refusals: u64,
    last_refusal: Option<Refusal>,
}

impl<H: Handshake> fmt::Debug for Lobby<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl<H: Handshake> Lobby<H> {
    /// A lobby in which everybody who comes in by this wire has so much time for the handshake that
    /// `make` makes for them.
    #[must_use]
    pub fn new(
        wire: Wire,
        patience: Duration,
        make: impl Fn() -> Result<H> + Send + Sync + 'static,
    ) -> Self {
        Self {
            wire,
            patience,
            make: Box::new(make),
            log: None,
            secure: None,
            room: Forkable::default(),
        }
    }

    /// The same lobby, which tells of everybody whom it turns away. With the feature `tracing` there is
    /// an event for each in any case.
    #[must_use]
    pub fn with_log(mut self, log: impl Fn(&Refusal) + Send + Sync + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// The same lobby, with encrypted connections.
    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(mut self, acceptor: transport::Acceptor) -> Self {
        self.secure = Some(Box::new(move || Session::accepting(acceptor.clone())));
        self
    }

    /// Waits for somebody who passes the handshake, if there is one at their entry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the door is closed, [`ErrorKind::WouldBlock`],
    /// [`ErrorKind::TimedOut`], [`ErrorKind::Interrupted`], [`ErrorKind::Io`]. A failed handshake is
    /// none.
    pub fn accept(&self, door: &Door, wait: &mut Wait<'_>) -> Result<Admitted<H>> {
        let until = wait.deadline;
        let mut over: Option<Error> = None;
        let _host = self.host(door)?;
        loop {
            let (refused, step) = {
                let mut room = self.room.take();
                let room = Room::of_this_process(&mut room, door)?;
                let served = self.serve(room, door);
                (std::mem::take(&mut room.refused), room.after(served))
            };
            refused.iter().for_each(|refusal| self.tell(refusal));
            let (own, next) = match step? {
                Served::Admitted(admitted) => return Ok(admitted),
                // Not before a last look: the guests' time may be up as well.
                Served::Nobody { refusals, .. } if over.is_some() => {
                    return Err(late(door, over.take(), refusals));
                }
                Served::Nobody { own, next, .. } => (own, next),
            };
            wait.deadline = next.map_or(until, |next| until.or_at(next));
            let ready = own.as_ref().map_or(door.as_fd(), OwnedFd::as_fd);
            let descriptor = Some((ready, Interest::Readable));
            let slept = door
                .gate()
                .sleep(descriptor, Queue::Descriptor, || true, wait);
            wait.deadline = until;
            match slept {
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) =>
                {
                    over = (!until.allows_waiting()).then_some(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes that somebody hears the guests, until that is dropped.
    fn host(&self, door: &Door) -> Result<Hosting<'_, H>> {
        let mut room = self.room.take();
        Room::of_this_process(&mut room, door)?.begin_to_hear();
        Ok(Hosting(self))
    }

    /// Lets go of all who wait, because the door has been closed: nobody will hear them any more.
    pub fn close(&self) {
        let mut room = self.room.take();
        if let Some(room) = &mut *room {
            room.guests.clear();
        }
    }

    fn tell(&self, refusal: &Refusal) {
        #[cfg(feature = "tracing")]
        tracing::warn!(peer = %refusal.peer, reason = %refusal.reason, "a connection was refused");
        if let Some(log) = &self.log {
            log(refusal);
        }
    }

    /// Lets in who is at the door, and hears whoever has something to say.
    fn serve(&self, room: &mut Room<H>, door: &Door) -> Result<Option<Admitted<H>>> {
        // Nobody is to give way who has just said what lets them in.
        if room.is_full()
            && let Some(admitted) = self.hear(room, door)
        {
            return Ok(Some(admitted));
        }
        // Not for as long as somebody goes on connecting: the guests are to be heard as well.
        for _ in 0..GUESTS_MAX {
            if !room.make_way(door) {
                break;
            }
            let (socket, wire) = match door.next()? {
                Some(Knock::Peer(socket, wire)) => (socket, wire),
                Some(Knock::Stranger(refusal)) => {
                    room.note(refusal);
                    continue;
                }
                None => break,
            };
            if wire != self.wire {
                return Ok(Some(Admitted {
                    connection: socket.into(),
                    handshake: None,
                }));
            }
            let connection = Connection::new(socket, self.secure.as_ref().map(|secure| secure()));
            let mut guest = Guest::new(connection, self.patience);
            // It may have to hear something first.
            match guest.secure(&self.make) {
                Ok(()) => room.add(door, guest)?,
                Err(reason) => room.refuse(&guest, reason),
            }
        }
        Ok(self.hear(room, door))
    }

    fn hear(&self, room: &mut Room<H>, door: &Door) -> Option<Admitted<H>> {
        let mut index = 0;
        while let Some(guest) = room.guests.get_mut(index) {
            match guest.hear(&self.make) {
                Outcome::Waits => index += 1,
                Outcome::Refused(reason) => {
                    let guest = room.remove(door, index);
                    room.refuse(&guest, reason);
                }
                Outcome::Accepted => {
                    let (connection, mut handshake) = room.remove(door, index).into_parts();
                    handshake.iter_mut().for_each(Handshake::admitted);
                    connection.link().admit();
                    return Some(Admitted {
                        connection,
                        handshake,
                    });
                }
            }
        }
        None
    }
}

/// Somebody who hears the guests.
struct Hosting<'a, H: Handshake>(&'a Lobby<H>);

impl<H: Handshake> Drop for Hosting<'_, H> {
    fn drop(&mut self) {
        let mut room = self.0.room.take();
        if let Some(room) = &mut *room {
            room.end_to_hear();
        }
    }
}

/// What a look at the door and the guests has brought.
enum Served<H> {
    Admitted(Admitted<H>),
    Nobody {
        own: Option<OwnedFd>,
        next: Option<Instant>,
        refusals: Option<(u64, Refusal)>,
    },
}

fn late(door: &Door, error: Option<Error>, refusals: Option<(u64, Refusal)>) -> Error {
    let Some((count, last)) = refusals else {
        let passed = || Error::new(ErrorKind::TimedOut, "timed out");
        return door.late(error.unwrap_or_else(passed));
    };
    let kind = error.map_or(ErrorKind::TimedOut, |error| error.kind());
    let why = match kind {
        ErrorKind::WouldBlock => "nobody is in at once",
        _ => "timed out: nobody got in",
    };
    let text = format!(
        "{why} at {}; refused so far: {count}, the last of them {}: {}",
        door.address().shown(),
        last.peer,
        last.reason
    );
    Error::new(kind, text)
}

impl<H: Handshake> Room<H> {
    /// A forked process shares its parent's epoll instance, and must not touch it.
    fn of_this_process<'a>(slot: &'a mut Option<Self>, door: &Door) -> Result<&'a mut Self> {
        let process = process::id();
        if slot.as_ref().is_none_or(|room| room.process != process) {
            let own = door.watch_as_fork()?;
            *slot = Some(Self {
                guests: Vec::new(),
                own,
                process,
                hosts: 0,
                unheard: Instant::now(),
                refused: Vec::new(),
                refusals: 0,
                last_refusal: None,
            });
        }
        slot.as_mut()
            .ok_or_else(|| Error::new(ErrorKind::Io, "there is no room"))
    }

    /// The guests are not to pay for a program that does something else meanwhile, and those who say
    /// nothing are not to stay for ever with one that looks in now and then.
    fn begin_to_hear(&mut self) {
        if self.hosts == 0 {
            let excused = self.unheard.elapsed().saturating_sub(UNHEARD_MAX);
            for until in self
                .guests
                .iter_mut()
                .filter_map(|guest| guest.until.as_mut())
            {
                *until += excused;
            }
        }
        self.hosts += 1;
    }

    fn end_to_hear(&mut self) {
        self.hosts = self.hosts.saturating_sub(1);
        self.unheard = Instant::now();
    }

    /// What there is to do after somebody was served, or nobody.
    fn after(&self, served: Result<Option<Admitted<H>>>) -> Result<Served<H>> {
        if let Some(admitted) = served? {
            return Ok(Served::Admitted(admitted));
        }
        // The room's own may be replaced while this thread sleeps.
        let own = self.own.as_ref().map(OwnedFd::try_clone).transpose();
        let mut own = own.map_err(|e| Error::os("wait for connections", e))?;
        let mut next = self.guests.iter().filter_map(|guest| guest.until).min();
        let way = self.guests.first().map(|guest| guest.since + GRACE);
        if self.is_full() && way.is_some_and(|way| way > Instant::now()) {
            // Who is at the door has to wait until one of these goes, or has had time enough.
            own = Some(self.guests_alone()?);
            next = next.min(way).or(way);
        }
        let last = self.last_refusal.clone();
        Ok(Served::Nobody {
            own,
            next,
            refusals: last.map(|last| (self.refusals, last)),
        })
    }

    /// Makes room for one more, if there is none, at the cost of who has waited longest. Not at the cost of
    /// those who have just come: they may be as honest as whoever is at the door, who can wait there.
    fn make_way(&mut self, door: &Door) -> bool {
        if !self.is_full() {
            return true;
        }
        if !door.has_somebody() {
            return false;
        }
        let now = Instant::now();
        let had_time = |guest: &&Guest<H>| now.duration_since(guest.since) >= GRACE;
        // They are in the order of their coming.
        let old: Vec<_> = self.guests.iter().take_while(had_time).collect();
        let is_of_a_crowd = |guest: &&Guest<H>| {
            let of_this_host = self.guests.iter().filter(|each| each.host == guest.host);
            guest.host.is_some() && of_this_host.count() > GUESTS_OF_A_HOST_MAX
        };
        let Some(index) = old
            .iter()
            .position(is_of_a_crowd)
            .or((!old.is_empty()).then_some(0))
        else {
            return false;
        };
        let guest = self.remove(door, index);
        self.refuse(&guest, "it kept others waiting");
        true
    }

    fn is_full(&self) -> bool {
        self.guests.len() >= GUESTS_MAX
    }

    /// What is ready when one of the guests has something to say, whoever is at the door.
    fn guests_alone(&self) -> Result<OwnedFd> {
        let ready = epoll_instance()?;
        for guest in &self.guests {
            watch(&ready, &guest.connection)?;
        }
        Ok(ready)
    }

    fn refuse(&mut self, guest: &Guest<H>, reason: impl Into<String>) {
        let peer = transport::describe_peer(guest.connection.as_fd(), guest.host);
        self.note(Refusal::new(peer, reason.into()));
    }

    fn note(&mut self, refusal: Refusal) {
        self.refusals += 1;
        self.last_refusal = Some(refusal.clone());
        self.refused.push(refusal);
    }

    fn ready<'a>(&'a self, door: &'a Door) -> BorrowedFd<'a> {
        self.own.as_ref().map_or(door.as_fd(), OwnedFd::as_fd)
    }

    fn add(&mut self, door: &Door, guest: Guest<H>) -> Result<()> {
        watch(self.ready(door), &guest.connection)?;
        self.guests.push(guest);
        Ok(())
    }

    fn remove(&mut self, door: &Door, index: usize) -> Guest<H> {
        let guest = self.guests.remove(index);
        // Closing alone would not do where a forked process holds a copy.
        let _ = epoll::delete(self.ready(door), &guest.connection);
        guest
    }
}

/// Goes through a handshake on a connection, as the end that has something to lose by waiting
/// for ever: `wait` bounds it as a whole. Returns what the handshake has become.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] if either end refuses the other; [`ErrorKind::TimedOut`],
/// [`ErrorKind::Disconnected`], [`ErrorKind::Truncated`], [`ErrorKind::Reset`],
/// [`ErrorKind::TooLarge`], [`ErrorKind::Protocol`], [`ErrorKind::Interrupted`], [`ErrorKind::Io`].
pub fn greet<H: Handshake>(
    connection: &Connection,
    mut handshake: H,
    wait: &mut Wait<'_>,
) -> Result<H> {
    let stream = connection.link();
    handshake.bind(stream.establish(wait)?);
    converse(&stream, &mut handshake, wait)?;
    stream.admit();
    Ok(handshake)
}

fn converse<H: Handshake>(stream: &Link<'_>, handshake: &mut H, wait: &mut Wait<'_>) -> Result<()> {
    let channel = Channel::<H::Framing>::default();
    channel.set_message_limit(H::MESSAGE_MAX);
    if let Some(opening) = handshake.opening() {
        channel.send(stream, &[&opening], wait)?;
    }
    loop {
        let message = channel.receive(stream, wait)?;
        match handshake.answer(&message) {
            Answer::Next(reply) => channel.send(stream, &[&reply], wait)?,
            Answer::Accept(Some(reply)) => {
                return channel.send(stream, &[&reply], wait);
            }
            Answer::Accept(None) => return Ok(()),
            Answer::Refuse { farewell, reason } => {
                for word in farewell {
                    // The reason is what counts, whether they hear of it or not.
                    let _ = channel.send(stream, &[&word], wait);
                }
                return Err(Error::new(ErrorKind::PermissionDenied, reason));
            }
        }
    }
}
