//! A store to test with a clock that the test moves, and short words for what every test does.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::samples::{
    ALL, RULES, START, actor, imported_user, key_records, mint_for, minted, new_user, organization_subject,
    phc, verified,
};
use crate::auth::denial::Denial;
use crate::auth::revocation::{Cutoff, RevocationSnapshot, Subject};
use crate::auth::token::Verified;
use crate::auth::user_source::SourceName;
use crate::clock::{Clock, Manual};
use crate::config::StorePlace;
use crate::metrics::Metrics;
use crate::store::command::{
    Actor, AddUser, ChangeOutcome, ChangeUser, Expiry, FailedLogins, Heartbeat, ImportUsers, Imported,
    ImportedUser, NoteFailedLogins, RecordKeys, RecordKeysOutcome, RequestAcknowledgements, RevokeKey,
    RevokeSubject, RevokeToken, UserChange,
};
use crate::store::postgres::connect;
use crate::store::postgres::test_server::TestServer;
use crate::store::records::{
    Acknowledgement, AuditFilter, AuditRow, Changes, RecordedKey, Revocation, RevocationFilter, StoredTime,
    User, UserFilter, UserRecord,
};
use crate::store::{Executable, Opening, Store, StoreError, block_on};

/// The engines under test, each by how a place for a store of its own is made.
pub(in crate::store) const ENGINES: [(&str, NewPlace); 2] =
    [("sqlite", Folder::place), ("postgres", Database::place)];

pub(in crate::store) type NewPlace = fn() -> Box<dyn Place>;

/// A place where one store can be, empty at first and gone with the test.
pub(in crate::store) trait Place {
    /// As the configuration names it.
    fn named(&self) -> StorePlace;
    /// Copies the store of this place to another one, as operators do.
    fn copy(&self) -> Box<dyn Place>;
}

/// A temporary folder for SQLite's files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn place() -> Box<dyn Place> {
        Box::new(Self(tempfile::tempdir().unwrap()))
    }
}

impl Place for Folder {
    fn named(&self) -> StorePlace {
        StorePlace::Sqlite(self.0.path().join("s.db"))
    }

    fn copy(&self) -> Box<dyn Place> {
        let copy = Self(tempfile::tempdir().unwrap());
        let [from, to] = [self, &copy].map(|folder| folder.0.path().join("s.db"));
        let store =
            Store::open(&StorePlace::Sqlite(from), Opening::Command, Clock::observer(), Arc::default());
        block_on(store.unwrap().back_up(&to)).unwrap();
        assert_eq!(Store::verify(&to), Ok(()));
        Box::new(copy)
    }
}

/// A database of the server that all tests share.
struct Database(String);

impl Database {
    fn place() -> Box<dyn Place> {
        Box::new(Self(TestServer::shared().create_database()))
    }
}

impl Place for Database {
    fn named(&self) -> StorePlace {
        StorePlace::Postgres(Box::new(connect::tests::settings(&TestServer::shared().unix_url(&self.0))))
    }

    fn copy(&self) -> Box<dyn Place> {
        Box::new(Self(TestServer::shared().copy_database(&self.0)))
    }
}

impl dyn Place {
    /// Creates the store, or opens the one that is there.
    pub(in crate::store) fn create(&self, clock: Clock) -> Result<Store, StoreError> {
        Store::create(&self.named(), clock, Arc::new(Metrics::new()))
    }

    /// Opens the store, as another process would.
    pub(in crate::store) fn open(&self, clock: Clock) -> Result<Store, StoreError> {
        Store::open(&self.named(), Opening::Run, clock, Arc::new(Metrics::new()))
    }

    /// Opens the store, as a command beside the gateways would.
    fn open_command(&self, clock: Clock) -> Result<Store, StoreError> {
        Store::open(&self.named(), Opening::Command, clock, Arc::new(Metrics::new()))
    }
}

/// Runs a test once for each engine, with a new store each time.
pub(super) fn on_every_engine(test: impl Fn(Fixture)) {
    on_every_place(|place| test(Fixture::new(place)));
}

