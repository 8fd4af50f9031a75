//! Folders of the host, under roots that the operator named and nowhere else.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::{Held, VolumeError, held::resolve};

/// What a hostPath must be, with upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostPathType {
    /// No check (the empty text).
    Unset,
    /// A folder, made if it is not there.
    DirectoryOrCreate,
    /// A folder that is there.
    Directory,
    /// A file, made empty if it is not there.
    FileOrCreate,
    /// A file that is there.
    File,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl HostPathType {
    /// Reads upstream's word; `None` for one that does not exist.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" => Self::Unset,
            "DirectoryOrCreate" => Self::DirectoryOrCreate,
            "Directory" => Self::Directory,
            "FileOrCreate" => Self::FileOrCreate,
            "File" => Self::File,
            "Socket" => Self::Socket,
            "CharDevice" => Self::CharDevice,
            "BlockDevice" => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// Holds a folder or file of the host, if it lies under one of `roots` after all links are followed. What is to be created
/// is created only there. The roots are real paths: a guest that writes one of them cannot give another a new meaning.
pub fn host_path(roots: &[PathBuf], path: &Path, kind: HostPathType) -> Result<Held, VolumeError> {
    let refused = || VolumeError::NotAllowed { path: path.to_owned(), allowed: describe(roots) };
    if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
        return Err(refused());
    }
    let real = resolve(path).map_err(VolumeError::io("resolve", path))?;
    // Of roots within each other the outermost: guests may have replaced the inner one.
    let above = roots.iter().filter(|root| real.starts_with(root));
    let root = above.min_by_key(|root| root.components().count()).ok_or_else(refused)?;
    let part = real.strip_prefix(root).expect("it starts with it");
    let root = Held::folder(root)?;
    let held = match kind {
        HostPathType::FileOrCreate => root.file_beneath(part),
        _ => root.beneath(part, kind == HostPathType::DirectoryOrCreate),
    };
    let held = held.map_err(VolumeError::io("open hostPath", path))?;
    match wrong_type(kind, held.kind()) {
        Some(expected) => Err(VolumeError::WrongType { path: path.to_owned(), expected }),
        None => Ok(held),
    }
}

fn describe(roots: &[PathBuf]) -> String {
    if roots.is_empty() {
        return "none is named".to_owned();
    }
    roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn wrong_type(kind: HostPathType, file_type: FileType) -> Option<&'static str> {
    let (holds, expected) = match kind {
        HostPathType::Unset => (true, ""),
        HostPathType::DirectoryOrCreate | HostPathType::Directory => (file_type.is_dir(), "directory"),
        HostPathType::FileOrCreate | HostPathType::File => (file_type.is_file(), "file"),
        HostPathType::Socket => (file_type.is_socket(), "socket file"),
        HostPathType::CharDevice => (file_type.is_char_device(), "character device"),
        HostPathType::BlockDevice => (file_type.is_block_device(), "block device"),
    };
    (!holds).then_some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_paths_under_the_operators_roots_are_given_and_links_do_not_lead_out() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let root = base.join("root");
        fs::create_dir_all(root.join("in")).unwrap();
        fs::create_dir_all(base.join("outside")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(base.join("outside"), root.join("link")).unwrap();
        let roots = [root.clone()];
        let check = |path: &str, kind: &str, expect: &str| {
            let kind = HostPathType::parse(kind).unwrap();
            let got = match host_path(&roots, &base.join(path), kind) {
                Ok(held) => {
                    let path = held.path().canonicalize().unwrap();
                    path.strip_prefix(&base).unwrap().display().to_string()
                }
                Err(error) => error.to_string().replace(base.to_str().unwrap(), "BASE"),
            };
            assert!(got.starts_with(expect), "{path} {kind:?}: {got}");
        };
        check("root/in", "", "root/in");
        check("root/in", "Directory", "root/in");
        check("root/in", "File", "hostPath type check failed: BASE/root/in is not a file");
        check("root/file", "File", "root/file");
        check("root/new/deep", "DirectoryOrCreate", "root/new/deep");
        check("root/made", "FileOrCreate", "root/made");
        check("root/none/made", "FileOrCreate", "open hostPath BASE/root/none/made");
        check("root/missing", "Directory", "open hostPath BASE/root/missing");
        check(
            "root/link",
            "Directory",
            "hostPath BASE/root/link is not under a folder that the operator allows",
        );
        check("root/link/made", "DirectoryOrCreate", "hostPath BASE/root/link/made is not under");
        check("outside", "", "hostPath BASE/outside is not under");
        check("root/../outside", "", "hostPath BASE/root/../outside is not under");
        assert!(!base.join("outside/made").exists());
        let none = host_path(&[], &root, HostPathType::Unset).unwrap_err().to_string();
        assert!(none.contains("(none is named)"), "{none}");
    }
}
