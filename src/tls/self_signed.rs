//! A certificate that signs itself, for TLS listeners where the operator names none.

use std::fs::{self, DirBuilder, File};
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
use zeroize::Zeroizing;

use crate::auth::time::UnixTime;
use crate::config::{CertifiedKey, PairPaths};

/// The self-signed certificate in `state_dir/tls`: made where there is none, and made again when less than 30 days of its life are left. Only what
/// a gateway has made is ever replaced.
///
/// # Errors
///
/// If it cannot be made, or if the files are somebody else's and do not fit.
pub fn self_signed(state_dir: &Path, addresses: &[SocketAddr], now: UnixTime) -> io::Result<CertifiedKey> {
    if let Some(pair) = kept(state_dir, now)? {
        return Ok(pair);
    }
    check(state_dir, now)?;
    let folder = state_dir.join(FOLDER);
    let named = |error: io::Error| named(&folder, error);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(named)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(named)?;
    // Of two gateways on one folder, the second takes what the first has made.
    let lock = File::open(&folder).map_err(named)?;
    lock.lock().map_err(named)?;
    if let Some(pair) = kept(state_dir, now)? {
        return Ok(pair);
    }
    let pair = make(addresses, now).map_err(io::Error::other)?;
    let leaf = pair.chain.first().map(|leaf| leaf.to_pem()).transpose().map_err(io::Error::other)?;
    let private = Zeroizing::new(pair.key.private_key_to_pem_pkcs8().map_err(io::Error::other)?);
    let PairPaths { certificate, key } = paths(state_dir);
    // The certificate first: it says whose the key beside it is, if this ends between the two.
    write(&certificate, &leaf.unwrap_or_default()).map_err(named)?;
    write(&key, &private).map_err(named)?;
    lock.sync_all().map_err(named)?;
    log::info!("created a self-signed certificate for a year, {}", certificate.display());
    Ok(pair)
}

/// Where it is.
pub fn paths(state_dir: &Path) -> PairPaths {
    let folder = state_dir.join(FOLDER);
    PairPaths { certificate: folder.join("self-signed.crt"), key: folder.join("self-signed.key") }
}

/// Is another one to be made in its place?
pub fn is_due(pair: &CertifiedKey, now: UnixTime) -> bool {
    let soon = i64::try_from(now.0.saturating_add(RENEW_SECONDS)).unwrap_or(i64::MAX);
    pair.chain.first().is_some_and(is_ours) && pair.not_after().is_none_or(|end| end <= soon)
}

/// What is there and stays; nothing, if one is to be made.
fn kept(state_dir: &Path, now: UnixTime) -> io::Result<Option<CertifiedKey>> {
    let PairPaths { certificate, key } = paths(state_dir);
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if !is_there(&certificate) && !is_there(&key) {
        return Ok(None);
    }
    let text = match CertifiedKey::read(&certificate, &key) {
        Ok(pair) => return Ok((!is_due(&pair, now)).then_some(pair)),
        Err((_, text)) => text,
    };
    let found = fs::read(&certificate).ok().and_then(|pem| X509::from_pem(&pem).ok());
    if found.as_ref().is_some_and(is_ours) {
        return Ok(None);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{text}; the gateway did not make what is there and does not replace it: remove {} and {}, or name a pair by server.certificate and server.private_key",
            certificate.display(),
            key.display()
        ),
    ))
}

/// Has a gateway made it?
fn is_ours(leaf: &X509) -> bool {
    let organizations = leaf.subject_name().entries_by_nid(Nid::ORGANIZATIONNAME);
    let mut organizations = organizations.filter_map(|entry| entry.data().to_string().ok());
    organizations.any(|organization| organization == ORGANIZATION)
        && leaf.public_key().and_then(|key| leaf.verify(&key)).unwrap_or(false)
}

/// Could [`self_signed`] read what is there, and write? Changes nothing.
pub fn check(state_dir: &Path, now: UnixTime) -> io::Result<()> {
    kept(state_dir, now)?;
    let folder = state_dir.join(FOLDER);
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

/// Replaces the file, or leaves it as it is.
fn write(path: &Path, pem: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(pem)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// P-256, for `localhost`, this host and the addresses listened on.
fn make(addresses: &[SocketAddr], now: UnixTime) -> Result<CertifiedKey, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key: PKey<Private> = PKey::from_ec_key(EcKey::generate(&group)?)?;

    let host = host_name();
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, host.as_deref().unwrap_or("localhost"))?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, ORGANIZATION)?;
    let name = name.build();

    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;

    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(&key)?;
    let time = |seconds: u64| Asn1Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX));
    builder.set_not_before(&*time(now.0)?)?;
    builder.set_not_after(&*time(now.0.saturating_add(LIFE_SECONDS))?)?;
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

/// In `state_dir`.
const FOLDER: &str = "tls";

/// Who has made it.
const ORGANIZATION: &str = "ds-gateway (self-signed)";

/// A year: Mozilla's profile allows 366 days.
const LIFE_SECONDS: u64 = 365 * 24 * 3600;

/// A certificate with less than this left is made again.
const RENEW_SECONDS: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod tests;