/// Runs a test once for each engine, with a place where no store is yet.
pub(super) fn on_every_place(test: impl Fn(Box<dyn Place>)) {
    for (engine, place) in ENGINES {
        // Shown only if the test fails.
        println!("engine: {engine}");
        test(place());
    }
}

/// A store, the clock that it stamps with and the place where it is.
pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) place: Box<dyn Place>,
    time: Arc<Manual>,
    runtime: Runtime,
}

/// All that can be read of a store.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dump {
    pub(super) users: Vec<UserRecord>,
    pub(super) revocations: Vec<Revocation>,
    pub(super) audit: Vec<AuditRow>,
    pub(super) keys: Vec<RecordedKey>,
    acknowledgements: Vec<Acknowledgement>,
    /// The whole feed, with every cutoff, the sequence and what is requested.
    feed: Changes,
}

impl Dump {
    pub(super) fn sequence(&self) -> u64 {
        self.feed.sequence
    }
}

impl Fixture {
    pub(super) fn new(place: Box<dyn Place>) -> Self {
        let time = manual(START);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        Self { store: place.create(Clock::manual(&time, false)).unwrap(), place, time, runtime }
    }

    /// Sets the wall clock. Forward from all that was before, as much time passes; back, none does.
    pub(super) fn set_time(&self, seconds: u64) {
        self.time.wall.store(seconds, Ordering::Relaxed);
        self.time.boot.fetch_max(seconds.saturating_sub(START), Ordering::Relaxed);
    }

    /// Opens the same store as another process with its own clock would.
    pub(super) fn another(&self, seconds: u64) -> Store {
        self.place.open(Clock::manual(&manual(seconds), false)).unwrap()
    }

    /// Opens the same store as the command line would, whose clock moves nothing.
    pub(super) fn command_line(&self, seconds: u64) -> Store {
        self.place.open_command(Clock::manual(&manual(seconds), true)).unwrap()
    }

    /// Copies the store to a place of its own, and opens the copy with the same clock.
    pub(super) fn back_up(&self) -> Self {
        self.beside(self.place.copy())
    }

    /// A store in another place, with the same clock.
    pub(super) fn beside(&self, place: Box<dyn Place>) -> Self {
        let time = Arc::clone(&self.time);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        Self { store: place.open(Clock::manual(&time, false)).unwrap(), place, time, runtime }
    }

    /// Ends this process, and starts it again.
    pub(super) fn reopen(self) -> Self {
        let Self { store, place, time, runtime } = self;
        drop(store);
        Self { store: place.open(Clock::manual(&time, false)).unwrap(), place, time, runtime }
    }

