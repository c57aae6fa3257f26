//! Analyses of recordings.

pub mod measures;
