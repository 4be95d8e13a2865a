//! Which transactions a snapshot of the server has seen.
//!
//! A commit is in the log before it can be seen: between the two, the transaction may wait for the
//! disk and for synchronous standbys. So positions in the log do not say what a snapshot has seen;
//! its own list of transactions does.

use crossdock_model::TxHeader;

/// What `pg_current_snapshot()` says: `xmin:xmax:xip,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visible {
    /// The first transaction that it has not seen, and those from there on.
    xmax: u64,
    /// Earlier ones that were still running, in order.
    running: Vec<u64>,
}

impl Visible {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
        let numbers = running.split(',').filter(|number| !number.is_empty());
        let mut running =
            numbers.map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
        running.sort_unstable();
        Some(Self { xmax: xmax.parse().ok()?, running })
    }

    /// Whether it has seen a transaction that is known to have committed. The log has the lower
    /// 32 bits of its number, which is not further than 2³¹ from the present.
    pub(super) fn sees(&self, xid: u32) -> bool {
        self.whole(xid).is_some_and(|whole| self.running.binary_search(&whole).is_err())
    }

    /// Whether it has seen a transaction and all with lower numbers that have committed.
    fn sees_all_up_to(&self, xid: u32) -> bool {
        self.whole(xid).is_some_and(|whole| self.running.first().is_none_or(|first| whole < *first))
    }

    /// All 64 bits of the number, if it is before `xmax`.
    fn whole(&self, xid: u32) -> Option<u64> {
        let distance = i64::from(xid.wrapping_sub(self.xmax as u32) as i32);
        (distance < 0).then(|| self.xmax.wrapping_add_signed(distance))
    }

    /// The same for a transaction of the stream.
    pub(super) fn sees_transaction(&self, header: &TxHeader) -> bool {
        header.id.parse().is_ok_and(|xid| self.sees(xid))
    }
}

/// Transactions that the stream has handed over, as long as no snapshot has been found to have
/// seen them.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    xids: Vec<u32>,
    /// Those before this place were handed over before the window was opened.
    opened: usize,
    /// There were more than can be kept: the highest of those that were not.
    lost: Option<u32>,
}

/// More than this only come together when the server hands out no snapshot for a long time.
const UNSEEN_MAX: usize = 1 << 20;

impl Unseen {
    pub(super) fn handed_over(&mut self, xids: &[u32]) {
        self.xids.extend_from_slice(xids);
        if self.xids.len() > UNSEEN_MAX {
            let higher = |a: u32, b: u32| if (b.wrapping_sub(a) as i32) > 0 { b } else { a };
            self.lost = self.xids.drain(..).chain(self.lost).reduce(higher);
            self.opened = 0;
        }
    }

    /// A chunk is read from here on.
    pub(super) fn open(&mut self) {
        self.opened = self.xids.len();
    }

    /// Whether the chunk's snapshot has seen all that was handed over before. When it has not,
    /// its rows would be older than what the stream has said of them.
    pub(super) fn all_seen(&mut self, visible: &Visible) -> bool {
        let before = self.xids.get(..self.opened).unwrap_or_default();
        self.lost = self.lost.filter(|xid| !visible.sees_all_up_to(*xid));
        let all = self.lost.is_none() && before.iter().all(|xid| visible.sees(*xid));
        self.xids.retain(|xid| !visible.sees(*xid));
        self.opened = 0;
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_seen_what_had_ended() {
        let visible = Visible::parse("90:100:95,90").unwrap();
        assert!([89, 91, 99].iter().all(|xid| visible.sees(*xid)));
        assert!([90, 95, 100, 101].iter().all(|xid| !visible.sees(*xid)));
        assert_eq!(Visible::parse("5:5:"), Some(Visible { xmax: 5, running: vec![] }));
        assert!(["", "1:2", "1:x:", "1:2:3,x"].iter().all(|text| Visible::parse(text).is_none()));
        // Numbers of the log begin again after 2³².
        let wrapped = Visible::parse("4294967290:4294967300:4294967295").unwrap();
        assert!(wrapped.sees(u32::MAX - 1) && !wrapped.sees(u32::MAX));
        assert!(wrapped.sees(3) && !wrapped.sees(4));
    }

    #[test]
    fn a_chunk_must_have_seen_what_was_handed_over_before_it() {
        let visible = |text: &str| Visible::parse(text).unwrap();
        let mut unseen = Unseen::default();
        unseen.handed_over(&[10, 11]);
        unseen.open();
        unseen.handed_over(&[12]);
        assert!(!unseen.all_seen(&visible("11:12:11")), "11 had committed and was not seen");
        unseen.open();
        assert!(unseen.all_seen(&visible("13:13:")));
        assert!(unseen.xids.is_empty());
        unseen.handed_over(&vec![20; UNSEEN_MAX + 1]);
        unseen.open();
        assert!(!unseen.all_seen(&visible("19:30:19")), "too many to know each");
        unseen.open();
        assert!(unseen.all_seen(&visible("21:30:21")));
    }
}
