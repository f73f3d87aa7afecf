//! What `/proc` tells of a process and everything it started.

use std::collections::BTreeMap;
use std::time::Duration;

/// CPU and memory of a process with all its children and theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) rss_kib: u64,
}

/// Reads the processes below `root`, itself included; none when it is gone.
///
/// The CPU of children that have ended and were waited for counts with their parent.
pub(super) fn usage(root: u32) -> Option<Usage> {
    let mut parents = BTreeMap::new();
    let mut stats = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while we look; then it is not there.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(stat) = Stat::parse(&text) {
            parents.insert(pid, stat.parent);
            stats.insert(pid, stat);
        }
    }
    stats.get(&root)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let mut usage = Usage::default();
    for (pid, stat) in stats.iter().filter(|(pid, _)| is_below(**pid, root, &parents)) {
        let rss = std::fs::read_to_string(format!("/proc/{pid}/status")).ok();
        usage.rss_kib += rss.as_deref().and_then(rss_of_status).unwrap_or(0);
        usage.cpu += Duration::from_nanos(stat.ticks.saturating_mul(1_000_000_000 / per_second));
    }
    Some(usage)
}

fn is_below(pid: u32, root: u32, parents: &BTreeMap<u32, u32>) -> bool {
    let mut at = Some(&pid);
    // No chain of parents is longer than the table.
    for _ in 0..=parents.len() {
        match at {
            Some(here) if *here == root => return true,
            Some(here) => at = parents.get(here),
            None => return false,
        }
    }
    false
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    /// The name before the fields may hold spaces and brackets.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        // utime, stime, and the same of children that were waited for.
        let times: Vec<u64> = fields.skip(9).take(4).filter_map(|field| field.parse().ok()).collect();
        (times.len() == 4).then(|| Self { parent, ticks: times.iter().fold(0, |sum, time| sum.saturating_add(*time)) })
    }
}

fn rss_of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_found_behind_any_process_name() {
        let stat = "42 (a) b (c) S 7 1 1 0 -1 4194304 100 0 0 0 250 50 3 2 20 0 1 0 100 1000 10";

        assert_eq!(Stat::parse(stat), Some(Stat { parent: 7, ticks: 305 }));
        assert_eq!(Stat::parse("42 (cut"), None);
        assert_eq!(Stat::parse("42 (x) S 7 1 1"), None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(rss_of_status("Name:\tx\nVmRSS:\t   2048 kB\nVmData: 1 kB\n"), Some(2048));
        assert_eq!(rss_of_status("Name:\tx\n"), None);
    }

    #[test]
    fn the_tree_is_everything_below_its_root() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (8, 9), (9, 8)]);

        let below: Vec<u32> = [2, 3, 4, 5, 8].into_iter().filter(|pid| is_below(*pid, 2, &parents)).collect();

        assert_eq!(below, [2, 3, 4]);
    }
}
