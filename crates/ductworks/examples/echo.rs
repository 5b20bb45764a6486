//! A worker that sends every message back as it is, until the other end closes.
//!
//! It is started by another process, in whatever language, which listens at the address that it
//! gives as the argument: `unix:PATH`, `tcp:HOST:PORT`, `tcp:[IPV6]:PORT`, or an absolute path.

use std::process::ExitCode;

use ductworks::{ErrorKind, Result};

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: echo ADDRESS (unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)");
        return ExitCode::FAILURE;
    };
    match echo(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo(address: &str) -> Result<()> {
    let duct = ductworks::connect(address)?;
    loop {
        match duct.recv_bytes() {
            Ok(message) => duct.send_bytes(&message)?,
            Err(end) if end.kind() == ErrorKind::Disconnected => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
