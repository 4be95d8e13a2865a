//! The hash of the server's certificate that binds SCRAM to the TLS channel.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// `tls-server-end-point` of RFC 5929: the certificate hashed with its signature's hash, with
/// SHA-256 in place of MD5 and SHA-1. `None` where the signature names no hash that is known.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID … } … }
    let (outer, _) = element(certificate, 0x30)?;
    let (_, after_tbs) = element(outer, 0x30)?;
    let (algorithm, _) = element(after_tbs, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let sha256 = || Some(Sha256::digest(certificate).to_vec());
    let sha384 = || Some(Sha384::digest(certificate).to_vec());
    let sha512 = || Some(Sha512::digest(certificate).to_vec());
    match (oid.strip_prefix(&RSA), oid.strip_prefix(&ECDSA_SHA2)) {
        // md5, sha1 and sha256 WithRSAEncryption.
        (Some([4 | 5 | 11]), _) => sha256(),
        (Some([12]), _) => sha384(),
        (Some([13]), _) => sha512(),
        (_, Some([2])) => sha256(),
        (_, Some([3])) => sha384(),
        (_, Some([4])) => sha512(),
        _ if oid == ECDSA_SHA1 => sha256(),
        _ => None,
    }
}

/// Content of the DER element at the start, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(usize::from(length));
    }
    let count = usize::from(length & 0x7f);
    if count == 0 || count > 4 {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(count)?;
    let length = digits.iter().fold(0usize, |n, digit| n << 8 | usize::from(*digit));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_follows_the_signature() {
        let sha384 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
        let algorithm = [&[0x30, 10, 0x06, 8][..], &sha384].concat();
        let certificate = [&[0x30, 14, 0x30, 0][..], &algorithm].concat();
        assert_eq!(server_end_point(&certificate).map(|hash| hash.len()), Some(48));
        assert_eq!(server_end_point(&certificate[..10]), None);
    }

    proptest! {
        #[test]
        fn no_certificate_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = server_end_point(&bytes);
        }
    }
}
