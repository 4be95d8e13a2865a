//! Files of JSON lines: one delivery a line, in order.
//!
//! The file that is being written ends in `.open`. How much of it counts, and how far each stream
//! has come, stands in a small file beside it, which is replaced as a whole after the lines are on
//! the disk. What lies beyond that after a crash is cut off: there is no half line, and no
//! delivery twice.
//!
//! A file that is closed gets its final name; or it is written again as Parquet, and only the whole
//! of that gets one. Until then the lines stay, and a start after a crash does it anew.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::document::{deliveries, document};
use super::parquet;
use super::{Target, TargetBatch, TargetProgress};
use crate::{ApplyError, FileFormat, FileOptions, points};

/// What stands in the small file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Number of the file that is being written.
    file: u64,
    /// Bytes of it that count.
    bytes: u64,
    /// When it was begun, microseconds since the Unix epoch.
    begun_micros: u64,
    /// Progress by stream: number and time of the last batch.
    streams: BTreeMap<String, (u64, u64)>,
}

/// A folder into which deliveries are written as lines.
pub struct FileTarget {
    options: FileOptions,
    installation: String,
    state: State,
    file: File,
    /// A write has failed: what is in the file is not known before it is opened again.
    broken: bool,
}

impl fmt::Debug for FileTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTarget").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl FileTarget {
    /// Opens the folder, and cuts off what was not finished.
    pub fn open(options: &FileOptions, installation: &str) -> Result<Self, ApplyError> {
        let (state, file) = tokio::task::block_in_place(|| recover(options))?;
        let (options, installation) = (options.clone(), installation.to_string());
        Ok(Self { options, installation, state, file, broken: false })
    }

    /// Sets the progress of a stream back: what came after is written again. Returns where it
    /// was.
    pub fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        let Some((before, _)) = self.state.streams.get(stream).copied() else { return Ok(None) };
        let mut state = self.state.clone();
        state.streams.insert(stream.to_string(), (before.min(seq), micros()));
        tokio::task::block_in_place(|| note(&self.options, &state))
            .map_err(|e| failed(&self.options, "noting the progress", e))?;
        self.state = state;
        Ok(Some(before))
    }

    /// Closes the file that is being written when it is old enough, although nothing more comes.
    pub fn idle(&mut self) -> Result<(), ApplyError> {
        if self.broken {
            return Ok(());
        }
        let rotated = tokio::task::block_in_place(|| self.rotate_when_due());
        self.broken = rotated.is_err();
        rotated.map_err(|e| failed(&self.options, "closing a file", e))
    }

    /// Whether the folder can be written to; nothing stays in it.
    pub(super) fn probe(options: &FileOptions) -> Result<(), ApplyError> {
        let path = options.folder.join(format!(".{}.probe", options.name));
        let write = || {
            fs::create_dir_all(&options.folder)?;
            File::create(&path)?;
            fs::remove_file(&path)
        };
        write().map_err(|e| ApplyError::Definite {
            what: format!("{}: cannot write into {}: {e}", options.name, options.folder.display()),
            remedy: "make the folder, writable for the user that runs crossdock".into(),
        })
    }

    fn write(&mut self, batch: &TargetBatch, done: u64) -> io::Result<u64> {
        self.rotate_when_due()?;
        let mut lines = Vec::new();
        let mut written = 0;
        for (told, writes) in deliveries(batch).filter(|(told, _)| told.place > done) {
            lines.extend_from_slice(document(&self.installation, told, writes).as_bytes());
            lines.push(b'\n');
            written += 1;
        }
        if !lines.is_empty() {
            let (first, second) = lines.split_at(lines.len() / 2);
            self.file.write_all(first)?;
            points::pass("file.half_written", &self.options.name);
            self.file.write_all(second)?;
            points::pass("file.before_sync", &self.options.name);
            self.file.sync_data()?;
            points::pass("file.after_sync", &self.options.name);
        }
        let mut state = self.state.clone();
        state.bytes += lines.len() as u64;
        state.streams.insert(batch.stream.clone(), (batch.upto, micros()));
        note(&self.options, &state)?;
        self.state = state;
        Ok(written)
    }

    /// Closes a file that is large or old enough. The new one counts first: a crash in between
    /// leaves two open ones, and the next start closes the older.
    fn rotate_when_due(&mut self) -> io::Result<()> {
        let age = Duration::from_micros(micros().saturating_sub(self.state.begun_micros));
        let due = self.state.bytes >= self.options.rotate_bytes || age >= self.options.rotate_every;
        if self.state.bytes == 0 || !due {
            return Ok(());
        }
        let next = State {
            file: self.state.file + 1,
            bytes: 0,
            begun_micros: micros(),
            streams: self.state.streams.clone(),
        };
        let file = open_lines(&self.options, next.file, 0)?;
        note(&self.options, &next)?;
        points::pass("file.before_close", &self.options.name);
        close(&self.options, self.state.file)?;
        (self.file, self.state) = (file, next);
        Ok(())
    }
}

