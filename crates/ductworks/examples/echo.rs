//! A worker that sends every message back as it is, until the other end closes.
//!
//! It is started by another process, in whatever language, which listens at the address that it
//! gives as the argument: `unix:PATH`, `tcp:HOST:PORT`, `tcp:[IPV6]:PORT`, or an absolute path. At TCP
//! addresses it speaks version 1 of the protocol, as the original library does. Without an argument, it
//! connects with the ticket in the environment variable `DUCT`.

use std::process::ExitCode;

use ductworks::{ConnectOptions, Duct, ErrorKind, Result};

fn main() -> ExitCode {
    let connected = match (std::env::args().nth(1), std::env::var("DUCT")) {
        (Some(address), _) => ConnectOptions::new().v1(true).connect(address),
        (None, Ok(ticket)) => ductworks::connect(ticket),
        (None, Err(_)) => {
            eprintln!("usage: echo ADDRESS (unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)");
            return ExitCode::FAILURE;
        }
    };
    match connected.and_then(|duct| echo(&duct)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo(duct: &Duct) -> Result<()> {
    loop {
        match duct.recv_bytes() {
            Ok(message) => duct.send_bytes(&message)?,
            Err(end) if end.kind() == ErrorKind::Disconnected => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
