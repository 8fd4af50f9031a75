//! Images on disk: content by digest, and one small file for each name.
//!
//! Several processes use one store at a time. Each file is replaced as a whole, so reading needs no lock and always sees
//! what the last writer left; loading and removing take a lock, so that content is not removed while a name for it is
//! being added.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use runtime_engine::Digest;
use serde::{Deserialize, Serialize};

use crate::{error::ImageError, reference::Reference};

/// What the store knows of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name in its full form, with its tag.
    pub name: String,
    /// The name as it was given.
    pub given: String,
    /// The content's digest.
    #[serde(with = "as_text")]
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// When it was loaded.
    pub created: Timestamp,
}

mod as_text {
    use runtime_engine::Digest;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The names and contents in one folder. Knows nothing of what the contents are.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: PathBuf,
}

impl ImageStore {
    /// The store in `dir`, made where it is missing.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        for folder in [dir.join("names"), dir.join("blobs")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(io_error("making", &folder))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The error for a reference that names nothing here.
    pub(crate) fn not_found(&self, reference: &str) -> ImageError {
        let home = self.dir.parent().unwrap_or(&self.dir).to_owned();
        ImageError::NotFound { home, reference: reference.to_owned() }
    }

    /// Every name, in order.
    pub fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        let dir = self.dir.join("names");
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io_error("reading", &dir))? {
            let path = entry.map_err(io_error("reading", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(read_record(&path)?);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// What `reference` names, if it is here: a name, a name with a digest, or a digest alone.
    pub fn resolve(&self, reference: &str) -> Result<Option<ImageRecord>, ImageError> {
        if let Ok(digest) = reference.parse::<Digest>() {
            return Ok(self.list()?.into_iter().find(|record| record.digest == digest));
        }
        let reference: Reference = reference.parse()?;
        let Some(digest) = reference.digest else { return read_record(&self.record_path(&reference)) };
        let of_repository = |record: &ImageRecord| {
            record.name.parse::<Reference>().is_ok_and(|name| name.repository == reference.repository)
        };
        Ok(self.list()?.into_iter().find(|record| record.digest == digest && of_repository(record)))
    }

    /// Adds `content` under `name`, and takes the name from whatever had it.
    pub fn add(&self, content: &[u8], name: &str, now: Timestamp) -> Result<ImageRecord, ImageError> {
        let reference = name_to_give(name)?;
        let digest = Digest::of(content);
        let record = ImageRecord {
            name: reference.to_string(),
            given: name.to_owned(),
            digest,
            size: u64::try_from(content.len()).expect("a length fits into 64 bits"),
            created: now,
        };
        let _lock = self.lock()?;
        let before = read_record(&self.record_path(&reference))?;
        self.write(&self.blob_path(&digest), content)?;
        let json = serde_json::to_vec_pretty(&record).expect("a record is plain data");
        self.write(&self.record_path(&reference), &json)?;
        if let Some(before) = before {
            self.remove_unnamed(&before.digest)?;
        }
        Ok(record)
    }

    /// Removes a name, and the content with its last name. By a digest, all its names.
    pub fn remove(&self, reference: &str) -> Result<Vec<ImageRecord>, ImageError> {
        let _lock = self.lock()?;
        let records = match reference.parse::<Digest>() {
            Ok(digest) => self.list()?.into_iter().filter(|record| record.digest == digest).collect(),
            Err(_name) => Vec::from_iter(self.resolve(reference)?),
        };
        let Some(first) = records.first() else {
            return Err(self.not_found(reference));
        };
        for record in &records {
            let path = self.record_path(&record.name.parse()?);
            fs::remove_file(&path).map_err(io_error("removing", &path))?;
        }
        self.remove_unnamed(&first.digest)?;
        Ok(records)
    }

    /// The content with this digest; not checked against it.
    pub fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        fs::read(self.blob_path(digest))
    }

    fn remove_unnamed(&self, digest: &Digest) -> Result<(), ImageError> {
        if self.list()?.iter().any(|record| record.digest == *digest) {
            return Ok(());
        }
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", &path)(error)),
            _ => Ok(()),
        }
    }

    fn record_path(&self, reference: &Reference) -> PathBuf {
        // By digest, so that no name is too long for a file's, or leads out of the folder.
        let name = Reference { digest: None, ..reference.clone() }.to_string();
        self.dir.join("names").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    /// Held by whoever changes the store; given back when the file is closed.
    fn lock(&self) -> Result<fs::File, ImageError> {
        let path = self.dir.join("lock");
        let open = || {
            let file = fs::OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(io_error("locking", &path))
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), ImageError> {
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            io::Result::Ok(())
        };
        write().map_err(io_error("writing", path))
    }
}

/// The record in a file; none where there is no file, or no record in it.
fn read_record(path: &Path) -> Result<Option<ImageRecord>, ImageError> {
    match fs::read(path) {
        Ok(json) => {
            let record = serde_json::from_slice(&json);
            Ok(record
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "not an image's record"))
                .ok())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("reading", path)(error)),
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { doing, path, source }
}

