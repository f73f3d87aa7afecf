//! What a report needs of this machine: settings, limits, the last lines of the log.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::redact::{self, REDACTED};
use crate::config::boot::{SECTIONS, SETTINGS};

/// How much of the end of a log is taken.
const LOG_BYTES: u64 = 512 << 10;
/// How much of a file of the system's is taken; each has less.
const FILE_BYTES: u64 = 64 << 10;

/// The settings, as the file and the variables have them: a secret's place, never a secret.
pub(super) fn settings(config: Option<&Path>, variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut files = Vec::new();
    if let Some(path) = config {
        let text = match end_of(path, FILE_BYTES) {
            Ok(text) => redact::text(&text),
            Err(error) => format!("{}: {error}\n", path.display()),
        };
        files.push((format!("here/config.{}", extension(path)), text));
    }
    let takes = |section: &str, name: &str| {
        let section = SECTIONS.iter().find(|known| known.name == section)?;
        section.fields.iter().find(|field| field.name == name).map(|field| field.takes)
    };
    let set = SETTINGS.iter().filter_map(|setting| {
        let value = variable(setting.variable)?;
        let is_place = ["env:", "file:"].iter().any(|place| value.starts_with(place));
        let is_hidden = takes(setting.section, setting.name) == Some("secret") && !is_place;
        let value = if is_hidden { REDACTED.to_owned() } else { redact::text(&value) };
        Some(format!("{}={value}\n", setting.variable))
    });
    let set: String = set.collect();
    files.push(("here/variables.txt".to_owned(), if set.is_empty() { "none is set\n".to_owned() } else { set }));
    files
}

fn extension(path: &Path) -> &str {
    let known = ["toml", "yaml", "yml", "json"];
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("txt");
    if known.contains(&extension) { extension } else { "txt" }
}

/// What the system allows a process, and what it has: of the node where it is known, of this command otherwise.
pub(super) fn limits(pid: Option<u32>) -> String {
    let of = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let whose = if pid.is_some() { "the node" } else { "this command: no process of the node was found" };
    let mut text = format!("process {of}, of {whose}\n");
    let cgroup = fs::read_to_string(format!("/proc/{of}/cgroup")).unwrap_or_default();
    // Version 2 has one hierarchy; older ones have a line for each.
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    let cgroup = Path::new("/sys/fs/cgroup").join(cgroup);
    let mut files: Vec<PathBuf> = ["limits", "status", "cgroup"].map(|name| format!("/proc/{of}/{name}").into()).into();
    let bounds = ["memory.max", "memory.current", "memory.events", "cpu.max", "cpu.stat", "pids.max", "pids.current"];
    files.extend(bounds.map(|name| cgroup.join(name)));
    files.extend(
        ["/proc/loadavg", "/proc/meminfo", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory"]
            .map(PathBuf::from),
    );
    for file in files {
        let found = end_of(&file, FILE_BYTES).unwrap_or_else(|error| format!("{error}\n"));
        text.push_str(&format!("\n== {}\n{found}", file.display()));
    }
    redact::text(&text)
}

/// The last lines that the node logged, if they can be found.
pub(super) fn log(pid: Option<u32>) -> String {
    let Some(pid) = pid else {
        return "no process of the node was found on this machine by this user, and so no log of it\n".to_owned();
    };
    let place = match fs::read_link(format!("/proc/{pid}/fd/2")) {
        Ok(place) => place,
        Err(error) => return format!("where process {pid} logs to cannot be seen by this user: {error}\n"),
    };
    if !place.is_file() {
        return format!(
            "process {pid} logs to {}, which keeps nothing that could be read again: whoever reads it has the lines \
             (`journalctl -u troupe`, `docker logs`, `kubectl logs`)\n",
            place.display()
        );
    }
    match end_of(&place, LOG_BYTES) {
        Ok(lines) => format!("the end of {}\n\n{}", place.display(), redact::text(&lines)),
        Err(error) => format!("process {pid} logs to {}, which cannot be read: {error}\n", place.display()),
    }
}

/// The end of a file, from the beginning of a line on.
fn end_of(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // Half a line may be half a secret, which nothing looks like.
    let whole = if skipped == 0 { text.as_ref() } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    Ok(whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_and_their_secrets_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "[node]\nname = \"gw-1\" # was sk-0123456789\n").unwrap();
        let variable = |name: &str| match name {
            "TROUPE_CLUSTER_JOIN_TOKEN" => Some("hunter2".to_owned()),
            "TROUPE_CLUSTER_SEAL_KEY" => Some("file:/etc/troupe/seal-key".to_owned()),
            "TROUPE_LOG_LEVEL" => Some("debug".to_owned()),
            _ => None,
        };

        let told = settings(Some(&path), &variable);

        let [(config, text), (_, set)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(
            (config.as_str(), text.as_str()),
            ("here/config.toml", "[node]\nname = \"gw-1\" # was (redacted)\n")
        );
        assert!(set.contains("TROUPE_CLUSTER_JOIN_TOKEN=(redacted)\n"), "{set}");
        assert!(set.contains("TROUPE_CLUSTER_SEAL_KEY=file:/etc/troupe/seal-key\n"), "{set}");
        assert!(set.contains("TROUPE_LOG_LEVEL=debug\n"), "{set}");
    }

    #[test]
    fn the_end_of_a_long_file_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "first line\nsecond line\nthird line\n").unwrap();

        assert_eq!(end_of(&path, 15).unwrap(), "third line\n");
        assert_eq!(end_of(&path, 1000).unwrap(), "first line\nsecond line\nthird line\n");
    }

    #[test]
    fn a_process_without_a_file_to_log_to_is_said_so_and_limits_are_there_anyway() {
        assert!(log(None).contains("no process of the node"), "{}", log(None));
        let limits = limits(None);
        assert!(limits.contains("Max open files") && limits.contains("VmRSS"), "{limits}");
    }
}
