//! Hashes as other programs wrote them, and those that are refused.

use super::*;

fn secret(text: impl AsRef<[u8]>) -> Secret {
    Secret::new(text.as_ref().to_vec())
}

/// The password of the first hash of each pair. It has characters of two bytes.
const SHORT: &str = "Grüße 42";

/// That of the second: 85 bytes, more than bcrypt reads and than a block of SHA-256 has.
fn long() -> String {
    "a long password, ".repeat(5)
}

/// Where each comes from: Django 5, Werkzeug 3, passlib 1.7.4 and argon2-cffi with the least costs that they take (`using(rounds=…)`,
/// `encode(password, "seasalt", …)`, `generate_password_hash(password, "scrypt:1024:8:1")`), hashlib for PHC, which nothing else writes
/// for PBKDF2, `openssl passwd -6|-5|-apr1 -salt seasalt`, `htpasswd -nbm`, `htpasswd -nbBC 4`, `slappasswd -h {SSHA}`, and crypt() of libxcrypt.
/// Django's `bcrypt$` was given what bcrypt reads of the long one.
const VECTORS: [(&str, &str, &str); 37] = [
    (
        "argon2",
        "$argon2id$v=19$m=64,t=1,p=1$aGv/gW2C2GLZwZB/wLdBTQ$any7emv1K+UWUF+74rSPmu/3ap7uofUX99E5XzVocbg",
        "$argon2id$v=19$m=64,t=1,p=1$+TnL+X4kPjLaaqCJOCWvpQ$U/JjSg05ch5ctghoxQPZhDN0oWfTvvhqmlS0VIuvpxM",
    ),
    (
        "django pbkdf2_sha256",
        "pbkdf2_sha256$1000$seasalt$HHyUVRZjmUq0C/E2msJVNYZUiDJM6YKrci++mSZjLEg=",
        "pbkdf2_sha256$1000$seasalt$lpQMq8nfzlWYUfNeIsAdE/54vfDwXQ+IUZjLBpomtuc=",
    ),
    (
        "django pbkdf2_sha1",
        "pbkdf2_sha1$1000$seasalt$lsT2OHF8AeLvsStCVzKdDiO32ME=",
        "pbkdf2_sha1$1000$seasalt$6MQ5hDG/aTDN7UcugZV1eKGgR5I=",
    ),
    (
        "django argon2",
        "argon2$argon2id$v=19$m=64,t=1,p=1$c2Vhc2FsdHNlYXNhbHQ$sCSLL5/gkBw37KCqNtFuGoXSNf0ragpk2Tu3rU0NdUw",
        "argon2$argon2id$v=19$m=64,t=1,p=1$c2Vhc2FsdHNlYXNhbHQ$CZtYT1gn5CA/1EIh2t8eS/qY6nSlVTa5XwwyJOzxbm8",
    ),
    (
        "django bcrypt_sha256",
        "bcrypt_sha256$$2b$04$vMIH7NwWh/TKImW8eSLsV.J8J/4p6wO1Tyc2qBe8UKMmtnISqwgIC",
        "bcrypt_sha256$$2b$04$wvGGqRlhNrTIMPXUd1BHJ.Ju3EnlTi9Eln.GsY3Vbg893pwHrcfaW",
    ),
    (
        "django bcrypt",
        "bcrypt$$2b$04$F2r8C9rb3.VwfDeID.lTku8bES.lQSO237qmXOENkURf3mpXn01fS",
        "bcrypt$$2b$04$yqZjNsJ79qWhMgZT46iVp.NqMsGh0HqecpWYDnk7/in3fLYDeLkEO",
    ),
    (
        "django scrypt",
        "scrypt$1024$seasalt$8$1$J7tty9qrEUwr4JHooglvc1I/05RYVfFg48JlUTEjBU9vFdQZhEGNqURPeV6YFOfh3TtguIPs10Vjhz7rWtDBwg==",
        "scrypt$1024$seasalt$8$1$UtMNwzzf2El/+z76f+NrKRmE1+4MlBChkJK012hEcCGdutZQ5+DfD0q2LOG0U9oEXlj/SRV+81ydt4HKAujndg==",
    ),
    (
        "django scrypt p=5",
        "scrypt$1024$seasalt$8$5$745WcgBwmI1RDIHDSFpb0p9dn221wV1QStz8Uas18CyvDb2IZtXy3LUxBxvr+N0n8Xvbe1d6LHeRvuyStb78VA==",
        "scrypt$1024$seasalt$8$5$skxdSZKM4LLJAdqjs2jdCTLb0KEwAk88YMR6n6OFPOkNHo4c6V+t8PwXOT2QsMGLESPXpGu4pLNkGPtYMCJ/mw==",
    ),
    (
        "passlib pbkdf2",
        "$pbkdf2$1000$kNJ6b00JIURoDSEkhBBizA$bLzDuN0oBYSlgd9ImrtWv7jhhEI",
        "$pbkdf2$1000$dW6NMaYUwlirFWLsXetdCw$RB9BM0nmtt2oMP2Qxkbc0ttE7wM",
    ),
    (
        "passlib pbkdf2-sha256",
        "$pbkdf2-sha256$1000$//777zEyMzQ$GtfuEa.uzxzy1tBBJ.LJp99AF/WiWv57..aY.tAl1pQ",
        "$pbkdf2-sha256$1000$//777zEyMzQ$hdvYB08BKsu3Jc9c3p6v6eI.a66ILqGm7rikKKlzUgA",
    ),
    (
        "passlib pbkdf2-sha512",
        "$pbkdf2-sha512$1000$wXhPiTFGqBWCUArB.H9vbQ$YlOSWWVygUZLNQ1aCHjsC6RjmUdfiN6T6AAs7.PPpeupEsI32Kxo2mSnGSI.0lZ0G84n7wJre2xvQtdES4hZZw",
        "$pbkdf2-sha512$1000$4/zfey.lVAoh5BxjrFWKEQ$Jqcua3bv4qM0L7UZ..HQ0cr.L7U3FXdzdXiqEWwwh0wTvgKqzaRwi05dM868nIEaetpaJhRSJPeGd86tGEMO.g",
    ),
    (
        "passlib scrypt",
        "$scrypt$ln=10,r=8,p=1$Z6y1lrIWonRu7d3bG0PIeQ$HNFHgxOJ8vz7exgKcomskwBTX8Yyxol3EYsHwGNVnig",
        "$scrypt$ln=10,r=8,p=1$7L3XWqtVam0N4dwbQwihdA$lHdaSbH4eTAPU8Wtju9ux50+BOAzMLnhs6M0W9anafo",
    ),
    (
        "passlib bcrypt_sha256, version 1",
        "$bcrypt-sha256$2b,4$G6WvQgdh4dGHOWkadLj76.$0ZM1qQBcbSYYQd5qdV0nTRgaCLioe/K",
        "$bcrypt-sha256$2b,4$yVgJZ8ou9UDiQJlexxKBg.$6jLOnrwyabPGEvfdaHOrEg0wgrL921q",
    ),
    (
        "passlib bcrypt_sha256, version 2",
        "$bcrypt-sha256$v=2,t=2b,r=4$WW7PwMVuHIlyJtlNsu6Hxe$Dl47MmLKQkn3rGlWmgLf2k8iyuDqKYe",
        "$bcrypt-sha256$v=2,t=2b,r=4$qZohjNDXb/5MKvkgX4SO7e$TQFnAmO7bodkNA476.axB9KLDjaRmlS",
    ),
    (
        "werkzeug scrypt",
        "scrypt:1024:8:1$H4LU3LYP3IV6D6oF$0a5eae23dce913b4f4866a6fea2209221d75a24285440ac44149ff1a4877418cbec0067f0a35b62a1e5a638caa3e998d884f56c3b420891cda3913d4dbf1b291",
        "scrypt:1024:8:1$J5RMMcHTxRzW33ix$3e3d380d35d6e8b1fcd46c31826bb49154bf0215ee8fa2208a2c96871894cdaf76ef26c139b121ee5a55b876c1b66af3afa499f87cb9dbad2f987370e2dcb2de",
    ),
    (
        "werkzeug pbkdf2 sha256",
        "pbkdf2:sha256:1000$fOB3aKJagKRUl9KR$69fdf63364982f0b503277d404553b0dfe690117b4a8b6878a1d1eb12f632de8",
        "pbkdf2:sha256:1000$k8ptVlDmSzwLNRYa$ae1449d89f9a4a1133afb43986bcae6864c96f0cad1928382c85fc4a645c7212",
    ),
    (
        "werkzeug pbkdf2 sha1",
        "pbkdf2:sha1:1000$u7M6b275D199y1GB$a83b098ff6c93a1c375a096410b6c7176fd524b6",
        "pbkdf2:sha1:1000$TaTutBWd6IHXG7n8$f1c1ae4306208f2309b2c94c6f8728c107f0a4eb",
    ),
    (
        "werkzeug pbkdf2 sha512",
        "pbkdf2:sha512:1000$4mvL5QcadsHMYhg1$fabde82d2d0b8f53d62b35c7155320c41cc24b0511ee7d5db798db98bfb7e7187a05a905eadfe7d4b1a96b79b2bb89bd666c3d074e9cc33285f80a2d7f9a7fca",
        "pbkdf2:sha512:1000$pkNFLxxAggHwS7v1$6358f43ce1dd5d72bee1d259ae1b4c91188b56e82c11ed67a3550d0d13058a84ef323bdb640bb296ffd74bc67f2c64afb5f07e2a9628b3014b05daf3b2643cf8",
    ),
    (
        "passlib ldap_salted_sha1",
        "{SSHA}mr9aOSzuzSWDnBzt62IeUZ51c6b+/1/L",
        "{SSHA}K6BGxg0cUii0jmobQ3lZ32N83PGDcG4N",
    ),
    (
        "passlib ldap_salted_sha256",
        "{SSHA256}Po7aZWp0RX/n3thmMtlSHGsuUsH5vFoQuz6UpusmtkrMWUuJ8V7rXQ==",
        "{SSHA256}JB86cUkNqCIF66D78WV5FYd6YOCMhdl38ChwwzgrqCmD0HovRWitNQ==",
    ),
    (
        "passlib ldap_salted_sha512",
        "{SSHA512}LlUf92BU9joCIjqBLt9/aWwJUI0uC2JZd1GAmRVO6GNJG4kXdd/iGwynfnqm8F55Pk85pIS9HEN6gcvrNrdGuV1rzTlnbI0R",
        "{SSHA512}HZ1pOaYRXZWzEl3WneSVYnUlc7hCBbXmOi3Xr9Z4ROIhI42pdoZzNZ49s5LATMeVUCCnBnWvDahcW6CUgG6qR1bKmVMqxZgT",
    ),
    ("slappasswd", "{SSHA}694G7WswjqepqsRcBcQ1+u6VEY+713rh", "{SSHA}trjxyWm97MUqZfFUWqOtirIlhbMQmP9O"),
    (
        "openssl -6",
        "$6$seasaltseasalt$Y3Qmot4doBKEhENEUztUs7gztpuY1W.shryLSqQYiQx0DT2gniuRoQqlHRxiXsIW0YlxTDCI0Z6WoaFooRjzc.",
        "$6$seasaltseasalt$SKu2VIUl5Abl8K4kfb.wHCaHuyLW/flZ8IRQDPk3/elMcSyOXwXjed.3meev8QlsoKYweSNbVVZaNhDEYOMvh/",
    ),
    (
        "openssl -5",
        "$5$seasalt$IRvx2HKjsWQGNEi6o2lAa6BGmi26wNAQ8DlvAvVwYS5",
        "$5$seasalt$BAQPaEajtCGqhx2zpwtk7Wk999sIzNJEDgXw2lVkCBD",
    ),
    (
        "libxcrypt $6$ rounds",
        "$6$rounds=1000$seasalt$nkVtZWwQI.ZLdguQpCS59fD29RGy7uwlhHAMr7mDKQb0OrKhUDX62FyawfBkmdqnVP1Bz7nvWOBZRvpGH98mu1",
        "$6$rounds=1000$seasalt$3TdpPZAKZi4NBRPn7Y6426EDyEhxchiWO7MDNVamd2YN/swrUzxgBdJ6y9kNCugmFP2LgoYoCKA7ak30okwdl1",
    ),
    (
        "libxcrypt $5$ rounds",
        "$5$rounds=1234$seasalt$vP32F7JLPFSq8bVfpCdTiLdwCaXamkOtNsgjNVYgVk4",
        "$5$rounds=1234$seasalt$6fYkW8TpPM6Y2DceJlY4kz2MbLfnl8BqkYEmxJUUgGB",
    ),
    ("openssl apr1", "$apr1$seasalt$tygD3f.NPc6ZIweri96V91", "$apr1$seasalt$tiPd1w6LE688.C5eV2CUP0"),
    ("htpasswd apr1", "$apr1$DxxWZIhg$XWGzZILlxUjO6Sb2LFlZC0", "$apr1$IaPOvQii$.qlK6Khy/yGiCXvCDh84U0"),
    (
        "htpasswd bcrypt",
        "$2y$04$uJp3P9n0K4nOFea1fBaureAhl4FW8h4fQJe7OONTxnO1MnSxnq9Rq",
        "$2y$04$5d3N4JKnI4kKZyC/em.XfulsPZ342nFNpP.QS1jkGULpI5mkgNa7C",
    ),
    (
        "libxcrypt 2a",
        "$2a$04$seasaltseasaltseasaltu0oppJ9CHeKzHcQSYcUq6p8sxvTiPIO2",
        "$2a$04$seasaltseasaltseasaltuPTnisacUtopv7ZLFkqJ5ikOGzMZCLyS",
    ),
    (
        "libxcrypt 2b",
        "$2b$04$seasaltseasaltseasaltu0oppJ9CHeKzHcQSYcUq6p8sxvTiPIO2",
        "$2b$04$seasaltseasaltseasaltuPTnisacUtopv7ZLFkqJ5ikOGzMZCLyS",
    ),
    (
        "libxcrypt 2x",
        "$2x$04$seasaltseasaltseasaltucZHYu.9wxUHYxHXz/qA8EMdA6hc9aSG",
        "$2x$04$seasaltseasaltseasaltuPTnisacUtopv7ZLFkqJ5ikOGzMZCLyS",
    ),
    (
        "libxcrypt 2y",
        "$2y$04$seasaltseasaltseasaltu0oppJ9CHeKzHcQSYcUq6p8sxvTiPIO2",
        "$2y$04$seasaltseasaltseasaltuPTnisacUtopv7ZLFkqJ5ikOGzMZCLyS",
    ),
    (
        "hashlib pbkdf2-sha1, 20 bytes",
        "$pbkdf2-sha1$i=1000,l=20$c2Vhc2FsdHNlYXNhbHQ$aSe83Xr80uquMCEPLh2tNFSJXM4",
        "$pbkdf2-sha1$i=1000,l=20$c2Vhc2FsdHNlYXNhbHQ$qYv+xEPF5mSjva/AcYG8W2TT/pU",
    ),
    (
        "hashlib pbkdf2-sha256, 32 bytes",
        "$pbkdf2-sha256$i=1000,l=32$c2Vhc2FsdHNlYXNhbHQ$woTRbjGMEbKCT8rR7WmULWBRFAWa8P3+qVZhodC4HNc",
        "$pbkdf2-sha256$i=1000,l=32$c2Vhc2FsdHNlYXNhbHQ$IbJmVYRXxSgCIP43Dq8r3NEm4VRGd6sXIcCX59PEeRs",
    ),
    (
        "hashlib pbkdf2-sha256, 64 bytes",
        "$pbkdf2-sha256$i=1000,l=64$c2Vhc2FsdHNlYXNhbHQ$woTRbjGMEbKCT8rR7WmULWBRFAWa8P3+qVZhodC4HNf3ZRIA2gg2aKribwQ77pJrBgHkLoqVKNbiRuFSzmBkZw",
        "$pbkdf2-sha256$i=1000,l=64$c2Vhc2FsdHNlYXNhbHQ$IbJmVYRXxSgCIP43Dq8r3NEm4VRGd6sXIcCX59PEeRs+hhHFDnXiPnDaytKe8uL4NZeBptFUinq4k/N6ohYeGg",
    ),
    (
        "hashlib pbkdf2-sha512, 64 bytes",
        "$pbkdf2-sha512$i=1000,l=64$c2Vhc2FsdHNlYXNhbHQ$6RP9S5nEHKkIEowgl46caa0JviLYr7lwm5kVkjxD1Q7p6H0DRJjC4620wtruptq7bOwhssoxtyEyTc/ysrV4PA",
        "$pbkdf2-sha512$i=1000,l=64$c2Vhc2FsdHNlYXNhbHQ$K9R0Cqmpz9QEV/D0NlZfSjhsccX0yEX1w+AhdIJfSz49WHqDQbg3R7DvsUJ+UWOD/s5SaLkIP+5b/0QwM3T1Zw",
    ),
];

