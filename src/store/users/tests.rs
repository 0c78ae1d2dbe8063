use super::*;
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::denial::Denial;
use crate::auth::gate::{Gate, Moment};
use crate::auth::keys::{Algorithm, KeyRing};
use crate::auth::password::HashMemory;
use crate::auth::secret::Secret;
use crate::store::sqlite::{Store, load, read_changes};
use std::time::Duration;

const RULES: TokenRules = TokenRules::DEFAULT;

fn ring() -> KeyRing {
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    KeyRing::new(vec![Key::new("k", Algorithm::Hs256, &secret, true).unwrap()]).unwrap()
}

fn new_user(name: &str) -> NewUser {
    NewUser {
        identity: Identity {
            user: Name::parse_user(name).unwrap(),
            email: format!("{name}@example.com").into(),
            organization: Name::parse("Main Org.").unwrap(),
        },
        phc: Phc::decoy(),
    }
}

fn act(now: u64) -> Act<'static> {
    Act { now: UnixTime(now), actor: "test", origin: "test" }
}

/// A store with Anna in it, and a gate that follows it.
struct World {
    store: Store,
    gate: Gate,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(1000)).unwrap();
        let standing = load(&mut store.connect().unwrap()).unwrap();
        let max = Duration::from_secs(300);
        let cache = Cache::new(CacheLimits { entries: 100, bytes: 1 << 20 }, 1, 0);
        let world = Self {
            gate: Gate::new(ring(), RULES, cache, max, standing, Duration::ZERO),
            store,
            _folder: folder,
        };
        world.add("anna", 1000).unwrap();
        world
    }

    fn add(&self, name: &str, now: u64) -> Result<(), UserError> {
        let mut connection = self.store.connect().unwrap();
        let transaction = connection.transaction().unwrap();
        add(&transaction, &new_user(name), act(now))?;
        transaction.commit().unwrap();
        Ok(())
    }

    fn change(&self, to: &Change, now: u64) -> Result<(), UserError> {
        let connection = self.store.connect().unwrap();
        change(&connection, "anna", to, act(now))
    }

    fn mint(&self, now: u64) -> Option<String> {
        let connection = self.store.connect().unwrap();
        let (user, _) = find(&connection, "anna").unwrap()?;
        self.mint_as(&user, now)
    }

    fn mint_as(&self, user: &User, now: u64) -> Option<String> {
        let connection = self.store.connect().unwrap();
        let ring = self.gate.keys();
        match mint(&connection, user, [0; 16], &RULES, ring.signer(), act(now)).unwrap() {
            MintOutcome::Minted(minted, _) => Some(minted.token),
            MintOutcome::Changed => None,
        }
    }

    fn verdict(&self, token: &str, now: u64) -> Result<(), Denial> {
        let mut connection = self.store.connect().unwrap();
        self.gate.update(|standing| read_changes(&mut connection, standing.number(), standing)).unwrap();
        let moment = Moment { now: UnixTime(now), uptime: Duration::ZERO };
        self.gate.inspect(token.as_bytes(), moment).map(drop)
    }
}

#[test]
fn every_change_of_a_user_ends_its_tokens_and_a_new_one_lives_in_the_same_second() {
    let email = Some("new@example.com".into());
    for change in [
        Change::Set { email, organization: None },
        Change::Set { email: None, organization: Some(Name::parse("Other").unwrap()) },
        Change::Password(Phc::decoy()),
    ] {
        let world = World::new();
        let before = world.mint(1000).unwrap();
        assert_eq!(world.verdict(&before, 1000), Ok(()));
        world.change(&change, 1000).unwrap();
        assert_eq!(world.verdict(&before, 1000), Err(Denial::RevokedUser), "{change:?}");
        let after = world.mint(1000).unwrap();
        assert_eq!(world.verdict(&after, 1000), Ok(()), "{change:?}");
        // The clock stepped back between the change and the mint: the order is the store's.
        let after = world.mint(998).unwrap();
        assert_eq!(world.verdict(&after, 998), Ok(()), "{change:?}");
    }
}

