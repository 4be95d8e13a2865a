//! The process crossdock: pipeline, supervisor, HTTP API, metrics, command line.
