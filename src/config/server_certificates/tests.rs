use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509;
use openssl::x509::extension::SubjectAlternativeName;

use super::*;

fn ecdsa() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// Writes a pair with these names.
fn pair(folder: &Path, file: &str, names: &[&str], key: &PKey<Private>) -> PairPaths {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(60).unwrap()).unwrap();
    if !names.is_empty() {
        let mut all = SubjectAlternativeName::new();
        names.iter().for_each(|name| {
            all.dns(name);
        });
        let all = all.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(all).unwrap();
    }
    builder.sign(key, MessageDigest::sha256()).unwrap();
    let paths = PairPaths {
        certificate: folder.join(format!("{file}.crt")),
        key: folder.join(format!("{file}.key")),
    };
    std::fs::write(&paths.certificate, builder.build().to_pem().unwrap()).unwrap();
    std::fs::write(&paths.key, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    paths
}

#[test]
fn each_name_has_its_certificates_one_for_each_type_of_key() {
    let folder = tempfile::tempdir().unwrap();
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let of = |file, names: &[&str], key| pair(folder.path(), file, names, key);
    let pairs = ServerPairs {
        default: Some(of("default", &["gw.test"], &ecdsa())),
        others: vec![
            of("a", &["A.test", "*.a.test", "a.test"], &ecdsa()),
            of("a-rsa", &["a.test", "f*.a.test", "*"], &rsa),
        ],
    };
    let read = ServerCertificates::read(&pairs).unwrap();
    let names = read.by_name();
    let names: Vec<(&str, &[usize])> =
        names.iter().map(|(name, at)| (name.as_str(), at.as_slice())).collect();
    assert_eq!(names, [("*.a.test", &[1][..]), ("a.test", &[1, 2]), ("gw.test", &[0])]);
    let settings: Vec<String> = read.all().map(|(setting, _)| setting).collect();
    assert_eq!(settings, ["server.certificate", "server.certificates[1]", "server.certificates[2]"]);
}

#[test]
fn certificates_that_no_client_could_be_shown_for_sure_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |file, names: &[&str]| pair(folder.path(), file, names, &ecdsa());
    let (one, two) = (of("one", &["a.test"]), of("two", &["b.test", "a.test"]));
    let (nameless, partial) = (of("nameless", &[]), of("partial", &["f*.test"]));
    let crossed = PairPaths { key: two.key.clone(), ..of("crossed", &["c.test"]) };
    let absent = PairPaths { certificate: folder.path().join("absent.crt"), ..one.clone() };
    for (others, words) in [
        (vec![two.clone()], &["one.crt", "two.crt", "\"a.test\"", "ECDSA", "keep one"][..]),
        (vec![nameless.clone()], &["nameless.crt", "no DNS name", "server.certificate"]),
        (vec![partial], &["partial.crt", "no DNS name"]),
        (vec![crossed], &["two.key", "crossed.crt", "is not the key"]),
        (vec![absent], &["absent.crt", "cannot be read"]),
    ] {
        let pairs = ServerPairs { default: Some(one.clone()), others };
        let errors = ServerCertificates::read(&pairs).unwrap_err();
        let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(errors.len() == 1 && text.starts_with("server.certificates: "), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
    // The default one needs no name, as before.
    let pairs = ServerPairs { default: Some(nameless), others: vec![one, of("other", &["c.test"])] };
    assert_eq!(ServerCertificates::read(&pairs).unwrap().by_name().len(), 2);
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let of = |name| wildcard_of(name);
    assert_eq!(of("x.a.test").as_deref(), Some("*.a.test"));
    assert_eq!(of("y.x.a.test").as_deref(), Some("*.x.a.test"));
    assert_eq!([of("test"), of(".test"), of("a."), of("")], [None, None, None, None]);
}
