//! What stands in for TLS where the crate is built without it: nothing can be of these types.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::gate::Interest;
use crate::wire::Secured;

/// The TLS of one connection.
#[derive(Debug)]
pub enum Session {}

#[derive(Debug)]
#[expect(
    dead_code,
    reason = "the other variant of this type is not there either"
)]
pub(crate) enum Progress {
    Done(Secured),
    Needs(Interest),
}

impl Session {
    pub(crate) fn establish(&self, _: BorrowedFd<'_>) -> Result<Progress> {
        match *self {}
    }

    pub(crate) fn admit(&self) {
        match *self {}
    }

    pub(crate) fn is_here(&self) -> bool {
        match *self {}
    }

    pub(crate) fn read(&self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn read_uninit<'a>(
        &self,
        _: BorrowedFd<'_>,
        _: &'a mut [MaybeUninit<u8>],
    ) -> io::Result<&'a mut [u8]> {
        match *self {}
    }

    pub(crate) fn peek(&self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn available(&self) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write(&self, _: BorrowedFd<'_>, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn flush(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn finish(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }
}
