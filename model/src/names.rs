//! One piece of memory for each name that occurs everywhere: of sources, tables, columns, entities,
//! fields. Equal names are told by where they are, and thousands of rows share them.

use std::cell::RefCell;
use std::sync::{LazyLock, Mutex, PoisonError};

use foldhash::{HashSet, HashSetExt};

use crate::canonical::Name;

/// So many names are shared. Names of columns and fields are far fewer; if they come from something
/// that makes up ever new ones, the rest is not shared, and costs what it costs.
const NAMES_MAX: usize = 100_000;

static ALL: LazyLock<Mutex<HashSet<Name>>> = LazyLock::new(|| Mutex::new(HashSet::new()));

thread_local! {
    /// What this thread has asked for: it need not wait for others.
    static KNOWN: RefCell<HashSet<Name>> = RefCell::new(HashSet::new());
}

/// The name of a text: the same piece of memory for the same text. Not for keys of rows or records,
/// of which there are too many.
pub fn shared(text: &str) -> Name {
    KNOWN.with_borrow_mut(|known| {
        if let Some(name) = known.get(text) {
            return name.clone();
        }
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match all.get(text) {
            Some(name) => name.clone(),
            None if all.len() >= NAMES_MAX => return text.into(),
            None => {
                let name = Name::from(text);
                all.insert(name.clone());
                name
            }
        };
        known.insert(name.clone());
        name
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_text_is_one_name_in_every_thread() {
        let here = shared("shipment_no");
        let there = std::thread::spawn(|| shared("shipment_no")).join().unwrap();
        assert!(Arc::ptr_eq(&here, &there) && Arc::ptr_eq(&here, &shared("shipment_no")));
        assert_eq!(&*here, "shipment_no");
    }
}
