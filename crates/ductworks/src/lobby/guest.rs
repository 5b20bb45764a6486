//! Somebody who has come in and has yet to prove themselves.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Interest, Wait};
use crate::transport::{self, Progress};
use crate::wire::{Answer, Handshake};

pub(super) struct Guest<H: Handshake> {
    pub(super) connection: Connection,
    pub(super) since: Instant,
    pub(super) until: Option<Instant>,
    pub(super) host: Option<IpAddr>,
    /// Nothing until the connection is as safe as its address says: those who come no further are to
    /// cost little.
    talk: Option<Box<Talk<H>>>,
}

/// A handshake, and what it goes through.
struct Talk<H: Handshake> {
    channel: Channel<H::Framing>,
    handshake: H,
}

const GONE: &str = "it went away in its handshake";

/// What became of a guest.
pub(super) enum Outcome {
    Waits,
    Accepted,
    Refused(String),
}

impl<H: Handshake> Guest<H> {
    pub(super) fn new(connection: Connection, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            host: transport::peer_host(connection.as_fd()),
            connection,
            since: now,
            until: now.checked_add(patience),
            talk: None,
        }
    }

    /// Goes on with the encryption, and begins the handshake when that is there. Says why the guest has to
    /// go, if it has.
    pub(super) fn secure(&mut self, make: impl FnOnce() -> Result<H>) -> Result<(), String> {
        if self.talk.is_some() {
            return Ok(());
        }
        let secured = match self.connection.link().progress() {
            Ok(Progress::Done(secured)) => secured,
            Ok(Progress::Needs(Interest::Readable)) => return Ok(()),
            // So little always has room, unless nothing is read.
            Ok(Progress::Needs(_)) => return Err(GONE.into()),
            Err(error) => return Err(why(&error)),
        };
        let channel = Channel::default();
        channel.set_message_limit(H::MESSAGE_MAX);
        let mut handshake = make().map_err(|error| error.to_string())?;
        handshake.bind(secured);
        let mut talk = Talk { channel, handshake };
        let opening = talk.handshake.opening();
        let is_here = talk.says(&self.connection, opening);
        self.talk = Some(Box::new(talk));
        match is_here {
            true => Ok(()),
            false => Err(GONE.into()),
        }
    }

    /// Takes what the guest has said, without waiting for more.
    pub(super) fn hear(&mut self, make: impl FnOnce() -> Result<H>) -> Outcome {
        let outcome = match (self.secure(make), &mut self.talk) {
            (Err(reason), _) => return Outcome::Refused(reason),
            (Ok(()), None) => Outcome::Waits,
            (Ok(()), Some(talk)) => talk.hear(&self.connection),
        };
        match outcome {
            Outcome::Waits if self.until.is_some_and(|until| until <= Instant::now()) => {
                Outcome::Refused("it was too slow with its handshake".into())
            }
            outcome => outcome,
        }
    }

    /// The handshake as it was when the guest was let in.
    pub(super) fn into_parts(self) -> (Connection, Option<H>) {
        (self.connection, self.talk.map(|talk| talk.handshake))
    }
}

impl<H: Handshake> Talk<H> {
    fn hear(&mut self, connection: &Connection) -> Outcome {
        loop {
            let now = &mut Wait::until(Deadline::Now);
            let message = match self.channel.receive(&connection.link(), now) {
                Ok(message) => message,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Waits,
                Err(error) => return Outcome::Refused(why(&error)),
            };
            let (reply, is_over) = match self.handshake.answer(&message) {
                Answer::Next(reply) => (Some(reply), false),
                Answer::Accept(reply) => (reply, true),
                Answer::Refuse { farewell, reason } => {
                    for word in farewell {
                        self.says(connection, Some(word));
                    }
                    return Outcome::Refused(reason);
                }
            };
            match (self.says(connection, reply), is_over) {
                (false, _) => return Outcome::Refused(GONE.into()),
                (true, true) => return Outcome::Accepted,
                (true, false) => {}
            }
        }
    }

    /// Says something to the guest. Who does not listen to so little has no room for more.
    fn says(&self, connection: &Connection, message: Option<Vec<u8>>) -> bool {
        let Some(message) = message else {
            return true;
        };
        let now = &mut Wait::until(Deadline::Now);
        let sent = self.channel.send(&connection.link(), &[&message], now);
        sent.is_ok() && !self.channel.has_unsent()
    }
}

/// Why a guest is not heard any more. There was no duct yet whose end this could be.
fn why(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Reset => GONE.into(),
        ErrorKind::Truncated => format!("{GONE}, in the middle of what it said"),
        _ => error.to_string(),
    }
}
