//! Clusters: a sweep as a job array, and the cluster's report on it.

pub mod queue;
pub mod slurm;
