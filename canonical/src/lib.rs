//! What a change means and who may write it: fold, mapping, ownership, lifecycle, release.
mod decimal;
mod document;
mod expr;
mod problems;
mod scope;
