//! Certificates for the servers and clients of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

use super::folder::{own, server_folder};

type Pair = (X509, PKey<Private>);

/// Where they are; made once in a process.
pub(super) fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = server_folder();
        let ca = make("the CA of the test", None, &[]);
        write(&folder, "ca", &ca);
        write(&folder, "other", &make("another CA", None, &[]));
        write(&folder, "localhost", &make("localhost", Some(&ca), &["localhost", "127.0.0.1"]));
        write(&folder, "elsewhere", &make("elsewhere", Some(&ca), &["elsewhere.test", "127.0.0.9"]));
        write(&folder, "gateway", &make("gateway", Some(&ca), &["gateway.test"]));
        let file = folder.join("signing.key");
        fs::write(&file, (b'0'..b'0' + 48).collect::<Vec<u8>>()).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
        folder
    });
    &FOLDER
}

fn write(folder: &Path, name: &str, (certificate, key): &Pair) {
    fs::write(folder.join(format!("{name}.pem")), certificate.to_pem().expect("PEM")).expect("a file");
    let file = folder.join(format!("{name}.key"));
    fs::write(&file, key.private_key_to_pem_pkcs8().expect("PEM")).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    own(&file);
}

/// A certificate for some names; of its own where there is no issuer.
fn make(name: &str, issuer: Option<&Pair>, names: &[&str]) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    let mut subject = X509NameBuilder::new().expect("a name");
    subject.append_entry_by_nid(Nid::COMMONNAME, name).expect("a name");
    let subject = subject.build();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let now = i64::try_from(now).expect("a time");
    let mut builder = X509Builder::new().expect("a certificate");
    builder.set_version(2).expect("a version");
    let serial = BigNum::from_u32(name.bytes().map(u32::from).sum::<u32>() + 1).expect("a number");
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).expect("a number")).expect("a number");
    builder.set_subject_name(&subject).expect("a name");
    builder.set_issuer_name(issuer.map_or(&*subject, |(ca, _)| ca.subject_name())).expect("a name");
    builder.set_pubkey(&key).expect("a key");
    builder.set_not_before(&Asn1Time::from_unix(now - 7200).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::from_unix(now + 7200).expect("a time")).expect("a time");
    if issuer.is_none() {
        let constraints = BasicConstraints::new().critical().ca().build().expect("a CA");
        builder.append_extension(constraints).expect("a CA");
        let usage = KeyUsage::new().critical().key_cert_sign().crl_sign().build().expect("a usage");
        builder.append_extension(usage).expect("a usage");
    } else {
        let mut alternative = SubjectAlternativeName::new();
        for name in names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => alternative.ip(name),
                Err(_) => alternative.dns(name),
            };
        }
        let alternative = alternative.build(&builder.x509v3_context(issuer.map(|(ca, _)| &**ca), None));
        builder.append_extension(alternative.expect("names")).expect("names");
    }
    builder.sign(issuer.map_or(&key, |(_, key)| key), MessageDigest::sha256()).expect("a signature");
    (builder.build(), key)
}
