//! Reading files and folders of files, with limits.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crossdock_model::{Problem, SourceText};

use crate::section::{Found, Section};

/// Far beyond what people write, and small enough to be read whole.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The folder in the one of rule files that has a folder for each region.
const REGIONS: &str = "regions";
/// As many files one folder may have.
const FOLDER_FILES_MAX: usize = 1_000;

/// Reads a text file whole.
pub(crate) fn read_text(path: &Path) -> Result<String, Problem> {
    let problem = |what: String, remedy: &str| {
        let (file, remedy) = (path.display().to_string(), remedy.to_string());
        Problem { file, line: 0, what, remedy }
    };
    let unreadable = |e: std::io::Error| {
        let remedy = match e.kind() {
            ErrorKind::NotFound => "name a file that is there",
            _ => "make it a file that the user who runs crossdock can read",
        };
        problem(format!("cannot be read: {}", e.kind()), remedy)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("is larger than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(problem(what, "divide it into several files"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        let line = e.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1;
        let mut problem = problem("is not UTF-8 text".to_string(), "save it as UTF-8");
        problem.line = u32::try_from(line).unwrap_or(u32::MAX);
        problem
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

/// The folders that a key names, one or several, in the order in which they are read. A folder
/// that only the default names may be missing.
pub(crate) fn named(section: &Section<'_>, key: &'static str) -> Vec<Found<PathBuf>> {
    if !section.has(key) {
        let value = section.source.folder.join(key);
        let found = || Found { value: value.clone(), written: key.to_string(), line: section.line };
        return value.is_dir().then(found).into_iter().collect();
    }
    let found = section.paths(key);
    let is_there = |found: &Found<PathBuf>| {
        if !found.value.is_dir() {
            let what = format!("`{key}` names {}, which is no folder", found.value.display());
            section.problem(found.line, what, "create it, or name the folder that is meant");
        }
        found.value.is_dir()
    };
    found.into_iter().filter(is_there).collect()
}

/// The folders of regional overlays, `regions/NAME`, in name order.
pub(crate) fn regions(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join(REGIONS)) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|path| path.is_dir()).collect();
    found.truncate(FOLDER_FILES_MAX);
    found.sort();
    found
}

/// The `.toml` files of a folder in name order. Hidden files and files of other types are left.
pub(crate) fn read(
    folder: &Found<PathBuf>,
    section: &Section<'_>,
    files: &mut Vec<PathBuf>,
) -> Vec<SourceText> {
    let mut paths = Vec::new();
    let entries = match fs::read_dir(&folder.value) {
        Ok(entries) => entries,
        Err(e) => {
            let what = format!("{} cannot be read: {}", folder.value.display(), e.kind());
            section.problem(folder.line, what, "let the user who runs crossdock read it");
            return Vec::new();
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if path.is_dir() && !hidden && has_toml(&path) {
            let what = format!("files in {} are not read", path.display());
            let remedy = format!("move them to {}", folder.value.display());
            section.source.warning(folder.line, what, remedy);
        } else if !hidden && path.is_file() && is_toml(&path) {
            paths.push(path);
        }
    }
    if paths.len() > FOLDER_FILES_MAX {
        let what = format!("{} has more than {FOLDER_FILES_MAX} files", folder.value.display());
        section.problem(folder.line, what, "bring them together in fewer files");
        return Vec::new();
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        match read_text(&path) {
            Ok(text) => texts.push(SourceText { file: path.display().to_string(), text }),
            Err(problem) => section.source.findings.problem(problem),
        }
        files.push(path);
    }
    texts
}

fn is_toml(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("toml"))
}

fn has_toml(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|e| is_toml(&e.path())))
}
