//! What the kernel says of this process. Elsewhere than on Linux there is nothing to read, and nothing is said.

use std::fs;

/// Ticks a second in `/proc/self/stat`: fixed at 100 in the kernel's interface to programs.
const TICKS_PER_SECOND: u64 = 100;

/// The resources this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// User and system time used.
    pub cpu_millis: u64,
    /// Descriptors that are open.
    pub open_fds: u64,
}

impl Process {
    /// Asks the kernel.
    pub fn read() -> Option<Self> {
        let resident_bytes = resident(&fs::read_to_string("/proc/self/status").ok()?)?;
        let cpu_millis = cpu(&fs::read_to_string("/proc/self/stat").ok()?)?;
        // One of them is the directory being read.
        let open_fds = u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.saturating_sub(1);
        Some(Self { resident_bytes, cpu_millis, open_fds })
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn cpu(stat: &str) -> Option<u64> {
    // The program's name stands in parentheses and may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)?.checked_mul(1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "12 (odd ) name) S 1 12 12 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 4 0 1 2 3";

        assert_eq!(cpu(stat), Some(3_250));
        assert_eq!(resident("Name:\ta\nVmRSS:\t  2048 kB\n"), Some(2_097_152));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read().unwrap();

        assert!(process.resident_bytes > 100_000 && process.open_fds >= 3, "{process:?}");
    }
}
