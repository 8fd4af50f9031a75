//! The folder that holds everything: found, made, and locked against a second process.

use anyhow::{Context, Result, bail};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The folder given, else `~/.wharf`.
pub(crate) fn home(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given);
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    Ok(home.context("there is no home directory: set WHARF_HOME or HOME")?.join(".wharf"))
}

/// A data directory that this process alone uses until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked; the lock goes with the file, and with the process however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder when it is missing, readable by its owner alone, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot open {}", path.display()))?;
        make_private(&path)?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only to be told; the lock is what counts.
                drop(lock.read_to_string(&mut owner));
                bail!(
                    "the data directory {} is in use by another wharf (process {}): stop it, or choose another with --data-dir",
                    path.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", file.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Closes a folder to others, as Secrets and keys are kept in it; refuses one that is not ours to close, or in which
/// somebody may have left something already.
fn make_private(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        bail!(
            "the data directory {} belongs to another user ({}): choose your own with --data-dir",
            path.display(),
            metadata.uid()
        );
    }
    if metadata.mode() & 0o002 != 0 {
        bail!(
            "anybody may write to the data directory {}: choose another with --data-dir, or chmod 700 it once you know what is in it",
            path.display()
        );
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {} to others", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_closed_to_others_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o775);
        drop(DataDir::open(dir.path()).unwrap());
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
        mode(0o777);
        let refusal = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refusal.contains("anybody may write to"), "{refusal}");
    }

    #[test]
    fn a_second_owner_is_refused_and_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(&dir.path().join("data")).unwrap();
        let refusal = DataDir::open(first.path()).unwrap_err().to_string();
        assert!(refusal.contains("in use by another wharf"), "{refusal}");
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        let path = first.path().to_owned();
        drop(first);
        DataDir::open(&path).unwrap();
    }
}
