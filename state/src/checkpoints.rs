//! Checkpoints: small values that say how far each stage has come.
//!
//! Keys: `source/erp`, `integrate/erp`, `target/erp`, `savepoint/NAME`, `memory/erp`, `start/erp`,
//! `gaps/erp`, `schemas/erp/public.orders`, `drift/erp`. Values are bytes; the structs in [`saved`] are the ones in use.
//!
//! No progress is kept here only (a source's position is in its journal, the progress of a stage
//! with the data it wrote; rows that a reader does not remember are read again), so a store that was lost or damaged is moved aside, and the caller is
//! told to rebuild it.

pub mod saved;

mod sidecar;

use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use sidecar::Sidecar;

/// Larger values are refused: this is no place for data.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// First byte of every stored value.
const VERSION: u8 = 1;
/// Version and checksum.
const VALUE_HEADER_BYTES: usize = 5;
/// Key of the number of writes so far; no caller's key begins with a space.
const GENERATION: &str = " generation";
/// Memory for pages; there are few and small values.
const CACHE_BYTES: u64 = 16 << 20;

/// A small durable map. Calls block on the disk and may come from any thread.
///
/// Contract: when `put`, `put_many` or `remove` returns, the change is on disk; when it fails, the
/// old or the new value may be there. `put_many` is all or nothing.
pub trait Checkpoints: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CheckpointError>;

    /// Puts one value.
    fn put(&self, key: &str, value: &[u8]) -> Result<(), CheckpointError> {
        self.put_many(&[(key, value)])
    }

    /// Puts several values together.
    fn put_many(&self, values: &[(&str, &[u8])]) -> Result<(), CheckpointError>;

    /// All keys that begin with `prefix`, ascending, with their values.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CheckpointError>;

    /// Removes a key; it need not exist.
    fn remove(&self, key: &str) -> Result<(), CheckpointError>;
}

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk said no.
    #[error("checkpoints {file}: {doing} failed")]
    Io {
        /// File concerned.
        file: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The store said no.
    #[error("checkpoints: {doing} failed; restart the process, which mends or rebuilds the store")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// The store's words.
        #[source]
        source: sled::Error,
    },
    /// A value does not have its checksum.
    #[error("checkpoint `{0}` is corrupt: restart the process, which rebuilds the store")]
    Corrupt(String),
    /// A value that is too large, or a key that cannot be one.
    #[error(
        "checkpoint `{key}` of {bytes} bytes cannot be kept: keys begin with a letter, values have at most {VALUE_BYTES_MAX} bytes"
    )]
    Refused {
        /// Its key.
        key: String,
        /// Its size.
        bytes: usize,
    },
    /// A value is not what its key says.
    #[error("checkpoint `{key}` was written by another version: remove it, it will be rebuilt")]
    Unreadable {
        /// Its key.
        key: String,
        /// What was expected.
        #[source]
        source: serde_json::Error,
    },
    /// Another process has it open.
    #[error("checkpoints {0} are in use by another crossdock")]
    Locked(PathBuf),
}

/// [`Checkpoints`] in an embedded store in a folder of its own.
pub struct SledCheckpoints {
    // Dropped in this order: the store is closed before another process may open it.
    tree: sled::Db,
    dir: PathBuf,
    /// Number of the last write, and the file that remembers it.
    writes: Mutex<Sidecar>,
    _lock: Flock<File>,
}

/// A store that has been opened.
pub struct Opened {
    /// The store.
    pub store: SledCheckpoints,
    /// It had been lost or damaged and is empty now: write all of it again, in one `put_many`.
    /// Until something has been written, opening it again says so again.
    pub rebuilt: bool,
}

impl SledCheckpoints {
    /// Opens the store of a folder, or makes one. A store that cannot be read, that has a corrupt
    /// value, or that has lost writes is moved to `DIR.broken-MICROS`, with a warning.
    pub fn open(dir: &Path) -> Result<Opened, CheckpointError> {
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(io_error(parent, "making the folder"))?;
        }
        let lock = lock(dir)?;
        let mut writes = Sidecar::open(dir)?;
        let (tree, rebuilt) = match open_sound(dir, writes.number)? {
            Ok(tree) => (tree, false),
            Err(why) => {
                let moved = beside(dir, &format!(".broken-{}", now_micros()));
                tracing::warn!(
                    dir = %dir.display(), moved = %moved.display(), why,
                    "checkpoints: moved aside what cannot be trusted, rebuilding"
                );
                if dir.exists() {
                    std::fs::rename(dir, &moved)
                        .map_err(io_error(dir, "moving the broken store aside"))?;
                }
                (open_store(dir).map_err(store_error("opening an empty store"))?, true)
            }
        };
        sync(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent)?;
        }
        let known = generation(&tree).unwrap_or(0);
        writes.number = writes.number.max(known);
        let dir = dir.to_path_buf();
        let store = SledCheckpoints { tree, dir, writes: Mutex::new(writes), _lock: lock };
        Ok(Opened { store, rebuilt })
    }

    /// Applies a batch and makes it durable.
    fn write(&self, mut batch: sled::Batch) -> Result<(), CheckpointError> {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let number = writes.number + 1;
        batch.insert(GENERATION, encode(GENERATION, &number.to_le_bytes()));
        self.tree.apply_batch(batch).map_err(store_error("writing"))?;
        self.tree.flush().map_err(store_error("flushing"))?;
        // The store's own flush hands pages to the kernel and no further.
        sync(&self.dir.join("db"))?;
        sync(&self.dir)?;
        writes.advance(number)
    }
}