/// A name under which an image can be added. A digest is none: the content alone decides it.
pub(crate) fn name_to_give(name: &str) -> Result<Reference, ImageError> {
    let reference: Reference = name.parse()?;
    if reference.digest.is_some() || name.parse::<Digest>().is_ok() {
        return Err(ImageError::NamedByDigest { name: name.to_owned() });
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn names(store: &ImageStore) -> Vec<String> {
        store.list().unwrap().into_iter().map(|record| record.name).collect()
    }

    #[test]
    fn an_image_is_found_by_each_form_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let record = store.add(b"content", "web", now()).unwrap();
        assert_eq!(record.given, "web");
        let digest = record.digest;
        for name in [
            "web",
            "web:latest",
            "library/web",
            "docker.io/library/web:latest",
            &format!("web@{digest}"),
            &digest.to_string(),
        ] {
            assert_eq!(store.resolve(name).unwrap().as_ref(), Some(&record), "{name}");
        }
        for name in ["web:v1", "other", &format!("other@{digest}"), &format!("web@{}", Digest::of(b""))] {
            assert_eq!(store.resolve(name).unwrap(), None, "{name}");
        }
        assert!(matches!(store.resolve("Web!"), Err(ImageError::InvalidReference(_))));
    }

    #[test]
    fn content_goes_with_its_last_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let digest = store.add(b"one", "a", now()).unwrap().digest;
        store.add(b"one", "b:v1", now()).unwrap();
        assert_eq!(names(&store), ["docker.io/library/a:latest", "docker.io/library/b:v1"]);
        store.remove("a").unwrap();
        assert_eq!(store.read(&digest).unwrap(), b"one");
        // The name moves on to other content.
        store.add(b"two", "b:v1", now()).unwrap();
        assert!(store.read(&digest).is_err());
        store.remove("b:v1").unwrap();
        assert_eq!(names(&store), [""; 0]);
        assert!(matches!(store.remove("b:v1"), Err(ImageError::NotFound { .. })));
    }

    #[test]
    fn another_process_sees_what_was_added() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (ImageStore::open(dir.path()).unwrap(), ImageStore::open(dir.path()).unwrap());
        assert_eq!(theirs.resolve("web").unwrap(), None);
        let record = ours.add(b"content", "web", now()).unwrap();
        assert_eq!(theirs.resolve("web").unwrap(), Some(record));
    }

    #[test]
    fn a_damaged_record_is_no_image_and_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        store.add(b"one", "a", now()).unwrap();
        store.add(b"two", "b", now()).unwrap();
        fs::write(store.record_path(&"a".parse().unwrap()), b"{").unwrap();
        assert_eq!(names(&store), ["docker.io/library/b:latest"]);
        assert_eq!(store.resolve("a").unwrap(), None);
        store.add(b"one", "a", now()).unwrap();
        assert_eq!(names(&store).len(), 2);
    }
}
