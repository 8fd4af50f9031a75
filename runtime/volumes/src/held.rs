//! Files and folders of the host that are held open.
//!
//! Guests rename and link what lies in their volumes, at any moment and from other pods too. So what is mounted is found
//! once, name by name from a folder that no guest can replace and through no link; from then on it is known by its
//! descriptor, and its path does not matter any more.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, linkat, mkdirat, open, openat},
    io::Errno,
};

use crate::VolumeError;

/// Which one it is, and nothing more: neither readable nor writable.
const WHICH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file or folder of the host: the same one as long as this is held, whatever is put in the place of its name.
#[derive(Debug)]
pub struct Held {
    fd: OwnedFd,
    kind: FileType,
}

impl Held {
    /// A folder by its path, which no guest can change. Links are followed.
    pub fn folder(path: &Path) -> Result<Self, VolumeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(Self::new)
            .map_err(VolumeError::io("open folder", path))
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        if kind.is_symlink() { Err(Errno::LOOP.into()) } else { Ok(Self { fd, kind }) }
    }

    /// What it is.
    pub(crate) fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind.is_dir()
    }

    /// The descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Leads to it as long as this is held.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Gives a file a second name, on the same file system.
    pub fn link(&self, name: &Path) -> io::Result<()> {
        self.check_file()?;
        Ok(linkat(CWD, self.path(), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Copies a file.
    pub fn copy(&self, name: &Path) -> io::Result<()> {
        self.check_file()?;
        fs::copy(self.path(), name).map(drop)
    }

    /// A pipe would be waited for, and a device may never end.
    fn check_file(&self) -> io::Result<()> {
        if self.kind.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
    }

    /// What lies in this folder under `path`, which has neither links nor `..` in it. Folders that are not there are
    /// made if `create` says so.
    pub(crate) fn beneath(&self, path: &Path, create: bool) -> io::Result<Self> {
        let mut fd = self.fd.try_clone()?;
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                Component::CurDir => continue,
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(Errno::XDEV.into());
                }
            };
            fd = match openat(&fd, name, WHICH, Mode::empty()) {
                Err(Errno::NOENT) if create => {
                    match mkdirat(&fd, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(&fd, name, WHICH, Mode::empty())?
                }
                found => found?,
            };
        }
        Self::new(fd)
    }

    /// The file under `path`, made empty if there is none; its folder must be there.
    pub(crate) fn file_beneath(&self, path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.beneath(path, false);
        };
        let parent = self.beneath(parent, false)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match parent.beneath(Path::new(name), false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        match openat(&parent.fd, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(_) | Err(Errno::EXIST) => parent.beneath(Path::new(name), false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a path leads by the links there are now: as far as it exists its real path, then what of it does not exist.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let existing = path.ancestors().find(|part| part.symlink_metadata().is_ok());
    let existing = existing.ok_or(io::ErrorKind::NotFound)?;
    let real = existing.canonicalize()?;
    let rest = path.strip_prefix(existing).expect("it is one of its ancestors");
    // Joined with nothing, a path would end with a slash.
    Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_lies_beneath_is_found_through_no_link() {
        let base = tempfile::tempdir().unwrap();
        let (root, outside) = (base.path().join("root"), base.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        let root = Held::folder(&root).unwrap();
        let check = |path: &str, create: bool, expect: Option<Errno>| {
            let found = root.beneath(Path::new(path), create).map(drop).map_err(|error| error.raw_os_error());
            assert_eq!(found.err().flatten(), expect.map(Errno::raw_os_error), "{path}");
        };
        check("a/b", false, None);
        check("", false, None);
        check("a/./b", false, None);
        check("a/missing", false, Some(Errno::NOENT));
        check("a/made/deep", true, None);
        check("a/../a", false, Some(Errno::XDEV));
        check("/a", false, Some(Errno::XDEV));
        check("link", true, Some(Errno::LOOP));
        check("link/made", true, Some(Errno::NOTDIR));
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
        assert!(root.file_beneath(Path::new("link/file")).is_err());
        assert!(root.file_beneath(Path::new("link")).is_err());
        assert!(root.file_beneath(Path::new("a/file")).unwrap().kind().is_file());
    }

    #[test]
    fn what_is_held_stays_the_same_when_its_name_leads_elsewhere() {
        let base = tempfile::tempdir().unwrap();
        let (root, outside) = (base.path().join("root"), base.path().join("outside"));
        fs::create_dir_all(root.join("s")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(root.join("s/file"), "inside").unwrap();
        fs::write(outside.join("file"), "outside").unwrap();
        let held = Held::folder(&root).unwrap();
        let (folder, file) =
            (held.beneath(Path::new("s"), false).unwrap(), held.beneath(Path::new("s/file"), false).unwrap());
        fs::rename(root.join("s"), root.join("t")).unwrap();
        symlink(&outside, root.join("s")).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "inside");
        file.link(&base.path().join("linked")).unwrap();
        file.copy(&base.path().join("copied")).unwrap();
        for name in ["linked", "copied"] {
            assert_eq!(fs::read_to_string(base.path().join(name)).unwrap(), "inside");
        }
        assert!(folder.copy(&base.path().join("folder")).is_err());
    }
}
