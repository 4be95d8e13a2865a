//! Which rows of the overlap were handed over as they are: digests, so that memory does not follow
//! the width of rows.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crossdock_model::Value;
use crossdock_model::block::encode_value;

/// Rows of one table that are known. More than these come again with every round for as long as
/// they lie within the overlap.
pub(super) const ROWS_MAX: usize = 100_000;

/// What was handed over of one table: digest of the key → digest of the row.
#[derive(Default)]
pub(super) struct Window {
    hasher: RandomState,
    /// By the last round, or by a reading of all rows since.
    last: HashMap<u64, u64>,
    /// By this round.
    now: HashMap<u64, u64>,
    /// There was no room for all rows of this round.
    full: bool,
    scratch: Vec<u8>,
}

impl Window {
    fn digest<'v>(&mut self, values: impl Iterator<Item = &'v Value<'static>>) -> u64 {
        self.scratch.clear();
        values.for_each(|value| encode_value(&mut self.scratch, value));
        self.hasher.hash_one(&self.scratch)
    }

    fn digests(&mut self, key: &[usize], row: &[Value<'static>]) -> (u64, u64) {
        (self.digest(key.iter().filter_map(|at| row.get(*at))), self.digest(row.iter()))
    }

    /// A round has read this row: whether it is to be handed over.
    pub(super) fn is_news(&mut self, key: &[usize], row: &[Value<'static>]) -> bool {
        let (key, digest) = self.digests(key, row);
        let known = self.now.get(&key).or_else(|| self.last.get(&key)) == Some(&digest);
        if self.now.len() < ROWS_MAX || self.now.contains_key(&key) {
            self.now.insert(key, digest);
        } else {
            self.full = true;
        }
        !known
    }

    /// The row was handed over by a reading of all rows.
    pub(super) fn handed_over(&mut self, key: &[usize], row: &[Value<'static>]) {
        let (key, digest) = self.digests(key, row);
        if let Some(known) = self.now.get_mut(&key) {
            *known = digest;
        }
        if self.last.len() < ROWS_MAX || self.last.contains_key(&key) {
            self.last.insert(key, digest);
        }
    }

    /// The round is complete. Returns whether there were more rows than there was room for.
    pub(super) fn turn(&mut self) -> bool {
        self.last = std::mem::take(&mut self.now);
        std::mem::take(&mut self.full)
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.last.clear();
        self.now.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: i64, text: &str) -> Vec<Value<'static>> {
        vec![Value::Int(key), Value::Text(text.to_string().into())]
    }

    #[test]
    fn rows_are_news_once() {
        let mut window = Window::default();
        let mut news = |key, text: &str| window.is_news(&[0], &row(key, text));
        assert!(news(1, "a") && news(2, "a"));
        assert!(!news(1, "a"));
        assert!(news(1, "b"), "changed within a round");
        assert!(!window.turn());
        let mut news = |key, text: &str| window.is_news(&[0], &row(key, text));
        assert!(!news(1, "b"));
        assert!(news(1, "a"), "changed back");
        window.turn();
        assert!(window.is_news(&[0], &row(2, "a")), "it had left the overlap");
        window.handed_over(&[0], &row(3, "x"));
        assert!(!window.is_news(&[0], &row(3, "x")));
        window.forget();
        assert!(window.is_news(&[0], &row(3, "x")));
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = Window::default();
        for key in 0..ROWS_MAX as i64 + 10 {
            assert!(window.is_news(&[0], &row(key, "a")));
        }
        assert!(window.turn(), "it says so");
        assert_eq!(window.last.len(), ROWS_MAX);
        assert!(!window.turn());
    }
}
