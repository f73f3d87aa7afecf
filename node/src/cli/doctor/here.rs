//! What can be seen on this machine alone: disk, certificates, descriptors, clock.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use troupe_cluster::transport::ca;

use super::Finding;
use crate::clock;
use crate::config::Boot;

const MIB: u64 = 1 << 20;
/// Less room than this is bad: a log, two snapshots and the audit would not fit.
const ROOM_BAD: u64 = 256 * MIB;
/// Less than this is doubtful.
const ROOM_DOUBTFUL: u64 = 2048 * MIB;
/// How often the disk is asked to make something durable.
const FSYNCS: usize = 40;
/// What one entry of the log takes, about.
const ENTRY_BYTES: usize = 1024;
/// A change waits for the slower of two disks: beyond this it is noticed.
const FSYNC_DOUBTFUL: Duration = Duration::from_millis(10);
/// Beyond this, elections may be lost to the disk.
const FSYNC_BAD: Duration = Duration::from_millis(100);
const DAY: i64 = 24 * 3600;

/// Everything of this machine.
pub(super) fn look(boot: &Boot) -> Vec<Finding> {
    let mut findings = vec![room(&boot.node.data_dir), fsync(&boot.node.data_dir)];
    findings.extend(certificates(boot));
    findings.push(descriptors(boot));
    findings.push(clock_is_set());
    findings
}

/// The directory itself, or the nearest one above it that exists.
fn existing(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    absolute.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn room(dir: &Path) -> Finding {
    let what = "room on the disk";
    match rustix::fs::statvfs(existing(dir)) {
        Ok(disk) if disk.f_blocks == 0 => no_disk(dir),
        Ok(disk) => judge_room(disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => {
            Finding::bad(what, format!("{}: {error}", dir.display()), "set data_dir to a directory that can be used")
        }
    }
}

/// The system shows things about itself there, as in /proc: no file can be kept.
fn no_disk(dir: &Path) -> Finding {
    let seen = format!("{} is on no disk: nothing can be kept there", dir.display());
    Finding::bad("room on the disk", seen, "set data_dir to a directory on a disk")
}

fn judge_room(free: u64) -> Finding {
    let (what, seen) = ("room on the disk", format!("{} MiB free", free / MIB));
    let advice = "make room, or set data_dir to a larger disk: a node whose disk is full leaves its cluster";
    match free {
        0..ROOM_BAD => Finding::bad(what, seen, advice),
        ROOM_BAD..ROOM_DOUBTFUL => Finding::doubtful(what, seen, advice),
        ROOM_DOUBTFUL.. => Finding::good(what, seen),
    }
}

fn fsync(dir: &Path) -> Finding {
    let what = "time of an fsync";
    match time_fsyncs(&existing(dir)) {
        Ok(times) => judge_fsync(times),
        Err(error) => Finding::bad(
            what,
            format!("{} cannot be written: {error}", dir.display()),
            "run this as the user that the node runs as, or give that user the directory",
        ),
    }
}

/// What the disk takes to make a thing the size of an entry durable, in ascending order.
fn time_fsyncs(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".troupe-doctor-{}", std::process::id()));
    let measured = File::create_new(&path).and_then(|mut file| {
        let mut times = Vec::with_capacity(FSYNCS);
        for _ in 0..FSYNCS {
            let began = clock::now();
            file.write_all(&[0; ENTRY_BYTES])?;
            file.sync_data()?;
            times.push(clock::now() - began);
        }
        times.sort_unstable();
        Ok(times)
    });
    // Gone either way; what could not be made need not be removed.
    std::fs::remove_file(&path).ok();
    measured
}

fn judge_fsync(times: Vec<Duration>) -> Finding {
    let at = |share: usize| times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default();
    let (median, slow) = (at(50), at(95));
    let (what, seen) = ("time of an fsync", format!("{median:.1?}, one in twenty {slow:.1?}"));
    let advice = "each change waits for the disks of a majority: take a disk of its own, local and solid-state";
    match median {
        _ if median > FSYNC_BAD => Finding::bad(what, seen, advice),
        _ if median > FSYNC_DOUBTFUL || slow > FSYNC_BAD => Finding::doubtful(what, seen, advice),
        _ => Finding::good(what, seen),
    }
}

