//! What an error of a database means: one table for SQLSTATE, one for errno.
//!
//! Messages of servers may quote values of rows, so only those of codes known to name objects
//! alone are passed on; of the others the code and the names of the objects are.

use std::error::Error as StdError;
use std::io;

use mysql_async::{DriverError, Error as MysqlError};
use tokio_postgres::Error as PgError;

use crate::ApplyError;

/// SQLSTATE raised by `crossdock.fence` when another writer has opened the store.
const FENCED: &str = "CD001";
/// SQLSTATE of every statement that follows a failed one in the same transaction.
const FOLLOWS_A_FAILURE: &str = "25P02";

/// What to do about an error.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Try again.
    Transient,
    /// Nothing can be written until a person has mended it.
    Definite,
    /// One row is refused; others are not.
    Row,
    /// One row is refused, because another one is missing, or still there.
    Parent,
}

/// What to do after an error with a certain code.
struct Class {
    kind: Kind,
    /// The server's message names objects, never values of rows.
    quotable: bool,
    remedy: &'static str,
}

const fn transient() -> Class {
    Class { kind: Kind::Transient, quotable: true, remedy: "" }
}

const fn definite(quotable: bool, remedy: &'static str) -> Class {
    Class { kind: Kind::Definite, quotable, remedy }
}

const fn row(quotable: bool, remedy: &'static str) -> Class {
    Class { kind: Kind::Row, quotable, remedy }
}

const fn parent(quotable: bool) -> Class {
    Class { kind: Kind::Parent, quotable, remedy: PARENT }
}

const GRANT: &str = "grant what is missing; `crossdock check` prints the statements";
const LOGIN: &str = "correct user, password or the server's access rules";
const OBJECT: &str = "create what is missing or correct the name in the config";
const VALUE: &str = "make the column wide enough, or change the mapping";
const CONSTRAINT: &str = "look at the constraint and at the mapping of this table";
const PARENT: &str = "write the row that it refers to (or delete those that refer to it); it is \
                      tried again when other deliveries have been applied";
const TRIGGER: &str = "a trigger or rule of the target refuses this row: mend the row or the rule";
const UNKNOWN: &str = "look the code up in the server's manual, and its log for the details";

/// By prefix of the SQLSTATE; the first that fits counts.
const SQLSTATES: &[(&str, Class)] = &[
    ("08", transient()),
    ("57P", transient()),
    ("57014", transient()),
    ("40001", transient()),
    ("40P01", transient()),
    ("40003", transient()),
    ("55P03", transient()),
    ("53", transient()),
    ("58", transient()),
    // A server in recovery: a failover is under way, or the config names a standby.
    ("25006", transient()),
    ("28", definite(true, LOGIN)),
    ("3D", definite(true, OBJECT)),
    ("3F", definite(true, OBJECT)),
    ("42501", definite(true, GRANT)),
    ("42P10", definite(true, "create a unique index on exactly the key columns")),
    ("42", definite(true, OBJECT)),
    ("23503", parent(false)),
    ("23001", parent(false)),
    ("23", row(false, CONSTRAINT)),
    ("22", row(false, VALUE)),
    // A condition of a view (44000), and what functions of triggers raise.
    ("44", row(false, TRIGGER)),
    ("P0", row(false, TRIGGER)),
    ("", definite(false, UNKNOWN)),
];

