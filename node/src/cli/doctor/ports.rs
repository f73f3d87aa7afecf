//! Whether this node has, or can have, the ports it is to listen at, and who has them otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::Boot;
use crate::config::boot::CERTIFICATE_FILE;

/// The kinds of ports there are, as the system's lists name them, and the state of one that listens.
#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Udp,
}

/// A process that has a port.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    name: String,
    /// Whether it is this node: it has files of the data directory open.
    is_node: bool,
}

/// Every port. `runs`: this node answers its operators.
pub(super) fn look(boot: &Boot, runs: bool) -> Vec<Finding> {
    let (listen, cluster, dir) = (&boot.listen, &boot.cluster, &boot.node.data_dir);
    let mut ports = vec![("listen.data", Kind::Tcp, listen.data), ("listen.admin", Kind::Tcp, listen.admin)];
    if cluster.tls.is_some() || cluster.is_plain || dir.join(CERTIFICATE_FILE).exists() || cluster.has_others() {
        ports.extend([("listen.peer", Kind::Tcp, listen.peer), ("listen.peer (UDP)", Kind::Udp, listen.peer)]);
    }
    ports.into_iter().map(|(what, kind, address)| port(what, kind, address, dir, runs)).collect()
}

fn port(what: &str, kind: Kind, address: SocketAddr, dir: &Path, runs: bool) -> Finding {
    let bound = match kind {
        Kind::Tcp => TcpListener::bind(address).map(drop),
        Kind::Udp => UdpSocket::bind(address).map(drop),
    };
    match bound {
        Ok(()) if runs && address.port() != 0 => Finding::doubtful(
            what,
            format!("{address} is free although this node runs: it listens elsewhere"),
            "this is not the configuration it was started with: give the same file, variables and flags",
        ),
        Ok(()) => Finding::good(what, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            judge_taken(what, address, &holders(kind, address.port(), dir), runs)
        }
        Err(error) => Finding::bad(
            what,
            format!("{address}: {error}"),
            "choose an address that this machine has, and a port this user may open",
        ),
    }
}

fn judge_taken(what: &str, address: SocketAddr, holders: &[Holder], runs: bool) -> Finding {
    let elsewhere = "stop what has it, or have this node listen at another address";
    if let Some(node) = holders.iter().find(|holder| holder.is_node) {
        return Finding::good(what, format!("{address} is taken by this node itself (process {})", node.pid));
    }
    match holders {
        [] if runs => Finding::good(what, format!("{address} is taken, by this node itself as it seems")),
        [] => Finding::bad(
            what,
            format!("{address} is taken, and not by a node that answers; whose it is, this user may not see"),
            elsewhere,
        ),
        [first, ..] => {
            let Holder { name, pid, .. } = first;
            Finding::bad(what, format!("{address} is taken by {name} (process {pid})"), elsewhere)
        }
    }
}

/// The process of the node, as far as this user may see: it has the lock of the data directory open.
pub(in crate::cli) fn process(boot: &Boot) -> Option<u32> {
    let lock = fs::canonicalize(boot.node.data_dir.join("lock")).ok()?;
    let has_it = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|file| file == lock)
    };
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(has_it)
}

/// The processes that have a port, as far as this user may see.
fn holders(kind: Kind, port: u16, dir: &Path) -> Vec<Holder> {
    let wanted: BTreeSet<PathBuf> =
        sockets(kind, port).into_iter().map(|inode| format!("socket:[{inode}]").into()).collect();
    let dir = fs::canonicalize(dir).ok();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let holder = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let open: Vec<PathBuf> = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        if !open.iter().any(|file| wanted.contains(file)) {
            return None;
        }
        let is_node = dir.as_ref().is_some_and(|dir| open.iter().any(|file| file.starts_with(dir)));
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(Holder { pid, name: name.trim().to_owned(), is_node })
    };
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(holder).collect()
}

/// The sockets that listen at a port, by the number that the system knows them by.
fn sockets(kind: Kind, port: u16) -> BTreeSet<u64> {
    let (files, listens) = match kind {
        Kind::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
        Kind::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
    };
    let lists = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    lists.flat_map(|list| list.lines().filter_map(|line| listening(line, port, listens)).collect::<Vec<_>>()).collect()
}

/// The socket of a line, if it is in that state at that port.
fn listening(line: &str, port: u16, state: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, at) = words.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(at, 16).is_ok_and(|at| at == port) && *words.get(3)? == state;
    if is_it { words.get(9)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_port_that_somebody_else_has_is_told_from_one_that_the_node_has() {
        let dir = tempfile::tempdir().unwrap();
        let (stream, datagrams) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let at = [(Kind::Tcp, stream.local_addr().unwrap()), (Kind::Udp, datagrams.local_addr().unwrap())];
        let look = || at.map(|(kind, address)| port("p", kind, address, dir.path(), false));

        let others = look();
        let _held = fs::File::create(dir.path().join("lock")).unwrap();
        let own = look();

        for finding in others {
            assert_eq!(finding.verdict, Verdict::Bad, "{finding:?}");
            assert!(finding.seen.contains(&format!("(process {})", std::process::id())), "{finding:?}");
            assert!(!finding.advice.is_empty());
        }
        for finding in own {
            assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
        }
    }

    #[test]
    fn a_port_whose_holder_cannot_be_seen_is_bad_unless_the_node_answers() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));

        let verdicts = [false, true].map(|runs| judge_taken("p", address, &[], runs).verdict);

        assert_eq!(verdicts, [Verdict::Bad, Verdict::Good]);
    }

    #[test]
    fn a_port_is_free_unless_the_node_should_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

        let verdicts = [false, true].map(|runs| port("p", Kind::Tcp, free, dir.path(), runs).verdict);

        assert_eq!(verdicts, [Verdict::Good, Verdict::Doubtful]);
        // An address of nobody's: set aside for examples.
        let foreign = port("p", Kind::Tcp, "192.0.2.1:9".parse().unwrap(), dir.path(), false);
        assert_eq!(foreign.verdict, Verdict::Bad);
    }
}
