//! What is kept aside while a transaction is judged that is too large to be held.

/// Something that is kept until the transaction is judged: one for each shelf and key, of which the
/// last counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What kind of thing it is about.
    pub shelf: i16,
    /// Its key; holds any character but NUL.
    pub key: String,
    /// Its place among those of the shelf, from 1, and the first that it was given; 0 for those
    /// that have no other order than that of their keys.
    pub place: i64,
    /// What is kept.
    pub body: String,
}

/// Some notes of a shelf, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotePage {
    /// From here.
    pub shelf: i16,
    /// Behind which note.
    pub after: After,
    /// At most so many.
    pub limit: usize,
}

/// Where a page of notes begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Behind a key, in the order of the keys' bytes; the empty one for the beginning.
    Key(String),
    /// Behind a place, in the order of places; 0 for the beginning.
    Place(i64),
}