/// By errno of MySQL and MariaDB; what is not here is definite and not quoted.
const ERRNOS: &[(u16, Class)] = &[
    (1205, transient()),
    (1213, transient()),
    (1020, transient()),
    (2006, transient()),
    (2013, transient()),
    (1040, transient()),
    (1053, transient()),
    (1077, transient()),
    (1158, transient()),
    (1159, transient()),
    (1160, transient()),
    (1161, transient()),
    (1203, transient()),
    (1226, transient()),
    (1290, transient()),
    (1836, transient()),
    (1927, transient()),
    (1044, definite(true, GRANT)),
    (1045, definite(true, LOGIN)),
    (1142, definite(true, GRANT)),
    (1143, definite(true, GRANT)),
    (1227, definite(true, GRANT)),
    (1370, definite(true, GRANT)),
    (1049, definite(true, OBJECT)),
    (1054, definite(true, OBJECT)),
    (1146, definite(true, OBJECT)),
    (1062, row(false, CONSTRAINT)),
    (1048, row(true, CONSTRAINT)),
    (1364, row(true, CONSTRAINT)),
    (1451, parent(true)),
    (1452, parent(true)),
    (4025, row(true, CONSTRAINT)),
    (3819, row(true, CONSTRAINT)),
    (1216, parent(true)),
    (1217, parent(true)),
    // Its table is partitioned, and no partition takes the row.
    (1526, row(false, CONSTRAINT)),
    (1586, row(false, CONSTRAINT)),
    (1263, row(true, VALUE)),
    (1264, row(true, VALUE)),
    (1265, row(true, VALUE)),
    (1292, row(false, VALUE)),
    (1366, row(false, VALUE)),
    (1406, row(true, VALUE)),
    (1411, row(false, VALUE)),
    (1690, row(false, VALUE)),
    (3140, row(false, VALUE)),
    (3156, row(false, VALUE)),
    // SIGNAL in a trigger.
    (1644, row(false, TRIGGER)),
];

/// Sorts an error of tokio-postgres. `server` is its name in the config.
pub(crate) fn postgres(server: &str, doing: &str, error: PgError) -> ApplyError {
    let Some(db) = error.as_db_error() else {
        return postgres_without_code(server, doing, error);
    };
    let code = db.code().code();
    if code == FENCED {
        return ApplyError::Fenced(server.to_string());
    }
    let Some((_, class)) = SQLSTATES.iter().find(|(prefix, _)| code.starts_with(prefix)) else {
        return fault(server, doing, UNKNOWN);
    };
    let mut what = format!("{server}: {doing} failed with SQLSTATE {code}");
    if class.quotable {
        what.push_str(&format!(" ({})", db.message()));
    }
    let named = [
        ("table", db.table()),
        ("column", db.column()),
        ("constraint", db.constraint()),
        ("type", db.datatype()),
    ];
    for (kind, name) in named {
        if let Some(name) = name {
            what.push_str(&format!(", {kind} {name}"));
        }
    }
    sorted(class, what, format!("SQLSTATE {code}"))
}

/// True for the error of a statement whose only fault was to come after a failed one.
pub(crate) fn follows_a_failure(error: &PgError) -> bool {
    error.code().is_some_and(|code| code.code() == FOLLOWS_A_FAILURE)
}

fn postgres_without_code(server: &str, doing: &str, error: PgError) -> ApplyError {
    let tls = io_cause(&error).is_some_and(|e| e.kind() == io::ErrorKind::InvalidData);
    if error.is_closed() || (io_cause(&error).is_some() && !tls) {
        let what = format!("{server}: {doing} failed: no connection");
        return ApplyError::Transient { what, source: Some(Box::new(error)) };
    }
    let mut what = format!("{server}: {doing} failed: {error}");
    if let Some(cause) = error.source() {
        what.push_str(&format!(": {cause}"));
    }
    let remedy = match tls {
        true => "check the certificate, the host name in it and `ca_file`",
        false => "correct the connection settings or the mapping of the column named",
    };
    ApplyError::Definite { what, remedy: remedy.into() }
}

fn io_cause<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e io::Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = current.source();
    }
    None
}