/// Hashes that hold the first 72 bytes of their password alone.
fn is_plain_bcrypt(text: &str) -> bool {
    text.starts_with("$2") || text.starts_with("bcrypt$")
}

#[test]
fn a_hash_verifies_its_password_and_no_other() {
    let mut memory = HashMemory::default();
    let phc = Phc::hash(&secret("correct horse"), [9; 16], &mut memory).unwrap();
    assert!(phc.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", phc.as_str());
    assert!(phc.is_current());
    assert!(phc.verify(&secret("correct horse"), &mut memory));
    assert!(!phc.verify(&secret("correct horsE"), &mut memory));
    assert_eq!(Phc::parse(phc.as_str()), Ok(phc));
}

#[test]
fn dummy_hash_costs_as_much_and_matches_nothing() {
    let mut memory = HashMemory::default();
    let dummy = Phc::dummy();
    assert!(dummy.is_current(), "{}", dummy.as_str());
    assert!(Phc::parse(dummy.as_str()).is_ok());
    assert!(!dummy.verify(&secret(""), &mut memory));
    assert!(!dummy.verify(&secret("correct horse"), &mut memory));
}

#[test]
fn hashes_of_other_programs_are_verified_and_due_for_replacement() {
    let mut memory = HashMemory::default();
    for (program, short, of_long) in VECTORS {
        for (text, right, wrong) in [(short, SHORT, "Grüße 43"), (of_long, &*long(), SHORT)] {
            let phc = Phc::parse(text).unwrap_or_else(|error| panic!("{program}: {error}"));
            assert!(phc.verify(&secret(right), &mut memory), "{program}: {text}");
            for wrong in [wrong, "", &right[..right.len() - 15.min(right.len() - 1)], "x"] {
                assert!(!phc.verify(&secret(wrong), &mut memory), "{program}: {text}: {wrong:?}");
            }
            // The last byte counts, but where only 72 are read.
            let other_end = format!("{}?", &right[..right.len() - 1]);
            let is_cut = right.len() > 72 && is_plain_bcrypt(text);
            assert_eq!(phc.verify(&secret(&other_end), &mut memory), is_cut, "{program}: {text}");
            assert_eq!(
                phc.is_lossy_for(&secret(&other_end)),
                is_cut || text.starts_with("$2x$"),
                "{program}: {text}"
            );
            assert!(!phc.is_current(), "{program}: {text}");
            assert!(
                !phc.verify(&secret("x".repeat(Phc::MAX_PASSWORD + 1)), &mut memory),
                "{program}: too long"
            );
            assert_eq!(format!("{phc:?}"), "Phc(…)");
        }
    }
}

#[test]
fn hash_in_the_braces_of_a_directory_is_what_is_in_them() {
    let mut memory = HashMemory::default();
    for (scheme, program) in [
        ("{CRYPT}", "openssl -6"),
        ("{crypt}", "libxcrypt 2y"),
        ("{ARGON2}", "argon2"),
        ("{ARGON2ID}", "argon2"),
        ("{BLF-CRYPT}", "libxcrypt 2y"),
        ("{SHA512-CRYPT}", "libxcrypt $6$ rounds"),
        ("{SHA256-CRYPT}", "openssl -5"),
    ] {
        let (_, text, _) = VECTORS.iter().find(|(name, _, _)| *name == program).unwrap();
        let phc = Phc::parse(&format!("{scheme}{text}")).unwrap();
        assert!(phc.verify(&secret(SHORT), &mut memory), "{scheme}");
        assert!(!phc.verify(&secret("wrong"), &mut memory), "{scheme}");
    }
    let (_, salted, _) = VECTORS.iter().find(|(name, _, _)| *name == "slappasswd").unwrap();
    assert!(Phc::parse(&salted.replace("SSHA", "ssha")).unwrap().verify(&secret(SHORT), &mut memory));
    assert!(Phc::parse(&format!("{{CRYPT}}{salted}")).is_err());
    assert!(Phc::parse(&"{CRYPT}".repeat(100)).is_err());
}

/// What libxcrypt makes of bytes above 127 with the sign bug of crypt_blowfish 1.0 (`$2x$`) and without it.
#[test]
fn sign_bug_of_old_bcrypt_is_verified_and_lossy() {
    let mut memory = HashMemory::default();
    let start = "04$seasaltseasaltseasaltu";
    for (password, buggy, right) in [
        (&b"\xa3"[..], "XtRiMplZSRimOkGt5iplwbAr/ejqs8e", "8cQcFMUEDMNvfcLtugTCuRqiqk1oFF2"),
        (b"\xff\xff\xa3", "XtRiMplZSRimOkGt5iplwbAr/ejqs8e", "XtRiMplZSRimOkGt5iplwbAr/ejqs8e"),
        (b"1\xa3 345", "atYkcUIQkhjTO1hXw9OufeTPgCQRcVe", "fQ.B5ZPYf9AsCPIE3GRYVWE2aP2cc1y"),
        (b"\xff\xa345", "782o9wAxGWudWbVQPeXfvCe.aF5IJHC", "LLMdxgNaH2HCqhikdt2jPI7Duu4HKkW"),
        ("Grüße".as_bytes(), "d.fLYzFlhKLAQBaO2/ePTb4UqLU/PxS", "1rJbd8Y9gWur2/sSYj4VkgRU5Apo8F."),
    ] {
        for (version, digest, is_lossy) in [("2x", buggy, true), ("2y", right, false)] {
            let phc = Phc::parse(&format!("${version}${start}{digest}")).unwrap();
            assert!(phc.verify(&secret(password), &mut memory), "{version} {password:?}");
            assert_eq!(phc.is_lossy_for(&secret(password)), is_lossy, "{version} {password:?}");
            assert!(!phc.verify(&secret("wrong"), &mut memory));
        }
    }
}

/// bcrypt of libxcrypt: the 72nd byte is the first of the two of ü.
#[test]
fn bcrypt_cuts_a_character_across_byte_72() {
    let mut memory = HashMemory::default();
    let phc = Phc::parse("$2y$04$seasaltseasaltseasaltuMneUPWtXDVzWibuycud.Sf.aV36Rtfm").unwrap();
    let start = "a".repeat(71);
    for (end, is_verified) in
        [("ü-tail", true), ("ü", true), ("ö and another tail", true), ("x", false), ("", false)]
    {
        let password = secret(format!("{start}{end}"));
        assert_eq!(phc.verify(&password, &mut memory), is_verified, "{end}");
        // Whatever is verified may have the wrong end.
        assert_eq!(phc.is_lossy_for(&password), !end.is_empty(), "{end}");
    }
}

#[test]
fn nul_that_an_algorithm_ignores_is_lossy() {
    let mut memory = HashMemory::default();
    for (program, text, _) in VECTORS {
        let phc = Phc::parse(text).unwrap();
        assert!(!phc.is_lossy_for(&secret("Grose 42")), "{program}");
        for end in ["\0", "\0\0", &format!("\0{SHORT}")] {
            let password = secret(format!("{SHORT}{end}"));
            assert!(!phc.verify(&password, &mut memory) || phc.is_lossy_for(&password), "{program} {end:?}");
        }
    }
    // HMAC does: the class is not empty.
    let (_, pbkdf2, _) = VECTORS.iter().find(|(name, _, _)| *name == "django pbkdf2_sha256").unwrap();
    assert!(Phc::parse(pbkdf2).unwrap().verify(&secret(format!("{SHORT}\0")), &mut memory));
}

#[test]
fn cost_names_the_algorithm_and_its_parameters() {
    for (program, expected) in [
        ("argon2", "argon2id with 64 KiB, 1 passes and 1 lanes"),
        ("django bcrypt_sha256", "bcrypt with cost 4"),
        ("passlib bcrypt_sha256, version 2", "bcrypt with cost 4"),
        ("passlib pbkdf2", "pbkdf2-sha1 with 1000 rounds"),
        ("hashlib pbkdf2-sha256, 64 bytes", "pbkdf2-sha256 with 2 times 1000 rounds"),
        ("django scrypt p=5", "scrypt with N=2^10, r=8 and p=5"),
        ("openssl -6", "sha512-crypt with 5000 rounds"),
        ("libxcrypt $5$ rounds", "sha256-crypt with 1234 rounds"),
        ("htpasswd apr1", "apr1"),
        ("passlib ldap_salted_sha256", "salted SHA-256"),
    ] {
        let (_, text, _) = VECTORS.iter().find(|(name, _, _)| *name == program).unwrap();
        assert_eq!(Phc::parse(text).unwrap().cost().unwrap().to_string(), expected);
    }
}

#[test]
fn what_is_not_accepted_is_refused_by_name() {
    for (text, expected) in [
        ("", "is empty"),
        ("password", "is plain text"),
        ("rqXexS6ZhobKA", "is plain text, DES crypt"),
        ("$1$abc$def", "is md5-crypt ($1$)"),
        ("$2$05$abc", "is the first bcrypt ($2$)"),
        ("$3$$8846f7eaee8fb117ad06bdd830b7586c", "is an NTLM hash"),
        ("{nt}8846f7eaee8fb117ad06bdd830b7586c", "is an NTLM hash"),
        ("$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", "is yescrypt ($y$)"),
        ("$gy$j9T$x$y", "is gost-yescrypt"),
        ("$7$CU..../....x$y", "is scrypt in the form of crypt(3)"),
        ("$md5,rounds=904$x$y", "is SunMD5"),
        ("$sha1$40000$x$y", "is sha1-crypt"),
        ("$P$8ohUJ.1sdFw09/bMaAQPTGDNi2BIUt1", "is phpass"),
        ("$S$DugG4yZmhfIGhNJJZMzKzh4MzOCkpsPBkK6yZYoTKvLk2E9VSTAO", "is Drupal 7's"),
        ("SCRAM-SHA-256$4096:x$y:z", "is a SCRAM verifier"),
        ("_J9..rasmBYk8r9AiWNc", "is extended DES crypt"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "is MD5 or NTLM without a salt"),
        ("5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8", "is SHA-1 without a salt"),
        ("md55f4dcc3b5aa765d61d8327deb882cf99", "is a PostgreSQL password"),
        ("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "is a MySQL password"),
        ("!$6$x$y", "is locked or unusable"),
        ("*", "is locked or unusable"),
        ("{MD5}X03MO1qnZdYdgyfeuILPmQ==", "is MD5 without a salt ({MD5})"),
        ("{SMD5}x", "is salted MD5"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "is SHA-1 without a salt ({SHA})"),
        ("{SHA512}x", "is SHA-512 without a salt"),
        ("{CLEARTEXT}secret", "is plain text"),
        ("md5$salt$x", "is one round of MD5"),
        ("sha1$salt$x", "is one round of SHA-1"),
        ("unsalted_md5$$x", "is an unsalted digest of Django"),
        ("$unknown$x", "is of an unknown kind"),
        ("{UNKNOWN}x", "is of an unknown kind"),
        (
            "pbkdf2_md5$1000$seasalt$HHyUVRZjmUq0C/E2msJVNYZUiDJM6YKrci++mSZjLEg=",
            "is PBKDF2 with a digest other than",
        ),
    ] {
        let error = Phc::parse(text).unwrap_err();
        assert!(matches!(error, PhcError::Refused(_)), "{text}: {error:?}");
        assert!(error.to_string().starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn costs_out_of_bounds_are_refused() {
    let digest = "paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU";
    for text in [
        "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
        "$2b$16$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".into(),
        format!("$argon2id$v=19$m=4194304,t=2,p=1$WlpaWlpaWlpaWlpaWlpaWg${digest}"),
        format!("$argon2id$v=19$m=19456,t=17,p=1$WlpaWlpaWlpaWlpaWlpaWg${digest}"),
        format!("$pbkdf2-sha256$999$WlpaWlpa${digest}"),
        format!("$pbkdf2-sha256$i=999,l=32$WlpaWlpaWlpaWlpaWlpaWg${digest}"),
        format!("$pbkdf2-sha256$10000001$WlpaWlpa${digest}"),
        format!("pbkdf2_sha256$999$seasalt${digest}="),
        format!("$scrypt$ln=9,r=8,p=1$WlpaWlpaWlpaWlpaWlpaWg${digest}"),
        format!("$scrypt$ln=18,r=8,p=1$WlpaWlpaWlpaWlpaWlpaWg${digest}"),
        format!("$scrypt$ln=17,r=9,p=1$WlpaWlpaWlpaWlpaWlpaWg${digest}"),
        format!("scrypt$1024$seasalt$8$17${digest}="),
        format!("$5$rounds=999$seasalt${}", "1".repeat(43)),
        format!("$6$rounds=1000001$seasalt${}", "1".repeat(86)),
    ] {
        assert!(matches!(Phc::parse(&text), Err(PhcError::Cost(_))), "{text}: {:?}", Phc::parse(&text));
    }
}

#[test]
fn hash_that_is_cut_or_has_something_added_or_changed_in_its_form_is_malformed() {
    for (program, short, _) in VECTORS {
        let cut = &short[..short.rfind(['$', '}']).unwrap() + 4];
        // Argon2 may have a digest of any length.
        let shorter = if short.contains("argon2") { cut } else { &short[..short.len() - 7] };
        for text in [
            cut,
            shorter,
            &format!("{short}$x"),
            &format!("{short} "),
            &format!("{short}=="),
            &format!("{short}\n"),
        ] {
            let error = Phc::parse(text).expect_err(program);
            assert!(matches!(error, PhcError::Malformed(_)), "{program}: {text}: {error:?}");
        }
    }
    for text in [
        "$argon2id$v=19$m=19456,t=2,p=1",
        "$2b$1x$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "bcrypt_sha256$$2b$04$short",
        "pbkdf2:sha256:1000$$69fdf63364982f0b503277d404553b0dfe690117b4a8b6878a1d1eb12f632de8",
        "scrypt:1000:8:1$salt$0a5eae23dce913b4f4866a6fea220922",
        "scrypt:1024:8$salt$0a5eae23dce913b4f4866a6fea220922",
        "$5$rounds=x$seasalt$IRvx2HKjsWQGNEi6o2lAa6BGmi26wNAQ8DlvAvVwYS5",
        // Nothing would be hashed, and so nothing measured.
        "$5$seasalt$IRvx2HKjsWQGNEi6o2lAa6BGmi26wNAQ8DlvAvVwYSz",
        "$apr1$toolongasalt$tygD3f.NPc6ZIweri96V91",
        "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
    ] {
        assert!(matches!(Phc::parse(text), Err(PhcError::Malformed(_))), "{text}: {:?}", Phc::parse(text));
    }
    assert!(Phc::parse(&format!("pbkdf2_sha256$1000${}$x", "s".repeat(2_000))).is_err());
}

#[test]
fn an_over_long_password_is_never_hashed() {
    let mut memory = HashMemory::default();
    let long = Secret::new(vec![b'x'; Phc::MAX_PASSWORD + 1]);
    assert!(Phc::hash(&long, [0; 16], &mut memory).is_none());
    assert!(!Phc::dummy().verify(&long, &mut memory));
}