    pub(super) fn wait<T>(&self, future: impl Future<Output = Result<T, StoreError>>) -> T {
        self.runtime.block_on(future).unwrap()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(super) fn execute<C: Executable>(&self, command: C) -> C::Outcome {
        self.execute_on(&self.store, command)
    }

    pub(super) fn execute_on<C: Executable>(&self, store: &Store, command: C) -> C::Outcome {
        self.wait(store.execute(command, actor()))
    }

    pub(super) fn execute_as<C: Executable>(&self, actor: Actor, command: C) -> C::Outcome {
        self.wait(self.store.execute(command, actor))
    }

    /// Gives all the commands at once, each to the next of the stores in turn; the outcomes are in the commands' order.
    pub(super) fn execute_at_once<C: Executable>(
        &self,
        stores: &[Store],
        commands: Vec<C>,
    ) -> Vec<Result<C::Outcome, StoreError>> {
        let mut outcomes = self.block_on(async {
            let mut running = JoinSet::new();
            for ((place, command), store) in commands.into_iter().enumerate().zip(stores.iter().cycle()) {
                let store = store.clone();
                running.spawn(async move { (place, store.execute(command, actor()).await) });
            }
            running.join_all().await
        });
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Carries very many commands out, as many at once as a queue holds.
    pub(super) fn execute_many<C: Executable>(
        &self,
        commands: impl IntoIterator<Item = C>,
    ) -> Vec<C::Outcome> {
        let mut commands = commands.into_iter().peekable();
        let mut outcomes = Vec::new();
        while commands.peek().is_some() {
            let slice = commands.by_ref().take(500).collect();
            outcomes.extend(
                self.execute_at_once(std::slice::from_ref(&self.store), slice)
                    .into_iter()
                    .map(Result::unwrap),
            );
        }
        outcomes
    }

    pub(super) fn dump(&self) -> Dump {
        let names = self.users().into_iter().map(|user| user.identity.user);
        Dump {
            users: names.map(|name| self.record(name.as_str())).collect(),
            revocations: self.revocations(),
            audit: self.audit(),
            keys: self.wait(self.store.keys()),
            acknowledgements: self.acknowledgements(),
            // Time passes with every commit, also with one of nothing else.
            feed: Changes { time: StoredTime::default(), ..self.changes(0, ALL) },
        }
    }

    /// Runs something that must leave the store exactly as it is.
    pub(super) fn unchanged<T>(&self, refused: impl FnOnce() -> T) -> T {
        let before = self.dump();
        let outcome = refused();
        assert_eq!(self.dump(), before, "something was changed");
        outcome
    }

    pub(super) fn sequence(&self) -> u64 {
        self.changes(0, 1).sequence
    }

    pub(super) fn changes(&self, after: u64, limit: usize) -> Changes {
        self.wait(self.store.changes(after, limit))
    }

    pub(super) fn load(&self) -> RevocationSnapshot {
        self.wait(self.store.load())
    }

    /// What is known of one token alone.
    pub(super) fn about(&self, token: &Verified) -> RevocationSnapshot {
        let mut snapshot = RevocationSnapshot::default();
        self.wait(self.store.about(&token.identity, token.id)).apply(&mut snapshot);
        snapshot
    }

    pub(super) fn users(&self) -> Vec<User> {
        self.users_after("", ALL)
    }

    /// At most `limit` users after the one of that name.
    pub(super) fn users_after(&self, after: &str, limit: usize) -> Vec<User> {
        let page = self.wait(self.store.users(UserFilter::default(), after, limit));
        page.into_iter().map(|listed| listed.user).collect()
    }

    /// All that are listed, the newest first.
    pub(super) fn revocations(&self) -> Vec<Revocation> {
        self.wait(self.store.revocations(RevocationFilter::default(), u64::MAX, ALL))
    }

    /// The subjects that have a cutoff, also one that is no revocation, in the order of their sequences.
    pub(super) fn cutoffs(&self) -> Vec<(Subject, Cutoff)> {
        self.changes(0, ALL).cutoffs
    }

    /// The cutoff of that subject.
    pub(super) fn cutoff(&self, subject: &Subject) -> Option<Cutoff> {
        self.cutoffs().into_iter().find(|(found, _)| found == subject).map(|(_, cutoff)| cutoff)
    }

    /// The revocation of that kind and subject.
    pub(super) fn revocation(&self, kind: &str, subject: &str) -> Option<Revocation> {
        self.revocations().into_iter().find(|row| (row.kind, row.subject.as_str()) == (kind, subject))
    }

    pub(super) fn audit(&self) -> Vec<AuditRow> {
        self.wait(self.store.audit(AuditFilter::default(), 0, ALL))
    }

    pub(super) fn acknowledgements(&self) -> Vec<Acknowledgement> {
        let mut found = self.wait(self.store.acknowledgements());
        found.sort_by(|one, other| one.gateway.cmp(&other.gateway));
        found
    }

    pub(super) fn record(&self, name: &str) -> UserRecord {
        self.wait(self.store.user(name)).unwrap()
    }

    pub(super) fn user(&self, name: &str) -> User {
        self.record(name).user
    }

    pub(super) fn add(&self, name: &str) {
        assert_eq!(self.execute(AddUser { user: new_user(name) }), Ok(()));
    }

    /// Imports users that are all accepted, in as many slices as it takes.
    pub(super) fn import(&self, users: Vec<ImportedUser>, update: bool) -> Imported {
        let mut sum = Imported::default();
        while sum.done() < users.len() {
            let users = users[sum.done()..].to_vec();
            let Imported { added, updated, unchanged, conflict } =
                self.execute(ImportUsers { users, update });
            assert_eq!(conflict, None);
            assert!(added + updated + unchanged > 0, "an import does not move");
            sum.added += added;
            sum.updated += updated;
            sum.unchanged += unchanged;
        }
        sum
    }

    /// Imports new users of these names.
    pub(super) fn import_new(&self, names: &[&str]) {
        let users = names.iter().map(|name| imported_user(name)).collect();
        assert_eq!(self.import(users, false), Imported { added: names.len(), ..Imported::default() });
    }

    pub(super) fn change(&self, name: &str, change: UserChange) {
        let outcome = self.execute(ChangeUser { name: name.into(), change });
        assert_eq!(outcome, ChangeOutcome::Changed);
    }

    pub(super) fn revoke(&self, subject: Subject) -> u64 {
        self.execute(RevokeSubject { subject })
    }

    pub(super) fn revoke_token(&self, token: &Verified) -> u64 {
        let user = Some(token.identity.user.as_str().into());
        self.execute(RevokeToken { id: token.id, expiry: Expiry::At(token.expires_at), user })
    }

    pub(super) fn record_keys(&self, keys: &[(&str, u8)]) {
        let outcome = self.execute(RecordKeys { keys: key_records(keys) });
        assert_eq!(outcome, RecordKeysOutcome::Recorded);
    }

    /// Mints a token for a user as it is now.
    pub(super) fn mint(&self, name: &str) -> Verified {
        verified(&minted(self.execute(mint_for(self.user(name)))))
    }

    /// Writes some of everything. The first token is alive, the second is revoked.
    pub(super) fn fill(&self) -> (Verified, Verified) {
        ["anna", "bert", "cleo", "dora"].iter().for_each(|name| self.add(name));
        self.change("anna", UserChange::Password(phc(1)));
        self.change("bert", UserChange::Disable);
        self.change("cleo", UserChange::Remove);
        self.record_keys(&[("a", 1), ("b", 2)]);
        self.execute(RevokeKey { kid: "a".into(), successors: vec![] });
        let (alive, revoked) = (self.mint("dora"), self.mint("dora"));
        self.revoke_token(&revoked);
        self.revoke(organization_subject("Other"));
        let failure = FailedLogins {
            subject: "x".into(),
            origin: "elsewhere".into(),
            source: SourceName::Store,
            count: 2,
        };
        self.execute(NoteFailedLogins { failures: vec![failure] });
        self.execute(Heartbeat { gateway: "g".into(), applied: 3, lease: 12, keys: vec![] });
        self.execute(RequestAcknowledgements);
        (alive, revoked)
    }

    /// What a gate that starts now says of a token.
    pub(super) fn verdict(&self, token: &Verified) -> Result<(), Denial> {
        self.load().check(token, &RULES)
    }
}

fn manual(seconds: u64) -> Arc<Manual> {
    Arc::new(Manual { wall: seconds.into(), boot: 0.into() })
}

/// Reads by pages of 1, 2, 3 and all rows: each time the same rows in the same order, none twice and none lost.
pub(super) fn assert_pages<T: Debug + PartialEq>(read: impl Fn(Option<&T>, usize) -> Vec<T>) -> Vec<T> {
    let all = read(None, ALL);
    for limit in [1, 2, 3] {
        let mut rows: Vec<T> = Vec::new();
        loop {
            let page = read(rows.last(), limit);
            assert!(page.len() <= limit, "{} rows in a page of {limit}", page.len());
            let is_last = page.is_empty();
            rows.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(rows, all, "pages of {limit}");
    }
    all
}