impl Checkpoints for SledCheckpoints {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        check(key, 0)?;
        let stored = self.tree.get(key).map_err(store_error("reading"))?;
        stored.map(|stored| decode(key, &stored)).transpose()
    }

    fn put_many(&self, values: &[(&str, &[u8])]) -> Result<(), CheckpointError> {
        let mut batch = sled::Batch::default();
        for (key, value) in values {
            check(key, value.len())?;
            batch.insert(*key, encode(key, value));
        }
        self.write(batch)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CheckpointError> {
        let mut found = Vec::new();
        for pair in self.tree.scan_prefix(prefix) {
            let (key, stored) = pair.map_err(store_error("reading"))?;
            let key = String::from_utf8_lossy(&key).into_owned();
            if key != GENERATION {
                let value = decode(&key, &stored)?;
                found.push((key, value));
            }
        }
        Ok(found)
    }

    fn remove(&self, key: &str) -> Result<(), CheckpointError> {
        check(key, 0)?;
        let mut batch = sled::Batch::default();
        batch.remove(key);
        self.write(batch)
    }
}

/// Opens the store and reads all of it. The inner error says why it cannot be trusted; the outer
/// one is about the disk, where moving the store aside would help nobody.
fn open_sound(dir: &Path, writes: u64) -> Result<Result<sled::Db, String>, CheckpointError> {
    // Damaged files make the store panic in places where it should fail.
    let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<_> {
        let tree = open_store(dir)?;
        for pair in tree.iter() {
            let (key, stored): (sled::IVec, sled::IVec) = pair?;
            let key = String::from_utf8_lossy(&key).into_owned();
            if decode(&key, &stored).is_err() {
                return Ok((tree, Some(format!("value `{key}` is corrupt"))));
            }
        }
        let known = generation(&tree).unwrap_or(0);
        let lost = known < writes;
        Ok((tree, lost.then(|| format!("write {writes} is lost, the last one is {known}"))))
    }));
    match opened {
        Err(_) => Ok(Err("it cannot be read".into())),
        Ok(Ok((tree, None))) => Ok(Ok(tree)),
        Ok(Ok((tree, Some(why)))) => {
            drop(tree);
            Ok(Err(why))
        }
        Ok(Err(sled::Error::Io(source))) if !damaged(&source) => {
            Err(CheckpointError::Io { file: dir.to_path_buf(), doing: "opening", source })
        }
        Ok(Err(source)) => Ok(Err(source.to_string())),
    }
}

fn open_store(dir: &Path) -> sled::Result<sled::Db> {
    sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
}

/// Errors that come from what a file holds, not from whether it can be reached.
fn damaged(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

fn generation(tree: &sled::Db) -> Option<u64> {
    let stored = tree.get(GENERATION).ok()??;
    let number = decode(GENERATION, &stored).ok()?;
    Some(u64::from_le_bytes(number.try_into().ok()?))
}

fn check(key: &str, bytes: usize) -> Result<(), CheckpointError> {
    let letter = key.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !letter || key.len() > 512 || bytes > VALUE_BYTES_MAX {
        return Err(CheckpointError::Refused { key: key.to_string(), bytes });
    }
    Ok(())
}

/// Version, checksum of key and value, value.
fn encode(key: &str, value: &[u8]) -> Vec<u8> {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), value);
    let mut stored = Vec::with_capacity(VALUE_HEADER_BYTES + value.len());
    stored.push(VERSION);
    stored.extend_from_slice(&checksum.to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

fn decode(key: &str, stored: &[u8]) -> Result<Vec<u8>, CheckpointError> {
    let corrupt = || CheckpointError::Corrupt(key.to_string());
    let value = stored.get(VALUE_HEADER_BYTES..).ok_or_else(corrupt)?;
    if encode(key, value) != stored { Err(corrupt()) } else { Ok(value.to_vec()) }
}

fn lock(dir: &Path) -> Result<Flock<File>, CheckpointError> {
    let path = beside(dir, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error(&path, "opening the lock file"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
        Errno::EWOULDBLOCK => CheckpointError::Locked(dir.to_path_buf()),
        e => io_error(&path, "locking")(e.into()),
    })
}

/// The path with something appended to its last part.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io_error(path, "syncing"))
}

fn io_error(file: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> CheckpointError {
    let file = file.to_path_buf();
    move |source| CheckpointError::Io { file, doing, source }
}

fn store_error(doing: &'static str) -> impl FnOnce(sled::Error) -> CheckpointError {
    move |source| CheckpointError::Store { doing, source }
}

fn now_micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}
