//! The text of a value: borrowed while a log is decoded, and afterwards cheap to copy. Most texts
//! of rows (numbers, codes, amounts) are short and are kept in place; longer ones are shared.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// A text that is borrowed, or that is kept and copied without an allocation.
#[derive(Clone)]
pub enum Str<'a> {
    /// Of a buffer that somebody else holds.
    Borrowed(&'a str),
    /// Of its own.
    Kept(SmolStr),
}

impl Str<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Str::Borrowed(text) => text,
            Str::Kept(text) => text,
        }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Str<'static> {
        match self {
            Str::Borrowed(text) => Str::Kept(SmolStr::new(text)),
            Str::Kept(text) => Str::Kept(text),
        }
    }

    /// A text of its own.
    pub fn kept(text: &str) -> Str<'static> {
        Str::Kept(SmolStr::new(text))
    }
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str<'_> {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Str<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl PartialEq for Str<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Str<'_> {}

impl PartialEq<str> for Str<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Str::Borrowed(text)
    }
}

impl From<String> for Str<'_> {
    fn from(text: String) -> Self {
        Str::Kept(text.into())
    }
}

impl<'a> From<Cow<'a, str>> for Str<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Str::Borrowed(text),
            Cow::Owned(text) => Str::Kept(text.into()),
        }
    }
}

impl From<Str<'_>> for String {
    fn from(text: Str<'_>) -> Self {
        text.as_str().to_owned()
    }
}

impl Serialize for Str<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Str<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Str::Kept(Cow::<'de, str>::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_however_it_is_kept() {
        for text in ["", "SO-000812", "twenty-three bytes long", "one that is longer than that"] {
            let borrowed = Str::from(text);
            let kept = borrowed.clone().into_owned();
            assert!(borrowed == kept && kept == *text && kept == Str::from(text.to_string()));
            let json = serde_json::to_string(&kept).unwrap();
            assert_eq!(serde_json::from_str::<Str<'_>>(&json).unwrap(), borrowed);
        }
        assert_eq!(std::mem::size_of::<Str<'_>>(), 24);
    }
}
