//! A seeded history of a store, two gateways and the command line beside it, against a naive model: mints, foreign tokens,
//! revocations of every kind, changes of users, lagging replicas, restarts, small caches, purges, and clocks that are stepped both
//! ways, wrong at a start, mended, and stopped with the machine.
//!
//! What was revoked is never admitted again once a gateway has read of it, whatever the clocks do. What is valid is never refused where
//! the clocks are right, or have been for a month.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::command::{
    ActivateKey, Actor, AddUser, ChangeOutcome, ChangeUser, Expiry, Heartbeat, KeyRecord, Mint, MintOutcome,
    NewUser, Purge, RecordKeys, RetireKey, RetireKeyOutcome, RevokeKey, RevokeSubject, RevokeToken,
    UserChange,
};
use super::conformance::harness::{ENGINES, Place};
use super::records::User;
use super::{Executable, Store};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::{ClockReading, Gate};
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::{RevocationSnapshot, Subject};
use crate::auth::secret::Secret;
use crate::auth::time::UnixTime;
use crate::auth::token::{TokenId, TokenRules};
use crate::clock::{Clock, Manual};

const USERS: [(&str, &str); 4] =
    [("anna", "Main Org."), ("bert", "Main Org."), ("cleo", "Other"), ("dora", "Other")];

/// The first that is not revoked signs; the last is the platform's.
const KEYS: [&str; 4] = ["k1", "k2", "k3", "platform"];

const DAY: u64 = 24 * 3600;

/// What the wall clocks may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clocks {
    /// They are stepped back now and then, and set right again.
    Honest,
    /// Anything.
    Wild,
}

/// A gateway: its own store, what it has read, and its clocks.
struct Gateway {
    gate: Gate,
    store: Store,
    clock: Clock,
    time: Arc<Manual>,
    /// The model's step at which it last read the feed.
    read_at: u64,
}

/// A token as the model sees it.
struct Token {
    text: String,
    id: TokenId,
    user: usize,
    organization: String,
    key: usize,
    /// True time; before it the token may be refused where a clock is behind.
    minted_at: u64,
    /// As the token says.
    expires_at: u64,
    /// The model's step at which it was minted, and the gateway that minted it.
    minted: (u64, usize),
    /// The model's step at which it was revoked.
    revoked_at: Option<u64>,
}

impl Token {
    fn is_foreign(&self) -> bool {
        self.key == KEYS.len() - 1
    }
}

struct World {
    runtime: Runtime,
    place: Box<dyn Place>,
    clocks: Clocks,
    /// The command line, and what its clock reads.
    store: Store,
    command_time: Arc<Manual>,
    gateways: Vec<Gateway>,
    tokens: Vec<Token>,
    organizations: HashMap<usize, String>,
    revoked_keys: usize,
    retired_keys: HashSet<usize>,
    /// True time, how long the machine has run, and how far the wall clock is off.
    time: u64,
    boot: u64,
    error: i64,
    /// When the wall clock was last wrong.
    wrong_at: u64,
    /// Does the floor hold against the step that is in force?
    floor_holds: bool,
    step: u64,
    random: fastrand::Rng,
}

impl World {
    fn new(seed: u64, clocks: Clocks, place: Box<dyn Place>) -> Self {
        let time = 1_800_000_000;
        let command_time = Arc::new(Manual { wall: time.into(), boot: 0.into() });
        let clock = Clock::manual(&command_time, true);
        let store = place.create(clock).unwrap();
        let mut world = Self {
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
            place,
            clocks,
            store,
            command_time,
            gateways: Vec::new(),
            tokens: Vec::new(),
            organizations: HashMap::new(),
            revoked_keys: 0,
            retired_keys: HashSet::new(),
            time,
            boot: 0,
            error: 0,
            wrong_at: 0,
            floor_holds: true,
            step: 0,
            random: fastrand::Rng::with_seed(seed),
        };
        world.execute(RecordKeys { keys: KeyRecord::all(&keys()) });
        (0..USERS.len()).for_each(|user| world.add_user(user));
        world.gateways = vec![world.start(), world.start()];
        world
    }

    fn wall(&self) -> u64 {
        self.time.saturating_add_signed(self.error)
    }

    /// Lets every clock read what it reads now; every running gateway looks at its own ten times a second.
    fn set_clocks(&mut self) {
        let wall = self.wall();
        if self.error != 0 {
            self.wrong_at = self.time;
        }
        for time in self.gateways.iter().map(|gateway| &gateway.time).chain([&self.command_time]) {
            time.wall.store(wall, Ordering::Relaxed);
            time.boot.store(self.boot, Ordering::Relaxed);
        }
        for gateway in &self.gateways {
            gateway.clock.advance(Default::default(), UnixTime(0));
        }
    }

