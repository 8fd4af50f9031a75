//! Scratch folders: made, measured and removed.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::VolumeError;

/// Makes a scratch folder, or keeps the one there is with what it holds: containers of a pod that restart find their
/// files again.
pub fn empty_dir(dir: &Path) -> Result<(), VolumeError> {
    fs::create_dir_all(dir).map_err(VolumeError::io("create folder", dir))
}

/// The bytes that a folder's files take on the disk, links not followed. What disappears meanwhile counts nothing.
pub fn usage(dir: &Path) -> u64 {
    let mut folders = vec![dir.to_owned()];
    let mut total = 0_u64;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                total = total.saturating_add(metadata.blocks().saturating_mul(512));
            }
        }
    }
    total
}

/// Removes a folder and all in it; one that is not there is fine.
pub fn remove(dir: &Path) -> Result<(), VolumeError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(VolumeError::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_keeps_its_files_is_measured_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        empty_dir(&dir).unwrap();
        fs::create_dir(dir.join("deep")).unwrap();
        fs::write(dir.join("deep/file"), vec![1; 100_000]).unwrap();
        empty_dir(&dir).unwrap();
        assert!((100_000..200_000).contains(&usage(&dir)), "{}", usage(&dir));
        remove(&dir).unwrap();
        remove(&dir).unwrap();
        assert!(!dir.exists());
        assert_eq!(usage(&dir), 0);
    }
}
