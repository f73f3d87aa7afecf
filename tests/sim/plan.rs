//! What goes wrong in a run, and when: drawn from the seed before it begins.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// What is planted into the simulation, to show that it is found. Nothing of it is in the product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// Nothing.
    #[default]
    None,
    /// The disk says that a write is durable before it is.
    AckBeforeFsync,
    /// Applying a command looks at the clock.
    ClockInApply,
    /// A host whose disk was wiped comes back under its old id.
    ReusedId,
    /// Who asks again, asks under a fresh number.
    LostDedup,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::AckBeforeFsync, Self::ClockInApply, Self::ReusedId, Self::LostDedup];

    /// Its word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::ClockInApply => "clock-in-apply",
            Self::ReusedId => "reused-id",
            Self::LostDedup => "lost-dedup",
        }
    }
}

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Hosts with a vote: the first ones.
    pub voters: usize,
    /// All hosts.
    pub hosts: usize,
}

/// What happens to messages between two hosts that are cut off from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// They wait, and come late and at once.
    Late,
    /// They are lost, and their connections with them.
    Gone,
}

/// Something that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed.
    Kill(usize),
    /// The power of these hosts fails.
    Power(Vec<usize>),
    /// A host starts, if it is down.
    Start(usize),
    /// Two hosts are cut off from each other.
    Cut(usize, usize, Loss),
    /// Nothing gets from the first host to the second.
    CutOneWay(usize, usize),
    /// Two hosts reach each other again.
    Heal(usize, usize),
    /// Messages between two hosts take up to so long.
    Delay(usize, usize, Duration),
    /// Fsyncs of a host take so much longer.
    SlowDisk(usize, Duration),
    /// The wall clock of a host jumps by so many milliseconds.
    Jump(usize, i64),
    /// Messages are sent again, later, from now on or no more.
    Echo(bool),
    /// The leadership is to go to a host.
    Transfer(usize),
    /// A host writes a snapshot.
    Snapshot(usize),
    /// A host loses its disk, and with it itself.
    Wipe(usize),
}

impl Fault {
    /// What it is counted as; `None` for what mends.
    pub const fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Kill(_) => Some("kills"),
            Self::Power(_) => Some("power cuts"),
            Self::Cut(_, _, Loss::Late) => Some("late partitions"),
            Self::Cut(_, _, Loss::Gone) => Some("lossy partitions"),
            Self::CutOneWay(..) => Some("one-way partitions"),
            Self::Delay(_, _, by) if !by.is_zero() => Some("delays"),
            Self::SlowDisk(_, by) if !by.is_zero() => Some("slow disks"),
            Self::Jump(..) => Some("clock jumps"),
            Self::Echo(true) => Some("echoes"),
            Self::Transfer(_) => Some("transfers"),
            Self::Snapshot(_) => Some("snapshots"),
            Self::Wipe(_) => Some("wipes"),
            Self::Start(_) | Self::Heal(..) | Self::Delay(..) | Self::SlowDisk(..) | Self::Echo(false) => None,
        }
    }
}

/// A host's name.
pub fn name(host: usize) -> String {
    format!("gw-{}", host + 1)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(host) => write!(f, "{} is killed", name(*host)),
            Self::Power(hosts) => {
                let names: Vec<_> = hosts.iter().map(|host| name(*host)).collect();
                write!(f, "the power fails at {}", names.join(", "))
            }
            Self::Start(host) => write!(f, "{} starts", name(*host)),
            Self::Cut(a, b, Loss::Late) => write!(f, "{} and {} are cut off, what they send waits", name(*a), name(*b)),
            Self::Cut(a, b, Loss::Gone) => {
                write!(f, "{} and {} are cut off, what they send is lost", name(*a), name(*b))
            }
            Self::CutOneWay(from, to) => write!(f, "nothing gets from {} to {}", name(*from), name(*to)),
            Self::Heal(a, b) => write!(f, "{} and {} reach each other", name(*a), name(*b)),
            Self::Delay(a, b, by) if by.is_zero() => write!(f, "{} and {} are near again", name(*a), name(*b)),
            Self::Delay(a, b, by) => write!(f, "up to {by:?} between {} and {}", name(*a), name(*b)),
            Self::SlowDisk(host, by) => write!(f, "fsyncs of {} take {by:?} longer", name(*host)),
            Self::Jump(host, by) => write!(f, "the clock of {} jumps by {by} ms", name(*host)),
            Self::Echo(true) => write!(f, "messages are sent again later"),
            Self::Echo(false) => write!(f, "messages are sent once"),
            Self::Transfer(host) => write!(f, "{} is to lead", name(*host)),
            Self::Snapshot(host) => write!(f, "{} is to write a snapshot", name(*host)),
            Self::Wipe(host) => write!(f, "{} loses its disk", name(*host)),
        }
    }
}

