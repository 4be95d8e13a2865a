//! How long a server keeps its binlog: by age, by size, or for ever.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

const SETTINGS: &str = "SHOW GLOBAL VARIABLES WHERE variable_name IN ('binlog_expire_logs_seconds',
    'expire_logs_days', 'binlog_expire_logs_auto_purge', 'max_binlog_total_size',
    'binlog_space_limit')";

/// The limits beyond which files are purged, whether they were read or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retention {
    /// Age of a file's last event.
    pub(super) age: Option<Duration>,
    /// Bytes of all files (MariaDB 11.4 and Percona Server).
    pub(super) bytes: Option<u64>,
}

impl Retention {
    /// Asks the server. What can't be read is taken for no limit.
    pub(super) async fn read(conn: &mut Conn) -> Result<Self, mysql_async::Error> {
        let settings: Vec<(String, String)> = conn.query(SETTINGS).await?;
        Ok(Self::of(&settings))
    }

    fn of(settings: &[(String, String)]) -> Self {
        let setting = |name: &str| {
            let found = settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let positive = |name: &str| -> Option<f64> {
            setting(name)?.parse().ok().filter(|number: &f64| *number > 0.0)
        };
        let seconds = positive("binlog_expire_logs_seconds")
            .or_else(|| positive("expire_logs_days").map(|days| days * 86_400.0));
        let purges = setting("binlog_expire_logs_auto_purge");
        let purges = purges.is_none_or(|on| on.eq_ignore_ascii_case("ON"));
        let bytes = positive("max_binlog_total_size").or_else(|| positive("binlog_space_limit"));
        Self {
            age: seconds.filter(|_| purges).and_then(|s| Duration::try_from_secs_f64(s).ok()),
            bytes: bytes.map(|bytes| bytes as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Retention {
        let owned: Vec<_> =
            settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Retention::of(&owned)
    }

    #[test]
    fn limits_of_each_kind_of_server() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        assert_eq!(of(&[]), Retention::default());
        let mysql = [("binlog_expire_logs_seconds", "2592000"), ("expire_logs_days", "0")];
        assert_eq!(of(&mysql), Retention { age: days(30), bytes: None });
        let kept = [("binlog_expire_logs_seconds", "60"), ("binlog_expire_logs_auto_purge", "OFF")];
        assert_eq!(of(&kept).age, None);
        let mariadb = [("expire_logs_days", "0.500000"), ("max_binlog_total_size", "1048576")];
        let half = Some(Duration::from_secs(43_200));
        assert_eq!(of(&mariadb), Retention { age: half, bytes: Some(1 << 20) });
    }
}
