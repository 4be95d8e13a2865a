//! Telling what Crossdock wrote itself from what somebody changed.

use crossdock_model::canonical::Fields;
use crossdock_model::mark::{RowDigest, digest};

/// Columns of a row that come from Crossdock, if the row is one that it wrote.
///
/// `image` is the row after the change (for a delete, its key).
pub(crate) fn written<'d>(
    digests: &'d [RowDigest],
    table: &str,
    image: &Fields,
    deleted: bool,
) -> Option<&'d [String]> {
    let matches = |d: &&RowDigest| {
        // A delete is described by its key alone.
        if d.table != table || (deleted && d.columns.len() != d.key.len()) {
            return false;
        }
        let values: Option<Vec<_>> = d.columns.iter().map(|c| image.get(c.as_str())).collect();
        values.is_some_and(|values| digest(values) == d.values)
    };
    digests.iter().find(matches).map(|d| d.columns.as_slice())
}