fn certificates(boot: &Boot) -> Vec<Finding> {
    let of = |tls: &crate::config::boot::Tls| tls.cert_pem.clone();
    let peer = boot.cluster.tls.as_ref().map(|tls| tls.cert.text.expose().clone());
    let given = std::fs::read_to_string(boot.node.data_dir.join(crate::config::boot::CERTIFICATE_FILE)).ok();
    let all = [
        ("certificate for clients", boot.listen.tls.as_ref().map(of)),
        ("certificate for operators", boot.listen.admin_tls.as_ref().map(of)),
        ("certificate for nodes", peer.or(given)),
        ("authority of nodes", boot.cluster.tls.as_ref().map(|tls| tls.ca.text.expose().clone())),
    ];
    let now = clock::unix_seconds();
    all.into_iter().filter_map(|(what, pem)| Some(certificate(what, &pem?, now))).collect()
}

fn certificate(what: &str, pem: &str, now: i64) -> Finding {
    let advice = "issue another and put it in its place: no restart is needed (docs/howto/certificates.md)";
    let first = match ca::describe(pem) {
        Ok(found) => found.into_iter().min_by_key(|cert| cert.validity.until),
        Err(error) => return Finding::bad(what, error.to_string(), advice),
    };
    let Some(cert) = first else { return Finding::bad(what, "there is none in the file", advice) };
    let days = (cert.validity.until - now) / DAY;
    match () {
        () if cert.validity.from > now => {
            Finding::bad(what, "it does not count yet", "the clock of this machine, or that of the authority, is wrong")
        }
        () if cert.validity.until <= now => Finding::bad(what, "it has ended", advice),
        () if days < 14 => Finding::doubtful(what, format!("it ends in {days} days"), advice),
        () => Finding::good(what, format!("for {days} days")),
    }
}

fn descriptors(boot: &Boot) -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // A connection of a client, and one to a provider for its request.
    let wanted =
        u64::from(boot.limits.connections).saturating_add(u64::from(boot.limits.in_flight)).saturating_add(256);
    let (what, seen) = ("descriptors", format!("{limit} allowed, {wanted} wanted at most"));
    if limit >= wanted {
        return Finding::good(what, seen);
    }
    Finding::doubtful(
        what,
        seen,
        "raise LimitNOFILE (systemd) or `ulimit -n`, or lower limits.connections: what is beyond is not accepted",
    )
}

/// 2024: before any build of this.
const EPOCH_MIN: i64 = 1_704_067_200;

fn clock_is_set() -> Finding {
    let now = clock::unix_seconds();
    if now < EPOCH_MIN {
        return Finding::bad(
            "clock",
            "it was never set",
            "let chrony or systemd-timesyncd set it: certificates and expiries depend on it",
        );
    }
    Finding::good("clock", "it is set")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn little_room_is_doubtful_and_hardly_any_is_bad() {
        let verdicts = [100 * MIB, 1000 * MIB, 10_000 * MIB].map(|free| judge_room(free).verdict);

        assert_eq!(verdicts, [Verdict::Bad, Verdict::Doubtful, Verdict::Good]);
    }

    #[test]
    fn a_directory_that_is_on_no_disk_is_told_from_a_disk_that_is_full() {
        let finding = room(Path::new("/proc"));

        assert_eq!(finding.verdict, Verdict::Bad);
        assert!(finding.seen.contains("/proc is on no disk") && !finding.seen.contains("MiB"), "{finding:?}");
        assert!(room(Path::new("/")).seen.ends_with("MiB free"));
    }

    #[test]
    fn a_slow_disk_is_told_from_a_quick_one() {
        let disk = |millis: u64, slow: u64| {
            let mut times = vec![Duration::from_millis(millis); 36];
            times.extend([Duration::from_millis(slow); 4]);
            judge_fsync(times).verdict
        };

        assert_eq!(
            [disk(1, 5), disk(20, 30), disk(1, 500), disk(200, 300)],
            [Verdict::Good, Verdict::Doubtful, Verdict::Doubtful, Verdict::Bad]
        );
    }

    #[test]
    fn the_disk_is_measured_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();

        let times = time_fsyncs(dir.path()).unwrap();

        assert_eq!(times.len(), FSYNCS);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        assert!(fsync(&dir.path().join("not/yet/there")).seen.contains("one in twenty"));
    }

    #[test]
    fn a_certificate_is_judged_by_the_days_it_has_left() {
        let made = rcgen::generate_simple_self_signed(["gw-1".to_owned()]).unwrap();
        let pem = made.cert.pem();
        let until = ca::describe(&pem).unwrap()[0].validity.until;

        let at = |now: i64| certificate("c", &pem, now).verdict;

        assert_eq!(
            [at(until - 100 * DAY), at(until - 5 * DAY), at(until + 1), at(0)],
            [Verdict::Good, Verdict::Doubtful, Verdict::Bad, Verdict::Bad]
        );
        assert_eq!(certificate("c", "no PEM", 0).verdict, Verdict::Bad);
    }
}
