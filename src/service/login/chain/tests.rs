use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::*;
use crate::auth::keys::{Algorithm, Key};
use crate::auth::name::Name;
use crate::auth::password::{HashMemory, Phc};
use crate::auth::revocation::Subject;
use crate::auth::secret::Secret;
use crate::auth::token::TokenRules;
use crate::config::{Config, StorePlace};
use crate::service::login::LoginError;
use crate::service::login::source::{Presence, Unavailable};
use crate::store::command::{AddUser, ChangeUser, Mint, MintOutcome, NewUser, RevokeSubject, UserChange};
use crate::store::recorded_login::Remember;

/// Who logs in. The store owns the first; the directory the second and, as long as it has it, the fourth; the platform the rest. The last
/// one's name is written like the first one's.
const NAMES: [&str; 6] = ["own", "dir", "plat", "both", "nobody", "OWN"];
const OWN: usize = 0;
const ALIKE: usize = 5;
const DIRECTORY: usize = 0;
const PLATFORM: usize = 1;
const SOURCES: [SourceName; 2] = [SourceName::Ldap, SourceName::Platform];

/// What happens in one history. `who` is one of [`NAMES`].
#[derive(Clone, Debug)]
enum Step {
    LogIn {
        who: usize,
        password: u8,
        meanwhile: Option<Change>,
    },
    Change(Change),
    /// One of the sources is away from now on, or is there again.
    Outage(usize, Option<Unavailable>),
    Disable(usize, bool),
}

/// Another password at a source, or none: the user is gone. A cutoff may follow it.
#[derive(Clone, Copy, Debug)]
struct Change {
    who: usize,
    source: usize,
    password: Option<u8>,
    cutoff: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    Email,
    Organization,
}

/// The two sources as one history has them.
#[derive(Default)]
struct World {
    passwords: [HashMap<String, u8>; 2],
    away: [Option<Unavailable>; 2],
    /// Happens once a source has found a password right or wrong, before its answer is there.
    meanwhile: Option<Change>,
    /// What was answered in this round.
    answers: Vec<(usize, Answer)>,
}

type Worlds = Arc<Mutex<HashMap<usize, World>>>;

/// One of the sources, in every history.
struct Scripted {
    source: usize,
    worlds: Worlds,
    store: Store,
}

fn full_name(who: usize, history: usize) -> String {
    format!("{}-{history}", NAMES[who])
}

fn identity(name: &str) -> Identity {
    let (_, history) = name.split_once('-').unwrap();
    Identity {
        user: Name::parse_user(name).unwrap(),
        email: format!("{name}@example.com").into(),
        organization: Name::parse(&format!("org-{history}")).unwrap(),
    }
}

fn password(which: u8) -> Secret {
    Secret::new(format!("password {which}").into_bytes())
}

/// Changes the world first, as the platform does, and then sets the cutoff.
async fn carry_out(change: Change, history: usize, worlds: &Worlds, store: &Store) {
    let name = full_name(change.who, history);
    {
        let mut worlds = worlds.lock();
        let passwords = &mut worlds.get_mut(&history).unwrap().passwords[change.source];
        match change.password {
            Some(password) => _ = passwords.insert(name.clone(), password),
            None => _ = passwords.remove(&name),
        }
    }
    let subject = match change.cutoff {
        None => return,
        Some(Kind::User) => Subject::User(name.into()),
        Some(Kind::Email) => {
            Subject::Email(crate::auth::name::fold_email(&format!("{name}@example.com")).into())
        }
        Some(Kind::Organization) => Subject::Organization(format!("org-{history}").into()),
    };
    store.execute(RevokeSubject { subject }, Actor::gateway()).await.unwrap();
}

