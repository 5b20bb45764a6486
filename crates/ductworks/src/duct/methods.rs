//! The methods that a duct and its halves have alike, each written once.

macro_rules! common_methods {
    () => {
        /// Closes this end, and the other half of it if there is one. Whoever waits in it, and
        /// every later call, fails with [`ErrorKind::Closed`]; the other end is told farewell, and
        /// sees the end of the messages. Closing again does nothing.
        ///
        /// It does not wait for the other end to read. Over TCP it takes up to a second where the
        /// other end goes on sending, until what was sent here is with the other host. A copy of this
        /// end in a forked process is not disturbed.
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// let a = std::sync::Arc::new(a);
        /// let waiting = std::thread::spawn({
        ///     let a = a.clone();
        ///     move || a.recv_bytes().unwrap_err().kind()
        /// });
        /// a.close();
        /// assert_eq!(waiting.join().expect("no panic"), ErrorKind::Closed);
        /// assert_eq!(b.recv_bytes().unwrap_err().kind(), ErrorKind::Disconnected);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn close(&self) {
            self.core.close();
        }

        /// Whether this end has been closed, by [`close`](Self::close) or because the other end
        /// broke the protocol.
        ///
        /// ```
        /// # let (a, _b) = ductworks::pair()?;
        /// assert!(!a.is_closed());
        /// a.close();
        /// assert!(a.is_closed());
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        #[must_use]
        pub fn is_closed(&self) -> bool {
            self.core.channel.is_closed()
        }

        /// What has gone through the duct, counted in this process.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"five!")?;
        /// assert_eq!(a.stats().sent.largest, 5);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        #[must_use]
        pub fn stats(&self) -> Stats {
            self.core.channel.stats()
        }

        /// The largest message, in bytes, that may be sent or received: 64 MiB unless
        /// [set](Self::set_message_limit).
        ///
        /// ```
        /// # let (a, _b) = ductworks::pair()?;
        /// assert_eq!(a.message_limit(), 64 * 1024 * 1024);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        #[must_use]
        pub fn message_limit(&self) -> usize {
            self.core.channel.message_limit()
        }

        /// Sets the largest message, in bytes, that may be sent or received. A larger one to send
        /// fails and leaves the duct usable; a larger one to receive closes it. What the two ends
        /// have agreed on is a limit for sending in any case, and version 1 has one of its own,
        /// `u32::MAX`.
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, _b) = ductworks::pair()?;
        /// a.set_message_limit(4);
        /// assert_eq!(a.send_bytes(b"12345").unwrap_err().kind(), ErrorKind::TooLarge);
        /// a.send_bytes(b"1234")?;
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn set_message_limit(&self, bytes: usize) {
            self.core.channel.set_message_limit(bytes);
        }

        /// Has the duct notice within `patience`, and a second, that the other host or the network to
        /// it is gone: at least a second; whoever waits then sees the other end as
        /// [dead](ErrorKind::PeerDied). One that is slow, or does not read, is not. While something
        /// that was sent waits for an answer, only calls that wait notice.
        ///
        /// `None`, which is the default, leaves it to the system, and may take hours. It concerns
        /// TCP only, with TLS or without: on one host a death is noticed at once.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::InvalidInput`] if the time is shorter than a second; [`ErrorKind::Io`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let listener = ductworks::Listener::bind("tcp:127.0.0.1:0")?;
        /// # let ticket = listener.ticket();
        /// # let child = std::thread::spawn(move || ductworks::connect(ticket));
        /// let duct = listener.accept()?;
        /// duct.set_keepalive(Some(Duration::from_secs(10)))?;
        /// # child.join().expect("no panic")?;
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn set_keepalive(&self, patience: Option<Duration>) -> Result<()> {
            self.core.set_keepalive(patience)
        }
    };
}