    fn pass(&mut self, seconds: std::ops::Range<u64>) {
        let seconds = self.random.u64(seconds);
        (self.time, self.boot) = (self.time + seconds, self.boot + seconds);
        self.set_clocks();
        // Each gateway writes every few seconds; with wild clocks the disk may be full for long.
        if seconds > 0 && self.clocks == Clocks::Honest {
            (0..self.gateways.len()).for_each(|at| self.heartbeat(at));
        }
    }

    fn set_wall(&mut self, error: i64) {
        // The floor has followed the wall clock up to the step, or is still on its way.
        self.floor_holds = error == 0 || (self.error == 0 && self.time - self.wrong_at > 14_400);
        self.error = error;
        self.set_clocks();
    }

    /// The machine is off for a while, and everything starts again.
    fn power_off(&mut self) {
        self.time += if self.random.bool() { 3 * DAY } else { 8 * 3600 };
        self.boot = 0;
        self.gateways.clear();
        self.set_clocks();
        self.gateways = vec![self.start(), self.start()];
    }

    fn start(&mut self) -> Gateway {
        let cache = Cache::new(CacheLimits { entries: self.random.usize(0..6), bytes: 1 << 20 }, 1, || 0, 1);
        let time = Arc::new(Manual { wall: self.wall().into(), boot: self.boot.into() });
        let clock = Clock::manual(&time, false);
        let store = self.place.open(clock.clone()).unwrap();
        let stored = self.runtime.block_on(store.time()).unwrap();
        clock.advance(stored.lived, stored.floor);
        let snapshot = self.runtime.block_on(store.load()).unwrap();
        let gate = Gate::new(keys(), TokenRules::DEFAULT, cache, Duration::MAX, snapshot, Duration::ZERO);
        Gateway { gate, store, clock, time, read_at: self.step }
    }

    /// Carries out a command of the command line's.
    fn execute<C: Executable>(&self, command: C) -> C::Outcome {
        self.runtime.block_on(self.store.execute(command, actor())).unwrap()
    }

    fn add_user(&mut self, user: usize) {
        let (name, organization) = USERS[user];
        let new = NewUser {
            identity: Identity {
                user: Name::parse_user(name).unwrap(),
                email: format!("{name}@B").into(),
                organization: Name::parse(organization).unwrap(),
            },
            phc: Phc::dummy(),
        };
        if self.execute(AddUser { user: new }).is_ok() {
            self.organizations.insert(user, organization.to_owned());
        }
    }

    fn stored(&self, user: usize) -> Option<User> {
        self.runtime.block_on(self.store.user(USERS[user].0)).unwrap().map(|record| record.user)
    }

    fn mint(&mut self) {
        let (at, user) = (self.random.usize(0..2), self.random.usize(0..USERS.len()));
        let Some(stored) = self.stored(user) else { return };
        let Gateway { gate, store, clock, .. } = &self.gateways[at];
        let (keys, snapshot) = (gate.keys(), gate.snapshot());
        let signer = Arc::clone(snapshot.signer(&keys, clock.now()).unwrap());
        let key = KEYS.iter().position(|kid| *kid == signer.kid()).unwrap();
        let random = self.random.u128(..).to_le_bytes();
        let rules = gate.rules();
        let max_revocations = u64::MAX;
        let mint = Mint {
            user: stored.clone(),
            random,
            rules,
            signer,
            max_revocations,
            source: None,
            asked_at: Mint::NO_PASSWORD,
            checked_by: None,
        };
        match self.runtime.block_on(store.execute(mint, actor())).unwrap() {
            MintOutcome::Minted(minted, cutoffs) => {
                gate.apply_cutoffs(&cutoffs);
                self.tokens.push(Token {
                    text: minted.token,
                    id: minted.id,
                    user,
                    organization: self.organizations[&user].clone(),
                    key,
                    minted_at: self.time,
                    expires_at: minted.expires_at.0,
                    minted: (self.step, at),
                    revoked_at: None,
                });
                // Good at once where it was minted, whatever that gateway has read.
                self.ask(self.tokens.len() - 1, at);
            }
            MintOutcome::UserChanged => {
                assert!(stored.disabled, "only a disabled user is refused a token here")
            }
            MintOutcome::RevocationLimit => panic!("nobody has so many revocations"),
            MintOutcome::SignerRevoked => {
                let has_ended = key < self.revoked_keys || self.retired_keys.contains(&key);
                assert!(has_ended, "only a key that is revoked or retired signs nothing");
            }
        }
    }

