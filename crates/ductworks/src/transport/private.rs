//! Fresh private places in the file system for a socket's name.

use std::ffi::OsStr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::V2_SUFFIX;
use crate::address::UNIX_PATH_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::process;

/// Every private directory's name begins so; what is left of a killed process is found by it.
const PREFIX: &str = "ductworks-";

/// The socket's name in its directory.
const SOCKET: &str = "duct";

/// All names that may lie in the directory, in the order of their removal.
const NAMES: [&str; 2] = [SOCKET, "duct.v2"];

/// Random bytes in a directory's name. The name is no secret, for the directory is closed to
/// others; it only has to be fresh.
const RANDOM_BYTES: usize = 12;

/// A path for a socket, in a directory of its own that nobody else can enter.
///
/// The path is chosen at once and the directory is made by [`create`](Self::create). It lies under
/// `XDG_RUNTIME_DIR` where that is absolute, no link, owned by this user and closed to others
/// (the XDG base directory specification), else in the temporary directory; where one of these is
/// too long for a socket's path, under `/tmp`.
///
/// ```
/// let place = ductworks::engine::PrivatePath::choose()?;
/// place.create()?;
/// let directory = place.path().parent().expect("it lies in a directory of its own");
/// assert!(directory.is_dir());
/// place.remove();
/// assert!(!directory.exists());
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Debug)]
pub struct PrivatePath {
    path: PathBuf,
    /// The process that has made the directory, or zero.
    creator: AtomicU32,
}

impl PrivatePath {
    /// Chooses a path at random.
    ///
    /// # Errors
    ///
    /// `InvalidAddress` if every directory that could hold it is too long, `Io` if the system gives
    /// no random bytes.
    pub fn choose() -> Result<Self> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)
            .map_err(|e| Error::os("get random bytes", io::Error::other(e)))?;
        let mut name = String::from(PREFIX);
        for byte in random {
            name.push_str(&format!("{byte:02x}"));
        }
        let temporary = env::temp_dir();
        let bases = [runtime_dir(), Some(temporary), Some("/tmp".into())];
        bases
            .into_iter()
            .flatten()
            .map(|base| base.join(&name).join(SOCKET))
            .find(|path| {
                path.is_absolute() && path.as_os_str().len() + V2_SUFFIX.len() <= UNIX_PATH_MAX
            })
            .map(|path| Self {
                path,
                creator: AtomicU32::new(0),
            })
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidAddress,
                    format!(
                        "no temporary directory is short enough for a socket's path, which \
                             has at most {UNIX_PATH_MAX} bytes; set TMPDIR to a shorter one"
                    ),
                )
            })
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, with mode 0700, and clears away what killed processes of this user have
    /// left beside it.
    ///
    /// # Errors
    ///
    /// `Io`, also if the directory exists.
    pub fn create(&self) -> Result<()> {
        let directory = self.directory();
        if let Some(base) = directory.parent() {
            clear_leftovers(base);
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(directory)
            .map_err(|e| {
                Error::os(
                    format_args!("make the directory {}", directory.display()),
                    e,
                )
            })?;
        self.creator.store(process::id(), Ordering::SeqCst);
        Ok(())
    }

    /// Removes the socket and the directory, in the process that chose the path; does nothing in a
    /// forked child.
    pub fn remove(&self) {
        if self.creator.load(Ordering::SeqCst) == process::id() {
            // Either may be gone already, and there is nobody to tell.
            for name in NAMES {
                let _ = fs::remove_file(self.directory().join(name));
            }
            let _ = fs::remove_dir(self.directory());
        }
    }

    fn directory(&self) -> &Path {
        // The path was made of a directory and a name.
        self.path.parent().unwrap_or(&self.path)
    }
}

impl Drop for PrivatePath {
    fn drop(&mut self) {
        self.remove();
    }
}

/// `XDG_RUNTIME_DIR`, if it can be trusted.
fn runtime_dir() -> Option<PathBuf> {
    // Without the slash that may stand at its end: with it, a link would be followed.
    let path: PathBuf = Path::new(&env::var_os("XDG_RUNTIME_DIR")?)
        .components()
        .collect();
    let facts = fs::symlink_metadata(&path).ok()?;
    let trusted = path.is_absolute()
        && facts.is_dir()
        && facts.uid() == rustix::process::geteuid().as_raw()
        && facts.mode() & 0o777 == 0o700;
    trusted.then_some(path)
}

/// Removes the private directories in `base` whose processes are gone. Once a process and base, for
/// it reads the whole of what may be a large directory.
fn clear_leftovers(base: &Path) {
    static CLEARED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let Ok(mut cleared) = CLEARED.lock() else {
        return;
    };
    if cleared.iter().any(|done| done == base) {
        return;
    }
    cleared.push(base.to_owned());
    drop(cleared);
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        if is_ours_by_name(&entry.file_name()) {
            // Somebody else may be clearing it away too.
            let _ = clear_if_dead(&entry.path());
        }
    }
}

fn is_ours_by_name(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix(PREFIX))
        .is_some_and(|rest| {
            rest.len() == 2 * RANDOM_BYTES && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

fn clear_if_dead(directory: &Path) -> rustix::io::Result<()> {
    // Everything goes through one descriptor, so that no swapped link can lead elsewhere.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    let facts = rustix::fs::fstat(&opened)?;
    if facts.st_uid != rustix::process::geteuid().as_raw() || facts.st_mode & 0o777 != 0o700 {
        return Ok(());
    }
    // An empty one is abandoned, or somebody is just about to bind, who then makes another.
    let bound = NAMES.map(|name| (name, is_bound(&directory.join(name))));
    if bound.iter().any(|(_, bound)| *bound == Some(true)) {
        return Ok(());
    }
    for (name, _) in bound.iter().filter(|(_, bound)| bound.is_some()) {
        rustix::fs::unlinkat(&opened, *name, AtFlags::empty())?;
    }
    rustix::fs::rmdir(directory)
}

/// Whether a socket is bound to the path, or nothing if there is none.
///
/// A datagram socket cannot connect to a stream socket, and the kernel's refusal tells without
/// disturbing the listener: `EPROTOTYPE` if a socket is bound there, `ECONNREFUSED` if only its name
/// is left (`unix_find_bsd` in `net/unix/af_unix.c`).
pub(super) fn is_bound(path: &Path) -> Option<bool> {
    let address = SocketAddrUnix::new(path).ok()?;
    let probe = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let Ok(probe) = probe else {
        return Some(true);
    };
    match rustix::net::connect(&probe, &address) {
        Err(Errno::NOENT) => None,
        Err(Errno::CONNREFUSED) => Some(false),
        _ => Some(true),
    }
}
