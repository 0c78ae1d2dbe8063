use super::*;

fn key(kid: &str, secret: &[u8]) -> Result<Key, KeyError> {
    Key::new(kid, Algorithm::Hs256, &Secret::new(secret.to_vec()), false)
}

#[test]
fn a_weak_secret_is_refused() {
    let good = b"0123456789abcdef0123456789abcdef";
    for (kid, secret, expected) in [
        ("k", good.as_slice(), None),
        ("k", b"", Some(KeyError::TooShort)),
        ("k", b"0123456789abcdef0123456789abcde", Some(KeyError::TooShort)),
        ("k", &[b'x'; 64], Some(KeyError::TooUniform)),
        ("k", b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ", Some(KeyError::Pem)),
        ("", good, Some(KeyError::BadKid)),
        ("../../etc/passwd", good, Some(KeyError::BadKid)),
    ] {
        assert_eq!(key(kid, secret).err(), expected, "{kid:?}");
    }
}

#[test]
fn key_set_has_a_signer_and_each_kid_once() {
    let one = || key("one", b"0123456789abcdef0123456789abcdef").unwrap();
    let two = || key("two", b"fedcba9876543210fedcba9876543210").unwrap();
    assert_eq!(KeySet::new(vec![]).err(), Some(KeyError::EmptyRing));
    assert_eq!(KeySet::new(vec![one(), one()]).err(), Some(KeyError::RepeatedKid));
    let key_set = KeySet::new(vec![one(), two()]).unwrap();
    assert_eq!(key_set.signer().kid(), "one");
    assert_eq!(key_set.by_kid("two").map(Key::kid), Some("two"));
    assert!(key_set.by_kid("three").is_none());
}

#[test]
fn filtered_keys_keep_their_order_and_are_another_key_set() {
    let key = |kid, fill: u8| key(kid, &(0..48).map(|byte| byte ^ fill).collect::<Vec<_>>()).unwrap();
    let key_set = KeySet::new(vec![key("one", 0), key("two", 64), key("three", 128)]).unwrap();
    let all = key_set.filtered(|_| true).unwrap();
    assert!(all.has_keys_of(&key_set) && all.generation() != key_set.generation());
    let some = key_set.filtered(|key| key.kid() != "one").unwrap();
    assert_eq!(some.iter().map(Key::kid).collect::<Vec<_>>(), ["two", "three"]);
    assert!(!some.has_keys_of(&key_set));
    assert!(!key_set.has_keys_of(&KeySet::new(vec![key("one", 1)]).unwrap()));
    assert_eq!(key_set.filtered(|_| false).err(), Some(KeyError::EmptyRing));
}

#[test]
fn debug_shows_no_key_material() {
    let text = format!("{:?}", key("one", b"0123456789abcdef0123456789abcdef"));
    assert!(!text.contains("0123456789abcdef0123"), "{text}");
}
