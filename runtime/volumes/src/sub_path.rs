//! A part of a volume: `subPath`.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::VolumeError;

/// What a `subPath` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubPath {
    /// A folder, to be mounted as such.
    Folder(PathBuf),
    /// One file.
    File(PathBuf),
}

/// Checks that a path is relative and does not climb.
pub fn check_relative(path: &str) -> Result<(), VolumeError> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.is_empty() || !Path::new(path).components().all(inside) {
        return Err(VolumeError::BadPath { path: path.to_owned() });
    }
    Ok(())
}

/// Finds `path` in the volume at `root`. What is not there becomes a folder when `create` says so, as upstream does
/// for volumes that can be written. Links that lead out of the volume are refused.
pub fn sub_path(root: &Path, path: &str, create: bool) -> Result<SubPath, VolumeError> {
    check_relative(path)?;
    let root = root.canonicalize().map_err(VolumeError::io("resolve", root))?;
    let wanted = root.join(path);
    if create {
        let parent = wanted.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&root);
        let parent = parent.canonicalize().map_err(VolumeError::io("resolve", parent))?;
        if parent.starts_with(&root) && !wanted.exists() {
            fs::create_dir_all(&wanted).map_err(VolumeError::io("create folder", &wanted))?;
        }
    }
    let real = wanted.canonicalize().map_err(VolumeError::io("resolve", &wanted))?;
    if !real.starts_with(&root) {
        return Err(VolumeError::Escapes { path: path.to_owned() });
    }
    Ok(if real.is_dir() { SubPath::Folder(real) } else { SubPath::File(real) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let root = base.join("volume");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&base, root.join("out")).unwrap();
        assert_eq!(sub_path(&root, "file", false).unwrap(), SubPath::File(root.join("file")));
        assert_eq!(sub_path(&root, "a/b", true).unwrap(), SubPath::Folder(root.join("a/b")));
        assert!(matches!(sub_path(&root, "missing", false), Err(VolumeError::Io { .. })));
        assert!(matches!(sub_path(&root, "out", true), Err(VolumeError::Escapes { .. })));
        assert!(sub_path(&root, "out/made", true).is_err());
        assert!(!base.join("made").exists());
        for bad in ["", "/etc", "../x", "a/../../x"] {
            assert!(matches!(sub_path(&root, bad, true), Err(VolumeError::BadPath { .. })), "{bad}");
        }
    }
}
