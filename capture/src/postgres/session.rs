//! Start-up and authentication, and the settings that every session of ours has.

use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret;

use super::connection::{Connection, Frame, server_error};
use super::{errors, tls};
use crate::CaptureError;

/// What makes the texts of values independent of the server's and the role's settings, and our
/// statements independent of limits meant for applications. `row_security` off: a policy that
/// hides rows from a snapshot is an error, not a loss.
pub(super) const SETTINGS: [(&str, &str); 11] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Name that the server shows in `pg_stat_activity` and `pg_stat_replication`.
pub(super) const APPLICATION_NAME: &str = "crossdock";

/// Starts the session on a fresh connection.
pub(super) fn start(connection: &mut Connection, replication: bool) -> Result<(), CaptureError> {
    let options = connection.options.clone();
    let mut parameters = vec![
        ("user", &*options.user),
        ("database", &*options.database),
        ("application_name", APPLICATION_NAME),
    ];
    parameters.extend(SETTINGS);
    if replication {
        parameters.push(("replication", "database"));
    }
    connection.send(|out| frontend::startup_message(parameters, out))?;
    loop {
        let frame = connection.reply()?;
        match frame.0 {
            b'R' if authenticate(connection, &frame)? => break,
            b'R' => {}
            b'E' => return Err(refused(connection, &frame)),
            tag => return Err(connection.odd(tag)),
        }
    }
    loop {
        let frame = connection.reply()?;
        match frame.0 {
            b'K' => {}
            b'Z' => return Ok(()),
            b'E' => return Err(refused(connection, &frame)),
            tag => return Err(connection.odd(tag)),
        }
    }
}

fn refused(connection: &Connection, frame: &Frame) -> CaptureError {
    let error = server_error(connection.body(frame));
    errors::server(&connection.options, "connecting", &error)
}

/// Answers one authentication request; true when the server is content.
fn authenticate(connection: &mut Connection, frame: &Frame) -> Result<bool, CaptureError> {
    let body = connection.body(frame);
    let Some((code, rest)) = body.split_first_chunk::<4>() else {
        return Err(connection.odd(b'R'));
    };
    let password = connection.options.password.clone();
    let password = password.expose_secret().as_bytes();
    match u32::from_be_bytes(*code) {
        0 => return Ok(true),
        3 | 5 if !connection.is_encrypted() => {
            return Err(CaptureError::definite(
                format!(
                    "source {}: the server asks for the password in clear text or as MD5, \
                     without TLS",
                    connection.options.name
                ),
                "let pg_hba.conf ask for scram-sha-256 (and set the password anew), or use TLS",
            ));
        }
        3 => connection.send(|out| frontend::password_message(password, out))?,
        5 => {
            let salt = *rest.first_chunk::<4>().ok_or_else(|| connection.odd(b'R'))?;
            let user = connection.options.user.clone();
            let hash = md5_hash(user.as_bytes(), password, salt);
            connection.send(|out| frontend::password_message(hash.as_bytes(), out))?;
        }
        10 => {
            let offered = rest.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>();
            scram(connection, &offered, password)?;
        }
        _ => {
            return Err(CaptureError::definite(
                format!(
                    "source {}: the server asks for a way of authentication that is not known",
                    connection.options.name
                ),
                "let pg_hba.conf ask for scram-sha-256",
            ));
        }
    }
    Ok(false)
}

fn scram(
    connection: &mut Connection,
    offered: &[Vec<u8>],
    password: &[u8],
) -> Result<(), CaptureError> {
    let offers = |name: &str| offered.iter().any(|mechanism| mechanism == name.as_bytes());
    let end_point = connection.certificate().and_then(tls::server_end_point);
    let (binding, mechanism) = match end_point {
        Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => {
            (sasl::ChannelBinding::tls_server_end_point(hash), sasl::SCRAM_SHA_256_PLUS)
        }
        Some(_) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
        None => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
    };
    if !offers(mechanism) {
        return Err(connection.odd(b'R'));
    }
    let mut scram = sasl::ScramSha256::new(password, binding);
    connection.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
    let first = sasl_step(connection, 11)?;
    scram.update(&first).map_err(|e| untrue(connection, &e))?;
    connection.send(|out| frontend::sasl_response(scram.message(), out))?;
    let last = sasl_step(connection, 12)?;
    // The server proves that it knows the password too.
    scram.finish(&last).map_err(|e| untrue(connection, &e))
}

fn sasl_step(connection: &mut Connection, expected: u32) -> Result<Vec<u8>, CaptureError> {
    let frame = connection.reply()?;
    match (frame.0, connection.body(&frame).split_first_chunk::<4>()) {
        (b'R', Some((code, data))) if u32::from_be_bytes(*code) == expected => Ok(data.to_vec()),
        (b'E', _) => Err(refused(connection, &frame)),
        (tag, _) => Err(connection.odd(tag)),
    }
}

fn untrue(connection: &Connection, error: &std::io::Error) -> CaptureError {
    CaptureError::definite(
        format!("source {}: SCRAM authentication failed: {error}", connection.options.name),
        "check the password, and that nothing stands between this host and the server",
    )
}
