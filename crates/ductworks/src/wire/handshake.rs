//! What two ends say to each other before the first message.

use super::Framing;

/// One end's part in a handshake: whole messages in, whole messages out.
pub trait Handshake {
    /// How its messages are framed.
    type Framing: Framing + Default;

    /// The longest message of the other end, in bytes.
    const MESSAGE_MAX: usize;

    /// The message with which this end begins, if it does.
    fn opening(&mut self) -> Option<Vec<u8>>;

    /// Notes the session of TLS that it goes through, before the first message is taken.
    fn bind(&mut self, session: Secured) {
        let _ = session;
    }

    /// Takes a message of the other end.
    fn answer(&mut self, message: &[u8]) -> Answer;

    /// The other end has been let in, and knows it. Nobody else's handshake goes on meanwhile.
    fn admitted(&mut self) {}
}

/// A session of TLS in which both ends have the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secured {
    /// A number that only the two ends know, and that no other session has.
    pub binding: [u8; 32],
    /// Why the other end's certificate does not let it in, if it does not.
    pub objection: Option<String>,
}

/// What follows a message of the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This message, and then it is the other end's turn.
    Next(Vec<u8>),
    /// The other end has proved itself. A last message may have to be sent.
    Accept(Option<Vec<u8>>),
    /// It has not, and the connection is to be closed.
    Refuse {
        /// What the other end is told, message by message.
        farewell: Vec<Vec<u8>>,
        /// What this end's user is told.
        reason: String,
    },
}
