//! Certificates for servers and users, which nobody else trusts.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::run;

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Makes two authorities, `ca.crt` and `other.crt`, in a folder, and what the first has signed:
/// `server.crt` for the host `localhost`, by SHA-384, `expired.crt` for the same, which ended
/// yesterday, and `client.crt` for the user `by_cert`; each with its `.key`. The files become those of `owner`, as far as we may give them away: PostgreSQL
/// wants to own its key.
///
/// # Errors
///
/// When `openssl` is missing or refuses.
pub fn make_certificates(folder: &Path, owner: &str) -> Result<()> {
    fs::write(folder.join("leaf.ext"), "subjectAltName = DNS:localhost\n")?;
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder), None)
    };
    for name in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {NEW_KEY} -days 30 -subj /CN={name} -keyout {name}.key -out {name}.crt"
        ))?;
    }
    for (name, subject, digest, days) in [
        ("server", "server", "-sha384", 30),
        ("expired", "server", "-sha256", -1),
        ("client", "by_cert", "-sha256", 30),
    ] {
        openssl(&format!("req {NEW_KEY} -subj /CN={subject} -keyout {name}.key -out {name}.csr"))?;
        openssl(&format!(
            "x509 -req {digest} -days {days} -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
             -extfile leaf.ext -out {name}.crt"
        ))?;
    }
    // Those who are not root run the servers themselves.
    let _ = Command::new("chown").args(["-R", owner]).arg(folder).output();
    Ok(())
}
