//! A spec's life on disk: directory, manifest, claims, units, workers, resume and aggregation.
//!
//! The unit of work is (spec, seed). A [`Schedule`] finds out which wanted units of one run or of many are missing and has a
//! [`pool`] of [`worker`] processes train them; many programs may do so in one directory at the same time. What a unit
//! gave lies in its own directory, and everything at the top of a run's directory is made from that.

// What is asked for, and what there is.
pub mod inspect;
pub mod schedule;
pub mod status;
pub mod survey;

// How it is trained.
pub mod init_from;
pub mod interrupt;
pub mod pool;
pub mod resume;
pub mod worker;

// What a worker sends to the scheduler, and what people see.
pub mod conclusion;
pub mod event;
pub mod progress;
pub mod table;

// Files.
pub mod aggregate;
pub mod claim;
pub mod directory;
pub mod finished;
pub mod manifest;
pub mod unit;
pub mod weights;

// A trained network, read back.
pub mod trained_network;

// Other machines.
pub mod cluster;
pub mod shell;

pub mod clock;

pub use schedule::{Options, Place, Schedule};