#[async_trait]
impl UserSource for Scripted {
    async fn authenticate(&self, credentials: &Credentials) -> Answer {
        let name = credentials.user.as_str();
        let history = name.split_once('-').unwrap().1.parse().unwrap();
        let (answer, meanwhile) = {
            let mut worlds = self.worlds.lock();
            let world = worlds.get_mut(&history).unwrap();
            let known = world.passwords[self.source].get(name).map(|known| password(*known));
            let is_right = known
                .as_ref()
                .is_some_and(|known| known.expose_secret() == credentials.password.expose_secret());
            let answer = match (world.away[self.source], known) {
                (Some(reason), _) => Answer::Unavailable(reason),
                (None, _) if is_right => Answer::Accepted(identity(name)),
                (None, None) if self.source == DIRECTORY => Answer::Unknown,
                (None, _) => Answer::Refused(Refused::Password),
            };
            world.answers.push((self.source, answer.clone()));
            (answer, world.meanwhile.take())
        };
        if let Some(change) = meanwhile {
            carry_out(change, history, &self.worlds, &self.store).await;
        }
        answer
    }

    async fn find(&self, _user: &Name) -> Option<Presence> {
        None
    }
}

struct Fixture {
    chain: Chain,
    store: Store,
    worlds: Worlds,
    signer: Arc<Key>,
    hashes: Vec<Phc>,
    _folder: TempDir,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl Fixture {
    /// With a client's network that every account knows, if `trusted`.
    fn new(trusted: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::<Metrics>::default();
        let clock = Clock::start();
        let store = Store::create(
            &StorePlace::Sqlite(folder.path().join("s.db")),
            clock.clone(),
            Arc::clone(&metrics),
        )
        .unwrap();
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9\"]\n\
             [limits.login]\ntrusted = [\"{trusted}\"]\n"
        );
        let (config, _) = Config::parse(&text, folder.path(), std::iter::empty());
        let Config { limits, trusted_logins, .. } = config.unwrap().0;
        let logins =
            Logins::start(&limits, trusted_logins, None, Arc::clone(&metrics), Arc::default()).unwrap();
        let worlds = Worlds::default();
        let links = (0..2).map(|source| {
            let scripted = Scripted { source, worlds: Arc::clone(&worlds), store: store.clone() };
            Link::Other(Other::new(SOURCES[source], Arc::new(scripted), 64))
        });
        let links = [Link::Store].into_iter().chain(links).collect();
        let remembering = Remembering::start(store.clone(), Duration::from_secs(3600)).unwrap();
        let chain = Chain::of_store(store.clone(), Arc::new(logins), clock, metrics);
        let mut memory = HashMemory::default();
        let hashes = (0..2).map(|which| Phc::hash(&password(which), [which; 16], &mut memory).unwrap());
        let secret = Secret::new((0..48).collect());
        Self {
            chain: chain.with(links, Some(remembering)),
            store,
            worlds,
            signer: Arc::new(Key::new("signer", Algorithm::Hs256, &secret, true).unwrap()),
            hashes: hashes.collect(),
            _folder: folder,
        }
    }

    async fn begin(&self, history: usize) {
        let mut world = World::default();
        for (source, who, password) in
            [(DIRECTORY, 1, 0), (DIRECTORY, 3, 0), (PLATFORM, 2, 0), (PLATFORM, 3, 1), (PLATFORM, ALIKE, 0)]
        {
            world.passwords[source].insert(full_name(who, history), password);
        }
        self.worlds.lock().insert(history, world);
        let user = NewUser { identity: identity(&full_name(OWN, history)), phc: self.hashes[0].clone() };
        self.store.execute(AddUser { user }, Actor::gateway()).await.unwrap().unwrap();
    }

    fn attempt(&self, name: &str, which: u8, client: Option<IpAddr>) -> LoginAttempt {
        let user = Name::parse_user(name).unwrap();
        let credentials = Credentials { user, password: password(which), variants: Vec::new() };
        LoginAttempt { credentials, client, arrived: Instant::now() }
    }

    /// Asks for a token as the endpoint does: once more where what was revoked meanwhile concerns the user. The user and the sequence of
    /// a login that became a token.
    async fn mint(&self, history: usize, name: &str, which: u8) -> Result<(User, u64), AuthenticationError> {
        for _ in 0..2 {
            self.worlds.lock().get_mut(&history).unwrap().answers.clear();
            let accepted = match self.chain.authenticate(self.attempt(name, which, None)).await {
                Err(AuthenticationError::Revoked) => continue,
                other => other?,
            };
            let (user, asked_at) = (accepted.verified.user, accepted.asked_at);
            let mint = Mint {
                user: user.clone(),
                random: [7; 16],
                rules: TokenRules::DEFAULT,
                signer: Arc::clone(&self.signer),
                max_revocations: u64::MAX,
                source: None,
                asked_at,
                checked_by: None,
            };
            if let MintOutcome::Minted(..) = self.store.execute(mint, Actor::gateway()).await.unwrap() {
                return Ok((user, asked_at));
            }
        }
        Err(LoginError::Refused.into())
    }

