//! Memory: equal pages, and what each page is at the moment.
//!
//! `arena` owns the bytes and hands out pages; `chains` keeps the segments of one TTL bucket in the order they were
//! opened.

pub(crate) mod arena;
pub(crate) mod chains;
