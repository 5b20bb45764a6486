//! A parent that starts a child process and exchanges typed messages with it, over a private Unix
//! address and over TCP.
//!
//! `cargo run --example parent`

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::Duration;

use ductworks::{ErrorKind, Parent};
use serde::{Deserialize, Serialize};

/// The environment variable with the child's ticket. This program is its own child: with the variable it
/// is the child, without it the parent.
const TICKET: &str = "PARENT_EXAMPLE_TICKET";

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Sum(Vec<i64>),
    Shout { text: String },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Number(i64),
    Text(String),
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::var(TICKET) {
        Ok(ticket) => child(&ticket),
        Err(_) => {
            parent(Parent::bind()?)?;
            parent(Parent::bind_to("tcp:127.0.0.1:0")?)
        }
    }
}

fn parent(parent: Parent) -> Result<(), Box<dyn Error>> {
    println!("listening at {}", parent.address());
    let mut process = Command::new(env::current_exe()?)
        .env(TICKET, parent.ticket().to_string())
        .spawn()?;
    let duct = parent.listen(Duration::from_secs(60))?;
    println!("process {} has connected", process.id());

    for request in [
        Request::Sum(vec![1, 2, 39]),
        Request::Shout {
            text: "hello".into(),
        },
    ] {
        duct.send(&request)?;
        let answer: Answer = duct.recv()?;
        println!("{request:?} -> {answer:?}");
    }

    // The child ends when it sees that this end is closed.
    drop(duct);
    let status = process.wait()?;
    println!("the child has ended: {status}\n");
    if status.success() {
        Ok(())
    } else {
        Err("the child failed".into())
    }
}

fn child(ticket: &str) -> Result<(), Box<dyn Error>> {
    let duct = ductworks::connect(ticket)?;
    loop {
        let request = match duct.recv() {
            Ok(request) => request,
            Err(end) if end.kind() == ErrorKind::Disconnected => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        duct.send(&match request {
            Request::Sum(numbers) => Answer::Number(numbers.iter().sum()),
            Request::Shout { text } => Answer::Text(text.to_uppercase()),
        })?;
    }
}
