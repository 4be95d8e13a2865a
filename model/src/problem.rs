//! A problem in a file that a person wrote.

use std::fmt;

/// What is wrong, where, and what to do. All problems of all files are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// File as the user named it.
    pub file: String,
    /// Line, from 1; 0 when it concerns the whole file.
    pub line: u32,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what)?,
            line => write!(f, "{}:{line}: {}", self.file, self.what)?,
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n    {}", self.remedy) }
    }
}

/// Line number (from 1) of a byte offset in a text.
pub fn line_of(text: &str, offset: usize) -> u32 {
    let newlines = text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count();
    u32::try_from(newlines).unwrap_or(u32::MAX - 1) + 1
}

/// A text and the name of the file it was read from.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// File as the user named it.
    pub file: String,
    /// Its content.
    pub text: String,
}
