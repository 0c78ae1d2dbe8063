//! A certificate that signs itself, for TLS listeners where the operator names none.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use crate::config::CertifiedKey;

/// The self-signed certificate in `state_dir/tls`: made where there is none, and made again when less than
/// 30 days of its life are left.
pub fn self_signed(state_dir: &Path, addresses: &[SocketAddr]) -> io::Result<CertifiedKey> {
    let folder = state_dir.join("tls");
    let (certificate, key) = (folder.join("self-signed.crt"), folder.join("self-signed.key"));
    if let Ok(pair) = CertifiedKey::read(&certificate, &key)
        && is_fresh(&pair)
    {
        return Ok(pair);
    }
    check(state_dir)?;
    let named = |error: io::Error| named(&folder, error);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(named)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(named)?;
    let pair = make(addresses).map_err(io::Error::other)?;
    let leaf = pair.chain.first().map(|leaf| leaf.to_pem()).transpose().map_err(io::Error::other)?;
    let private = pair.key.private_key_to_pem_pkcs8().map_err(io::Error::other)?;
    write(&key, &private).map_err(named)?;
    write(&certificate, &leaf.unwrap_or_default()).map_err(named)?;
    log::info!("created a self-signed certificate, {}", certificate.display());
    Ok(pair)
}

/// Could [`self_signed`] read what is there, and write? Changes nothing.
pub fn check(state_dir: &Path) -> io::Result<()> {
    let folder = state_dir.join("tls");
    let flags = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let found = match fs::metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if !metadata.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        found => found.and_then(|_| Ok(faccessat(AT_FDCWD, &folder, flags, AtFlags::AT_EACCESS)?)),
    };
    found.map_err(|error| named(&folder, error))
}

fn named(folder: &Path, error: io::Error) -> io::Error {
    let text = format!("{}: cannot make a self-signed certificate: {error}", folder.display());
    io::Error::new(error.kind(), text)
}

fn is_fresh(pair: &CertifiedKey) -> bool {
    let soon = Asn1Time::days_from_now(RENEW_DAYS);
    let leaf = pair.chain.first();
    leaf.zip(soon.ok()).is_some_and(|(leaf, soon)| leaf.not_after() > soon)
}

fn write(path: &Path, pem: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(pem)?;
    file.sync_all()
}

/// P-256, for `localhost`, this host and the addresses listened on.
fn make(addresses: &[SocketAddr]) -> Result<CertifiedKey, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key: PKey<Private> = PKey::from_ec_key(EcKey::generate(&group)?)?;

    let host = host_name();
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, host.as_deref().unwrap_or("localhost"))?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "ds-gateway (self-signed)")?;
    let name = name.build();

    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;

    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(LIFE_DAYS)?)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let mut names = SubjectAlternativeName::new();
    names.dns("localhost").ip("127.0.0.1").ip("::1");
    if let Some(host) = host.as_deref().filter(|host| *host != "localhost") {
        names.dns(host);
    }
    let extra = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_loopback();
    for ip in addresses.iter().map(SocketAddr::ip).filter(extra) {
        names.ip(&ip.to_string());
    }
    let names = names.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok(CertifiedKey { chain: vec![builder.build()], key, open_file: None })
}

/// This host's name, if it can stand in a certificate.
fn host_name() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = text.trim();
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    // 64 bytes is the limit of a common name (RFC 5280, upper bounds).
    (!name.is_empty() && name.len() <= 64 && name.bytes().all(sound)).then(|| name.to_owned())
}

/// The longest life that current clients accept without a word.
const LIFE_DAYS: u32 = 825;

/// A certificate with less than this left is made again at the next start.
const RENEW_DAYS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let address: SocketAddr = "192.0.2.7:443".parse().unwrap();
        let one = self_signed(folder.path(), &[address]).unwrap();
        let two = self_signed(folder.path(), &[address]).unwrap();
        let pem = |pair: &CertifiedKey| pair.chain[0].to_pem().unwrap();
        assert_eq!(pem(&one), pem(&two));
        let names = one.chain[0].subject_alt_names().unwrap();
        assert!(names.iter().any(|name| name.dnsname() == Some("localhost")));
        assert!(names.iter().any(|name| name.ipaddress() == Some(&[192, 0, 2, 7])));
        assert!(one.chain[0].verify(&one.key).unwrap());
        let now = i64::try_from(crate::clock::wall().0).unwrap();
        let days = (one.not_after().unwrap() - now) / 86_400;
        assert!((LIFE_DAYS as i64 - 1..=LIFE_DAYS as i64).contains(&days), "{days}");
    }

    #[test]
    fn damaged_pair_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let one = self_signed(folder.path(), &[]).unwrap();
        std::fs::write(folder.path().join("tls/self-signed.key"), "damaged").unwrap();
        let two = self_signed(folder.path(), &[]).unwrap();
        assert_ne!(one.chain[0].to_pem().unwrap(), two.chain[0].to_pem().unwrap());
    }
}
