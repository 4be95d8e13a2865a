//! What is found wrong or odd while files are read.

use std::cell::RefCell;
use std::fmt;

use crossdock_model::Problem;

/// Every problem of every file, in order of file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self(problems)
    }

    /// The problems, sorted; there is at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects problems and warnings, so that one of them does not hide the next.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Findings {
    pub(crate) fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn warning(&self, warning: Problem) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(crate) fn problems(&self, problems: Vec<Problem>) {
        self.problems.borrow_mut().extend(problems);
    }

    /// The warnings, or the problems when there is one.
    pub(crate) fn into_result(self) -> Result<Vec<Problem>, ConfigErrors> {
        let problems = self.problems.into_inner();
        if !problems.is_empty() {
            return Err(ConfigErrors::new(problems));
        }
        let mut warnings = self.warnings.into_inner();
        warnings.sort();
        warnings.dedup();
        Ok(warnings)
    }
}