impl Target for FileTarget {
    async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        let found = self.state.streams.get(stream).copied();
        let progress = |(seq, micros): (u64, u64)| TargetProgress {
            seq,
            applied_micros: i64::try_from(micros).unwrap_or(i64::MAX),
        };
        Ok(found.map(progress))
    }

    async fn apply(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        let done = self.state.streams.get(&batch.stream).map_or(0, |(seq, _)| *seq);
        if self.broken {
            return Err(ApplyError::Transient {
                what: format!("{}: an earlier batch was not written whole", self.options.name),
                source: None,
            });
        }
        if batch.upto <= done {
            return Ok(None);
        }
        let written = tokio::task::block_in_place(|| self.write(batch, done));
        self.broken = written.is_err();
        written.map(Some).map_err(|e| failed(&self.options, "writing", e))
    }
}

fn failed(options: &FileOptions, doing: &str, error: io::Error) -> ApplyError {
    ApplyError::Transient {
        what: format!("{}: {doing} in {} failed", options.name, options.folder.display()),
        source: Some(Box::new(error)),
    }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn state_path(options: &FileOptions) -> PathBuf {
    options.folder.join(format!("{}.progress.json", options.name))
}

fn lines_path(options: &FileOptions, number: u64, open: bool) -> PathBuf {
    let end = if open { ".open" } else { "" };
    options.folder.join(format!("{}-{number:08}.jsonl{end}", options.name))
}

/// Reads the small file, finishes what was interrupted, and opens the lines to go on.
fn recover(options: &FileOptions) -> Result<(State, File), ApplyError> {
    let doing = |what: &'static str| move |e| failed(options, what, e);
    fs::create_dir_all(&options.folder).map_err(doing("making the folder"))?;
    let path = state_path(options);
    let state = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|_| damaged(options, &path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let begun = [
                lines_path(options, 1, true),
                lines_path(options, 1, false),
                parquet_path(options, 1),
            ];
            if begun.iter().any(|path| path.exists()) {
                let first = lines_path(options, 1, true);
                // Begun, and killed before anything counted.
                if fs::metadata(&first).is_ok_and(|m| m.len() > 0)
                    || lines_path(options, 1, false).exists()
                    || parquet_path(options, 1).exists()
                {
                    return Err(damaged(options, &path));
                }
            }
            let state = State { file: 1, begun_micros: micros(), ..State::default() };
            note(options, &state).map_err(doing("noting the progress"))?;
            state
        }
        Err(error) => return Err(failed(options, "reading the progress", error)),
    };
    let older = state.file.saturating_sub(1);
    if lines_path(options, older, true).exists() {
        close(options, older).map_err(doing("closing a file"))?;
    }
    let current = lines_path(options, state.file, true);
    let length = fs::metadata(&current).map_or(0, |m| m.len());
    if length < state.bytes {
        return Err(ApplyError::Definite {
            what: format!(
                "{}: {} has {length} bytes, and {} were written",
                options.name,
                current.display(),
                state.bytes
            ),
            remedy: format!(
                "put it back as it was; or, to go on without it, move all files of this target \
                 away, {} too: everything is written again",
                path.display()
            ),
        });
    }
    let file = open_lines(options, state.file, state.bytes).map_err(doing("opening a file"))?;
    Ok((state, file))
}

fn damaged(options: &FileOptions, path: &Path) -> ApplyError {
    ApplyError::Definite {
        what: format!("{}: {} is missing or damaged", options.name, path.display()),
        remedy: "restore it; or move all files of this target away: everything is written again"
            .into(),
    }
}

/// Opens the lines of a number to go on behind so many bytes.
fn open_lines(options: &FileOptions, number: u64, bytes: u64) -> io::Result<File> {
    let path = lines_path(options, number, true);
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_all()?;
    sync_folder(options)?;
    Ok(file)
}

fn close(options: &FileOptions, number: u64) -> io::Result<()> {
    let lines = lines_path(options, number, true);
    match &options.format {
        FileFormat::Lines => fs::rename(lines, lines_path(options, number, false))?,
        FileFormat::Parquet(kinds) => {
            let whole = parquet_path(options, number);
            let part = whole.with_extension("parquet.part");
            parquet::convert(&lines, &part, kinds)?;
            points::pass("file.before_rename", &options.name);
            fs::rename(part, whole)?;
            sync_folder(options)?;
            points::pass("file.before_remove", &options.name);
            fs::remove_file(lines)?;
        }
    }
    sync_folder(options)
}

fn parquet_path(options: &FileOptions, number: u64) -> PathBuf {
    options.folder.join(format!("{}-{number:08}.parquet", options.name))
}

/// Replaces the small file as a whole; durable on return.
fn note(options: &FileOptions, state: &State) -> io::Result<()> {
    let path = state_path(options);
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(serde_json::to_string(state)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    sync_folder(options)
}

fn sync_folder(options: &FileOptions) -> io::Result<()> {
    File::open(&options.folder)?.sync_all()
}
