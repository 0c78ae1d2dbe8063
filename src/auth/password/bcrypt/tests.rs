use super::*;
use proptest::prelude::*;

/// A hash at the least cost, with a fixed salt; `$2x$` for the bug.
fn hash_of(password: &[u8], has_sign_bug: bool) -> Hash {
    let parts = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
    if !has_sign_bug {
        return Hash::parse(&parts.format_for_version(bcrypt::Version::TwoB)).unwrap();
    }
    let digest = bcrypt::bcrypt(4, [7; 16], &*key_with_sign_bug(password));
    let text = format!("$2x$04${}{}", parts.get_salt(), BASE_64.encode(&digest[..23]));
    Hash::parse(&text).unwrap()
}

/// Passwords that bcrypt may take for another: cut, repeated behind a NUL, longer, with a byte changed that a later one hides.
fn look_alikes(password: &[u8], at: usize, byte: u8) -> Vec<Vec<u8>> {
    let mut changed = password.to_vec();
    if let Some(place) = changed.get_mut(at) {
        *place = byte;
    }
    vec![
        password[..at.min(password.len())].to_vec(),
        [password, b"\0", password].concat(),
        [password, b"\0"].concat(),
        [password, &[byte]].concat(),
        [&password[..password.len().min(72)], &[byte; 3]].concat(),
        changed,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(64), ..Default::default() })]

    #[test]
    fn another_password_that_is_verified_is_lossy(
        password in prop_oneof![
            prop::collection::vec(any::<u8>(), 1..8),
            prop::collection::vec(any::<u8>(), 66..80),
            prop::collection::vec(1..128u8, 66..80),
        ],
        at in 0..80usize,
        byte in any::<u8>(),
        has_sign_bug in any::<bool>(),
    ) {
        let hash = hash_of(&password, has_sign_bug);
        prop_assert!(hash.verify(&password));
        for other in look_alikes(&password, at, byte) {
            if other != password && hash.verify(&other) {
                prop_assert!(hash.is_lossy_for(&other), "{:?} {:?}", password, other);
                // Nor may the shorter one be stored, if the owner's may be the longer one. With a NUL in it, it is not: bcrypt's
                // own interface ends there.
                prop_assert!(other.contains(&0) || hash.is_lossy_for(&password), "{:?} {:?}", password, other);
            }
        }
    }
}

#[test]
fn password_is_lossy_where_another_is_verified_too() {
    let letters = |count: usize| vec![b'a'; count];
    for (password, other, has_sign_bug) in [
        (letters(73), letters(72), false),
        (letters(80), [letters(72), b"wrong".to_vec()].concat(), false),
        // ü across byte 72: only its first half is read.
        ([letters(71), "ü-tail".into()].concat(), [letters(71), "é".into()].concat(), false),
        (b"a".to_vec(), b"a\0a".to_vec(), false),
        (b"\xa3".to_vec(), b"\xff\xff\xa3".to_vec(), true),
        ("xÄ".into(), "zÄ".into(), true),
    ] {
        let hash = hash_of(&password, has_sign_bug);
        assert!(hash.verify(&password) && hash.verify(&other), "{password:?} {other:?}");
        assert!(hash.is_lossy_for(&other), "{password:?} {other:?}");
    }
}

#[test]
fn password_of_71_bytes_is_exact() {
    let password = vec![b'a'; 71];
    let hash = hash_of(&password, false);
    assert!(hash.verify(&password) && !hash.is_lossy_for(&password));
    for other in look_alikes(&password, 70, b'b').iter().filter(|other| !other.contains(&0)) {
        assert!(!hash.verify(other), "{other:?}");
    }
}
