//! Random histories: a gateway that reads the feed piece by piece, or what is about one token, knows what a gateway that starts now
//! loads.
//!
//! `CONFORMANCE_SEED` repeats a history.

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ACCEPT, ALL, RULES, START, actor, email_subject, foreign_token, imported_user, key, key_records,
    mint_for, new_user, organization, organization_subject, phc, user_subject, verified,
};
use crate::auth::revocation::{RevocationSnapshot, Subject};
use crate::auth::token::Verified;
use crate::auth::user_source::SourceName;
use crate::store::command::{
    AddUser, ChangeUser, Expiry, FailedLogins, Heartbeat, ImportUsers, MintOutcome, NoteFailedLogins,
    RecordKeys, Rehash, RequestAcknowledgements, RevokeKey, RevokeSubject, RevokeToken, UserChange,
};
use crate::store::{Executable, Store};

const USERS: [&str; 5] = ["anna", "bert", "cleo", "dora", "Anna"];
const ORGANIZATIONS: [&str; 3] = ["Main Org.", "Other", "anna"];
const KEYS: [(&str, u8); 4] = [("a", 1), ("b", 2), ("c", 3), ("a", 4)];

/// A gateway's memory that is fed in pieces of a size of its own.
struct Replica {
    snapshot: RevocationSnapshot,
    limit: usize,
    /// Applies every piece twice.
    twice: bool,
}

impl Replica {
    fn catch_up(&mut self, fixture: &Fixture) {
        self.read_from(fixture, self.snapshot.sequence());
    }

    fn read_from(&mut self, fixture: &Fixture, mut after: u64) {
        loop {
            let piece = fixture.changes(after, self.limit);
            let is_last = piece.is_last();
            assert!(is_last || piece.through > after, "the feed does not move");
            after = piece.through;
            if self.twice {
                piece.clone().apply(&mut self.snapshot);
            }
            piece.apply(&mut self.snapshot);
            if is_last {
                break;
            }
        }
    }
}

struct History {
    fixture: Fixture,
    /// A second process on the same store, whose clock is behind.
    another: Store,
    dice: fastrand::Rng,
    tokens: Vec<Verified>,
    replicas: Vec<Replica>,
    time: u64,
}

