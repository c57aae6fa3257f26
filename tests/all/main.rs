//! All tests that need no harness of their own, in one program, which links everything once. A file is a module:
//! `cargo test --release --locked --test all runs::` has the tests of `runs.rs`, and `tests/golden.rs` the golden cases.

mod analyse;
#[cfg(unix)]
mod backends;
mod bad_specs;
mod blocks_below;
#[cfg(target_os = "linux")]
mod bounds;
mod captioning;
#[cfg(all(unix, feature = "hub"))]
mod coco;
#[cfg(unix)]
mod compare;
#[cfg(target_os = "linux")]
mod crowds;
mod data;
mod decode;
#[cfg(unix)]
mod devices;
mod digits;
mod encoder_blocks;
mod evaluate;
mod exchange;
mod explain;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(unix)]
mod feedback;
#[cfg(unix)]
mod feedforward;
mod folded;
#[cfg(feature = "hub")]
mod hub;
mod idx;
mod lab;
#[cfg(unix)]
mod language;
mod on_device;
mod orders;
mod plot;
#[cfg(target_os = "linux")]
mod power;
mod printed;
mod report;
#[cfg(unix)]
mod report_page;
#[cfg(unix)]
mod rules;
#[cfg(unix)]
mod runs;
#[cfg(unix)]
mod runs_interrupted;
mod sample;
#[cfg(unix)]
mod seed_batch;
#[cfg(unix)]
mod slurm;
mod spec;
mod spec_experiments;
mod spec_properties;
mod spec_support;
mod spec_sweep;
#[cfg(unix)]
mod sweep;
#[cfg(unix)]
mod table;
mod tasks;
#[cfg(unix)]
mod tensorboard;
#[cfg(target_os = "linux")]
mod torture;
mod trainer;
#[cfg(unix)]
mod view;
mod watch;
