//! The demo: four systems, a workload, a verdict.
