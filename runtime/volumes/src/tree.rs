//! A folder of files that is replaced in one step.
//!
//! The files lie in a folder `..<stamp>`, the link `..data` points to the newest one, and each top-level name is a link
//! through `..data`. Readers therefore see the old set or the new one and never a mixture; the rename of one link is
//! the switch. Programs that watch for this layout (it is Kubernetes' own) work unchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::{VolumeError, sub_path::check_relative};

/// One file's content and permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The bytes.
    pub data: Vec<u8>,
    /// Permission bits, as `0o644`.
    pub mode: u32,
}

/// Files by their relative path; the path may have folders in it.
pub type Tree = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Makes the folder `dir` hold exactly `tree`, in one step. Says whether anything changed.
pub fn write_tree(dir: &Path, tree: &Tree) -> Result<bool, VolumeError> {
    for path in tree.keys() {
        check_relative(path)?;
        if path.starts_with("..") {
            return Err(VolumeError::BadPath { path: path.clone() });
        }
    }
    fs::create_dir_all(dir).map_err(VolumeError::io("create folder", dir))?;
    let data = dir.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.as_ref().is_some_and(|old| holds(&dir.join(old), tree)) {
        return Ok(false);
    }
    let fresh = tempfile::Builder::new()
        .prefix("..")
        .rand_bytes(10)
        .tempdir_in(dir)
        .map_err(VolumeError::io("create folder in", dir))?
        .keep();
    set_mode(&fresh, 0o755)?;
    for (path, file) in tree {
        write_file(&fresh.join(path), file)?;
    }
    let name = fresh.file_name().map(PathBuf::from).unwrap_or_default();
    replace_link(&name, &data)?;
    link_names(dir, tree)?;
    if let Some(old) = old {
        crate::remove(&dir.join(old))?;
    }
    Ok(true)
}

fn write_file(path: &Path, file: &File) -> Result<(), VolumeError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(VolumeError::io("create folder", parent))?;
    }
    fs::write(path, &file.data).map_err(VolumeError::io("write", path))?;
    set_mode(path, file.mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), VolumeError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))
        .map_err(VolumeError::io("chmod", path))
}

/// Points `link` to `target` in one step, whatever it was before.
fn replace_link(target: &Path, link: &Path) -> Result<(), VolumeError> {
    let mut name = link.file_name().unwrap_or_default().to_owned();
    name.push("_tmp");
    let temporary = link.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(VolumeError::io("remove", temporary)(error));
        }
        _ => {}
    }
    symlink(target, &temporary).map_err(VolumeError::io("link", &temporary))?;
    fs::rename(&temporary, link).map_err(VolumeError::io("replace link", link))
}

/// Gives each top-level name its link through `..data`, and takes away those of names that are gone.
fn link_names(dir: &Path, tree: &Tree) -> Result<(), VolumeError> {
    let names: BTreeSet<&str> = tree.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = dir.join(name);
        let target = Path::new(DATA).join(name);
        if fs::read_link(&link).ok().as_ref() != Some(&target) {
            replace_link(&target, &link)?;
        }
    }
    for entry in fs::read_dir(dir).map_err(VolumeError::io("list", dir))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&*name) {
            fs::remove_file(entry.path()).map_err(VolumeError::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

fn holds(dir: &Path, tree: &Tree) -> bool {
    let same = |(path, file): (&String, &File)| {
        let path = dir.join(path);
        fs::read(&path).is_ok_and(|data| data == file.data)
            && fs::metadata(&path)
                .is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == file.mode & 0o777)
    };
    count(dir) == tree.len() && tree.iter().all(same)
}

fn count(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return usize::MAX };
    entries.flatten().map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str, u32)]) -> Tree {
        let file = |data: &str, mode| File { data: data.as_bytes().to_vec(), mode };
        files.iter().map(|(path, data, mode)| ((*path).to_owned(), file(data, *mode))).collect()
    }

    fn list(dir: &Path) -> String {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("..") || name == DATA)
            .collect();
        names.sort();
        names.join(" ")
    }

    #[test]
    fn a_tree_is_replaced_in_one_step_and_only_when_it_differs() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("volume");
        assert!(write_tree(&dir, &tree(&[("a", "1", 0o644), ("sub/b", "2", 0o400)])).unwrap());
        assert_eq!(list(&dir), "..data a sub");
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        let mode = fs::metadata(dir.join("sub/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert!(!write_tree(&dir, &tree(&[("a", "1", 0o644), ("sub/b", "2", 0o400)])).unwrap());

        let before = fs::read_link(dir.join(DATA)).unwrap();
        assert!(write_tree(&dir, &tree(&[("a", "changed", 0o644)])).unwrap());
        assert_eq!(list(&dir), "..data a");
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "changed");
        assert_ne!(fs::read_link(dir.join(DATA)).unwrap(), before);
        assert!(!dir.join(before).exists(), "the old files stay behind");
        assert!(write_tree(&dir, &Tree::new()).unwrap());
        assert_eq!(list(&dir), "..data");
    }

    #[test]
    fn names_that_climb_or_hide_are_refused() {
        let base = tempfile::tempdir().unwrap();
        for bad in ["../a", "/a", "..data", "a/../../b", ""] {
            let error = write_tree(base.path(), &tree(&[(bad, "", 0o644)])).unwrap_err();
            assert!(matches!(error, VolumeError::BadPath { .. }), "{bad}: {error}");
        }
    }
}
