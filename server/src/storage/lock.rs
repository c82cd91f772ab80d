//! One process to a directory, and which one had it before.
//!
//! The lock is the kernel's and goes with the process, however that ends. So whoever holds it knows that the process
//! which held the same lock before is dead, and may say so (R4). That it was the same lock is told by the file: each
//! process writes its nonce into it, with what this file was to which kernel. A copy of a directory has another file,
//! and another machine another kernel: there nobody knows what has become of the process that is named.

use super::OpenFailure;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub const LOCK_FILE: &str = "LOCK";
/// Drawn by Linux at each start of the machine.
const KERNEL: &str = "/proc/sys/kernel/random/boot_id";
const BYTES_MAX: u64 = 200;

/// Held as long as this lives.
pub struct Lock(File);

impl Lock {
    /// Takes the directory for this process.
    pub fn take(directory: &Path) -> Result<Lock, OpenFailure> {
        let path = directory.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| OpenFailure::Io(format!("{}: can't be opened: {e}", path.display())))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenFailure::InUse(directory.to_owned())),
            Err(e) => Err(OpenFailure::Io(format!("{}: can't be locked: {e}", path.display()))),
        }
    }

    /// Writes this process' nonce, and tells that of the process which surely is dead, if one is. What can't be read or
    /// written tells nothing: then a lease is waited for.
    pub fn sign(&self, nonce: u128) -> Option<u128> {
        let kernel = std::fs::read_to_string(KERNEL).ok()?;
        let metadata = self.0.metadata().ok()?;
        let place = format!("{} {}:{}", kernel.trim(), metadata.dev(), metadata.ino());
        let mut before = String::new();
        (&self.0).take(BYTES_MAX).read_to_string(&mut before).ok()?;
        // If this fails, the next process is told an older nonce, which is of no use to it.
        let _ = self.write(&format!("{nonce:032x} {place}\n"));
        let (of, at) = before.trim().split_once(' ')?;
        u128::from_str_radix(of, 16).ok().filter(|_| at == place)
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

impl Drop for Lock {
    /// Said, not left to the closing of the file: a child that is being started has a copy of it until it runs its
    /// program, and would hold the directory for that moment.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(directory: &Path, nonce: u128) -> Option<u128> {
        Lock::take(directory).ok().unwrap().sign(nonce)
    }

    #[test]
    fn who_holds_the_lock_knows_whose_it_was() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(signed(directory.path(), 1), None, "nobody's");
        assert_eq!(signed(directory.path(), 2), Some(1));
        assert_eq!(signed(directory.path(), 3), Some(2));
        let held = Lock::take(directory.path()).ok().unwrap();
        assert!(matches!(Lock::take(directory.path()), Err(OpenFailure::InUse(_))));
        assert_eq!(held.sign(4), Some(3));
    }

    /// Seen when a test started a child while another opened its store a second time: it was in use.
    #[test]
    fn a_child_that_is_being_started_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path()).ok().unwrap();
        let _of_the_child = held.0.try_clone().unwrap();
        drop(held);
        assert!(Lock::take(directory.path()).is_ok());
    }

    #[test]
    fn a_copy_of_the_directory_tells_nothing() {
        let (directory, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        signed(directory.path(), 1);
        std::fs::copy(directory.path().join(LOCK_FILE), copy.path().join(LOCK_FILE)).unwrap();
        assert_eq!(signed(copy.path(), 2), None);
        assert_eq!(signed(copy.path(), 3), Some(2), "it has a life of its own");
        assert_eq!(signed(directory.path(), 4), Some(1));
    }

    #[test]
    fn another_kernel_or_nonsense_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        signed(directory.path(), 1);
        let path = directory.path().join(LOCK_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let kernel = std::fs::read_to_string(KERNEL).unwrap();
        let long = "x".repeat(1000);
        for other in [text.replace(kernel.trim(), "of-another-start"), "nonsense".into(), String::new(), long] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(signed(directory.path(), 2), None);
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(signed(directory.path(), 2), None);
    }
}
