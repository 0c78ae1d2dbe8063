//! Which certificate a client is shown, by the name that it asks for, and what may be spoken with it.

use crate::command::{finish, private};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::Platform;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name, X509NameBuilder};
use std::cell::Cell;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub fn ecdsa() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

pub fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key")
}

fn common_name(text: &str) -> X509Name {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", text).expect("a name");
    name.append_entry_by_text("O", "ds-gateway (self-signed)").expect("a name");
    name.build()
}

/// A certificate that signs itself, called `label`, with these names, for so many days; and its key.
pub fn pair(label: &str, names: &[&str], key: &PKey<Private>, days: i64) -> (Vec<u8>, Vec<u8>) {
    let now = i64::try_from(crate::jwt::now()).expect("a time");
    let time = |days: i64| Asn1Time::from_unix(now + days * 86_400).expect("a time");
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("a version");
    builder.set_subject_name(&common_name(label)).expect("a name");
    builder.set_issuer_name(&common_name(label)).expect("a name");
    builder.set_pubkey(key).expect("a key");
    builder.set_not_before(&time(-400)).expect("a time");
    builder.set_not_after(&time(days)).expect("a time");
    if !names.is_empty() {
        let mut all = SubjectAlternativeName::new();
        names.iter().for_each(|name| {
            all.dns(name);
        });
        let all = all.build(&builder.x509v3_context(None, None)).expect("names");
        builder.append_extension(all).expect("names");
    }
    builder.sign(key, MessageDigest::sha256()).expect("a signature");
    let certificate = builder.build().to_pem().expect("PEM");
    (certificate, key.private_key_to_pem_pkcs8().expect("PEM"))
}

/// Writes `label.crt` and `label.key`.
pub fn write(folder: &Path, label: &str, names: &[&str], key: &PKey<Private>) {
    let (certificate, key) = pair(label, names, key, 200);
    private(&folder.join(format!("{label}.crt")), &certificate);
    private(&folder.join(format!("{label}.key")), &key);
}

/// Options with this default pair, and the others.
pub fn with(options: Options, folder: &Path, default: &str, others: &[&str]) -> Options {
    let path = |label: &str, kind: &str| format!("{:?}", folder.join(format!("{label}.{kind}")));
    let mut list = String::new();
    for label in others {
        let (certificate, key) = (path(label, "crt"), path(label, "key"));
        write!(list, "{{ certificate = {certificate}, private_key = {key} }}, ").expect("a string");
    }
    options
        .https()
        .set("server", "certificate", path(default, "crt"))
        .set("server", "private_key", path(default, "key"))
        .set("server", "certificates", format!("[{list}]"))
}

pub type Configure<'c> = &'c dyn Fn(&mut SslContextBuilder);

/// A handshake as a client that verifies nothing.
pub fn handshake(
    address: SocketAddr,
    name: Option<&str>,
    configure: Configure<'_>,
) -> Result<SslStream<TcpStream>, String> {
    let mut builder = SslContext::builder(SslMethod::tls_client()).expect("TLS");
    builder.set_verify(SslVerifyMode::NONE);
    configure(&mut builder);
    let mut ssl = Ssl::new(&builder.build()).expect("TLS");
    if let Some(name) = name {
        ssl.set_hostname(name).expect("a name");
    }
    let stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    ssl.connect(stream).map_err(|error| error.to_string())
}

/// The common name of the certificate that is shown.
pub fn label(stream: &SslStream<TcpStream>) -> String {
    let leaf = stream.ssl().peer_certificate().expect("a certificate");
    let entry = leaf.subject_name().entries_by_nid(Nid::COMMONNAME).next().expect("a name");
    entry.data().to_string().expect("a text")
}

pub fn shown(gateway: &Gateway, name: Option<&str>) -> String {
    label(&handshake(gateway.https(), name, &|_| {}).expect("a handshake"))
}

