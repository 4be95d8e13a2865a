//! MySQL and MariaDB: the binlog as a replica sees it.
