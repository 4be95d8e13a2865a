//! How far a log has been executed, in GTIDs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::event::{self, Gtid};
use super::wire::{Input, Malformed};

/// Executed GTIDs: MariaDB's last one by domain, or MySQL's set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Executed {
    /// MariaDB: domain to server and sequence.
    domains: BTreeMap<u32, (u32, u64)>,
    /// MySQL: source (`uuid` or `uuid:tag`) to inclusive intervals, sorted and apart.
    sources: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Executed {
    /// Reads `0-1-42,1-2-7`, or `uuid:1-5:7,uuid:tag:1-3`. `None` when it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut executed = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once(':') {
                Some((uuid, rest)) => executed.parse_source(uuid, rest)?,
                None => {
                    let mut numbers = part.splitn(3, '-');
                    let domain = numbers.next()?.parse().ok()?;
                    let server = numbers.next()?.parse().ok()?;
                    executed.domains.insert(domain, (server, numbers.next()?.parse().ok()?));
                }
            }
        }
        Some(executed)
    }

    /// Reads MySQL's PREVIOUS_GTIDS event: all that was executed before its file began. Tags came
    /// with 8.3, and with them another format, which the highest byte of the count tells.
    pub(super) fn previous(data: &[u8]) -> Result<Self, Malformed> {
        const TAGGED: u64 = 1;
        let mut input = Input::new(data);
        let count = input.u64()?;
        let tagged = count >> 56 == TAGGED;
        let count = if tagged { count << 8 >> 16 } else { count };
        let mut executed = Self::default();
        for _ in 0..count {
            let mut source = event::uuid_text(&input.array()?);
            if tagged {
                let length = event::varlen_uint(&mut input)?;
                let length = usize::try_from(length).map_err(|_| Malformed("length of a tag"))?;
                let tag = std::str::from_utf8(input.take(length)?);
                match tag.map_err(|_| Malformed("tag that is not a name"))? {
                    "" => {}
                    tag => source = format!("{source}:{tag}"),
                }
            }
            let intervals = executed.sources.entry(source).or_default();
            for _ in 0..input.u64()? {
                let (from, behind) = (input.u64()?, input.u64()?);
                let last = behind.checked_sub(1).ok_or(Malformed("interval without GTIDs"))?;
                for_interval(intervals, from, last);
            }
        }
        Ok(executed)
    }

    /// Adds all that another set has.
    pub(super) fn merge(&mut self, other: Self) {
        for (source, intervals) in other.sources {
            let known = self.sources.entry(source).or_default();
            for (from, to) in intervals {
                for_interval(known, from, to);
            }
        }
    }

    fn parse_source(&mut self, uuid: &str, rest: &str) -> Option<()> {
        let mut source = uuid.to_ascii_lowercase();
        for part in rest.split(':') {
            if !part.starts_with(|c: char| c.is_ascii_digit()) {
                source = format!("{}:{part}", uuid.to_ascii_lowercase());
                continue;
            }
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            for_interval(self.sources.entry(source.clone()).or_default(), from, to);
        }
        Some(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.sources.is_empty()
    }

    /// Adds a committed transaction.
    pub(super) fn add(&mut self, gtid: &Gtid) {
        match gtid {
            Gtid::MariaDb { domain, server, sequence } => {
                self.domains.insert(*domain, (*server, *sequence));
            }
            Gtid::Mysql { source, number } => {
                let known = self.sources.entry(source.clone()).or_default();
                for_interval(known, *number, *number);
            }
            Gtid::Anonymous => {}
        }
    }

    /// Whether a transaction is known to have been read. For MariaDB only the very last one of a
    /// domain is: sequences may run out of order, and the server knows where it began to send.
    pub(super) fn contains(&self, gtid: &Gtid) -> bool {
        match gtid {
            Gtid::MariaDb { domain, server, sequence } => {
                self.domains.get(domain) == Some(&(*server, *sequence))
            }
            Gtid::Mysql { source, number } => self
                .sources
                .get(source)
                .is_some_and(|known| known.iter().any(|(from, to)| (*from..=*to).contains(number))),
            Gtid::Anonymous => false,
        }
    }

    /// MySQL's sources with their intervals.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&String, &Vec<(u64, u64)>)> {
        self.sources.iter()
    }
}

/// Adds an inclusive interval to sorted ones, joining neighbours.
fn for_interval(known: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    if let Some(last) = known.last_mut()
        && from == last.1.saturating_add(1)
    {
        last.1 = to;
        return;
    }
    known.push((from, to));
    known.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(known.len());
    for (from, to) in known.drain(..) {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    *known = joined;
}

impl std::fmt::Display for Executed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for (domain, (server, sequence)) in &self.domains {
            let _ = write!(text, ",{domain}-{server}-{sequence}");
        }
        for (source, intervals) in &self.sources {
            let _ = write!(text, ",{source}");
            for (from, to) in intervals {
                let _ = match from == to {
                    true => write!(text, ":{from}"),
                    false => write!(text, ":{from}-{to}"),
                };
            }
        }
        f.write_str(text.strip_prefix(',').unwrap_or(&text))
    }
}

impl std::fmt::Display for Gtid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gtid::MariaDb { domain, server, sequence } => {
                write!(f, "{domain}-{server}-{sequence}")
            }
            Gtid::Mysql { source, number } => write!(f, "{source}:{number}"),
            Gtid::Anonymous => f.write_str("anonymous"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip_and_grow() {
        for text in ["", "0-1-42,1-2-7", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7"] {
            assert_eq!(Executed::parse(text).unwrap().to_string(), text);
        }
        let mut executed = Executed::parse("0-1-42,1-2-7").unwrap();
        executed.add(&Gtid::MariaDb { domain: 0, server: 9, sequence: 43 });
        assert_eq!(executed.to_string(), "0-9-43,1-2-7");
        let mut executed = Executed::parse("aa:1-5:7").unwrap();
        executed.add(&Gtid::Mysql { source: "aa".into(), number: 6 });
        assert_eq!(executed.to_string(), "aa:1-7");
        assert!(executed.contains(&Gtid::Mysql { source: "aa".into(), number: 3 }));
        assert_eq!(Executed::parse("aa:tag:1-3").unwrap().to_string(), "aa:tag:1-3");
        assert_eq!(Executed::parse("0-1"), None);
    }

    #[test]
    fn what_was_executed_before_a_file() {
        let interval = |from: u64, behind: u64| [from.to_le_bytes(), behind.to_le_bytes()].concat();
        let plain =
            [&1_u64.to_le_bytes()[..], &[0xaa; 16], &1_u64.to_le_bytes(), &interval(1, 6)].concat();
        let mut executed = Executed::previous(&plain).unwrap();
        let uuid = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
        assert_eq!(executed.to_string(), format!("{uuid}:1-5"));
        let count = (1_u64 << 56 | 1 << 8 | 1).to_le_bytes();
        let tagged = [
            &count[..],
            &[0xaa; 16],
            &[8],
            b"ours",
            &2_u64.to_le_bytes(),
            &interval(1, 2),
            &interval(4, 6),
        ]
        .concat();
        executed.merge(Executed::previous(&tagged).unwrap());
        assert_eq!(executed.to_string(), format!("{uuid}:1-5,{uuid}:ours:1:4-5"));
        for cut in 0..tagged.len() {
            assert!(Executed::previous(&tagged[..cut]).is_err(), "{cut}");
        }
    }
}