/// A run as it was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who is there.
    pub layout: Layout,
    /// What happens, in order; times count from when the cluster is formed.
    pub faults: Vec<(Duration, Fault)>,
    /// When everything is mended.
    pub span: Duration,
    /// A snapshot after so many entries.
    pub snapshot_every: u64,
    /// How long a proposal is tried.
    pub propose_within: Duration,
    /// The most that a message usually takes.
    pub latency: Duration,
    /// Clients of each host.
    pub clients: usize,
}

impl Plan {
    /// The run of a seed.
    pub fn draw(seed: u64, plant: Plant, span: Duration) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut layout = match rng.u8(0..10) {
            0..=5 => Layout { voters: 3, hosts: 3 },
            6..=7 => Layout { voters: 3, hosts: 4 },
            _ => Layout { voters: 5, hosts: 5 },
        };
        if plant == Plant::ReusedId {
            layout = Layout { voters: 3, hosts: 3 };
        }
        let mut drawing = Drawing { rng, layout, faults: Vec::new(), has_wiped: false, plant };
        let mut at = Duration::from_millis(300);
        while at < span {
            drawing.episode(at, span);
            at += Duration::from_millis(drawing.rng.u64(50..1_500));
        }
        let Drawing { mut rng, mut faults, .. } = drawing;
        // What is due at the same time stays in the order it was drawn in.
        faults.sort_by_key(|(at, _)| *at);
        Self {
            layout,
            faults,
            span,
            snapshot_every: if rng.bool() { 60 } else { 2_000 },
            propose_within: Duration::from_millis(rng.u64(1_000..5_000)),
            latency: Duration::from_millis(rng.u64(2..20)),
            clients: if layout.hosts > 3 { 2 } else { 3 },
        }
    }
}

struct Drawing {
    rng: Rng,
    layout: Layout,
    faults: Vec<(Duration, Fault)>,
    has_wiped: bool,
    plant: Plant,
}

impl Drawing {
    fn host(&mut self) -> usize {
        self.rng.usize(0..self.layout.hosts)
    }

    fn pair(&mut self) -> (usize, usize) {
        let a = self.host();
        let b = (a + self.rng.usize(1..self.layout.hosts)) % self.layout.hosts;
        (a, b)
    }

    fn add(&mut self, at: Duration, fault: Fault) {
        self.faults.push((at, fault));
    }

    fn lasts(&mut self) -> Duration {
        let longest = if self.rng.u8(0..6) == 0 { 7_000 } else { 2_500 };
        Duration::from_millis(self.rng.u64(50..longest))
    }

    fn loss(&mut self) -> Loss {
        if self.rng.bool() { Loss::Late } else { Loss::Gone }
    }

