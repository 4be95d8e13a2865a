//! What a change means and who may write it: fold, mapping, ownership, lifecycle, release.
