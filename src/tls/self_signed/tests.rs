use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);
const DAY: u64 = 86_400;

fn later(days: u64) -> UnixTime {
    UnixTime(NOW.0 + days * DAY)
}

fn der(pair: &CertifiedKey) -> Vec<u8> {
    pair.chain[0].to_der().unwrap()
}

fn read(folder: &Path) -> CertifiedKey {
    let PairPaths { certificate, key } = paths(folder);
    CertifiedKey::read(&certificate, &key).unwrap()
}

#[test]
fn a_certificate_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let address: SocketAddr = "192.0.2.7:443".parse().unwrap();
    let one = self_signed(folder.path(), &[address], NOW).unwrap();
    let two = self_signed(folder.path(), &[address], NOW).unwrap();
    assert_eq!(der(&one), der(&two));
    let names = one.chain[0].subject_alt_names().unwrap();
    assert!(names.iter().any(|name| name.dnsname() == Some("localhost")));
    assert!(names.iter().any(|name| name.ipaddress() == Some(&[192, 0, 2, 7])));
    assert!(one.chain[0].verify(&one.key).unwrap());
    assert_eq!(one.not_after(), i64::try_from(later(365).0).ok());
}

#[test]
fn a_certificate_is_made_again_in_the_last_month_of_its_year() {
    let folder = tempfile::tempdir().unwrap();
    let first = self_signed(folder.path(), &[], NOW).unwrap();
    assert!(!is_due(&first, later(334)) && is_due(&first, later(335)) && is_due(&first, later(1000)));
    assert_eq!(der(&self_signed(folder.path(), &[], later(334)).unwrap()), der(&first));
    let second = self_signed(folder.path(), &[], later(336)).unwrap();
    assert_ne!(der(&second), der(&first));
    assert_eq!(der(&read(folder.path())), der(&second));
    assert_eq!(second.not_after(), i64::try_from(later(336 + 365).0).ok());
    let mode = |name: &str| fs::metadata(folder.path().join("tls").join(name)).unwrap().permissions().mode();
    assert_eq!([mode("self-signed.crt") & 0o777, mode("self-signed.key") & 0o777], [0o600; 2]);
    assert_eq!(fs::read_dir(folder.path().join("tls")).unwrap().count(), 2, "no draft is left");
}

#[test]
fn damaged_key_of_our_own_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let one = self_signed(folder.path(), &[], NOW).unwrap();
    let key = paths(folder.path()).key;
    fs::write(&key, "damaged").unwrap();
    let two = self_signed(folder.path(), &[], NOW).unwrap();
    // A renewal that ended between its two files.
    fs::remove_file(&key).unwrap();
    let three = self_signed(folder.path(), &[], NOW).unwrap();
    assert!(der(&one) != der(&two) && der(&two) != der(&three));
}

#[test]
fn what_somebody_else_has_put_there_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let PairPaths { certificate, key } = paths(folder.path());
    self_signed(folder.path(), &[], NOW).unwrap();
    // One by somebody else, and long over.
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=theirs -keyout self-signed.key -out self-signed.crt";
    let made = std::process::Command::new("bash")
        .args(["-c", script])
        .current_dir(folder.path().join("tls"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let (theirs, their_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    let much_later = later(10_000);
    let served = self_signed(folder.path(), &[], much_later).unwrap();
    assert_eq!(der(&served), der(&read(folder.path())));
    // And where it cannot be served.
    for (path, text) in [(&key, "damaged"), (&certificate, "damaged")] {
        fs::write(path, text).unwrap();
        for error in [self_signed(folder.path(), &[], NOW).map(drop), check(folder.path(), NOW)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("does not replace it: remove "), "{error}");
        }
    }
    fs::remove_file(&certificate).unwrap();
    fs::write(&key, &their_key).unwrap();
    assert!(self_signed(folder.path(), &[], NOW).is_err(), "a key alone is theirs too");
    assert_eq!(fs::read(&key).unwrap(), their_key);
    assert!(!theirs.is_empty());
}
