//! Which changes of a schema its readers and writers survive.

use std::fmt;
use std::str::FromStr;

use crate::AvroSchema;

/// What a new version of a subject must be able to do. The words and meanings are those of
/// Confluent's Schema Registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compatibility {
    /// Anything may be registered.
    None,
    /// The new version reads what was written with the one before it.
    #[default]
    Backward,
    /// The new version reads what was written with any earlier one.
    BackwardTransitive,
    /// The version before reads what is written with the new one.
    Forward,
    /// Every earlier version reads what is written with the new one.
    ForwardTransitive,
    /// Backward and forward.
    Full,
    /// Backward and forward with every earlier version.
    FullTransitive,
}

/// Every level and the word for it.
const LEVELS: [(Compatibility, &str); 7] = [
    (Compatibility::None, "NONE"),
    (Compatibility::Backward, "BACKWARD"),
    (Compatibility::BackwardTransitive, "BACKWARD_TRANSITIVE"),
    (Compatibility::Forward, "FORWARD"),
    (Compatibility::ForwardTransitive, "FORWARD_TRANSITIVE"),
    (Compatibility::Full, "FULL"),
    (Compatibility::FullTransitive, "FULL_TRANSITIVE"),
];

impl Compatibility {
    fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    fn reads_back(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    fn reads_forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    /// Checks a new schema against earlier versions, the oldest first; each has its number.
    ///
    /// # Errors
    /// Every reason why it is not compatible, with the version that it concerns.
    pub fn check(self, new: &AvroSchema, earlier: &[(u32, AvroSchema)]) -> Result<(), Vec<String>> {
        let concerned = match self.is_transitive() {
            true => earlier,
            false => earlier.last().map_or(&[][..], std::slice::from_ref),
        };
        let mut reasons = Vec::new();
        for (version, old) in concerned {
            if self.reads_back()
                && let Err(why) = new.can_read(old)
            {
                reasons.push(format!("cannot read what was written with version {version}: {why}"));
            }
            if self.reads_forward()
                && let Err(why) = old.can_read(new)
            {
                reasons.push(format!("version {version} cannot read what is written: {why}"));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LEVELS.iter().find(|(level, _)| level == self).map_or("", |(_, word)| word))
    }
}

impl FromStr for Compatibility {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = LEVELS.iter().find(|(_, word)| *word == text);
        found.map(|(level, _)| *level).ok_or_else(|| {
            let words: Vec<&str> = LEVELS.iter().map(|(_, word)| *word).collect();
            format!("`{text}` is no compatibility level; use one of {}", words.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &str) -> AvroSchema {
        let text = format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
        AvroSchema::parse(&text).unwrap()
    }

    const A: &str = r#"{"name":"a","type":"long"}"#;
    const B: &str = r#"{"name":"b","type":"string"}"#;
    const B_DEFAULT: &str = r#"{"name":"b","type":"string","default":""}"#;
    const A_TEXT: &str = r#"{"name":"a","type":"string"}"#;

    fn allowed(level: Compatibility, new: &AvroSchema, old: &[&AvroSchema]) -> bool {
        let old: Vec<_> = old.iter().zip(1..).map(|(s, n)| (n, (*s).clone())).collect();
        level.check(new, &old).is_ok()
    }

    #[test]
    fn each_level_allows_what_it_says() {
        use Compatibility as C;
        let (a, both) = (record(A), record(&format!("{A},{B}")));
        let (with_default, text) = (record(&format!("{A},{B_DEFAULT}")), record(A_TEXT));
        // (new, old, backward, forward)
        let cases = [
            (&a, &a, true, true),
            (&both, &a, false, true),
            (&a, &both, true, false),
            (&with_default, &a, true, true),
            (&a, &with_default, true, true),
            (&text, &a, false, false),
        ];
        for (new, old, back, forward) in cases {
            for (level, expected) in [
                (C::None, true),
                (C::Backward, back),
                (C::BackwardTransitive, back),
                (C::Forward, forward),
                (C::ForwardTransitive, forward),
                (C::Full, back && forward),
                (C::FullTransitive, back && forward),
            ] {
                assert_eq!(allowed(level, new, &[old]), expected, "{level} {new:?} after {old:?}");
            }
        }
    }

    #[test]
    fn only_transitive_levels_look_further_back() {
        let (a, nothing) = (record(A), record(""));
        let both = record(&format!("{A},{B_DEFAULT}"));
        // `both` reads `nothing`'s successor `a`, but not `nothing` itself: `a` has no default.
        assert!(allowed(Compatibility::Backward, &both, &[&nothing, &a]));
        assert!(!allowed(Compatibility::BackwardTransitive, &both, &[&nothing, &a]));
    }

    #[test]
    fn a_reason_names_version_and_field() {
        let old = vec![(7, record(A))];
        let reasons = Compatibility::Full.check(&record(A_TEXT), &old).unwrap_err();
        assert_eq!(reasons.len(), 2);
        assert!(reasons[0].contains("version 7") && reasons[0].contains("'a'"), "{reasons:?}");
    }

    #[test]
    fn words_are_read_back() {
        for (level, word) in LEVELS {
            assert_eq!(word.parse(), Ok(level));
            assert_eq!(level.to_string(), word);
        }
        assert!("BACKWARDS".parse::<Compatibility>().is_err());
    }
}
