//! What a change means and who may write it: fold, mapping, ownership, lifecycle, release.
mod check;
mod codes;
mod decimal;
mod deliver;
mod document;
mod evidence;
mod expr;
mod lifecycle;
mod mapping;
mod names;
mod ownership;
mod problems;
mod rowmap;
mod rules;
mod scope;
mod verify;

pub use rules::{Known, Rules};
