//! Where a database is, as a URL says it: `postgres://user:password@host:5432/database`.

use anyhow::{Context, bail};
use crossdock_model::database::DatabaseKind;
use secrecy::SecretString;

/// Where a database is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Kind.
    pub kind: DatabaseKind,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Login.
    pub user: String,
    /// Password, where the URL has one; never written anywhere.
    pub password: Option<SecretString>,
    /// Variable that holds the password.
    pub password_env: String,
}

impl Place {
    /// Whether nothing of what is sent there leaves the machine.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Reads a URL; `kind` overrules its scheme.
    ///
    /// # Errors
    /// What is wrong with it, without any part of it that may be secret.
    pub fn parse(url: &str, kind: Option<DatabaseKind>, env: &str) -> anyhow::Result<Self> {
        const FORM: &str = "write it as postgres://user@host:5432/database (or mariadb, mysql)";
        let (scheme, rest) = url.split_once("://").context(FORM)?;
        let of_scheme = match scheme {
            "postgres" | "postgresql" => DatabaseKind::Postgres,
            "mysql" => DatabaseKind::Mysql,
            "mariadb" => DatabaseKind::Mariadb,
            _ => bail!("no database is reached by {scheme}:// - {FORM}"),
        };
        let kind = kind.unwrap_or(of_scheme);
        let (login, place) = rest.rsplit_once('@').context(FORM)?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(SecretString::from(decoded(password)?))),
            None => (login, None),
        };
        let (address, database) = place.split_once('/').context(FORM)?;
        let database = database.split(['?', '#']).next().unwrap_or_default();
        let (host, port) = match address.rsplit_once(':').filter(|(host, _)| !host.ends_with('[')) {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().with_context(|| format!("the port is no number: {FORM}"))?)
            }
            _ => (address, kind.default_port()),
        };
        if user.is_empty() || host.is_empty() || database.is_empty() {
            bail!(FORM);
        }
        Ok(Self {
            kind,
            host: host.trim_matches(['[', ']']).to_string(),
            port,
            database: decoded(database)?,
            user: decoded(user)?,
            password,
            password_env: env.to_string(),
        })
    }
}

/// Undoes `%40` and the like.
fn decoded(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(), digit());
        let byte = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(byte.context("a % in a URL is followed by two hexadecimal digits")?);
    }
    String::from_utf8(bytes).context("a URL is UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_url_says_where_a_database_is() {
        let place = Place::parse("postgresql://an%40na:p%3Aw@db.example/shop", None, "PW").unwrap();
        assert_eq!((place.kind, place.port), (DatabaseKind::Postgres, 5432));
        assert_eq!((&*place.user, &*place.host, &*place.database), ("an@na", "db.example", "shop"));
        assert_eq!(place.password.unwrap().expose_secret(), "p:w");
        let kind = Some(DatabaseKind::Mariadb);
        let place = Place::parse("mysql://u@[::1]:3307/wms?ssl=true", kind, "PW").unwrap();
        assert_eq!((place.kind, place.port, &*place.host), (DatabaseKind::Mariadb, 3307, "::1"));
        assert!(place.password.is_none());
        for bad in ["shop", "redis://a@b/c", "mysql://host/db", "mysql://u@h:x/db", "mysql://u@h"] {
            assert!(Place::parse(bad, None, "PW").is_err(), "{bad}");
        }
    }
}
