//! The log-in of a blocking session.
//!
//! Sources: MySQL internals, "Connection Phase"; MariaDB, "Connection".

use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql_async::{DriverError, Error};
use mysql_common::constants::CapabilityFlags;
use mysql_common::crypto;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use secrecy::ExposeSecret;

use super::connect::{PACKET_MAX, server_error};
use super::packets::{EOF, ERR, OK, Packets};
use super::wire::{Input, Malformed};
use crate::{CaptureError, tls};

const DOING: &str = "connecting";
/// First byte of a packet that goes on with the exchange.
const MORE: u8 = 1;
/// `caching_sha2_password`: the server remembers the password.
const REMEMBERED: u8 = 3;
/// `caching_sha2_password`: it does not, and asks for the password itself.
const WHOLE: u8 = 4;
/// `caching_sha2_password`: asks for the server's public key.
const PUBLIC_KEY: u8 = 2;
/// Bytes of what MariaDB's ed25519 signs.
const ED25519_NONCE: usize = 32;
/// `utf8mb4_general_ci`, which all servers know.
const COLLATION: u8 = 45;

/// Greets, begins TLS where it is wanted, and proves who we are.
pub(super) fn log_in(packets: &mut Packets) -> Result<(), CaptureError> {
    let options = packets.options.clone();
    let greeting = packets.next()?;
    let body = packets.body(&greeting);
    if body.first() == Some(&ERR) {
        return Err(packets.refused(DOING, &greeting));
    }
    let greeting = Greeting::read(body).map_err(|_| packets.odd("its greeting"))?;
    let mut wanted = CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH;
    let tls = tls::config(&options)?;
    wanted.set(CapabilityFlags::CLIENT_SSL, tls.is_some());
    let agreed = greeting.capabilities & wanted;
    if let Some(config) = tls {
        if !agreed.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(packets.odd("it offers no TLS"));
        }
        let request = SslRequest::new(agreed, PACKET_MAX as u32, COLLATION);
        packets.send(|out| request.serialize(out))?;
        packets.encrypt(config)?;
    }
    // With another plugin than the account's, the server asks for that one.
    let plugin = match AuthPlugin::from_bytes(&greeting.plugin) {
        AuthPlugin::CachingSha2Password => AuthPlugin::CachingSha2Password,
        _ => AuthPlugin::MysqlNativePassword,
    };
    let nonce = greeting.nonce;
    let data = plugin.gen_data(Some(options.password.expose_secret()), &nonce);
    let response = HandshakeResponse::new(
        data.as_deref(),
        (8, 0, 0),
        Some(options.user.as_bytes()),
        None::<&[u8]>,
        Some(plugin),
        agreed,
        None,
        PACKET_MAX as u32,
    );
    packets.send(|out| response.serialize(out))?;
    authenticate(packets, nonce)
}

/// What a server says first. The library's own reader panics at lengths that no server sends.
struct Greeting {
    capabilities: CapabilityFlags,
    /// What passwords are hashed with: 20 bytes.
    nonce: Vec<u8>,
    plugin: Vec<u8>,
}

impl Greeting {
    fn read(body: &[u8]) -> Result<Self, Malformed> {
        const SALT: usize = 20;
        let mut input = Input::new(body);
        if input.u8()? != 10 {
            return Err(Malformed("another version of the protocol"));
        }
        while input.u8()? != 0 {}
        input.u32()?;
        let mut nonce = input.take(8)?.to_vec();
        input.u8()?;
        let low = input.u16()?;
        input.take(3)?;
        let high = input.u16()?;
        let length = usize::from(input.u8()?);
        input.take(10)?;
        nonce.extend_from_slice(input.take(length.saturating_sub(8).max(13))?);
        nonce.truncate(SALT);
        let plugin = input.rest().split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let bits = u32::from(high) << 16 | u32::from(low);
        Ok(Self { capabilities: CapabilityFlags::from_bits_truncate(bits), nonce, plugin })
    }
}

