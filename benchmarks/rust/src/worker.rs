//! Both ends of a measured connection, and how the parent tells the child what comes.
//!
//! Orders go to the child's stdin and its answer comes from its stdout, so that nothing but the
//! measured messages travels on the connection. The end of its stdin ends the child.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;
use crate::message::{Case, Message};
use crate::peers::{Link, Peer};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Workload {
    /// The parent sends, the child receives all and then acknowledges.
    Stream,
    /// The child sends back each message that it receives.
    RoundTrip,
}

impl Workload {
    pub(crate) const ALL: [Workload; 2] = [Workload::Stream, Workload::RoundTrip];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Stream => "stream",
            Workload::RoundTrip => "roundtrip",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        let workload = Workload::ALL
            .into_iter()
            .find(|workload| workload.name() == name);
        workload.ok_or_else(|| format!("unknown workload {name}").into())
    }
}

/// A connected child, and this process as its parent.
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    case: Case,
    workload: Workload,
    link: Box<dyn Link>,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Pair {
    /// Starts a child, which stays on the core `core` if one is given.
    pub(crate) fn start(
        peer: Peer,
        case: Case,
        workload: Workload,
        core: Option<usize>,
    ) -> Result<Self> {
        let listening = peer.listen(case)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["child", peer.name(), &case.name(), workload.name()])
            .arg(listening.address())
            .args(core.map(|core| core.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let link = listening.accept()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the child has no stdout")?);
        Ok(Pair {
            peer,
            case,
            workload,
            link,
            orders,
            answers,
            child,
        })
    }

    /// Lets `count` messages pass and returns the seconds that this took.
    pub(crate) fn round(&mut self, count: u64) -> Result<f64> {
        let orders = self.orders.as_mut().ok_or("the child has no stdin")?;
        writeln!(orders, "{count}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer != "ready\n" {
            return Err(format!("the child of peer {} ended early", self.peer.name()).into());
        }
        let message = self.case.message();
        match self.workload {
            Workload::Stream => {
                let expected = self.case.acknowledgement();
                let mut place = expected.blank();
                let begin = Instant::now();
                for _ in 0..count {
                    self.link.send(&message)?;
                }
                self.link.recv(&mut place)?;
                let seconds = begin.elapsed().as_secs_f64();
                check_equal(&place, &expected)?;
                Ok(seconds)
            }
            Workload::RoundTrip => {
                let mut place = message.blank();
                let begin = Instant::now();
                for _ in 0..count {
                    self.link.send(&message)?;
                    self.link.recv(&mut place)?;
                }
                let seconds = begin.elapsed().as_secs_f64();
                check_equal(&place, &message)?;
                Ok(seconds)
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// Keeps this process on a core.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// The child's side: `child PEER CASE WORKLOAD ADDRESS [CORE]`.
pub(crate) fn run_child(arguments: &[String]) -> Result<()> {
    let [peer, case, workload, address, core @ ..] = arguments else {
        return Err("child needs a peer, a case, a workload and an address".into());
    };
    if let Some(core) = core.first() {
        stay_on(core.parse()?)?;
    }
    let case = Case::from_name(case)?;
    let workload = Workload::from_name(workload)?;
    let mut link = Peer::from_name(peer)?.connect(case, address)?;
    let message = case.message();
    for line in std::io::stdin().lines() {
        let count: u64 = line?.parse()?;
        let mut place = message.blank();
        println!("ready");
        match workload {
            Workload::Stream => {
                for _ in 0..count {
                    link.recv(&mut place)?;
                }
                link.send(&case.acknowledgement())?;
                check_equal(&place, &message)?;
            }
            Workload::RoundTrip => {
                for _ in 0..count {
                    link.recv(&mut place)?;
                    link.send(&place)?;
                }
            }
        }
    }
    Ok(())
}

fn check_equal(received: &Message, expected: &Message) -> Result<()> {
    if received == expected {
        Ok(())
    } else {
        Err("received a message that differs from the one sent".into())
    }
}
