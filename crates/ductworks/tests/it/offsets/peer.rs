//! The end of a conversation that dies at its byte, and what is said in one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use ductworks::Duct;
use ductworks::engine::Mark;
use ductworks::wire::{Answer, CONTROL_LEN, Greeting, Handshake, Terms};
use rustix::net::sockopt;

use crate::common::{Transport, drawn, pattern};

/// How much of the conversation the peer lives to see, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    Written(usize),
    Read(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As by the system for a process that is gone.
    Close,
    /// With a reset, over TCP.
    Reset,
}

/// What the peer does no more.
#[derive(Debug)]
pub(crate) struct Dead;

/// The end of a conversation that dies at its byte.
pub(crate) struct Peer {
    pub(crate) socket: File,
    pub(crate) death: Death,
    pub(crate) written: usize,
    pub(crate) read: usize,
}

impl Peer {
    pub(crate) fn new(socket: OwnedFd, death: Death, manner: Manner) -> Self {
        if manner == Manner::Reset {
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        }
        Self {
            socket: socket.into(),
            death,
            written: 0,
            read: 0,
        }
    }

    /// Writes as much of it as it lives for, and says if that was the last.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<(), Dead> {
        let left = match self.death {
            Death::Written(most) => most - self.written,
            Death::Read(_) => usize::MAX,
        };
        let count = left.min(bytes.len());
        self.socket.write_all(&bytes[..count]).unwrap();
        self.written += count;
        if left <= bytes.len() {
            Err(Dead)
        } else {
            Ok(())
        }
    }

    /// Says a frame to a duct in whose socket nothing else lies. If that was the last: how much of it
    /// has arrived there, since a reset may destroy what is still on its way.
    pub(crate) fn deliver(&mut self, frame: &[u8], duct: &Duct) -> Option<usize> {
        let before = self.written;
        let said = self.say(frame);
        let count = self.written - before;
        while said.is_err() && rustix::io::ioctl_fionread(duct).unwrap() < count as u64 {
            thread::yield_now();
        }
        said.err().map(|Dead| count)
    }

    pub(crate) fn hear(&mut self, count: usize) -> Result<Vec<u8>, Dead> {
        let left = match self.death {
            Death::Read(most) => most - self.read,
            Death::Written(_) => usize::MAX,
        };
        let mut bytes = vec![0; left.min(count)];
        self.socket.read_exact(&mut bytes).unwrap();
        self.read += bytes.len();
        if left <= count { Err(Dead) } else { Ok(bytes) }
    }

    pub(crate) fn shake_hands(&mut self, mut greeting: Greeting) -> Result<(), Dead> {
        if let Some(opening) = greeting.opening() {
            self.say(&opening)?;
        }
        loop {
            match greeting.answer(&self.hear(CONTROL_LEN)?) {
                Answer::Next(reply) => self.say(&reply)?,
                Answer::Accept(Some(reply)) => return self.say(&reply),
                Answer::Accept(None) => return Ok(()),
                refused => panic!("{refused:?}"),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    V1,
    Open,
    Token,
}

pub(crate) fn messages() -> [Vec<u8>; 3] {
    [b"ping".to_vec(), Vec::new(), pattern(2100)]
}

/// Three messages, each of which is sent back, and the farewell, as a real duct writes them.
pub(crate) struct Recording {
    pub(crate) messages: [Vec<u8>; 3],
    pub(crate) frames: [Vec<u8>; 3],
    pub(crate) farewell: Vec<u8>,
}

impl Recording {
    pub(crate) fn make(spoken: Spoken) -> Self {
        let messages = messages();
        let (a, b) = Transport::Unix.sockets();
        if spoken != Spoken::V1 {
            Mark::V2.put(&a).unwrap();
        }
        let (duct, mut peer) = (Duct::try_from(a).unwrap(), File::from(b));
        let frames = messages.each_ref().map(|message| {
            duct.send_bytes(message).unwrap();
            let waiting = rustix::io::ioctl_fionread(&peer).unwrap();
            let mut frame = vec![0; usize::try_from(waiting).unwrap()];
            peer.read_exact(&mut frame).unwrap();
            peer.write_all(&frame).unwrap();
            assert_eq!(duct.recv_bytes().unwrap(), *message);
            frame
        });
        duct.close();
        let mut farewell = Vec::new();
        peer.read_to_end(&mut farewell).unwrap();
        Self {
            messages,
            frames,
            farewell,
        }
    }

    /// The deaths that a peer can die in a conversation that begins with this handshake: those at the
    /// beginning and at the border of a frame of either wire, and one in `every` of the others. Every
    /// single one in a long run.
    pub(crate) fn offsets(
        &self,
        spoken: Spoken,
        every: u64,
    ) -> impl Iterator<Item = Death> + use<> {
        let read = spoken.handshake() + self.frames.iter().map(Vec::len).sum::<usize>();
        let written = read + self.farewell.len();
        let written = (0..=written).map(Death::Written);
        let mut is_drawn = drawn(every);
        let is_border = |count| count < 12 || count % 128 < 2 || count % 128 == 127;
        written
            .chain((0..=read).map(Death::Read))
            .filter(move |death| {
                let (Death::Written(count) | Death::Read(count)) = *death;
                is_border(count) || is_drawn()
            })
    }
}

pub(crate) const TERMS: Terms = Terms {
    limit: 1 << 20,
    codec: String::new(),
    descriptors: false,
};

impl Spoken {
    /// The bytes of a handshake that each side writes.
    pub(crate) fn handshake(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::Open => CONTROL_LEN,
            Self::Token => 2 * CONTROL_LEN,
        }
    }
}