macro_rules! sending_methods {
    () => {
        /// Sends a value, waiting until the system has taken all of it.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Encode`] and [`ErrorKind::TooLarge`], after which the duct is as before;
        /// [`ErrorKind::Disconnected`] if the other end is gone, though what it sent can still be
        /// received; [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send(&vec![1, 2, 3])?;
        /// assert_eq!(b.recv::<Vec<u8>>()?, [1, 2, 3]);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send<T: ?Sized>(&self, value: &T) -> Result<()>
        where
            C: Encode<T>,
        {
            self.core.send(&self.codec, value, Deadline::Never)
        }

        /// Sends a value if that can begin at once.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send), and [`ErrorKind::WouldBlock`] if not a byte could be sent.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.try_send("no waiting")?;
        /// # assert_eq!(b.recv::<String>()?, "no waiting");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_send<T: ?Sized>(&self, value: &T) -> Result<()>
        where
            C: Encode<T>,
        {
            self.core.send(&self.codec, value, Deadline::Now)
        }

        /// Sends a value, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send), and [`ErrorKind::TimedOut`] if not a byte could be sent.
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_timeout("a second at most", Duration::from_secs(1))?;
        /// # assert_eq!(b.recv::<String>()?, "a second at most");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_timeout<T: ?Sized>(&self, value: &T, timeout: Duration) -> Result<()>
        where
            C: Encode<T>,
        {
            self.core.send(&self.codec, value, Deadline::after(timeout))
        }

        /// Sends bytes as they are, past the codec, waiting until the system has taken all of them.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send).
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"\x00\xff")?;
        /// a.send_bytes(b"")?; // an empty message is one
        /// assert_eq!(b.recv_bytes()?, b"\x00\xff");
        /// assert_eq!(b.recv_bytes()?, b"");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_bytes(&self, message: &[u8]) -> Result<()> {
            self.core.send_bytes(message, Deadline::Never)
        }

        /// Sends bytes if that can begin at once.
        ///
        /// # Errors
        ///
        /// As for [`try_send`](Self::try_send).
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// let mut sent = 0;
        /// let full = loop {
        ///     match a.try_send_bytes(&[0; 4096]) {
        ///         Ok(()) => sent += 1,
        ///         Err(error) => break error,
        ///     }
        /// };
        /// assert_eq!(full.kind(), ErrorKind::WouldBlock);
        /// for _ in 0..sent {
        ///     assert_eq!(b.recv_bytes()?.len(), 4096);
        /// # a.flush(std::time::Duration::ZERO).ok();
        /// }
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_send_bytes(&self, message: &[u8]) -> Result<()> {
            self.core.send_bytes(message, Deadline::Now)
        }

        /// Sends bytes, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`send_timeout`](Self::send_timeout).
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes_timeout(b"soon", Duration::from_millis(100))?;
        /// # assert_eq!(b.recv_bytes()?, b"soon");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_bytes_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
            self.core.send_bytes(message, Deadline::after(timeout))
        }

        /// Waits for `timeout` at most until nothing is left of a message whose sending a deadline
        /// ended. Any other call on the duct pushes such a rest out as well, as far as it can.
        ///
        /// # Errors
        ///
        /// As for [`send_timeout`](Self::send_timeout).
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// let large = vec![7; 10 << 20];
        /// a.try_send_bytes(&large)?; // accepted, and partly on its way
        /// let reader = std::thread::spawn(move || b.recv_bytes());
        /// a.flush(Duration::from_secs(60))?;
        /// assert_eq!(reader.join().expect("no panic")?, large);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn flush(&self, timeout: Duration) -> Result<()> {
            let wait = &mut Wait::until(Deadline::after(timeout));
            self.core.channel.flush(&self.core.stream(), wait)
        }

        /// Ends the direction in which this end sends, once everything accepted has gone out. The
        /// other end receives all of it, and then the end; this end can still receive. Doing it
        /// again does nothing. Where this end has copies in forked processes, it is over for them
        /// as well.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Disconnected`] if the other end is gone; [`ErrorKind::Closed`],
        /// [`ErrorKind::Forked`], [`ErrorKind::Io`]. A later send fails with
        /// [`ErrorKind::Closed`].
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send("the last question")?;
        /// a.finish()?;
        ///
        /// let mut questions = 0;
        /// while b.recv::<String>().is_ok() {
        ///     questions += 1;
        /// }
        /// b.send(&questions)?;
        /// assert_eq!(a.recv::<u32>()?, 1);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn finish(&self) -> Result<()> {
            self.core.finish(Deadline::Never)
        }

        /// Finishes as [`finish`](Self::finish) does, and waits for `timeout` at most. After a timeout,
        /// finish again, or close.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::TimedOut`], and those of [`finish`](Self::finish).
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send("the last word")?;
        /// a.finish_timeout(Duration::from_secs(1))?;
        /// assert_eq!(b.recv::<String>()?, "the last word");
        /// assert_eq!(b.recv_bytes().unwrap_err().kind(), ErrorKind::Disconnected);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn finish_timeout(&self, timeout: Duration) -> Result<()> {
            self.core.finish(Deadline::after(timeout))
        }

        /// Waits for `timeout` at most until the other end has received every message that was sent
        /// before. What it does with them is not known, only that no crash of this process can lose
        /// them any more.
        ///
        /// Messages in the other direction are not received here meanwhile. Where some may stand in
        /// front of the answer, another thread has to receive them. An end that has
        /// [finished](Self::finish) sending cannot answer: what it receives after that nobody is told.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Undrained`] if the time is up or the other end is gone, with the
        /// [number](crate::Error::unreceived) of messages that it may not have received;
        /// [`ErrorKind::InvalidInput`] where the other end speaks version 1 of the protocol, which
        /// has no word for this; [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// let reader = std::thread::spawn(move || while b.recv::<u32>().is_ok() {});
        /// for number in 0..10 {
        ///     a.send(&number)?;
        /// }
        /// a.drain(Duration::from_secs(10))?; // all ten have been received
        /// # drop(a);
        /// # reader.join().expect("no panic");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn drain(&self, timeout: Duration) -> Result<()> {
            self.core.drain(timeout)
        }
    };
}

