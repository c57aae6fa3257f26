//! Clusters: a sweep as a job array, and what the cluster reports of it.

pub mod queue;
pub mod slurm;
