//! The store joined with an engine: images ready to run, each in memory once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use jiff::Timestamp;
use runtime_engine::{Digest, Engine, Image};

use crate::{
    error::ImageError,
    store::{ImageRecord, ImageStore},
};

/// The local images. Clones share what is in memory.
#[derive(Debug, Clone)]
pub struct Images {
    store: ImageStore,
    engine: Engine,
    /// What was used and still has a name, so that it is not made ready again for the next pod.
    ready: Arc<Mutex<BTreeMap<Digest, Arc<Image>>>>,
}

impl Images {
    /// The images in `dir`, made where it is missing.
    pub fn open(dir: &Path, engine: Engine) -> Result<Self, ImageError> {
        Ok(Self { store: ImageStore::open(dir)?, engine, ready: Arc::default() })
    }

    /// Adds the file at `path` as `name`, once it is sure that it can run here. Its code is compiled by then.
    pub async fn load_file(
        &self,
        path: &Path,
        name: &str,
        now: Timestamp,
    ) -> Result<ImageRecord, ImageError> {
        // Before the work, which may be long.
        crate::store::name_to_give(name)?;
        let content = runtime_engine::read_content(path).map_err(|source| ImageError::Io {
            doing: "reading",
            path: path.to_owned(),
            source,
        })?;
        let refused = |source| ImageError::NotAnImage { path: path.to_owned(), source };
        self.engine.load(content.clone()).await.map_err(refused)?;
        self.store.add(&content, name, now)
    }

    /// Every name, in order.
    pub fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        self.store.list()
    }

    /// Removes a name, and the content with its last name; by a digest, all its names. Guests that run it go on.
    pub fn remove(&self, reference: &str) -> Result<Vec<ImageRecord>, ImageError> {
        let removed = self.store.remove(reference)?;
        self.forget_unnamed()?;
        Ok(removed)
    }

    /// What `reference` names, if it is here.
    pub fn resolve(&self, reference: &str) -> Result<Option<ImageRecord>, ImageError> {
        self.store.resolve(reference)
    }

    /// The image that `reference` names, ready to run.
    pub async fn get(&self, reference: &str) -> Result<Arc<Image>, ImageError> {
        let not_found = || self.store.not_found(reference);
        let digest = self.resolve(reference)?.ok_or_else(not_found)?.digest;
        if let Some(image) = self.ready().get(&digest) {
            return Ok(Arc::clone(image));
        }
        let image = match self.engine.load_compiled(digest).await {
            Some(image) => image,
            None => self.make(reference, digest).await?,
        };
        self.forget_unnamed()?;
        self.ready().insert(digest, Arc::clone(&image));
        Ok(image)
    }

    /// Compiles the content.
    async fn make(&self, reference: &str, digest: Digest) -> Result<Arc<Image>, ImageError> {
        let store = self.store.clone();
        let read = move || store.read(&digest).ok().filter(|content| Digest::of(content) == digest);
        // It may be hundreds of megabytes: no work for the caller's thread.
        let content = self.engine.runtime().spawn_blocking(read).await;
        let content = content
            .expect("nothing in it panics, and nobody aborts it")
            .ok_or_else(|| ImageError::Damaged { reference: reference.to_owned(), digest })?;
        let unusable = |source| ImageError::Unusable { reference: reference.to_owned(), source };
        self.engine.load(Bytes::from(content)).await.map_err(unusable)
    }

    /// Lets go of what no name leads to any more, be it by this process or another.
    fn forget_unnamed(&self) -> Result<(), ImageError> {
        let named: BTreeSet<Digest> = self.list()?.iter().map(|record| record.digest).collect();
        self.ready().retain(|digest, _| named.contains(digest));
        Ok(())
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Arc<Image>>> {
        self.ready.lock().expect("nothing panics while this is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_engine::{EngineConfig, PoolSizes};
    use std::fs;

    const PROGRAM: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

    fn images(dir: &Path) -> Images {
        let config = EngineConfig {
            cache_dir: Some(dir.join("code")),
            pool: PoolSizes::for_guests(4),
            ..EngineConfig::default()
        };
        Images::open(&dir.join("images"), Engine::new(config, &[]).unwrap()).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[tokio::test]
    async fn an_image_is_loaded_once_and_seen_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (images(dir.path()), images(dir.path()));
        let file = dir.path().join("program.wat");
        fs::write(&file, PROGRAM).unwrap();
        assert!(matches!(theirs.get("web").await, Err(ImageError::NotFound { .. })));
        ours.load_file(&file, "web", now()).await.unwrap();
        let image = theirs.get("web:latest").await.unwrap();
        assert!(Arc::ptr_eq(&image, &theirs.get("docker.io/library/web").await.unwrap()));
        ours.remove("web").unwrap();
        let error = theirs.get("web").await.unwrap_err();
        let home = dir.path().display();
        assert_eq!(
            error.to_string(),
            format!(
                "image \"web\" is not in the local store; add it with: wharf image load FILE.wasm -t web --home {home}"
            )
        );
        let pinned = format!("web@{}", image.digest());
        let error = ours.load_file(&file, &pinned, now()).await.unwrap_err();
        assert!(matches!(error, ImageError::NamedByDigest { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_cannot_run_is_not_added() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        let file = dir.path().join("program");
        fs::write(&file, b"\x7fELF").unwrap();
        let error = images.load_file(&file, "web", now()).await.unwrap_err();
        assert!(matches!(error, ImageError::NotAnImage { .. }), "{error}");
        assert_eq!(images.list().unwrap(), []);
    }

    #[tokio::test]
    async fn damaged_content_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program.wat");
        fs::write(&file, PROGRAM).unwrap();
        let digest = images(dir.path()).load_file(&file, "web", now()).await.unwrap().digest;
        fs::write(dir.path().join("images/blobs").join(digest.hex()), b"other").unwrap();
        // As long as its compiled code is there, it is not missed.
        images(dir.path()).get("web").await.unwrap();
        fs::remove_dir_all(dir.path().join("code")).unwrap();
        assert!(matches!(images(dir.path()).get("web").await, Err(ImageError::Damaged { .. })));
    }
}
