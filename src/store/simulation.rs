//! A seeded life of a store and two gateways beside it, against a naive model: mints, revocations, changes of
//! users, expiry, lagging feeds, restarts, small caches, steps of the clock. What is dead stays dead once a
//! gateway has read of it; what lives is never refused.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::command::{
    Actor, AddUser, ChangeOutcome, ChangeUser, Expiry, Mint, MintOutcome, NewUser, Purge, RevokeSubject,
    RevokeToken, UserChange,
};
use super::records::User;
use super::{Executable, Opening, Store};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::{Gate, Moment};
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key, KeyRing};
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::Subject;
use crate::auth::secret::Secret;
use crate::auth::time::UnixTime;
use crate::auth::token::{TokenId, TokenRules};
use crate::clock::{Clock, Manual};
use crate::metrics::Metrics;

const USERS: [(&str, &str); 4] =
    [("anna", "Main Org."), ("bert", "Main Org."), ("cleo", "Other"), ("dora", "Other")];

/// A gateway: its own door to the store, what it has read, and how its clock runs.
struct Gateway {
    gate: Gate,
    store: Store,
    clock: Clock,
    /// What its clock reads.
    time: Arc<Manual>,
    started: u64,
}

/// A token as the model sees it.
struct Token {
    text: String,
    id: TokenId,
    user: usize,
    organization: String,
    expires_at: u64,
    /// The model's step at which it was minted, and the gateway that minted it.
    minted: (u64, usize),
    /// The model's step at which it was ended.
    dead_since: Option<u64>,
}

