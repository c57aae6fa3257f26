//! A run on disk: directory, manifest, claims, units, workers, resume and aggregation.
//!
//! The unit of work is (spec, seed). A [`Schedule`] finds the missing units of one or more runs and has a [`pool`] of
//! [`worker`] processes train them; several processes may do so in one directory at the same time. A unit's results are in
//! its own directory; everything at the top of a run's directory is derived from them.

// What is requested, and what exists.
pub mod inspect;
pub mod schedule;
pub mod status;
pub mod survey;

// Training.
pub mod init_from;
pub mod interrupt;
pub mod pool;
pub mod resume;
pub mod worker;

// Events from workers, and output for the user.
pub mod conclusion;
pub mod event;
pub mod progress;
pub mod table;

// Files.
pub mod aggregate;
pub mod claim;
pub mod directory;
pub mod evaluate;
pub mod finished;
pub mod manifest;
mod tensorboard;
mod thread;
pub mod unit;
pub mod weights;

// Loading a trained network.
pub mod trained_network;

// Other machines.
pub mod cluster;

pub mod clock;

pub use schedule::{Options, Place, Schedule};
