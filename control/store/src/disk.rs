//! The file: two redb tables, read once, then only written.
//!
//! `objects` holds encoded key -> revision (8 bytes, little-endian) and JSON; `meta` holds the format and the revision
//! of the last write, which outlives the objects it counted.

use crate::error::StoreError;
use crate::key::KeyBytes;
use crate::snapshot::{FIRST_REVISION, Snapshot};
use crate::stored::Stored;
use bytes::Bytes;
use imbl::OrdMap;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The format written here.
const FORMAT: u64 = 1;

/// Pages redb may keep in memory: writes walk a few; reads are served by us.
const CACHE_BYTES: usize = 2 << 20;

/// An object's row after a write; none when it was removed.
pub(crate) type Row = (KeyBytes, Option<Arc<Stored>>);

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
}

impl Disk {
    /// Opens the file at `path`, making it (and the folders above it) when it is not there.
    pub(crate) fn open(path: &Path) -> Result<(Self, Snapshot), StoreError> {
        let at = |error: redb::Error| explain(path, error);
        if !path.try_exists().map_err(|error| at(error.into()))? {
            make(path).map_err(at)?;
        }
        let database = builder().create(path).map_err(|error| at(error.into()))?;
        let disk = Self { database };
        let snapshot = disk.load(path)?;
        Ok((disk, snapshot))
    }

    /// Opens what a backend holds.
    #[cfg(test)]
    pub(crate) fn with_backend(backend: impl redb::StorageBackend) -> Result<(Self, Snapshot), StoreError> {
        let path = Path::new("(memory)");
        let database = builder().create_with_backend(backend).map_err(|error| explain(path, error.into()))?;
        let disk = Self { database };
        let snapshot = disk.load(path)?;
        Ok((disk, snapshot))
    }

    /// Makes a batch of rows durable, all or none.
    pub(crate) fn write(&self, rows: &[Row], revision: u64) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut value = Vec::new();
            for (key, stored) in rows {
                match stored {
                    Some(stored) => {
                        value.clear();
                        value.extend(stored.revision.to_le_bytes());
                        value.extend(&stored.json);
                        objects.insert(key.as_bytes(), value.as_slice())?;
                    }
                    None => {
                        objects.remove(key.as_bytes())?;
                    }
                }
            }
            transaction.open_table(META)?.insert("revision", revision)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn load(&self, path: &Path) -> Result<Snapshot, StoreError> {
        let at = |error: redb::Error| explain(path, error);
        self.check_format(path)?;
        let transaction = self.database.begin_read().map_err(|error| at(error.into()))?;
        let meta = transaction.open_table(META).map_err(|error| at(error.into()))?;
        let revision =
            meta.get("revision").map_err(|error| at(error.into()))?.map_or(FIRST_REVISION, |row| row.value());
        let table = transaction.open_table(OBJECTS).map_err(|error| at(error.into()))?;
        let mut objects = OrdMap::new();
        for row in table.iter().map_err(|error| at(error.into()))? {
            let (key, value) = row.map_err(|error| at(error.into()))?;
            let key = KeyBytes::from_disk(key.value());
            let stored = decode_row(&key, value.value()).ok_or_else(|| StoreError::Unreadable {
                path: path.to_owned(),
                source: format!("the row {:?} is damaged", String::from_utf8_lossy(key.as_bytes())).into(),
            })?;
            objects.insert(key, Arc::new(stored));
        }
        Ok(Snapshot { revision, objects })
    }

    /// A new file gets our tables; an old one must have them.
    fn check_format(&self, path: &Path) -> Result<(), StoreError> {
        let at = |error: redb::Error| explain(path, error);
        let foreign = |found: String| StoreError::Foreign { path: path.to_owned(), found };
        let transaction = self.database.begin_write().map_err(|error| at(error.into()))?;
        let tables: Vec<String> = transaction
            .list_tables()
            .map_err(|error| at(error.into()))?
            .map(|table| table.name().to_owned())
            .collect();
        if tables.is_empty() {
            let make = || -> Result<(), redb::Error> {
                transaction.open_table(OBJECTS)?;
                let mut meta = transaction.open_table(META)?;
                meta.insert("format", FORMAT)?;
                meta.insert("revision", FIRST_REVISION)?;
                Ok(())
            };
            make().map_err(at)?;
            return transaction.commit().map_err(|error| at(error.into()));
        }
        let names = || format!("a redb database with the tables {}", tables.join(", "));
        let format = match transaction.open_table(META) {
            Ok(meta) => meta.get("format").map_err(|error| at(error.into()))?.map(|row| row.value()),
            Err(_) => None,
        };
        transaction.abort().map_err(|error| at(error.into()))?;
        match format {
            None => Err(foreign(names())),
            Some(FORMAT) => Ok(()),
            Some(found) => Err(StoreError::TooNew { path: path.to_owned(), found, known: FORMAT }),
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn decode_row(key: &KeyBytes, value: &[u8]) -> Option<Stored> {
    let (revision, json) = value.split_first_chunk()?;
    serde_json::from_slice::<serde::de::IgnoredAny>(json).ok()?;
    Some(Stored {
        key: key.decode()?,
        revision: u64::from_le_bytes(*revision),
        json: Bytes::copy_from_slice(json),
    })
}

/// Makes an empty store at `path`, readable by its owner alone: Secrets are inside.
///
/// It is made under another name first: a crash on the way must not leave half a file that nothing can open.
fn make(path: &Path) -> Result<(), redb::Error> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders = DirBuilder::new();
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folders.mode(0o700);
        options.mode(0o600);
    }
    folders.recursive(true).create(&folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = folder.join(name);
    if new.try_exists()? {
        std::fs::remove_file(&new)?;
    }
    let file = options.read(true).write(true).create_new(true).open(&new)?;
    drop(builder().create_file(file)?);
    // A link, not a rename: another process that was quicker keeps its file.
    match std::fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(_) => return Ok(std::fs::rename(&new, path)?),
        Ok(()) => {}
    }
    std::fs::remove_file(&new)?;
    File::open(&folder)?.sync_all()?;
    Ok(())
}

fn explain(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Foreign { path, found: error.to_string() }
        }
        redb::Error::UpgradeRequired(version) => {
            StoreError::Foreign { path, found: format!("a redb file of the old format {version}") }
        }
        error => StoreError::Unreadable { path, source: Box::new(error) },
    }
}
