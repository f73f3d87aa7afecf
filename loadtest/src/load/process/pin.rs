//! Which processor runs what: the gateway has one to itself, mock and driver share the others.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A division of the processors this process may use.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    all: CpuSet,
    gateway: CpuSet,
    others: CpuSet,
    /// Number of the gateways' processor.
    pub gateway_cpu: usize,
}

impl Pin {
    /// Gives the last processor to the gateways and the rest to everything else; none where there is only one.
    pub fn divide() -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let gateway_cpu = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu))?;
        let mut gateway = CpuSet::new();
        gateway.set(gateway_cpu);
        let mut others = all;
        others.unset(gateway_cpu);
        (others.count() > 0).then_some(Self { all, gateway, others, gateway_cpu })
    }

    /// Moves the calling thread to the processors that are not the gateways'; what it starts runs there too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn settle_here(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.others)?)
    }

    /// Runs `start` with the calling thread on the gateways' processor: a child begins where its parent stood, and so
    /// do all its threads, which a change from outside would miss.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn for_gateway<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        sched_setaffinity(None, &self.gateway)?;
        let started = start();
        sched_setaffinity(None, &self.others)?;
        Ok(started)
    }

    /// Lets the calling thread run everywhere again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.all)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_starts_on_its_own_processor_and_we_stay_on_ours() {
        // A thread of its own: the affinity of the test runner's is not ours to change.
        let checked = std::thread::spawn(|| {
            let Some(pin) = Pin::divide() else { return };
            pin.settle_here().unwrap();
            let inside = pin.for_gateway(|| sched_getaffinity(None).unwrap()).unwrap();
            assert!(inside.count() == 1 && inside.is_set(pin.gateway_cpu));
            assert!(!sched_getaffinity(None).unwrap().is_set(pin.gateway_cpu));
            pin.release().unwrap();
            assert!(sched_getaffinity(None).unwrap().is_set(pin.gateway_cpu));
        });
        checked.join().unwrap();
    }
}