    /// The platform mints by a clock that is right.
    fn mint_foreign(&mut self) {
        let user = self.random.usize(0..USERS.len());
        let Some(stored) = self.stored(user).filter(|user| !user.disabled) else { return };
        let Identity { user: name, email, organization } = &stored.identity;
        let claims = serde_json::json!({
            "exp": self.time + DAY, "iat": self.time, "database": organization.as_str(), "email": &**email, "user": name.as_str(),
        });
        let text = keys().by_kid("platform").unwrap().sign(&claims).unwrap();
        let (signed, _) = text.rsplit_once('.').unwrap();
        self.tokens.push(Token {
            id: TokenId::of(signed.as_bytes()),
            user,
            organization: organization.to_string(),
            key: KEYS.len() - 1,
            minted_at: self.time,
            expires_at: self.time + DAY,
            minted: (self.step, usize::MAX),
            revoked_at: None,
            text,
        });
    }

    fn end(&mut self, which: impl Fn(&Token) -> bool) {
        // Times are all that a cutoff can compare with a foreign token, so a wrong clock may spare it (docs/decisions/0013-time.md).
        let spares_foreign = self.error != 0 || self.clocks == Clocks::Wild;
        self.end_for_certain(|token| which(token) && !(token.is_foreign() && spares_foreign));
    }

    fn end_for_certain(&mut self, which: impl Fn(&Token) -> bool) {
        let step = self.step;
        for token in self.tokens.iter_mut().filter(|token| token.revoked_at.is_none() && which(token)) {
            token.revoked_at = Some(step);
        }
    }

    fn change(&mut self, change: UserChange) {
        let user = self.random.usize(0..USERS.len());
        let command = ChangeUser { name: USERS[user].0.into(), change: change.clone() };
        match self.execute(command) {
            ChangeOutcome::Unknown => return self.add_user(user),
            ChangeOutcome::Unchanged => return,
            ChangeOutcome::Changed => {}
        }
        if let UserChange::Claims { organization: Some(name), .. } = change {
            self.organizations.insert(user, name.to_string());
        }
        self.end(|token| token.user == user);
    }

    fn revoke(&mut self) {
        match self.random.u8(0..12) {
            0 => {
                self.execute(RevokeSubject { subject: Subject::Everybody });
                self.end(|_| true);
            }
            1 | 2 => {
                let name = if self.random.bool() { "Main Org." } else { "Other" };
                self.execute(RevokeSubject { subject: Subject::Organization(name.into()) });
                self.end(|token| token.organization == name);
            }
            3..6 => {
                let user = self.random.usize(0..USERS.len());
                self.execute(RevokeSubject { subject: Subject::User(USERS[user].0.into()) });
                self.end(|token| token.user == user);
            }
            6 => {
                let user = self.random.usize(0..USERS.len());
                let address = format!("{}@b", USERS[user].0);
                self.execute(RevokeSubject { subject: Subject::Email(address.into()) });
                self.end(|token| token.user == user);
            }
            _ if self.tokens.is_empty() => {}
            _ => {
                let recent = self.tokens.len().saturating_sub(60);
                let token = &self.tokens[self.random.usize(recent..self.tokens.len())];
                let (id, expires_at) = (token.id, token.expires_at);
                let expiry = match self.random.bool() {
                    true => Expiry::At(UnixTime(expires_at)),
                    false => Expiry::Within { max_lifetime: TokenRules::DEFAULT.max_lifetime },
                };
                self.execute(RevokeToken { id, expiry, user: None });
                let wild = self.clocks == Clocks::Wild;
                self.end_for_certain(|token| token.id == id && !(token.is_foreign() && wild));
            }
        }
    }

    /// Whatever it signs passes everywhere, and so does what others have signed.
    fn activate_key(&mut self) {
        let kid = KEYS[self.random.usize(0..KEYS.len() - 1)].into();
        self.execute(ActivateKey { kid, at: None });
    }

    /// Ends no token.
    fn retire_key(&mut self) {
        let at = self.random.usize(0..KEYS.len() - 2);
        let TokenRules { max_lifetime, max_skew, .. } = TokenRules::DEFAULT;
        let retire = RetireKey { kid: KEYS[at].into(), longest: max_lifetime + max_skew };
        if matches!(self.execute(retire), RetireKeyOutcome::Retired { .. }) {
            self.retired_keys.insert(at);
        }
    }