/// Answers until the server is content. `nonce` is what passwords are hashed with.
fn authenticate(packets: &mut Packets, mut nonce: Vec<u8>) -> Result<(), CaptureError> {
    let (mut switched, mut asked) = (false, false);
    loop {
        let packet = packets.next()?;
        match packets.body(&packet) {
            [OK, ..] => return Ok(()),
            [MORE, REMEMBERED] => {}
            [MORE, WHOLE] if packets.is_encrypted() => send_password(packets)?,
            [MORE, WHOLE] if !asked => {
                asked = true;
                packets.send(|out| out.push(PUBLIC_KEY))?;
            }
            [MORE, key @ ..] if asked => {
                let sealed = seal(packets, key, &nonce)?;
                packets.send(|out| out.extend_from_slice(&sealed))?;
            }
            body @ [EOF, ..] if !switched => {
                switched = true;
                let Ok(request) = ParseBuf(body).parse::<AuthSwitchRequest<'_>>(()) else {
                    return Err(packets.odd("its way of authentication"));
                };
                let plugin = request.auth_plugin().into_owned();
                nonce = nonce_of(&plugin, body, request.plugin_data()).to_vec();
                answer(packets, &plugin, &nonce)?;
            }
            _ => return Err(packets.refused(DOING, &packet)),
        }
    }
}

/// What passwords are hashed with. The library takes a zero at the end for a terminator; the nonce of
/// ed25519 has none, and each 256th ends with a zero of its own.
fn nonce_of<'b>(plugin: &AuthPlugin<'_>, body: &'b [u8], trimmed: &'b [u8]) -> &'b [u8] {
    match plugin {
        AuthPlugin::Ed25519 if trimmed.len() < ED25519_NONCE => {
            body.last_chunk::<ED25519_NONCE>().map_or(trimmed, |nonce| nonce)
        }
        _ => trimmed,
    }
}

/// Answers a server that wants another plugin than the one proposed.
fn answer(
    packets: &mut Packets,
    plugin: &AuthPlugin<'_>,
    nonce: &[u8],
) -> Result<(), CaptureError> {
    let known = matches!(
        plugin,
        AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword | AuthPlugin::Ed25519
    );
    if !known {
        let name = String::from_utf8_lossy(plugin.as_bytes()).into_owned();
        let error = Error::Driver(DriverError::UnknownAuthPlugin { name });
        return Err(server_error(&packets.options, DOING, error));
    }
    let options = packets.options.clone();
    let data = plugin.gen_data(Some(options.password.expose_secret()), nonce);
    packets.send(|out| {
        if let Some(data) = data {
            data.serialize(out);
        }
    })
}

/// The connection is encrypted.
fn send_password(packets: &mut Packets) -> Result<(), CaptureError> {
    let options = packets.options.clone();
    packets.send(|out| {
        out.extend_from_slice(options.password.expose_secret().as_bytes());
        out.push(0);
    })
}

