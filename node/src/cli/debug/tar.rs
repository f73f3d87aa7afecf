//! A tar file, as far as a bundle needs one.

/// A tar file of small texts, in the ustar format.
pub(super) struct Tar {
    bytes: Vec<u8>,
    made: i64,
}

const BLOCK: usize = 512;

impl Tar {
    pub(super) const fn new(made: i64) -> Self {
        Self { bytes: Vec::new(), made }
    }

    pub(super) fn add(&mut self, name: &str, text: &str) {
        let mut head = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| {
            if let Some(place) = head.get_mut(at..at + text.len()) {
                place.copy_from_slice(text.as_bytes());
            }
        };
        // The place for a name has 100 bytes; names are made to fit it.
        let name = format!("troupe-debug/{name}");
        debug_assert!(name.len() < 100, "{name} is too long for a tar file");
        put(0, name.get(..name.len().min(99)).unwrap_or_default());
        put(100, "0000600\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", text.len()));
        put(136, &format!("{:011o}\0", self.made));
        // The checksum counts itself as blanks.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\0");
        put(263, "00");
        let sum: u32 = head.iter().copied().map(u32::from).sum();
        if let Some(place) = head.get_mut(148..156) {
            place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;

    #[test]
    fn the_system_s_tar_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = Tar::new(1_700_000_000);
        let long = "x".repeat(3 * BLOCK);
        tar.add("a.json", "{}\n");
        tar.add("b.txt", &long);
        std::fs::write(dir.path().join("t.tar"), tar.end()).unwrap();

        let done = Process::new("tar").args(["-xf", "t.tar"]).current_dir(dir.path()).status().unwrap();

        assert!(done.success());
        let read = |name: &str| std::fs::read_to_string(dir.path().join("troupe-debug").join(name)).unwrap();
        assert_eq!((read("a.json"), read("b.txt")), ("{}\n".to_owned(), long));
    }
}
