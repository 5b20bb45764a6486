//! The methods that send and receive descriptors along with a message.

macro_rules! descriptor_sending_methods {
    () => {
        /// Sends a value, and open files, sockets or other descriptors with it: the other end
        /// receives copies of them, with `recv_with_descriptors`. At most 16 go with one message, and
        /// over a Unix socket only.
        ///
        /// A duct can be sent too. One that this process does not go on with is given up first, by
        /// [`into_descriptor`](Duct::into_descriptor), so that it says no farewell.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send), and [`ErrorKind::InvalidInput`] where there are too many, or
        /// the connection, the protocol or the other end cannot take any; then nothing was sent.
        ///
        /// ```
        /// use ductworks::Duct;
        /// use std::fs::File;
        ///
        /// let (parent, child) = ductworks::pair()?;
        /// let (ours, theirs) = ductworks::pair()?;
        /// # let path = std::env::current_exe()?;
        /// let file = File::open(path)?;
        /// parent.send_with_descriptors("file, duct", &[file.into(), theirs.into_descriptor()?])?;
        ///
        /// let (names, descriptors) = child.recv_with_descriptors::<String>()?;
        /// let [file, duct] = descriptors.try_into().expect("two came");
        /// let (file, duct) = (File::from(file), Duct::try_from(duct)?);
        /// ours.send("past the parent")?;
        /// assert_eq!(duct.recv::<String>()?, "past the parent");
        /// # assert_eq!(names, "file, duct"); assert!(file.metadata()?.is_file());
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn send_with_descriptors<T: ?Sized>(
            &self,
            value: &T,
            descriptors: &[impl AsFd],
        ) -> Result<()>
        where
            C: Encode<T>,
        {
            let deadline = Deadline::Never;
            self.core
                .send_with(&self.codec, value, descriptors, deadline)
        }

        /// Sends a value with descriptors if that can begin at once.
        ///
        /// # Errors
        ///
        /// As for [`send_with_descriptors`](Self::send_with_descriptors), and
        /// [`ErrorKind::WouldBlock`] if not a byte could be sent.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.try_send_with_descriptors("standard input", &[std::io::stdin()])?;
        /// # assert_eq!(b.recv_with_descriptors::<String>()?.1.len(), 1);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_send_with_descriptors<T: ?Sized>(
            &self,
            value: &T,
            descriptors: &[impl AsFd],
        ) -> Result<()>
        where
            C: Encode<T>,
        {
            let deadline = Deadline::Now;
            self.core
                .send_with(&self.codec, value, descriptors, deadline)
        }

        /// Sends a value with descriptors, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`send_with_descriptors`](Self::send_with_descriptors), and
        /// [`ErrorKind::TimedOut`] if not a byte could be sent.
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// let second = Duration::from_secs(1);
        /// a.send_with_descriptors_timeout("standard input", &[std::io::stdin()], second)?;
        /// # assert_eq!(b.recv_with_descriptors::<String>()?.1.len(), 1);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_with_descriptors_timeout<T: ?Sized>(
            &self,
            value: &T,
            descriptors: &[impl AsFd],
            timeout: Duration,
        ) -> Result<()>
        where
            C: Encode<T>,
        {
            let deadline = Deadline::after(timeout);
            self.core
                .send_with(&self.codec, value, descriptors, deadline)
        }
    };
}

macro_rules! descriptor_receiving_methods {
    () => {
        /// Receives a value, and the descriptors that were sent with it, if any were. They are
        /// close-on-exec. Every other way to receive closes them.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv). [`ErrorKind::Io`] also where this process has no room for the
        /// descriptors: then the message is lost, and the duct stays usable.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send("nothing comes with it")?;
        /// let (text, descriptors) = b.recv_with_descriptors::<String>()?;
        /// assert!(descriptors.is_empty());
        /// # assert_eq!(text, "nothing comes with it");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_with_descriptors<T>(&self) -> Result<(T, Vec<OwnedFd>)>
        where
            C: Decode<T>,
        {
            self.core.recv_with(&self.codec, Deadline::Never)
        }

        /// Receives a value and its descriptors if a whole message is there.
        ///
        /// # Errors
        ///
        /// As for [`recv_with_descriptors`](Self::recv_with_descriptors), and
        /// [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # use ductworks::ErrorKind;
        /// # let (_a, b) = ductworks::pair()?;
        /// let error = b.try_recv_with_descriptors::<u8>().unwrap_err();
        /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv_with_descriptors<T>(&self) -> Result<(T, Vec<OwnedFd>)>
        where
            C: Decode<T>,
        {
            self.core.recv_with(&self.codec, Deadline::Now)
        }

        /// Receives a value and its descriptors, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv_with_descriptors`](Self::recv_with_descriptors), and
        /// [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_with_descriptors(&1, &[std::io::stdin()])?;
        /// let second = Duration::from_secs(1);
        /// let (number, descriptors) = b.recv_with_descriptors_timeout::<u8>(second)?;
        /// assert_eq!((number, descriptors.len()), (1, 1));
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_with_descriptors_timeout<T>(
            &self,
            timeout: Duration,
        ) -> Result<(T, Vec<OwnedFd>)>
        where
            C: Decode<T>,
        {
            self.core.recv_with(&self.codec, Deadline::after(timeout))
        }
    };
}

pub(super) use {descriptor_receiving_methods, descriptor_sending_methods};