    /// At least one key goes on signing.
    fn revoke_key(&mut self) {
        if self.revoked_keys + 2 < KEYS.len() {
            let at = self.revoked_keys;
            self.execute(RevokeKey { kid: KEYS[at].into(), successors: Vec::new() });
            self.revoked_keys += 1;
            self.end(|token| token.key == at);
        }
    }

    fn read(&mut self, at: usize) {
        let Gateway { gate, store, clock, .. } = &self.gateways[at];
        loop {
            // In pieces, as a replica reads.
            let changes = self.runtime.block_on(store.changes(gate.sequence(), 3)).unwrap();
            clock.advance(changes.time.lived, changes.time.floor);
            let is_last = changes.is_last();
            gate.apply(|snapshot| changes.apply(snapshot));
            if is_last {
                break;
            }
        }
        self.gateways[at].read_at = self.step;
    }

    /// The verdict of a gateway beside the model's.
    fn ask(&self, at: usize, gateway: usize) {
        let token = &self.tokens[at];
        let Gateway { gate, clock, read_at, .. } = &self.gateways[gateway];
        let now = clock.now();
        let reading = ClockReading { now, uptime: Duration::ZERO };
        let verdict = gate.inspect(token.text.as_bytes(), reading).map(drop);
        let context = || {
            let World { step, error, wrong_at, time, .. } = self;
            format!(
                "step {step}, token {at}, gateway {gateway}, error {error}, right for {}, {verdict:?}",
                time - wrong_at
            )
        };
        if verdict.is_ok() {
            assert!(now.0 < token.expires_at, "expired: {}", context());
            let latest = now.0 + TokenRules::DEFAULT.max_lifetime + TokenRules::DEFAULT.max_skew;
            assert!(token.expires_at <= latest, "lives too long: {}", context());
        }
        // A gateway that has not read of what went before the mint may still hold it against the user.
        let (minted_at, minter) = token.minted;
        let knows = gateway == minter || minted_at <= *read_at;
        match token.revoked_at {
            Some(revoked) if revoked <= *read_at => {
                assert!(verdict.is_err(), "revoked and admitted: {}", context())
            }
            None if knows && self.must_be_valid(token) => assert!(verdict.is_ok(), "refused: {}", context()),
            // Revoked or minted, and this gateway has not read of it yet: it may say either.
            _ => {}
        }
    }

    /// Is there no reason to refuse a token that was not revoked?
    fn must_be_valid(&self, token: &Token) -> bool {
        let lives = self.time + 1 < token.minted_at + DAY;
        match self.clocks {
            // A foreign token may fall on the wrong side of a cutoff by the skew, or of a clock that is behind.
            Clocks::Honest => {
                lives && self.time < token.expires_at && !token.is_foreign() && self.floor_holds
            }
            Clocks::Wild => {
                let right_since = self.wrong_at.max(1_800_000_000) + 30 * DAY;
                lives && !token.is_foreign() && token.minted_at > right_since && self.error == 0
            }
        }
    }

    fn purge(&mut self) {
        let at = self.random.usize(0..2);
        let retention = TokenRules::DEFAULT.retention();
        let Gateway { store, .. } = &self.gateways[at];
        while self.runtime.block_on(store.execute(Purge { retention }, actor())).unwrap() > 0 {}
        for Gateway { gate, .. } in &self.gateways {
            let forget = |slice| drop(gate.apply(|snapshot| snapshot.expire(slice)));
            (0..RevocationSnapshot::SLICES).for_each(forget);
        }
    }

    fn heartbeat(&self, at: usize) {
        let Gateway { gate, store, .. } = &self.gateways[at];
        let heartbeat =
            Heartbeat { gateway: at.to_string(), applied: gate.sequence(), lease: 12, keys: vec![] };
        self.runtime.block_on(store.execute(heartbeat, actor())).unwrap();
    }

    fn disturb_clocks(&mut self) {
        match self.clocks {
            Clocks::Honest if self.random.bool() => self.set_wall(-self.random.clone().i64(0..7_200)),
            Clocks::Honest => self.set_wall(0),
            Clocks::Wild => {
                let days = |days: i64| days * DAY as i64;
                let errors =
                    [0, 0, 0, 0, days(3), days(-3), 7_200, -7_200, days(10), days(-10), days(365), 60, -60];
                let error = errors[self.random.usize(0..errors.len())];
                self.set_wall(error);
            }
        }
    }

