//! A small map by name: a sorted list in one piece of memory. Rows and records have a few dozen
//! fields; for so few, a list is read, compared and copied several times faster than a tree.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canonical::Name;

/// Values by name, in the order of the names, each name once.
#[derive(Clone, PartialEq, Eq)]
pub struct Named<V> {
    entries: Vec<(Name, V)>,
}

/// Order of two names. Shared ones are found equal without looking at their letters.
fn order(a: &str, b: &str) -> Ordering {
    if std::ptr::eq(a, b) { Ordering::Equal } else { a.cmp(b) }
}

impl<V> Named<V> {
    /// An empty map; allocates nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// An empty map with room for some entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity) }
    }

    /// A map of entries that are in the order of their names already, each name once. What is not
    /// is brought into that order; of a name that is there twice the last value counts.
    pub fn from_sorted(mut entries: Vec<(Name, V)>) -> Self {
        if !entries.is_sorted_by(|a, b| order(&a.0, &b.0).is_lt()) {
            entries.sort_by(|a, b| order(&a.0, &b.0));
            // `dedup_by` keeps the first of equals: what comes later is moved into it.
            entries.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        Self { entries }
    }

    /// Where a name is, or where it would be.
    fn find(&self, name: &str) -> Result<usize, usize> {
        // What is built in order is built by appending.
        if self.entries.last().is_some_and(|last| order(&last.0, name).is_lt()) {
            return Err(self.entries.len());
        }
        self.entries.binary_search_by(|entry| order(&entry.0, name))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        let at = self.find(name).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }

    /// The value of a name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        let at = self.find(name).ok()?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    /// The name as it is kept, and its value.
    pub fn get_key_value(&self, name: &str) -> Option<(&Name, &V)> {
        let at = self.find(name).ok()?;
        self.entries.get(at).map(|(name, value)| (name, value))
    }

    /// Whether a name is there.
    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Sets the value of a name; gives the one that it had.
    pub fn insert(&mut self, name: Name, value: V) -> Option<V> {
        match self.find(&name) {
            Ok(at) => self.entries.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.entries.insert(at, (name, value));
                None
            }
        }
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let at = self.find(name).ok()?;
        Some(self.entries.remove(at).1)
    }

    /// Keeps only the entries for which this holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Name, &mut V) -> bool) {
        self.entries.retain_mut(|(name, value)| keep(name, value));
    }

    /// All entries in the order of their names.
    pub fn iter(&self) -> Iter<'_, V> {
        Iter(self.entries.iter())
    }

    /// All entries in the order of their names, with values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Name, &mut V)> {
        self.entries.iter_mut().map(|(name, value)| (&*name, value))
    }

    /// All names in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Name> + DoubleEndedIterator {
        self.entries.iter().map(|(name, _)| name)
    }

    /// All values in the order of their names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + DoubleEndedIterator {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// Both sides of two maps, name by name, in order.
    pub fn beside<'m>(&'m self, other: &'m Self) -> Beside<'m, V> {
        Beside { left: &self.entries, right: &other.entries }
    }
}

impl<V> Default for Named<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for Named<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V> FromIterator<(Name, V)> for Named<V> {
    fn from_iter<I: IntoIterator<Item = (Name, V)>>(entries: I) -> Self {
        Self::from_sorted(entries.into_iter().collect())
    }
}

impl<V, const N: usize> From<[(Name, V); N]> for Named<V> {
    fn from(entries: [(Name, V); N]) -> Self {
        Self::from_iter(entries)
    }
}

impl<V> Extend<(Name, V)> for Named<V> {
    fn extend<I: IntoIterator<Item = (Name, V)>>(&mut self, entries: I) {
        for (name, value) in entries {
            self.insert(name, value);
        }
    }
}

impl<V> IntoIterator for Named<V> {
    type Item = (Name, V);
    type IntoIter = std::vec::IntoIter<(Name, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'m, V> IntoIterator for &'m Named<V> {
    type Item = (&'m Name, &'m V);
    type IntoIter = Iter<'m, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Entries in the order of their names.
#[derive(Clone, Debug)]
pub struct Iter<'m, V>(std::slice::Iter<'m, (Name, V)>);

impl<'m, V> Iterator for Iter<'m, V> {
    type Item = (&'m Name, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<V> ExactSizeIterator for Iter<'_, V> {}

/// A walk through two maps at once: each name with its value on either side.
#[derive(Debug)]
pub struct Beside<'m, V> {
    left: &'m [(Name, V)],
    right: &'m [(Name, V)],
}

impl<'m, V> Iterator for Beside<'m, V> {
    type Item = (&'m Name, Option<&'m V>, Option<&'m V>);

    fn next(&mut self) -> Option<Self::Item> {
        let which = match (self.left.first(), self.right.first()) {
            (Some(left), Some(right)) => order(&left.0, &right.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let left = if which.is_le() { self.left.split_off_first() } else { None };
        let right = if which.is_ge() { self.right.split_off_first() } else { None };
        let (name, _) = left.or(right)?;
        Some((name, left.map(|(_, value)| value), right.map(|(_, value)| value)))
    }
}

impl<V: Serialize> Serialize for Named<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Named<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
    type Value = Named<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<V>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Named::from_sorted(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = Vec<(String, u8)>> {
        proptest::collection::vec(("[a-d]{0,2}", any::<u8>()), 0..12)
    }

    fn both(list: &[(String, u8)]) -> (Named<u8>, BTreeMap<Name, u8>) {
        let entries = || list.iter().map(|(name, value)| (Name::from(name.as_str()), *value));
        (entries().collect(), entries().collect())
    }

    proptest! {
        /// The model is the tree that it stands for.
        #[test]
        fn it_is_a_map(list in names(), more in names(), gone in "[a-d]{0,2}") {
            let (mut ours, mut model) = both(&list);
            prop_assert!(ours.iter().eq(model.iter()));
            for (name, value) in &more {
                let name = Name::from(name.as_str());
                prop_assert_eq!(ours.get(&name), model.get(&name));
                prop_assert_eq!(ours.insert(name.clone(), *value), model.insert(name, *value));
            }
            prop_assert_eq!(ours.remove(&gone), model.remove(gone.as_str()));
            prop_assert!(ours.iter().eq(model.iter()));
            ours.retain(|_, value| *value > 99);
            model.retain(|_, value| *value > 99);
            prop_assert!(ours.iter().eq(model.iter()));
            let text = serde_json::to_string(&ours).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&model).unwrap());
            prop_assert_eq!(serde_json::from_str::<Named<u8>>(&text).unwrap(), ours);
        }

        #[test]
        fn two_maps_are_walked_side_by_side(left in names(), right in names()) {
            let ((a, in_a), (b, in_b)) = (both(&left), both(&right));
            let all: std::collections::BTreeSet<&Name> = in_a.keys().chain(in_b.keys()).collect();
            let wanted = all.into_iter().map(|n| (n, in_a.get(n), in_b.get(n)));
            prop_assert!(a.beside(&b).eq(wanted));
        }
    }
}