fn only(version: SslVersion) -> impl Fn(&mut SslContextBuilder) {
    move |builder| {
        builder.set_min_proto_version(Some(version)).expect("a version");
        builder.set_max_proto_version(Some(version)).expect("a version");
    }
}

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    let folder = dir.path();
    write(folder, "default", &["gw.test", "default.b.test"], &ecdsa());
    write(folder, "a", &["a.test"], &ecdsa());
    write(folder, "b", &["*.b.test", "b.test"], &ecdsa());
    write(folder, "both-ecdsa", &["both.test"], &ecdsa());
    write(folder, "both-rsa", &["both.test"], &rsa());
    let others = ["a", "b", "both-rsa", "both-ecdsa"];
    let gateway = with(Options::new(&platform), folder, "default", &others).start();
    for version in VERSIONS {
        for (name, expected) in [
            (None, "default"),
            (Some("gw.test"), "default"),
            (Some("elsewhere.test"), "default"),
            (Some("a.test"), "a"),
            (Some("A.Test"), "a"),
            (Some("x.a.test"), "default"),
            (Some("b.test"), "b"),
            (Some("x.b.test"), "b"),
            (Some("y.x.b.test"), "default"),
            // A name of its own comes before a wildcard of another one.
            (Some("default.b.test"), "default"),
        ] {
            let stream = handshake(gateway.https(), name, &only(version)).expect("a handshake");
            assert_eq!(label(&stream), expected, "{name:?} {version:?}");
        }
        for (algorithms, expected) in
            [("ECDSA+SHA256", "both-ecdsa"), ("RSA-PSS+SHA256:RSA+SHA256", "both-rsa")]
        {
            let configure = |builder: &mut SslContextBuilder| {
                only(version)(builder);
                builder.set_sigalgs_list(algorithms).expect("algorithms");
            };
            let stream = handshake(gateway.https(), Some("both.test"), &configure).expect("a handshake");
            assert_eq!(label(&stream), expected, "{version:?}");
            let alone = handshake(gateway.https(), Some("a.test"), &configure);
            assert_eq!(alone.is_ok(), expected == "both-ecdsa", "a name has no certificates but its own");
        }
    }
    // ALPN holds for each of them.
    for name in ["gw.test", "a.test", "both.test"] {
        let configure = |builder: &mut SslContextBuilder| builder.set_alpn_protos(b"\x02h2").expect("ALPN");
        let stream = handshake(gateway.https(), Some(name), &configure).expect("a handshake");
        assert_eq!(stream.ssl().selected_alpn_protocol(), Some(&b"h2"[..]), "{name}");
    }
    let ends = |labels: &[&str]| gateway.metric("ds_gateway_certificate_not_after_timestamp_seconds", labels);
    for (setting, name) in [("server.certificate", "gw.test"), ("server.certificates[2]", "*.b.test")] {
        let labels = [format!("certificate=\"{setting}\""), format!("name=\"{name}\"")];
        assert!(ends(&labels.each_ref().map(String::as_str)) > 0.0, "{labels:?}");
    }
    gateway.still_healthy();
}

#[test]
fn without_a_default_of_its_own_an_unknown_name_is_shown_the_self_signed_one() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    write(dir.path(), "a", &["a.test", "localhost"], &ecdsa());
    let options = with(Options::new(&platform), dir.path(), "a", &["a"]);
    let gateway = options.unset("server", "certificate").unset("server", "private_key").start();
    assert_eq!([shown(&gateway, Some("a.test")), shown(&gateway, Some("localhost"))], ["a", "a"]);
    assert_ne!(shown(&gateway, Some("elsewhere.test")), "a");
}

#[test]
fn a_session_is_resumed_for_its_name_and_ends_with_its_certificate() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    write(dir.path(), "default", &["gw.test"], &ecdsa());
    write(dir.path(), "a", &["a.test"], &ecdsa());
    write(dir.path(), "b", &["b.test"], &ecdsa());
    let options = with(Options::new(&platform), dir.path(), "default", &["a", "b"]);
    let gateway = options.clone().start();
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |name: &str, session: &[&str]| {
            let mut command = Command::new("openssl");
            command.args([
                "s_client",
                "-connect",
                &gateway.https().to_string(),
                "-servername",
                name,
                version,
            ]);
            command.args(["-ign_eof"]).args(session).current_dir(dir.path());
            // With TLS 1.3 the session comes after the handshake.
            let request = "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let done = finish(command, request).ok();
            assert!(done.contains("HTTP/1.1 401"), "{done}");
            let label = done
                .split("subject=CN = ")
                .nth(1)
                .and_then(|rest| rest.split(',').next())
                .expect("a subject");
            (done.contains("Reused, TLS"), label.to_owned())
        };
        let [keep, resume] = [&["-sess_out", "session"][..], &["-sess_in", "session"]];
        for name in ["a", "b", "default"] {
            let host = if name == "default" { "gw.test".to_owned() } else { format!("{name}.test") };
            assert_eq!(ask(&host, keep), (false, name.to_owned()), "{version}");
            assert_eq!(ask(&host, resume), (true, name.to_owned()), "{version}");
        }
        // Under another name nothing is shown that the client has not verified before: what it knows of the peer is the certificate of its session, or,
        // after a whole handshake, that of the name.
        ask("a.test", keep);
        let (is_reused, label) = ask("b.test", resume);
        assert_eq!(label, if is_reused { "a" } else { "b" }, "{version}");
        // Another certificate: sessions of before are not resumed.
        ask("a.test", keep);
        write(dir.path(), "a", &["a.test"], &ecdsa());
        assert_eq!(gateway.reloaded(&options), ["server.certificates"]);
        assert_eq!(ask("a.test", resume), (false, "a".to_owned()), "{version}");
    }
}