    fn live(&mut self, steps: u64) {
        let wild = self.clocks == Clocks::Wild;
        for _ in 0..steps {
            self.step += 1;
            match self.random.u8(0..100) {
                0..16 => self.mint(),
                16..18 => self.mint_foreign(),
                18..26 => self.revoke(),
                26 => self.change(UserChange::Disable),
                27..30 => self.change(UserChange::Enable),
                30 => self.change(UserChange::Remove),
                31 => self.change(UserChange::Password(Phc::dummy())),
                32 => {
                    let organization = Some(Name::parse("Other").unwrap());
                    self.change(UserChange::Claims { email: None, organization });
                }
                33..45 => self.read(self.random.clone().usize(0..2)),
                45..51 => self.pass(0..3),
                51 | 52 => self.pass(0..if wild { 4_000 } else { 3 }),
                53 => self.pass(0..40_000),
                54 => self.disturb_clocks(),
                55 => self.heartbeat(self.random.clone().usize(0..2)),
                56 => {
                    let at = self.random.usize(0..2);
                    self.gateways[at] = self.start();
                }
                57 => self.purge(),
                58 if self.random.u8(0..40) == 0 => self.revoke_key(),
                58 if self.random.u8(0..4) == 0 => self.activate_key(),
                58 if !wild && self.random.u8(0..10) == 0 => self.retire_key(),
                58 if wild && self.random.u8(0..20) == 0 => self.power_off(),
                _ if self.tokens.is_empty() => {}
                _ => {
                    // Mostly the last ones, and sometimes any.
                    let recent =
                        if self.random.u8(0..4) == 0 { 0 } else { self.tokens.len().saturating_sub(40) };
                    let at = self.random.usize(recent..self.tokens.len());
                    self.ask(at, self.random.clone().usize(0..2));
                }
            }
        }
        self.ask_all();
        if wild {
            self.mend();
        }
    }

    /// Both gateways read, and are asked for every token.
    fn ask_all(&mut self) {
        for gateway in 0..2 {
            self.read(gateway);
            (0..self.tokens.len()).for_each(|at| self.ask(at, gateway));
        }
    }

    /// The clock is right again, and stays so for long enough. Whatever was revoked by it while it was wrong, new tokens are good.
    fn mend(&mut self) {
        self.set_wall(0);
        for _ in 0..31 * 4 {
            (self.time, self.boot) = (self.time + 6 * 3600, self.boot + 6 * 3600);
            self.set_clocks();
            (0..2).for_each(|at| self.heartbeat(at));
        }
        let before = self.tokens.len();
        (0..USERS.len()).for_each(|user| self.add_user(user));
        (0..2).for_each(|at| self.read(at));
        for _ in 0..50 {
            self.mint();
        }
        self.ask_all();
        let valid = self.tokens[before..].iter().filter(|token| self.must_be_valid(token)).count();
        assert!(
            valid == self.tokens.len() - before,
            "{valid} of {} are asked for",
            self.tokens.len() - before
        );
    }
}

fn actor() -> Actor {
    Actor::operator("simulation", "simulation")
}

fn keys() -> KeySet {
    let key = |(place, kid): (usize, &&str)| {
        let secret = Secret::new((0..48).map(|byte| byte ^ (place as u8) << 6).collect());
        Key::new(kid, Algorithm::Hs256, &secret, place == KEYS.len() - 1).unwrap()
    };
    KeySet::new(KEYS.iter().enumerate().map(key).collect()).unwrap()
}

/// Always the same seeds, then others. What is printed is shown only if a run fails; SIMULATION_SEED repeats it.
fn simulate(clocks: Clocks, steps: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => {
            let others = number("SIMULATION_RUNS").unwrap_or(2);
            FIXED_SEEDS.into_iter().chain((0..others).map(|_| fastrand::u64(..))).collect()
        }
    };
    for seed in seeds {
        for (engine, place) in ENGINES {
            println!("SIMULATION_SEED={seed} with {clocks:?} clocks in {engine}");
            World::new(seed, clocks, place()).live(number("SIMULATION_STEPS").unwrap_or(steps));
        }
    }
}

#[test]
fn revoked_tokens_stay_revoked_and_valid_ones_are_admitted() {
    simulate(Clocks::Honest, 1500);
}

#[test]
fn wrong_clocks_revive_no_revoked_token() {
    simulate(Clocks::Wild, 3000);
}

const FIXED_SEEDS: [u64; 2] = [1, 13_690_221_188_695_301_588];
