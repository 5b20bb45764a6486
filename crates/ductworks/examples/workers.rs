//! A pool of worker processes that connect to one listener and are given jobs as they become free.
//!
//! `cargo run --example workers`

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ductworks::{Duct, ErrorKind, ListenOptions};

/// A worker's ticket. Without it, this program is the one that hands out the jobs.
const TICKET: &str = "WORKERS_EXAMPLE_TICKET";

const WORKERS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    match env::var(TICKET) {
        Ok(ticket) => worker(&ticket),
        Err(_) => manager(),
    }
}

fn manager() -> Result<(), Box<dyn Error>> {
    let listener = ListenOptions::new().reusable(true).bind_private()?;
    println!("listening at {}", listener.address());
    let start = |_| {
        Command::new(env::current_exe()?)
            .env(TICKET, listener.ticket().to_string())
            .spawn()
    };
    let processes = (0..WORKERS).map(start).collect::<Result<Vec<Child>, _>>()?;

    // Every duct has a thread here, and each takes the next job that is left.
    let jobs = Mutex::new(1_000_000..1_000_012);
    thread::scope(|scope| {
        let serve = |_| {
            let duct = listener.accept_timeout(Duration::from_secs(60))?;
            Ok(scope.spawn(|| serve(duct, &jobs)))
        };
        let served = (0..WORKERS)
            .map(serve)
            .collect::<ductworks::Result<Vec<_>>>()?;
        served
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a thread panicked"))
    })?;

    for mut process in processes {
        let status = process.wait()?;
        println!("worker {} has ended: {status}", process.id());
    }
    Ok(())
}

fn serve(duct: Duct, jobs: &Mutex<impl Iterator<Item = u64>>) -> ductworks::Result<()> {
    let worker: u32 = duct.recv()?;
    loop {
        // The lock is held for the choice alone, not for the work.
        let job = jobs.lock().expect("nobody panics with the lock").next();
        let Some(number) = job else {
            return Ok(()); // The duct is dropped, which is what ends the worker.
        };
        duct.send(&number)?;
        let factors: Vec<u64> = duct.recv()?;
        println!("worker {worker}: {number} = {factors:?}");
    }
}

fn worker(ticket: &str) -> Result<(), Box<dyn Error>> {
    let duct = ductworks::connect(ticket)?;
    duct.send(&std::process::id())?;
    loop {
        match duct.recv() {
            Ok(number) => duct.send(&factors(number))?,
            Err(end) if end.kind() == ErrorKind::Disconnected => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn factors(mut number: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut divisor = 2;
    while divisor * divisor <= number {
        while number.is_multiple_of(divisor) {
            found.push(divisor);
            number /= divisor;
        }
        divisor += 1;
    }
    if number > 1 {
        found.push(number);
    }
    found
}