/// Sorts an error of mysql_async. `server` is its name in the config.
pub(crate) fn mysql(server: &str, doing: &str, error: MysqlError) -> ApplyError {
    match error {
        MysqlError::Server(e) => {
            let unknown = definite(false, UNKNOWN);
            let known = ERRNOS.iter().find(|(code, _)| *code == e.code);
            let class = known.map_or(&unknown, |(_, class)| class);
            let mut what =
                format!("{server}: {doing} failed with error {} (SQLSTATE {})", e.code, e.state);
            if class.quotable {
                what.push_str(&format!(": {}", e.message));
            } else if let Some((_, key)) = e.message.rsplit_once(" for key ") {
                what.push_str(&format!(", key {key}"));
            }
            sorted(class, what, format!("error {}", e.code))
        }
        MysqlError::Io(e)
            if io_cause(&e).is_none_or(|c| c.kind() != io::ErrorKind::InvalidData) =>
        {
            let what = format!("{server}: {doing} failed: no connection");
            ApplyError::Transient { what, source: Some(Box::new(e)) }
        }
        MysqlError::Io(e) => ApplyError::Definite {
            what: format!("{server}: {doing} failed: {e}"),
            remedy: "check the certificate, the host name in it and `ca_file`".into(),
        },
        MysqlError::Driver(
            DriverError::ConnectionClosed
            | DriverError::PoolDisconnected
            | DriverError::PacketOutOfOrder,
        ) => ApplyError::Transient {
            what: format!("{server}: {doing} failed: connection closed"),
            source: None,
        },
        // These carry values in their texts.
        MysqlError::Driver(DriverError::FromValue { .. } | DriverError::FromRow { .. }) => {
            fault(server, doing, "the server answered with another type than was asked for")
        }
        other => ApplyError::Definite {
            what: format!("{server}: {doing} failed: {other}"),
            remedy: "correct the connection settings".into(),
        },
    }
}

fn sorted(class: &Class, what: String, code: String) -> ApplyError {
    let remedy = class.remedy.to_string();
    match class.kind {
        Kind::Transient => ApplyError::Transient { what, source: None },
        Kind::Definite => ApplyError::Definite { what, remedy },
        Kind::Row => ApplyError::Refused { what, remedy, code, parent: false },
        Kind::Parent => ApplyError::Refused { what, remedy, code, parent: true },
    }
}

/// A definite error that no server reported.
pub(crate) fn fault(server: &str, doing: &str, remedy: &str) -> ApplyError {
    ApplyError::Definite { what: format!("{server}: {doing} failed"), remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(code: u16, state: &str, message: &str) -> ApplyError {
        let error = mysql_async::ServerError {
            code,
            state: state.to_string(),
            message: message.to_string(),
        };
        mysql("wms", "writing", MysqlError::Server(error))
    }

    #[test]
    fn values_of_rows_are_not_quoted() {
        let text = server_error(1062, "23000", "Duplicate entry 'secret' for key 't.PRIMARY'");
        assert!(!text.is_transient());
        assert!(!text.to_string().contains("secret"), "{text}");
        assert!(text.to_string().contains("'t.PRIMARY'"), "{text}");
        let text = server_error(1366, "22007", "Incorrect integer value: 'secret' for column `a`");
        assert!(!text.to_string().contains("secret"), "{text}");
    }

    #[test]
    fn deadlocks_go_away_by_themselves() {
        assert!(server_error(1213, "40001", "Deadlock found").is_transient());
        assert!(!server_error(1146, "42S02", "Table 'a.b' doesn't exist").is_transient());
        assert!(!server_error(9999, "HY000", "?").is_transient());
    }

    #[test]
    fn one_bad_row_is_told_from_a_bad_table() {
        let refused = |code, state| match server_error(code, state, "m") {
            ApplyError::Refused { code, parent, .. } => Some((code, parent)),
            _ => None,
        };
        assert_eq!(refused(1062, "23000"), Some(("error 1062".into(), false)));
        assert_eq!(refused(1452, "23000"), Some(("error 1452".into(), true)));
        assert_eq!(refused(1644, "45000"), Some(("error 1644".into(), false)));
        assert_eq!(refused(1146, "42S02"), None);
        assert_eq!(refused(1142, "42000"), None);
        let kind = |code: &str| {
            SQLSTATES.iter().find(|(prefix, _)| code.starts_with(prefix)).map(|(_, c)| c.kind)
        };
        for (code, expected) in [
            ("23505", Kind::Row),
            ("23503", Kind::Parent),
            ("22001", Kind::Row),
            ("P0001", Kind::Row),
            ("40P01", Kind::Transient),
            ("40001", Kind::Transient),
            ("42P01", Kind::Definite),
            ("42703", Kind::Definite),
            ("XX000", Kind::Definite),
        ] {
            assert!(kind(code) == Some(expected), "{code}");
        }
    }
}