struct World {
    runtime: Runtime,
    folder: tempfile::TempDir,
    /// The command line's door to the store, and what its clock reads.
    store: Store,
    wall_clock: Arc<Manual>,
    gateways: Vec<Gateway>,
    /// The model's step at which each gateway last read the feed.
    read_at: Vec<u64>,
    tokens: Vec<Token>,
    organizations: HashMap<usize, String>,
    /// The time that passes, and how far the wall clock is off.
    time: u64,
    skew: i64,
    step: u64,
    dice: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = 1_800_000_000;
        let wall_clock = Arc::new(Manual { wall: time.into(), uptime: 0.into() });
        let store = Store::create(&path(&folder), Clock::manual(&wall_clock), Arc::new(Metrics::new()));
        let mut world = Self {
            runtime: Builder::new_current_thread().build().unwrap(),
            folder,
            store: store.unwrap(),
            wall_clock,
            gateways: Vec::new(),
            read_at: vec![0; 2],
            tokens: Vec::new(),
            organizations: HashMap::new(),
            time,
            skew: 0,
            step: 0,
            dice: fastrand::Rng::with_seed(seed),
        };
        for user in 0..USERS.len() {
            world.add_user(user);
        }
        world.gateways = vec![world.start(), world.start()];
        world
    }

    fn wall(&self) -> u64 {
        self.time.saturating_add_signed(self.skew)
    }

    /// Lets every clock read what it reads now. The command line's process is always a new one.
    fn set_clocks(&mut self) {
        let wall = self.wall();
        self.wall_clock = Arc::new(Manual { wall: wall.into(), uptime: 0.into() });
        let metrics = Arc::new(Metrics::new());
        let clock = Clock::manual(&self.wall_clock);
        self.store = Store::open(&path(&self.folder), Opening::Command, clock, metrics).unwrap();
        for gateway in &self.gateways {
            gateway.time.wall.store(wall, Ordering::Relaxed);
            gateway.time.uptime.store(self.time - gateway.started, Ordering::Relaxed);
        }
    }

    fn start(&mut self) -> Gateway {
        let secret = Secret::new((0..48).collect());
        let ring = KeyRing::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
        let cache = Cache::new(CacheLimits { entries: self.dice.usize(0..6), bytes: 1 << 20 }, 1, 1);
        let time = Arc::new(Manual { wall: self.wall().into(), uptime: 0.into() });
        let clock = Clock::manual(&time);
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(&path(&self.folder), Opening::Run, clock.clone(), metrics).unwrap();
        clock.observe(self.runtime.block_on(store.high_water()).unwrap());
        let standing = self.runtime.block_on(store.load()).unwrap();
        let gate = Gate::new(ring, TokenRules::DEFAULT, cache, Duration::MAX, standing, Duration::ZERO);
        Gateway { gate, store, clock, time, started: self.time }
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
                email: "a@b".into(),
                organization: Name::parse(organization).unwrap(),
            },
            phc: Phc::decoy(),
        };
        if self.execute(AddUser { user: new }).is_ok() {
            self.organizations.insert(user, organization.to_owned());
        }
    }

    fn stored(&self, user: usize) -> Option<User> {
        self.runtime.block_on(self.store.user(USERS[user].0)).unwrap().map(|record| record.user)
    }

    fn mint(&mut self) {
        let (gateway, user) = (self.dice.usize(0..2), self.dice.usize(0..USERS.len()));
        let Some(stored) = self.stored(user) else { return };
        let Gateway { gate, store, .. } = &self.gateways[gateway];
        let (keys, standing) = (gate.keys(), gate.standing());
        let signer = Arc::clone(standing.signer(&keys).unwrap());
        let random = self.dice.u128(..).to_le_bytes();
        let mint = Mint { user: stored.clone(), random, rules: *gate.rules(), signer };
        match self.runtime.block_on(store.execute(mint, actor())).unwrap() {
            MintOutcome::Minted(minted, cutoffs) => {
                gate.raise(&cutoffs);
                self.tokens.push(Token {
                    text: minted.token,
                    id: minted.id,
                    user,
                    organization: self.organizations[&user].clone(),
                    expires_at: minted.expires_at.0,
                    minted: (self.step, gateway),
                    dead_since: None,
                });
                // Good at once where it was minted, whatever that gateway has read.
                self.ask(self.tokens.len() - 1, gateway);
            }
            MintOutcome::UserChanged => {
                assert!(stored.disabled, "only a disabled user is refused a token here")
            }
            MintOutcome::SignerRevoked => panic!("no key is revoked here"),
        }
    }

    fn end(&mut self, which: impl Fn(&Token) -> bool) {
        let step = self.step;
        for token in self.tokens.iter_mut().filter(|token| token.dead_since.is_none() && which(token)) {
            token.dead_since = Some(step);
        }
    }

    fn change(&mut self, change: UserChange) {
        let user = self.dice.usize(0..USERS.len());
        let command = ChangeUser { name: USERS[user].0.into(), change: change.clone() };
        if self.execute(command) == ChangeOutcome::Unknown {
            return self.add_user(user);
        }
        if let UserChange::Claims { organization: Some(name), .. } = change {
            self.organizations.insert(user, name.to_string());
        }
        self.end(|token| token.user == user);
    }

    fn revoke(&mut self) {
        match self.dice.u8(0..12) {
            0 => {
                self.execute(RevokeSubject { subject: Subject::Everybody });
                self.end(|_| true);
            }
            1 | 2 => {
                let name = if self.dice.bool() { "Main Org." } else { "Other" };
                self.execute(RevokeSubject { subject: Subject::Organization(name.into()) });
                self.end(|token| token.organization == name);
            }
            3..6 => {
                let user = self.dice.usize(0..USERS.len());
                self.execute(RevokeSubject { subject: Subject::User(USERS[user].0.into()) });
                self.end(|token| token.user == user);
            }
            _ if self.tokens.is_empty() => {}
            _ => {
                let at = self.dice.usize(0..self.tokens.len());
                let Token { id, expires_at, .. } = self.tokens[at];
                let expiry = Expiry::At(UnixTime(expires_at));
                self.execute(RevokeToken { id, expiry, user: None });
                self.end(|token| token.id == id);
            }
        }
    }

    fn read(&mut self, gateway: usize) {
        let Gateway { gate, store, .. } = &self.gateways[gateway];
        loop {
            // In pieces, as a replica reads.
            let changes = self.runtime.block_on(store.changes(gate.number(), 3)).unwrap();
            let is_last = changes.is_last();
            gate.apply(|standing| changes.apply(standing));
            if is_last {
                break;
            }
        }
        self.read_at[gateway] = self.step;
    }

    /// The verdict of a gateway beside the model's.
    fn ask(&self, at: usize, gateway: usize) {
        let token = &self.tokens[at];
        let now = self.gateways[gateway].clock.now();
        let moment = Moment { now, uptime: Duration::ZERO };
        let verdict = self.gateways[gateway].gate.inspect(token.text.as_bytes(), moment).map(drop);
        let expired = now.0 >= token.expires_at;
        // A gateway that has not read of what went before the mint may still hold it against the user.
        let (minted_at, minter) = token.minted;
        let knows = gateway == minter || minted_at <= self.read_at[gateway];
        let context = || format!("step {}, token {at}, gateway {gateway}, {verdict:?}", self.step);
        match token.dead_since {
            Some(dead) if dead <= self.read_at[gateway] => {
                assert!(verdict.is_err(), "revived: {}", context())
            }
            None if !expired && knows => assert!(verdict.is_ok(), "refused: {}", context()),
            _ if expired => assert!(verdict.is_err(), "expired: {}", context()),
            // Ended or minted, and this gateway has not read of it yet: it may say either.
            _ => {}
        }
    }

    fn forget(&mut self) {
        let retention = TokenRules::DEFAULT.max_lifetime + 24 * 3600;
        let Gateway { store, .. } = &self.gateways[0];
        while self.runtime.block_on(store.execute(Purge { retention }, actor())).unwrap() > 0 {}
        for Gateway { gate, clock, .. } in &self.gateways {
            drop(gate.apply(|standing| standing.forget(clock.now(), retention)));
        }
    }

    fn pass(&mut self, seconds: std::ops::Range<u64>) {
        self.time += self.dice.u64(seconds);
        self.set_clocks();
    }

    fn step_clock(&mut self, skew: i64) {
        self.skew = skew;
        self.set_clocks();
    }

    fn live(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step += 1;
            match self.dice.u8(0..100) {
                0..18 => self.mint(),
                18..26 => self.revoke(),
                26 => self.change(UserChange::Disable),
                27..30 => self.change(UserChange::Enable),
                30 => self.change(UserChange::Remove),
                31 => self.change(UserChange::Password(Phc::decoy())),
                32 => {
                    let organization = Some(Name::parse("Other").unwrap());
                    self.change(UserChange::Claims { email: None, organization });
                }
                33..45 => self.read(self.dice.clone().usize(0..2)),
                45..53 => self.pass(0..3),
                53 => self.pass(0..40_000),
                // The clock is stepped back, or set right again. Never forward: what starts then is ahead.
                54 => self.step_clock(-self.dice.clone().i64(0..7_200)),
                55 => self.step_clock(0),
                56 => {
                    let gateway = self.dice.usize(0..2);
                    self.gateways[gateway] = self.start();
                    self.read_at[gateway] = self.step;
                }
                57 => self.forget(),
                _ if self.tokens.is_empty() => {}
                _ => {
                    let recent = self.tokens.len().saturating_sub(40);
                    let at = self.dice.usize(recent..self.tokens.len());
                    self.ask(at, self.dice.clone().usize(0..2));
                }
            }
        }
        for gateway in 0..2 {
            self.read(gateway);
            (0..self.tokens.len()).for_each(|at| self.ask(at, gateway));
        }
    }
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("s.db")
}

fn actor() -> Actor {
    Actor::new("simulation", "simulation")
}

#[test]
fn nothing_dead_is_revived_and_nothing_alive_is_refused() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        // Always the same ones, then others.
        None => {
            let others = number("SIMULATION_SEEDS").unwrap_or(2);
            FIXED_SEEDS.into_iter().chain((0..others).map(|_| fastrand::u64(..))).collect()
        }
    };
    for seed in seeds {
        // Shown only if it fails; SIMULATION_SEED repeats it.
        println!("SIMULATION_SEED={seed}");
        World::new(seed).live(number("SIMULATION_STEPS").unwrap_or(1500));
    }
}

const FIXED_SEEDS: [u64; 2] = [1, 13_690_221_188_695_301_588];