/// The password for a server without TLS: only the holder of the key can read it. Nobody has
/// vouched for the key, which is what TLS is for.
fn seal(packets: &Packets, key: &[u8], nonce: &[u8]) -> Result<Vec<u8>, CaptureError> {
    if cfg!(feature = "fuzzing") {
        // The library panics at what is no key, and a fuzzer takes every panic for a finding.
        return Err(packets.odd("its public key"));
    }
    let mut password = packets.options.password.expose_secret().as_bytes().to_vec();
    password.push(0);
    for (byte, mask) in password.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    let sealed = catch_unwind(AssertUnwindSafe(|| crypto::encrypt(&password, key)));
    password.fill(0);
    sealed.map_err(|_| packets.odd("its public key"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use crossdock_harness::{Daemon, DaemonOptions, MariaDb, MySql, make_certificates};
    use mysql_common::io::ParseBuf;
    use mysql_common::packets::AuthSwitchRequest;

    use super::{ED25519_NONCE, nonce_of, seal};
    use crate::mysql::fuzzing;
    use crate::mysql::packets::Packets;
    use crate::mysql::session::Session;
    use crate::snapshot::Halt;
    use crate::{CaptureError, SourceOptions, Tls};

    struct Never;

    impl Halt for Never {
        fn halt(&self) {}
        fn is_halted(&self) -> bool {
            false
        }
    }

    fn options(server: &Daemon, user: &str) -> SourceOptions {
        let mut options = fuzzing::options(false, Vec::new());
        (options.host, options.port) = ("localhost".into(), server.port());
        (options.user, options.password) = (user.into(), "secret".into());
        options
    }

    fn logs_in(options: &SourceOptions) -> Result<(), CaptureError> {
        let mut session = Session::open(&Arc::new(options.clone()), Arc::new(Never))?;
        let rows = session.texts("asking who we are", "SELECT CURRENT_USER()")?;
        assert_eq!(rows, [[format!("{}@%", options.user)]]);
        Ok(())
    }

    /// With and without TLS, when the server remembers nothing, and when it does; and not with
    /// another password.
    fn all_ways(server: &Daemon, user: &str, folder: &Path) {
        let options = options(server, user);
        let ca_file = Some(folder.join("ca.crt"));
        for tls in [Tls::Disable, Tls::VerifyFull { ca_file, client: None }] {
            server.sql("", "FLUSH PRIVILEGES").unwrap();
            let options = SourceOptions { tls, ..options.clone() };
            let wrong = SourceOptions { password: "guessed".into(), ..options.clone() };
            for _ in 0..2 {
                logs_in(&options).unwrap();
            }
            let error = logs_in(&wrong).unwrap_err();
            assert!(error.to_string().contains("Access denied"), "{error}");
        }
    }

    fn create(server: &Daemon, user: &str, how: &str) {
        server.sql("", &format!("CREATE USER {user} IDENTIFIED {how}")).unwrap();
    }

    #[test]
    fn a_nonce_of_ed25519_may_end_with_a_zero() {
        let request = |nonce: &[u8]| [b"\xfeclient_ed25519\0", nonce].concat();
        let mut nonce = [7; ED25519_NONCE];
        for last in [1, 0] {
            nonce[ED25519_NONCE - 1] = last;
            let body = request(&nonce);
            let parsed = ParseBuf(&body).parse::<AuthSwitchRequest<'_>>(()).unwrap();
            assert_eq!(nonce_of(&parsed.auth_plugin(), &body, parsed.plugin_data()), nonce);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let options = Arc::new(fuzzing::options(false, Vec::new()));
        let packets = Packets::recorded(&options, Arc::new(Never), Vec::new());
        for key in
            [&b""[..], b"no key", b"-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----"]
        {
            let error = seal(&packets, key, b"nonce").unwrap_err();
            assert!(error.to_string().contains("its public key"), "{error}");
        }
    }

    #[test]
    fn ways_of_authentication_of_mysql() {
        if !MySql::installed() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path(), "mysql").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (certificate, key) = (path("server.crt"), path("server.key"));
        let settings = [("ssl_cert", certificate.as_str()), ("ssl_key", key.as_str())];
        let server = MySql::start_with(&DaemonOptions::with(&settings)).unwrap();
        create(&server, "caching", "WITH caching_sha2_password BY 'secret'");
        create(&server, "sha", "WITH sha256_password BY 'secret'");
        all_ways(&server, "caching", folder.path());
        let error = logs_in(&options(&server, "sha")).unwrap_err();
        let CaptureError::Definite { what, remedy } = error else { panic!("{error:?}") };
        assert!(what.contains("sha256_password"), "{what}");
        assert!(remedy.contains("caching_sha2_password"), "{remedy}");
    }

    #[test]
    fn ways_of_authentication_of_mariadb() {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path(), "mysql").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (certificate, key) = (path("server.crt"), path("server.key"));
        let settings = [
            ("ssl_cert", certificate.as_str()),
            ("ssl_key", key.as_str()),
            ("plugin_load_add", "auth_ed25519"),
        ];
        let server = MariaDb::start_with(&DaemonOptions::with(&settings)).unwrap();
        create(&server, "native", "VIA mysql_native_password USING PASSWORD('secret')");
        create(&server, "ed25519", "VIA ed25519 USING PASSWORD('secret')");
        for user in ["native", "ed25519"] {
            all_ways(&server, user, folder.path());
        }
    }
}
