//! A small map: a sorted list in one piece of memory. Rows and records have a few dozen fields; for
//! so few, a list is read, compared and copied several times faster than a tree.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canonical::Name;

/// So many keys are looked through from the first to the last.
const FEW: usize = 16;

/// Values by name.
pub type Named<V> = Sorted<Name, V>;

/// Values by key, in the order of the keys, each key once.
#[derive(Clone, PartialEq, Eq)]
pub struct Sorted<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Sorted<K, V> {
    /// An empty map; allocates nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// An empty map with room for some entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity) }
    }

    /// A map of entries that are in the order of their keys already, each key once. What is not is
    /// brought into that order; of a key that is there twice the last value counts.
    pub fn from_sorted(mut entries: Vec<(K, V)>) -> Self
    where
        K: Ord,
    {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
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

    /// A map of entries that are in the order of their keys, each key once: what is built from
    /// something that has this order need not be looked through for it.
    pub fn in_order(entries: Vec<(K, V)>) -> Self
    where
        K: Ord,
    {
        debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "keys are not in order");
        Self { entries }
    }

    /// Where a key is. Few keys are told apart faster by whether they are equal, which their
    /// lengths say most of the time, than by their order.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        match self.entries.len() <= FEW {
            true => self.entries.iter().position(|entry| entry.0.borrow() == key),
            false => self.find(key).ok(),
        }
    }

    /// Where a key is, or where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.entries.binary_search_by(|entry| entry.0.borrow().cmp(key))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key)?;
        self.entries.get(at).map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key)?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    /// The key as it is kept, and its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key)?;
        self.entries.get(at).map(|(key, value)| (key, value))
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_some()
    }

    /// Sets the value of a name; gives the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V>
    where
        K: Ord,
    {
        // What is built in order is built by appending.
        if self.entries.last().is_none_or(|last| last.0 < key) {
            self.entries.push((key, value));
            return None;
        }
        match self.find(&key) {
            Ok(at) => self.entries.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// The value of a key, to be changed; of one that is not there, an empty one is put there.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        K: Ord,
        V: Default,
    {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, (key, V::default()));
                at
            }
        };
        // It was found there, or put there.
        &mut self.entries[at].1
    }

    /// Takes a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key)?;
        Some(self.entries.remove(at).1)
    }

    /// Keeps only the entries for which this holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.entries.iter())
    }

    /// All entries in the order of their keys, with values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> + DoubleEndedIterator {
        self.entries.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + DoubleEndedIterator {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// Both sides of two maps, key by key, in order.
    pub fn beside<'m>(&'m self, other: &'m Self) -> Beside<'m, K, V> {
        Beside { left: &self.entries, right: &other.entries }
    }
}

impl<V> Named<V> {
    /// The value of a name that is shared, nearly always (see [`crate::names`]): found by where the
    /// name is.
    pub fn of(&self, name: &Name) -> Option<&V> {
        match self.entries.iter().find(|entry| Arc::ptr_eq(&entry.0, name)) {
            Some((_, value)) => Some(value),
            None => self.get(name),
        }
    }

    /// Sets the value of a name that is there already, nearly always.
    pub fn put(&mut self, name: &Name, value: V) {
        match self.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.0, name)) {
            Some((_, known)) => *known = value,
            None => _ = self.insert(name.clone(), value),
        }
    }

    /// To look up names that come in order.
    pub fn walk(&self) -> Walk<'_, V> {
        Walk { entries: &self.entries }
    }
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Sorted<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Sorted<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::from_sorted(entries.into_iter().collect())
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Sorted<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        Self::from_iter(entries)
    }
}

impl<K: Ord, V> Extend<(K, V)> for Sorted<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K, V> IntoIterator for Sorted<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'m, K, V> IntoIterator for &'m Sorted<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Entries in the order of their keys.
#[derive(Clone, Debug)]
pub struct Iter<'m, K, V>(std::slice::Iter<'m, (K, V)>);

impl<'m, K, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

/// Looks up names that come in order: the next one is where the last one was, or behind.
#[derive(Clone, Debug)]
pub struct Walk<'m, V> {
    entries: &'m [(Name, V)],
}

impl<'m, V> Walk<'m, V> {
    /// The value of a name that is not before the last one.
    pub fn find(&mut self, key: &Name) -> Option<&'m V> {
        // Most names are shared: those that are passed over need not be read.
        if let Some(at) = self.entries.iter().position(|(name, _)| Arc::ptr_eq(name, key)) {
            self.entries = self.entries.get(at..)?;
            return self.entries.first().map(|(_, value)| value);
        }
        loop {
            let ((name, value), rest) = self.entries.split_first()?;
            match name.cmp(key) {
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
                Ordering::Less => self.entries = rest,
            }
        }
    }
}

/// A walk through two maps at once: each key with its value on either side.
#[derive(Debug)]
pub struct Beside<'m, K, V> {
    left: &'m [(K, V)],
    right: &'m [(K, V)],
}

impl<'m, K: Ord, V> Iterator for Beside<'m, K, V> {
    type Item = (&'m K, Option<&'m V>, Option<&'m V>);

    fn next(&mut self) -> Option<Self::Item> {
        let which = match (self.left.first(), self.right.first()) {
            (Some(left), Some(right)) if left.0 == right.0 => Ordering::Equal,
            (Some(left), Some(right)) => left.0.cmp(&right.0),
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

impl<K: Serialize, V: Serialize> Serialize for Sorted<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Sorted<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
    type Value = Sorted<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sorted<K, V>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Sorted::from_sorted(entries))
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
            let mut walk = ours.walk();
            for (name, value) in &model {
                prop_assert_eq!(walk.find(name), Some(value));
            }
            prop_assert_eq!(ours.remove(gone.as_str()), model.remove(gone.as_str()));
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
