//! `${NAME}` and `${NAME:-default}` in the strings of the config file.

/// Where values of variables come from; in the service, the process environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text could not be completed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum VariableError {
    /// There is no such variable, and the text gives no default.
    Missing(String),
    /// `${` without a name and a closing brace.
    Malformed,
}

/// Replaces variables. As in a shell, the default also stands in for an empty variable; `$${`
/// gives `${`. A value is taken as it is and not searched again.
pub(crate) fn replace(text: &str, environment: Environment<'_>) -> Result<String, VariableError> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            done.push_str(literal);
            done.push_str("${");
            rest = after;
            continue;
        }
        let (inner, tail) = after.split_once('}').ok_or(VariableError::Malformed)?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            return Err(VariableError::Malformed);
        }
        done.push_str(before);
        match (environment(name), default) {
            (Some(value), None) => done.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => done.push_str(&value),
            (_, Some(default)) => done.push_str(default),
            (None, None) => return Err(VariableError::Missing(name.to_string())),
        }
        rest = tail;
    }
    done.push_str(rest);
    Ok(done)
}

/// What a shell takes for the name of a variable.
pub(crate) fn is_name(text: &str) -> bool {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    letters && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, VariableError> {
        replace(text, &|name| match name {
            "HOST" => Some("db.example".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".into()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced() {
        assert_eq!(with("plain $5 {x}").unwrap(), "plain $5 {x}");
        assert_eq!(with("a ${HOST} b ${PORT:-5432}").unwrap(), "a db.example b 5432");
        assert_eq!(with("${EMPTY:-x}|${EMPTY}|${NOBODY:-}").unwrap(), "x||");
        assert_eq!(with("$${HOST} ${NESTED}").unwrap(), "${HOST} ${HOST}".to_string());
    }

    #[test]
    fn what_cannot_be_replaced_is_said() {
        assert_eq!(with("${NOBODY}"), Err(VariableError::Missing("NOBODY".into())));
        for bad in ["${", "${HOST", "${}", "${1X}", "${A B}", "${:-x}"] {
            assert_eq!(with(bad), Err(VariableError::Malformed), "{bad}");
        }
    }
}