    async fn run(self: Arc<Self>, history: usize, steps: Vec<Step>) {
        self.begin(history).await;
        let (mut remembered, mut disabled) = ([None; NAMES.len()], [false; NAMES.len()]);
        for step in &steps {
            match *step {
                Step::Outage(source, away) => {
                    self.worlds.lock().get_mut(&history).unwrap().away[source] = away;
                }
                Step::Change(change) => {
                    carry_out(change, history, &self.worlds, &self.store).await;
                    end_remembered(change, &mut remembered);
                }
                Step::Disable(who, is_disabled) => {
                    let change = if is_disabled { UserChange::Disable } else { UserChange::Enable };
                    let change = ChangeUser { name: full_name(who, history).into(), change };
                    let outcome = self.store.execute(change, Actor::gateway()).await.unwrap();
                    if outcome == crate::store::command::ChangeOutcome::Changed {
                        (disabled[who], remembered[who]) = (is_disabled, None);
                    }
                }
                Step::LogIn { who, password, meanwhile } => {
                    let name = full_name(who, history);
                    let (away, right) = {
                        let mut worlds = self.worlds.lock();
                        let world = worlds.get_mut(&history).unwrap();
                        world.meanwhile = meanwhile;
                        let owner = world.passwords.iter().find_map(|known| known.get(&name));
                        let right = if who == OWN { Some(0) } else { owner.copied() };
                        (world.away.iter().any(Option::is_some), right == Some(password) && who != ALIKE)
                    };
                    let minted = self.mint(history, &name, password).await;
                    let (answers, has_happened) = {
                        let mut worlds = self.worlds.lock();
                        let world = worlds.get_mut(&history).unwrap();
                        let has_happened = meanwhile.is_some() && world.meanwhile.take().is_none();
                        (std::mem::take(&mut world.answers), has_happened)
                    };
                    let said = format!("{step:?} in {steps:?}: {minted:?} {answers:?}");
                    if let Some(change) = meanwhile.filter(|_| has_happened) {
                        end_remembered(change, &mut remembered);
                    }
                    let (last, before) = match answers.split_last() {
                        Some((last, before)) => (Some(last), before),
                        None => (None, answers.as_slice()),
                    };
                    assert!(before.iter().all(|(_, answer)| *answer == Answer::Unknown), "{said}");
                    let Ok((user, asked_at)) = minted else {
                        let is_busy = matches!(minted, Err(AuthenticationError::Login(LoginError::Busy)));
                        assert!(!right || away || meanwhile.is_some() || disabled[who] || is_busy, "{said}");
                        continue;
                    };
                    assert_eq!(user.identity, identity(&name), "{said}");
                    assert!(!disabled[who] && who != ALIKE, "{said}");
                    match last {
                        None => assert!(who == OWN && password == 0, "{said}"),
                        Some((source, Answer::Accepted(_))) => {
                            // By what the source had last, if a cutoff says that the answer is old.
                            let has_now = self.worlds.lock()[&history].passwords[*source].get(&name).copied();
                            let is_cut = meanwhile.is_some_and(|change| {
                                has_happened && change.concerns(who) && change.cutoff.is_some()
                            });
                            assert!(!is_cut || has_now == Some(password), "{said}");
                            remembered[who] = None;
                            if *source == PLATFORM {
                                remembered[who] = Some(password);
                                let phc = self.hashes[usize::from(password)].clone();
                                let credential_version = user.credential_version;
                                let user = user.identity.user;
                                let remember = Remember { user, credential_version, phc, asked_at };
                                self.store.execute(remember, Actor::gateway()).await.unwrap();
                            }
                        }
                        Some((source, Answer::Unavailable(reason))) => {
                            let says_something = matches!(reason, Unavailable::Busy | Unavailable::Invalid);
                            assert!(*source == PLATFORM && !says_something, "{said}");
                            assert_eq!(remembered[who], Some(password), "{said}");
                        }
                        Some(_) => panic!("{said}"),
                    }
                }
            }
        }
    }
}