impl History {
    fn new(fixture: Fixture, seed: u64) -> Self {
        let limits = [1, 2, 3, 4, 5, ALL];
        let replicas = limits.into_iter().flat_map(|limit| {
            [false, true].map(|twice| Replica { snapshot: RevocationSnapshot::default(), limit, twice })
        });
        Self {
            another: fixture.another(START),
            replicas: replicas.collect(),
            fixture,
            dice: fastrand::Rng::with_seed(seed),
            tokens: Vec::new(),
            time: START,
        }
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.dice.usize(0..from.len())]
    }

    fn execute<C: Executable>(&mut self, command: C) -> C::Outcome {
        let store = if self.dice.bool() { &self.fixture.store } else { &self.another };
        self.fixture.wait(store.execute(command, actor()))
    }

    fn step(&mut self) {
        let name = self.choose(&USERS);
        match self.dice.u8(0..20) {
            0..3 => drop(self.execute(AddUser { user: new_user(name) })),
            3 => {
                let mut users = vec![imported_user(name), imported_user(self.choose(&USERS))];
                users[0].disabled = self.choose(&[None, Some(false), Some(true)]);
                users[1].user.phc = phc(self.dice.u8(..));
                let update = self.dice.bool();
                self.execute(ImportUsers { users, update });
            }
            4..9 => {
                let change = self.user_change();
                self.execute(ChangeUser { name: name.into(), change });
            }
            9..11 => {
                let subject = self.subject(name);
                self.execute(RevokeSubject { subject });
            }
            11..13 => self.revoke_token(name),
            13 => {
                let keys = key_records(&[self.choose(&KEYS), self.choose(&KEYS)]);
                drop(self.execute(RecordKeys { keys }));
            }
            14 => {
                let (kid, _) = self.choose(&KEYS);
                let successors = key_records(&[self.choose(&KEYS)]);
                drop(self.execute(RevokeKey { kid: kid.into(), successors }));
            }
            15..19 => self.mint(name),
            _ => self.unfed_command(name),
        }
        self.time += self.dice.u64(0..3);
        self.fixture.set_time(self.time);
    }

    fn user_change(&mut self) -> UserChange {
        match self.dice.u8(0..6) {
            0 => UserChange::Claims {
                email: None,
                organization: Some(organization(self.choose(&ORGANIZATIONS))),
            },
            1 => UserChange::Password(phc(self.dice.u8(..))),
            2 | 3 => UserChange::Disable,
            4 => UserChange::Enable,
            _ => UserChange::Remove,
        }
    }

    fn subject(&mut self, user: &str) -> Subject {
        match self.dice.u8(0..5) {
            0 => Subject::Everybody,
            4 => email_subject(&format!("{user}@example.com")),
            1 => organization_subject(self.choose(&ORGANIZATIONS)),
            _ => user_subject(user),
        }
    }

    fn revoke_token(&mut self, user: &str) {
        if self.tokens.is_empty() {
            return;
        }
        let token = &self.tokens[self.dice.usize(0..self.tokens.len())];
        let max_lifetime = RULES.max_lifetime;
        let expiry =
            if self.dice.bool() { Expiry::At(token.expires_at) } else { Expiry::Within { max_lifetime } };
        let id = token.id;
        self.execute(RevokeToken { id, expiry, user: Some(user.into()) });
    }

    fn mint(&mut self, user: &str) {
        let Some(record) = self.fixture.wait(self.fixture.store.user(user)) else { return };
        if let MintOutcome::Minted(minted, _) = self.execute(mint_for(record.user)) {
            self.tokens.push(verified(&minted));
        }
    }

    fn unfed_command(&mut self, user: &str) {
        self.execute(Heartbeat { gateway: user.into(), applied: 0, lease: 12, keys: vec![] });
        self.execute(RequestAcknowledgements);
        let failures = vec![FailedLogins {
            subject: user.into(),
            origin: "elsewhere".into(),
            source: SourceName::Store,
            count: 1,
        }];
        self.execute(NoteFailedLogins { failures });
        if let Some(record) = self.fixture.wait(self.fixture.store.user(user)) {
            let (user, credential_version) = (record.user.identity.user, record.user.credential_version);
            self.execute(Rehash { user, credential_version, phc: phc(self.dice.clone().u8(..)) });
        }
    }

    /// All the tokens that were ever minted, under each key, and the platform's of every user and time.
    fn probes(&self) -> Vec<Verified> {
        let mut probes = self.tokens.clone();
        for (kid, secret) in KEYS {
            let key = key(kid, secret).fingerprint();
            probes.extend(self.tokens.first().map(|token| Verified { key, ..token.clone() }));
        }
        for user in USERS.into_iter().chain(["nobody"]) {
            let times = (START..self.time + 10).step_by(3);
            probes.extend(times.map(|time| foreign_token(user, time)));
        }
        probes
    }

    fn assert_same(&self, one: &RevocationSnapshot, other: &RevocationSnapshot) {
        assert_eq!(one.sequence(), other.sequence());
        assert_eq!(one.sizes(), other.sizes());
        assert_eq!(one.users(), other.users());
        for probe in self.probes() {
            for rules in [&RULES, &ACCEPT] {
                assert_eq!(one.check(&probe, rules), other.check(&probe, rules), "{probe:?}");
            }
        }
    }

    /// A command that asks about one token reads what concerns it, and decides as a gateway does.
    fn assert_decided_alike_by_what_is_about_each_token(&self, loaded: &RevocationSnapshot) {
        for probe in self.probes() {
            let about = self.fixture.about(&probe);
            assert_eq!(about.sequence(), loaded.sequence());
            assert_eq!(about.has_expired(&probe), loaded.has_expired(&probe), "{probe:?}");
            assert_eq!(about.cutoff_time(&probe), loaded.cutoff_time(&probe), "{probe:?}");
            for rules in [&RULES, &ACCEPT] {
                assert_eq!(about.check(&probe, rules), loaded.check(&probe, rules), "{probe:?}");
            }
        }
    }

    fn run(mut self, steps: usize) {
        for step in 0..steps {
            self.step();
            if step % 8 == 0 {
                self.assert_decided_alike_by_what_is_about_each_token(&self.fixture.load());
            }
            // One of them reads now; the others lag.
            let at = self.dice.usize(0..2 * self.replicas.len());
            if let Some(replica) = self.replicas.get_mut(at) {
                replica.catch_up(&self.fixture);
            }
        }
        let loaded = self.fixture.load();
        assert_eq!(loaded.sequence(), self.fixture.sequence());
        self.assert_decided_alike_by_what_is_about_each_token(&loaded);
        let mut replicas = std::mem::take(&mut self.replicas);
        for replica in &mut replicas {
            replica.catch_up(&self.fixture);
            self.assert_same(&loaded, &replica.snapshot);
            // What was read before changes nothing when it is read again.
            let older = self.dice.u64(0..=loaded.sequence());
            replica.read_from(&self.fixture, older);
            self.assert_same(&loaded, &replica.snapshot);
        }
    }
}

#[test]
fn feed_in_pieces_of_any_size_is_what_a_start_loads_and_so_is_what_is_about_a_token() {
    let seed = std::env::var("CONFORMANCE_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = seed.map_or_else(|| vec![1, 2, 3, fastrand::u64(..)], |seed| vec![seed]);
    for seed in seeds {
        // Shown only if it fails.
        println!("CONFORMANCE_SEED={seed}");
        on_every_engine(|fixture| History::new(fixture, seed).run(120));
    }
}
