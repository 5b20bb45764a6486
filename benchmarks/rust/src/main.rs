//! Measures `ductworks` beside a bare length-prefixed Unix stream and `ipc-channel`.
//!
//! One parent and one exec'd child a peer: the program runs itself again with the argument `child`.
//! The same work is done for each peer, in rounds that take turns; the median round counts.
//!
//! ```text
//! ductworks-bench [--rounds 5] [--round-seconds 0.4] [--json]
//!                 [--peers NAME,...] [--messages json,64,...] [--cores PARENT,CHILD]
//! ```

mod meetings;
mod message;
mod peers;
mod report;
mod rounds;
mod worker;

use std::process::ExitCode;

use message::Case;
use peers::Peer;

/// Errors end the program with their text, so one type for all of them will do.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((role, rest)) if role == "child" => worker::run_child(rest),
        _ => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ductworks-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if let Some((parent, _)) = options.cores {
        worker::stay_on(parent)?;
    }
    let meetings = meetings::measure(&options)?;
    let measurements = rounds::measure_all(&options)?;
    if options.json {
        println!("{}", report::json(&measurements, &meetings));
    } else {
        print!("{}", report::table(&measurements));
    }
    Ok(())
}

/// What the command line asks for.
struct Options {
    rounds: usize,
    round_seconds: f64,
    peers: Vec<Peer>,
    messages: Vec<Case>,
    /// The processor cores of the parent and the child; without, the system chooses.
    cores: Option<(usize, usize)>,
    json: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Options {
            rounds: 5,
            round_seconds: 0.4,
            peers: Peer::ALL.to_vec(),
            messages: Case::ALL.to_vec(),
            cores: None,
            json: false,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--round-seconds" => options.round_seconds = value()?.parse()?,
                "--peers" => {
                    options.peers = value()?
                        .split(',')
                        .map(Peer::from_name)
                        .collect::<Result<_>>()?;
                }
                "--messages" => {
                    options.messages = value()?
                        .split(',')
                        .map(Case::from_name)
                        .collect::<Result<_>>()?;
                }
                "--cores" => {
                    let (parent, child) = value()?.split_once(',').ok_or("two cores are needed")?;
                    options.cores = Some((parent.parse()?, child.parse()?));
                }
                "--json" => options.json = true,
                _ => return Err(format!("unknown argument {name}").into()),
            }
        }
        Ok(options)
    }
}