    /// One thing that goes wrong at `at`, and how it is mended.
    fn episode(&mut self, at: Duration, span: Duration) {
        let until = at + self.lasts();
        let weight =
            if self.plant == Plant::ReusedId && !self.has_wiped && at > span / 4 { 99 } else { self.rng.u8(0..100) };
        match weight {
            0..15 => {
                let host = self.host();
                self.add(at, Fault::Kill(host));
                self.add(until, Fault::Start(host));
            }
            15..35 => self.power(at, until),
            35..50 => {
                let (a, b) = self.pair();
                let loss = self.loss();
                self.add(at, Fault::Cut(a, b, loss));
                self.add(until, Fault::Heal(a, b));
            }
            50..62 => self.isolate(at, until),
            62..72 => {
                let (from, to) = self.pair();
                self.add(at, Fault::CutOneWay(from, to));
                self.add(until, Fault::Heal(from, to));
            }
            72..79 => {
                let (a, b) = self.pair();
                let by = Duration::from_millis(self.rng.u64(20..400));
                self.add(at, Fault::Delay(a, b, by));
                self.add(until, Fault::Delay(a, b, Duration::ZERO));
            }
            79..83 => {
                let host = self.host();
                let by = Duration::from_millis(self.rng.u64(5..400));
                self.add(at, Fault::SlowDisk(host, by));
                self.add(until, Fault::SlowDisk(host, Duration::ZERO));
            }
            83..87 => {
                let (host, by) = (self.host(), self.rng.i64(-86_400_000..86_400_000));
                self.add(at, Fault::Jump(host, by));
            }
            87..91 => {
                self.add(at, Fault::Echo(true));
                self.add(until, Fault::Echo(false));
            }
            91..94 => {
                let host = self.rng.usize(0..self.layout.voters);
                self.add(at, Fault::Transfer(host));
            }
            94..96 => {
                let host = self.host();
                self.add(at, Fault::Snapshot(host));
            }
            _ => {
                // A second one before the first was made good would be allowed to lose data.
                if !self.has_wiped && at < span.mul_f32(0.6) {
                    self.has_wiped = true;
                    let host = self.host();
                    self.add(at, Fault::Wipe(host));
                    let back = at + Duration::from_millis(self.rng.u64(0..1_000));
                    self.add(back, Fault::Start(host));
                }
            }
        }
    }

    fn power(&mut self, at: Duration, until: Duration) {
        let count = match self.rng.u8(0..4) {
            0 | 1 => 1,
            2 => self.layout.hosts / 2 + 1,
            _ => self.layout.hosts,
        };
        let mut hosts: Vec<usize> = (0..self.layout.hosts).collect();
        self.rng.shuffle(&mut hosts);
        hosts.truncate(count);
        hosts.sort_unstable();
        for host in &hosts {
            let wait = Duration::from_millis(self.rng.u64(0..800));
            self.add(until + wait, Fault::Start(*host));
        }
        self.add(at, Fault::Power(hosts));
    }

    /// One host, or two, from all others: in both directions or in one.
    fn isolate(&mut self, at: Duration, until: Duration) {
        let mut inside = vec![self.host()];
        if self.layout.hosts > 3 && self.rng.bool() {
            inside.push(self.host());
        }
        let (way, loss) = (self.rng.u8(0..4), self.loss());
        for outside in (0..self.layout.hosts).filter(|host| !inside.contains(host)) {
            for inner in &inside {
                let fault = match way {
                    0 => Fault::CutOneWay(*inner, outside),
                    1 => Fault::CutOneWay(outside, *inner),
                    _ => Fault::Cut(*inner, outside, loss),
                };
                self.faults.push((at, fault));
                self.faults.push((until, Fault::Heal(*inner, outside)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(20);

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(Plan::draw(7, Plant::None, SPAN), Plan::draw(7, Plant::None, SPAN));
        assert_ne!(Plan::draw(7, Plant::None, SPAN), Plan::draw(8, Plant::None, SPAN));
    }

    #[test]
    fn every_kind_of_fault_is_drawn_by_some_seed_and_no_host_is_wiped_twice() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw(seed, Plant::None, SPAN);
            kinds.extend(plan.faults.iter().filter_map(|(_, fault)| fault.kind()));
            let wipes = plan.faults.iter().filter(|(_, fault)| matches!(fault, Fault::Wipe(_))).count();
            assert!(wipes <= 1);
            assert!(plan.faults.is_sorted_by_key(|(at, _)| *at));
        }

        assert_eq!(kinds.len(), 12, "{kinds:?}");
    }
}
