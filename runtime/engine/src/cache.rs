//! Compiled code on disk.
//!
//! Compiled code is run as it is, so a file is used only if it says of itself that it is what we look for and its
//! checksum over everything holds. Whatever else lies there (cut short by a full disk, damaged, of another version,
//! copied from another name) counts as absent and is written anew. Against someone who can write to the folder this is
//! no protection; it belongs to the user alone, like the program itself. What was not used for longest goes first once
//! the folder is full.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// Also the format's version.
const MAGIC: &[u8; 16] = b"wharf code v001\n";
const HEADER: usize = MAGIC.len() + 32;
/// What the folder may hold: some thousand programs.
const MAX_TOTAL_BYTES: u64 = 4 << 30;

/// A folder of compiled code for one configuration of the engine.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// Names the compiler, its settings and the processor's features.
    engine: u64,
}

impl Cache {
    /// The folder, made where it is missing, readable by the user alone.
    ///
    /// Fails where somebody else could have put code there.
    pub(crate) fn open(dir: &Path, engine: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::metadata(dir)?;
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user || metadata.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others may write to it; make it yours alone (chown, chmod 700)",
            ));
        }
        Ok(Self { dir: dir.to_owned(), engine })
    }

    fn path(&self, content: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{:016x}.code", content.hex(), self.engine))
    }

    /// The code compiled from `content`, if it is there and whole.
    #[expect(
        clippy::disallowed_methods,
        reason = "a file's time of use is the file system's, and decides nothing but what goes first"
    )]
    pub(crate) fn get(&self, content: &Digest) -> Option<Vec<u8>> {
        let path = self.path(content);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code cannot be read; compiling again");
                return None;
            }
        };
        let code = self.check(content, file);
        if code.is_some() {
            // Only what is to go first depends on it.
            drop(fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now())));
        } else {
            tracing::warn!(path = %path.display(), "compiled code is damaged or foreign; compiling again");
        }
        code
    }

    /// The code in `file`, if its header and checksum are right.
    fn check(&self, content: &Digest, mut file: Vec<u8>) -> Option<Vec<u8>> {
        let header = file.get(..HEADER)?;
        let (magic, checksum) = header.split_at(MAGIC.len());
        let right = magic == MAGIC && checksum == self.checksum(content, &file[HEADER..]);
        right.then(|| file.split_off(HEADER))
    }

    /// Binds the code to what it was compiled from and by what.
    fn checksum(&self, content: &Digest, code: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(content.as_bytes());
        hash.update(self.engine.to_le_bytes());
        hash.update(code);
        hash.finalize().into()
    }

    /// Keeps `code`. Readers see the old file or the new one, never a part.
    pub(crate) fn put(&self, content: &Digest, code: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = self.path(content);
        let unique = format!("{}.{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let temporary = path.with_extension(unique);
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&self.checksum(content, code))?;
            file.write_all(code)?;
            fs::rename(&temporary, &path)
        };
        write().inspect_err(|_failed| drop(fs::remove_file(&temporary)))?;
        self.make_room()
    }

    /// Removes what was not used for longest, as far as the folder holds too much.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // One that another process removed meanwhile takes no room.
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        for path in surplus(files, MAX_TOTAL_BYTES) {
            drop(fs::remove_file(path));
        }
        Ok(())
    }
}

/// The files (last use, size, path) that must go so that `most` bytes remain: those of the longest ago.
fn surplus(mut files: Vec<(SystemTime, u64, PathBuf)>, most: u64) -> Vec<PathBuf> {
    files.sort_by(|a, b| b.cmp(a));
    let mut total = 0_u64;
    let mut is_over = |bytes: u64| {
        total = total.saturating_add(bytes);
        total > most
    };
    files.into_iter().filter(|(_, bytes, _)| is_over(*bytes)).map(|(_, _, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let files = vec![(at(1), 5, "old".into()), (at(3), 5, "new".into()), (at(2), 5, "middle".into())];
        assert_eq!(surplus(files.clone(), 15), Vec::<PathBuf>::new());
        assert_eq!(surplus(files.clone(), 12), [PathBuf::from("old")]);
        assert_eq!(surplus(files, 5), [PathBuf::from("middle"), PathBuf::from("old")]);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Cache::open(dir.path(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn only_whole_files_of_our_own_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, other) = (Cache::open(dir.path(), 1).unwrap(), Cache::open(dir.path(), 2).unwrap());
        let content = Digest::of(b"content");
        assert_eq!(cache.get(&content), None);
        cache.put(&content, b"code").unwrap();
        assert_eq!(cache.get(&content).unwrap(), b"code");
        assert_eq!(other.get(&content), None);

        // Of another engine, under the name we look for.
        fs::copy(cache.path(&content), other.path(&content)).unwrap();
        assert_eq!(other.get(&content), None);
        // Of other content.
        let stranger = Digest::of(b"other content");
        fs::copy(cache.path(&content), cache.path(&stranger)).unwrap();
        assert_eq!(cache.get(&stranger), None);
        // Every single damaged byte, and every length but the right one.
        let whole = fs::read(cache.path(&content)).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(cache.check(&content, damaged), None, "byte {at}");
            assert_eq!(cache.check(&content, whole[..at].to_vec()), None, "length {at}");
        }
        assert_eq!(cache.check(&content, [&whole[..], b"x"].concat()), None);

        cache.put(&content, b"new code").unwrap();
        assert_eq!(cache.get(&content).unwrap(), b"new code");
        let leftovers = fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp"));
        assert_eq!(leftovers.count(), 0);
    }
}