#[test]
fn what_is_spoken_is_mozillas_intermediate_profile() {
    let (platform, dir) = (Platform::echo(), tempfile::tempdir().expect("a folder"));
    write(dir.path(), "ecdsa", &["gw.test"], &ecdsa());
    write(dir.path(), "rsa", &["gw.test"], &rsa());
    let gateway = with(Options::new(&platform), dir.path(), "ecdsa", &["rsa"]).start();
    let try_with = |configure: Configure<'_>| handshake(gateway.https(), Some("gw.test"), configure).is_ok();
    for (version, is_spoken) in [
        (SslVersion::TLS1, false),
        (SslVersion::TLS1_1, false),
        (SslVersion::TLS1_2, true),
        (SslVersion::TLS1_3, true),
    ] {
        let configure = |builder: &mut SslContextBuilder| {
            builder.set_cipher_list("ALL:@SECLEVEL=0").expect("ciphers");
            only(version)(builder);
        };
        assert_eq!(try_with(&configure), is_spoken, "{version:?}");
    }
    // Every cipher that a library knows is tried, one by one.
    let mut command = Command::new("openssl");
    command.args(["ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]);
    let all = finish(command, "").ok();
    let all: Vec<&str> = all.trim().split(':').collect();
    let known = |builder: &mut SslContextBuilder, name: &str| {
        only(SslVersion::TLS1_2)(builder);
        builder.set_cipher_list(&format!("{name}:@SECLEVEL=0")).is_ok()
    };
    let of_tls_1_2 = all.iter().filter(|name| !name.starts_with("TLS_"));
    let accepted: Vec<&str> = of_tls_1_2
        .filter(|name| {
            let is_offered = Cell::new(false);
            try_with(&|builder| is_offered.set(known(builder, name))) && is_offered.get()
        })
        .copied()
        .collect();
    let mut expected = vec![
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "DHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384",
    ];
    let mut found = accepted.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(all.len() > 20, "too few ciphers were tried: {all:?}");
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let configure = |builder: &mut SslContextBuilder| builder.set_ciphersuites(suite).expect("a suite");
        assert!(try_with(&configure), "{suite}");
    }
    for suite in ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"] {
        let configure = |builder: &mut SslContextBuilder| {
            only(SslVersion::TLS1_3)(builder);
            builder.set_ciphersuites(suite).expect("a suite");
        };
        assert!(!try_with(&configure), "{suite}");
    }
    for (group, is_known) in [
        ("X25519MLKEM768", true),
        ("X25519", true),
        ("P-256", true),
        ("P-384", true),
        ("P-521", false),
        ("X448", false),
        ("ffdhe2048", false),
        ("SecP256r1MLKEM768", false),
        ("brainpoolP256r1tls13", false),
    ] {
        let configure = |builder: &mut SslContextBuilder| {
            only(SslVersion::TLS1_3)(builder);
            builder.set_groups_list(group).expect("a group");
        };
        assert_eq!(try_with(&configure), is_known, "{group}");
    }
    for (group, is_known) in [("X25519", true), ("P-256", true), ("P-384", true), ("P-521", false)] {
        let configure = |builder: &mut SslContextBuilder| {
            only(SslVersion::TLS1_2)(builder);
            builder.set_cipher_list("ECDHE+AESGCM").expect("ciphers");
            builder.set_groups_list(group).expect("a group");
        };
        assert_eq!(try_with(&configure), is_known, "{group} with TLS 1.2");
    }
    gateway.still_healthy();
}
