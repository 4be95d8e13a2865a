//! Private PostgreSQL, MariaDB and MySQL servers for tests, demo and benchmarks.