#[test]
fn disabling_and_removing_end_everything_until_the_user_is_back() {
    for (away, back) in [(Change::Disable, Some(Change::Enable)), (Change::Remove, None)] {
        let world = World::new();
        let before = world.mint(1000).unwrap();
        let stale = find(&world.store.connect().unwrap(), "anna").unwrap().unwrap().0;
        world.change(&away, 1001).unwrap();
        assert_eq!(world.verdict(&before, 1001), Err(Denial::RevokedUser));
        assert_eq!(world.mint_as(&stale, 1001), None, "{away:?}");
        match back {
            Some(back) => world.change(&back, 1002).unwrap(),
            None => world.add("anna", 1002).unwrap(),
        }
        assert_eq!(world.verdict(&before, 1002), Err(Denial::RevokedUser), "{away:?}");
        let after = world.mint(1002).unwrap();
        assert_eq!(world.verdict(&after, 1002), Ok(()), "{away:?}");
    }
}

#[test]
fn a_disabled_user_stays_closed_through_other_changes() {
    let world = World::new();
    let before = world.mint(1000).unwrap();
    world.change(&Change::Disable, 1001).unwrap();
    world.change(&Change::Password(Phc::decoy()), 1002).unwrap();
    assert_eq!(world.verdict(&before, 1002), Err(Denial::RevokedUser));
    assert!(world.mint(1002).is_none());
}

#[test]
fn no_token_for_a_password_that_was_changed_meanwhile() {
    let world = World::new();
    let checked = find(&world.store.connect().unwrap(), "anna").unwrap().unwrap().0;
    world.change(&Change::Password(Phc::decoy()), 1001).unwrap();
    assert_eq!(world.mint_as(&checked, 1001), None);
}

/// The feed is behind, the token is good at once all the same.
#[test]
fn a_gate_that_has_not_heard_of_an_enabling_hears_of_it_with_the_mint() {
    let world = World::new();
    world.change(&Change::Disable, 1001).unwrap();
    assert_eq!(world.verdict("x", 1001), Err(Denial::TokenMalformed));
    world.change(&Change::Enable, 1002).unwrap();
    let connection = world.store.connect().unwrap();
    let (user, _) = find(&connection, "anna").unwrap().unwrap();
    let ring = world.gate.keys();
    let outcome = mint(&connection, &user, [0; 16], &RULES, ring.signer(), act(1002)).unwrap();
    let MintOutcome::Minted(minted, marks) = outcome else { panic!("not minted") };
    let moment = Moment { now: UnixTime(1002), uptime: Duration::ZERO };
    let verdict = || world.gate.inspect(minted.token.as_bytes(), moment).map(drop);
    assert_eq!(verdict(), Err(Denial::RevokedUser));
    world.gate.raise(&marks);
    assert_eq!(verdict(), Ok(()));
}

#[test]
fn names_are_unique_and_have_no_twin() {
    let world = World::new();
    assert_eq!(world.add("anna", 1001), Err(UserError::Exists));
    assert_eq!(world.add("ANNA", 1001), Err(UserError::Twin("anna".into())));
    let unknown = change(&world.store.connect().unwrap(), "bert", &Change::Enable, act(1001));
    assert_eq!(unknown, Err(UserError::Unknown));
}

#[test]
fn a_rehash_ends_no_token() {
    let world = World::new();
    let before = world.mint(1000).unwrap();
    let connection = world.store.connect().unwrap();
    let (user, _) = find(&connection, "anna").unwrap().unwrap();
    let phc = Phc::hash(&Secret::new(b"password".to_vec()), [1; 16], &mut HashMemory::default()).unwrap();
    rehash(&connection, "anna", user.credential_version + 1, &phc).unwrap();
    assert_eq!(find(&connection, "anna").unwrap().unwrap().1, Phc::decoy());
    rehash(&connection, "anna", user.credential_version, &phc).unwrap();
    assert_eq!(find(&connection, "anna").unwrap().unwrap().1, phc);
    assert_eq!(world.verdict(&before, 1000), Ok(()));
}
