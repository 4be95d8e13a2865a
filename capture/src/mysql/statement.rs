//! The little that must be understood of SQL statements in the log.

/// What a QUERY event does, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// XA START, with the transaction's name; see [`xid_of`].
    XaStart(String),
    /// XA COMMIT.
    XaCommit(String),
    /// XA ROLLBACK.
    XaRollback(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo,
    /// SAVEPOINT, RELEASE, XA END: nothing to do.
    Bracket,
    /// TRUNCATE, with database (if named) and table.
    Truncate(Option<String>, String),
    /// A statement that changes rows, logged as a statement.
    Rows,
    /// Anything else: definitions, grants, settings.
    Other,
}

/// Sorts a statement by its first words.
pub(super) fn sort(text: &str) -> Statement {
    let mut words = Words { rest: text };
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    let mut second = || words.next().unwrap_or_default().to_ascii_uppercase();
    match first.as_str() {
        "BEGIN" => Statement::Begin,
        "START" if second() == "TRANSACTION" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" => match second().as_str() {
            "TO" => Statement::RollbackTo,
            _ => Statement::Rollback,
        },
        "XA" => match second().as_str() {
            "START" | "BEGIN" => Statement::XaStart(xid(words.rest)),
            "COMMIT" => Statement::XaCommit(xid(words.rest)),
            "ROLLBACK" => Statement::XaRollback(xid(words.rest)),
            _ => Statement::Bracket,
        },
        "SAVEPOINT" | "RELEASE" => Statement::Bracket,
        "TRUNCATE" => truncated(&mut words).unwrap_or(Statement::Other),
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH" | "MERGE" => Statement::Rows,
        _ => Statement::Other,
    }
}

/// The name of an XA transaction as the log writes it in statements, `X'6f6e65',X'',1`, in small
/// letters.
fn xid(rest: &str) -> String {
    let name = rest.trim().to_ascii_lowercase();
    let bare = name.strip_suffix("one phase").map_or(&*name, str::trim_end);
    bare.to_string()
}

/// The same from its parts: format, global transaction and branch.
pub(super) fn xid_of(format: u32, global: &[u8], branch: &[u8]) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("x'{}',x'{}',{format}", digits(global), digits(branch))
}

fn truncated(words: &mut Words<'_>) -> Option<Statement> {
    let mut name = words.next()?;
    if name.eq_ignore_ascii_case("TABLE") {
        name = words.next()?;
    }
    let rest = words.rest.trim_start();
    match rest.strip_prefix('.') {
        Some(after) => {
            let mut words = Words { rest: after };
            Some(Statement::Truncate(Some(name), words.next()?))
        }
        None => Some(Statement::Truncate(None, name)),
    }
}

/// Words and quoted names; comments are left out.
struct Words<'a> {
    rest: &'a str,
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.skip_blanks();
        if let Some(quoted) = self.rest.strip_prefix('`') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            while let Some((at, c)) = chars.next() {
                match c {
                    '`' if chars.peek().is_some_and(|(_, next)| *next == '`') => {
                        chars.next();
                        name.push('`');
                    }
                    '`' => {
                        self.rest = quoted.get(at + 1..).unwrap_or_default();
                        return Some(name);
                    }
                    c => name.push(c),
                }
            }
            return None;
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_string())
    }
}

impl Words<'_> {
    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let end = if self.rest.starts_with("/*") {
                self.rest.find("*/").map(|at| at + 2)
            } else if self.rest.starts_with('#') || self.rest.starts_with("-- ") {
                self.rest.find('\n').map(|at| at + 1)
            } else {
                return;
            };
            self.rest = end.and_then(|at| self.rest.get(at..)).unwrap_or_default();
        }
    }
}

/// Whether a statement names a table, in any case and any quoting. May be wrong where the name
/// stands in a text or comment.
pub(super) fn names(text: &str, table: &str) -> bool {
    let (text, table) = (text.to_lowercase(), table.to_lowercase());
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(&table).any(|(at, found)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + found.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_by_their_first_words() {
        assert_eq!(sort("/* who */ begin"), Statement::Begin);
        assert_eq!(sort("ROLLBACK TO `a`"), Statement::RollbackTo);
        let one = xid_of(1, b"a", b"");
        assert_eq!(sort("XA START X'61',X'',1"), Statement::XaStart(one.clone()));
        assert_eq!(sort("XA COMMIT X'61',X'',1 ONE PHASE"), Statement::XaCommit(one.clone()));
        assert_eq!(sort("XA ROLLBACK X'61',X'',1"), Statement::XaRollback(one));
        assert_eq!(sort("XA END X'61',X'',1"), Statement::Bracket);
        assert_eq!(
            sort("TRUNCATE TABLE `wms`.`od``d`"),
            Statement::Truncate(Some("wms".into()), "od`d".into())
        );
        assert_eq!(sort("truncate lines"), Statement::Truncate(None, "lines".into()));
        assert_eq!(sort("# note\n UPDATE t SET a = 1"), Statement::Rows);
        assert_eq!(sort("ALTER TABLE t ADD c INT"), Statement::Other);
        assert_eq!(sort("`"), Statement::Other);
    }

    #[test]
    fn tables_are_named_as_whole_words() {
        assert!(names("DELETE FROM `wms`.`Orders` WHERE 1", "orders"));
        assert!(!names("DELETE FROM `wms`.`mem_orders`", "orders"));
        assert!(!names("UPDATE orders2 SET a = 1", "orders"));
    }
}
