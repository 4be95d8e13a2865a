//! Collecting what is wrong in mapping and rule files, so that everything is reported at once.

use std::cell::RefCell;

use crossdock_model::Problem;
use crossdock_model::canonical::Name;

/// A place in a file that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Spot {
    /// File as the user named it.
    pub file: Name,
    /// Line, from 1.
    pub line: u32,
}

impl Spot {
    /// A problem at this place.
    pub fn problem(&self, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_string(),
            line: self.line,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// `file:line`, the name of a rule that has no other.
    pub fn name(&self) -> Name {
        format!("{}:{}", self.file, self.line).into()
    }
}

/// The problems found so far.
#[derive(Default)]
pub(crate) struct Report {
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Adds a problem.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Adds a problem at a place.
    pub fn at(&self, spot: &Spot, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(spot.problem(what, remedy));
    }

    /// All problems, by file and line, each once.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}

/// `did you mean "x"?` for the candidate that is nearest to a mistyped word; otherwise the list
/// of what there is.
pub(crate) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> String {
    let mut all: Vec<&str> = candidates.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    let nearest = all.iter().map(|c| (distance(word, c), *c)).min();
    match nearest {
        Some((steps, near)) if steps <= 1 + near.len().min(word.len()) / 3 => {
            format!("did you mean `{near}`?")
        }
        _ if all.is_empty() => String::new(),
        _ => {
            let more = if all.len() > 24 { ", ..." } else { "" };
            all.truncate(24);
            format!("there are: {}{more}", all.join(", "))
        }
    }
}

/// Number of single-letter edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(ca != *cb)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested() {
        assert_eq!(distance("status", "statsu"), 2);
        assert_eq!(did_you_mean("shipmnt", ["shipment", "load"]), "did you mean `shipment`?");
        assert_eq!(did_you_mean("zzzz", ["load", "carrier"]), "there are: carrier, load");
    }
}