macro_rules! receiving_methods {
    () => {
        /// Receives a value, waiting for as long as it takes.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Disconnected`], [`ErrorKind::PeerDied`], [`ErrorKind::Reset`] or
        /// [`ErrorKind::Truncated`] at the end; [`ErrorKind::Decode`] if the message, which is consumed, is no `T`;
        /// [`ErrorKind::TooLarge`] or [`ErrorKind::Protocol`], which close the duct;
        /// [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send(&("point", 1.5, 2.5))?;
        /// let (name, x, y): (String, f64, f64) = b.recv()?;
        /// # assert_eq!((name.as_str(), x, y), ("point", 1.5, 2.5));
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv<T>(&self) -> Result<T>
        where
            C: Decode<T>,
        {
            self.core.recv(&self.codec, Deadline::Never)
        }

        /// Receives a value if a whole message is there.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv), and [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// assert_eq!(b.try_recv::<u8>().unwrap_err().kind(), ErrorKind::WouldBlock);
        /// a.send(&1)?;
        /// assert_eq!(b.try_recv::<u8>()?, 1);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv<T>(&self) -> Result<T>
        where
            C: Decode<T>,
        {
            self.core.recv(&self.codec, Deadline::Now)
        }

        /// Receives a value, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv), and [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use ductworks::ErrorKind;
        /// # let (_a, b) = ductworks::pair()?;
        /// let error = b.recv_timeout::<u8>(Duration::from_millis(1)).unwrap_err();
        /// assert_eq!(error.kind(), ErrorKind::TimedOut);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_timeout<T>(&self, timeout: Duration) -> Result<T>
        where
            C: Decode<T>,
        {
            self.core.recv(&self.codec, Deadline::after(timeout))
        }

        /// Receives a message as it is, past the codec, waiting for as long as it takes.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv), without `Decode`.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send(&[1, 2])?;
        /// assert_eq!(b.recv_bytes()?, b"[1,2]");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_bytes(&self) -> Result<Vec<u8>> {
            self.core.recv_bytes(Deadline::Never)
        }

        /// Receives a message as it is if a whole one is there.
        ///
        /// # Errors
        ///
        /// As for [`recv_bytes`](Self::recv_bytes), and [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"here")?;
        /// assert_eq!(b.try_recv_bytes()?, b"here");
        /// assert!(b.try_recv_bytes().is_err());
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv_bytes(&self) -> Result<Vec<u8>> {
            self.core.recv_bytes(Deadline::Now)
        }

        /// Receives a message as it is, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv_bytes`](Self::recv_bytes), and [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"soon")?;
        /// assert_eq!(b.recv_bytes_timeout(Duration::from_secs(1))?, b"soon");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
            self.core.recv_bytes(Deadline::after(timeout))
        }

        /// Receives a message into the beginning of `place`, without a copy in between, and returns
        /// its length in bytes.
        ///
        /// # Errors
        ///
        /// As for [`recv_bytes`](Self::recv_bytes), and [`ErrorKind::BufferTooSmall`], which leaves
        /// the message there for a call with more room.
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"hello")?;
        /// let mut place = [0; 16];
        /// assert_eq!(b.recv_into(&mut place[..2]).unwrap_err().kind(), ErrorKind::BufferTooSmall);
        /// let len = b.recv_into(&mut place)?;
        /// assert_eq!(&place[..len], b"hello");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_into(&self, place: &mut [u8]) -> Result<usize> {
            self.core.recv_into(place, Deadline::Never)
        }

        /// Receives a message into `place` if a whole one is there.
        ///
        /// # Errors
        ///
        /// As for [`recv_into`](Self::recv_into), and [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"here")?;
        /// assert_eq!(b.try_recv_into(&mut [0; 8])?, 4);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv_into(&self, place: &mut [u8]) -> Result<usize> {
            self.core.recv_into(place, Deadline::Now)
        }

        /// Receives a message into `place`, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv_into`](Self::recv_into), and [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"soon")?;
        /// assert_eq!(b.recv_into_timeout(&mut [0; 8], Duration::from_secs(1))?, 4);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_into_timeout(&self, place: &mut [u8], timeout: Duration) -> Result<usize> {
            self.core.recv_into(place, Deadline::after(timeout))
        }

        /// Waits for `timeout` at most until a receive would return at once, with a whole message
        /// or with an error.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// assert!(!b.poll(Duration::ZERO)?);
        /// a.send(&1)?;
        /// assert!(b.poll(Duration::from_secs(1))?);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn poll(&self, timeout: Duration) -> Result<bool> {
            self.core.poll(timeout)
        }
    };
}

pub(super) use {common_methods, receiving_methods, sending_methods};