impl Change {
    /// Is its cutoff about that user?
    fn concerns(self, who: usize) -> bool {
        self.who == who || self.cutoff == Some(Kind::Organization)
    }
}

fn end_remembered(change: Change, remembered: &mut [Option<u8>; NAMES.len()]) {
    if change.cutoff.is_some() {
        let concerned = remembered.iter_mut().enumerate().filter(|(who, _)| change.concerns(*who));
        concerned.for_each(|(_, remembered)| *remembered = None);
    }
}

/// Most often one of the platform's.
fn who() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(2_usize), 4 => Just(3), 1 => 0..NAMES.len()]
}

fn change() -> impl Strategy<Value = Change> {
    let kinds = prop::sample::select(vec![Kind::User, Kind::Email, Kind::Organization]);
    let password = prop::option::weighted(0.8, 0..2_u8);
    (who(), 0..2_usize, password, prop::option::weighted(0.8, kinds))
        .prop_map(|(who, source, password, cutoff)| Change { who, source, password, cutoff })
}

fn step() -> impl Strategy<Value = Step> {
    let reasons = prop::sample::select(vec![
        Unavailable::Busy,
        Unavailable::Unreachable,
        Unavailable::TimedOut,
        Unavailable::Failing,
        Unavailable::Invalid,
    ]);
    // Most of what happens while somebody logs in is about that one.
    let login = (who(), 0..2_u8, prop::option::weighted(0.3, change()), prop::bool::weighted(0.9));
    let login = login.prop_map(|(who, password, meanwhile, is_own)| {
        let meanwhile =
            meanwhile.map(|change| Change { who: if is_own { who } else { change.who }, ..change });
        Step::LogIn { who, password, meanwhile }
    });
    prop_oneof![
        12 => login,
        2 => change().prop_map(Step::Change),
        3 => (0..2_usize, prop::option::of(reasons)).prop_map(|(source, away)| Step::Outage(source, away)),
        1 => (who(), any::<bool>()).prop_map(|(who, is_disabled)| Step::Disable(who, is_disabled)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Whatever the order of answers, outages, changes and cutoffs. Failures are answered late, so many histories go on side by side.
    #[test]
    fn only_a_password_that_the_owner_of_the_name_accepts_becomes_a_token(
        histories in prop::collection::vec(prop::collection::vec(step(), 8..16), 32)
    ) {
        runtime().block_on(async {
            let fixture = Arc::new(Fixture::new("192.0.2.0/24"));
            let mut running = JoinSet::new();
            for (number, steps) in histories.into_iter().enumerate() {
                running.spawn(Arc::clone(&fixture).run(number, steps));
            }
            while let Some(ended) = running.join_next().await {
                ended.unwrap();
            }
        });
    }
}

/// Places that an account knows have no limit but their own, and a password that is right there clears it.
#[test]
fn outage_of_a_source_clears_no_count_of_wrong_passwords() {
    runtime().block_on(async {
        let fixture = Fixture::new("192.0.2.0/24");
        fixture.begin(0).await;
        let client: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        let name = full_name(2, 0);
        let LoginAttempt { credentials, .. } = fixture.attempt(&name, 1, client);
        let record = fixture.store.login_record(&name, client.map(Source::of)).await.unwrap();
        let (logins, slots) = (&fixture.chain.logins, Slots::new(1));
        let wrong = async || {
            let mut admitted = logins.admit(&credentials, &record, client, Instant::now())?;
            admitted.turn(&slots).await.map(drop)
        };
        for _ in 0..19 {
            wrong().await.unwrap();
        }
        fixture.worlds.lock().get_mut(&0).unwrap().away[PLATFORM] = Some(Unavailable::TimedOut);
        let outcome = fixture.chain.authenticate(fixture.attempt(&name, 1, client)).await;
        assert!(matches!(outcome, Err(AuthenticationError::Login(LoginError::Unavailable))), "{outcome:?}");
        wrong().await.unwrap();
        assert!(matches!(wrong().await, Err(LoginError::Throttled(_))));
    });
}
