//! A part of a volume: `subPath`.

use std::path::{Component, Path};

use crate::{Held, VolumeError, held::resolve};

/// Checks that a path is relative and does not climb.
pub fn check_relative(path: &str) -> Result<(), VolumeError> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.is_empty() || !Path::new(path).components().all(inside) {
        return Err(VolumeError::BadPath { path: path.to_owned() });
    }
    Ok(())
}

/// Finds `path` in the volume `root`, and holds it. What is not there becomes a folder when `create` says so, as upstream
/// does for volumes that can be written. Links that lead out of the volume are refused, now and while this looks.
pub fn sub_path(root: &Held, path: &str, create: bool) -> Result<Held, VolumeError> {
    check_relative(path)?;
    let volume = root.path().canonicalize().map_err(VolumeError::io("resolve", root.path()))?;
    let wanted = volume.join(path);
    let real = resolve(&wanted).map_err(VolumeError::io("resolve", &wanted))?;
    let Ok(part) = real.strip_prefix(&volume) else {
        return Err(VolumeError::Escapes { path: path.to_owned() });
    };
    root.beneath(part, create).map_err(VolumeError::io("open", &wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let folder = base.join("volume");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        symlink(&base, folder.join("out")).unwrap();
        symlink("a", folder.join("in")).unwrap();
        symlink("../nowhere", folder.join("dangling")).unwrap();
        let root = Held::folder(&folder).unwrap();
        assert!(!sub_path(&root, "file", false).unwrap().is_folder());
        assert!(sub_path(&root, "a/b", true).unwrap().is_folder());
        let found = sub_path(&root, "in/b/c", true).unwrap().path().canonicalize().unwrap();
        assert_eq!(found, folder.join("a/b/c"));
        assert!(matches!(sub_path(&root, "missing", false), Err(VolumeError::Io { .. })));
        assert!(matches!(sub_path(&root, "out", true), Err(VolumeError::Escapes { .. })));
        assert!(matches!(sub_path(&root, "out/made", true), Err(VolumeError::Escapes { .. })));
        assert!(matches!(sub_path(&root, "dangling", true), Err(VolumeError::Io { .. })));
        assert!(!base.join("made").exists() && !base.join("nowhere").exists());
        for bad in ["", "/etc", "../x", "a/../../x"] {
            assert!(matches!(sub_path(&root, bad, true), Err(VolumeError::BadPath { .. })), "{bad}");
        }
    }
}
