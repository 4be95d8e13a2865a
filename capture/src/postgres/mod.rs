//! PostgreSQL: logical replication with pgoutput over the replication protocol.
