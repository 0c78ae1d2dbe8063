//! Revocations that are in force here and not yet in the store: its disk was full, failing or hanging.
//!
//! The client was told 503, so nothing was promised; still the token is refused from that moment, and the
//! revocation is written as soon as the store takes it, while this process lives, or the one that succeeds it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::auth::gate::Gate;
use crate::auth::revocation::Subject;
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::TokenId;
use crate::auth::token_set::{Keep, RevokedToken};
use crate::store::command::{Actor, Expiry, RevokeToken};
use crate::store::peers::Peers;
use crate::store::user_change::{ChangeEnd, ChangeId, EndChange};
use crate::store::{Store, StoreError};

/// One token whose revocation could not be written.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The token.
    pub id: TokenId,
    /// When it expires.
    pub expires_at: UnixTime,
    /// Whose it is.
    pub user: Box<str>,
    /// Where the request came from.
    pub origin: String,
}

impl Revocation {
    /// Makes it durable; says which sequence it has.
    pub async fn write(self, store: &Store) -> Result<u64, StoreError> {
        let actor = Actor::client(self.user.clone(), self.origin);
        let revoke = RevokeToken { id: self.id, expiry: Expiry::At(self.expires_at), user: Some(self.user) };
        store.execute_everywhere(revoke, actor).await
    }
}

/// Those that wait. At most one for each token that holds, so the tokens bound it.
#[derive(Debug, Default)]
pub struct Pending {
    /// They are told of each: they hold it too.
    peers: Peers,
    waiting: Mutex<BTreeMap<TokenId, Revocation>>,
    changes: Mutex<Vec<PendingChange>>,
    /// Subjects that a start holds in the gate, whose cutoffs the store has not taken.
    held_by_start: Mutex<Vec<Subject>>,
}

/// A change on the platform that has ended tokens here and could not be written.
#[derive(Clone, Debug)]
pub struct PendingChange {
    /// What is to be written.
    pub command: EndChange,
    /// Who asked for the change.
    pub actor: Actor,
}

impl Pending {
    /// None yet; the other process of an upgrade is told of each.
    pub fn new(peers: Peers) -> Self {
        Self { peers, ..Self::default() }
    }

    /// One more, unless that token waits already.
    pub fn push(&self, revocation: Revocation) {
        let record = Record::of(&revocation);
        self.waiting.lock().entry(revocation.id).or_insert(revocation);
        // Afterwards: another process that comes meanwhile is told by one or the other.
        self.peers.hold(|| record.to_line());
    }

    /// One more change. The store took the note of it a moment ago, so there are few.
    pub fn push_change(&self, change: PendingChange) {
        let record = Record::of_change(&change);
        self.changes.lock().push(change);
        self.peers.hold(|| record.to_line());
    }

    /// All that wait, each as one line of JSON that [`hold`](Self::hold) takes.
    pub fn lines(&self) -> Vec<String> {
        let revocations: Vec<String> =
            self.waiting.lock().values().map(|revocation| Record::of(revocation).to_line()).collect();
        let changes = self.changes.lock();
        let held = self.held_by_start.lock();
        revocations
            .into_iter()
            .chain(changes.iter().map(|change| Record::of_change(change).to_line()))
            .chain((!held.is_empty()).then(|| Record::of_held(&held).to_line()))
            .collect()
    }

    /// Takes over what another process waits to write: in force here from now on, and written by whoever is first.
    ///
    /// # Errors
    ///
    /// If the line is of another version of this program.
    pub fn hold(&self, line: &str, gate: &Gate, lived: Lived) -> serde_json::Result<()> {
        match serde_json::from_str(line)? {
            Record::Token { id, expires_at, user, origin } => {
                let (id, expires_at) = (TokenId(id), UnixTime(expires_at));
                let revoked = RevokedToken { id, keep: Keep::Expires(expires_at), lived };
                gate.apply(|snapshot| snapshot.revoke_tokens([revoked]));
                self.waiting.lock().entry(id).or_insert(Revocation { id, expires_at, user, origin });
            }
            Record::Change { id, subjects, is_unknown, user, origin } => {
                let subjects: Vec<Subject> = subjects.into_iter().map(Whose::subject).collect();
                let mut changes = self.changes.lock();
                if changes.iter().any(|change| change.command.id.0 == id) {
                    return Ok(());
                }
                gate.apply(|snapshot| subjects.iter().for_each(|subject| snapshot.hold(subject.clone())));
                let end = if is_unknown { ChangeEnd::Unknown } else { ChangeEnd::Made };
                let command = EndChange { id: ChangeId(id), subjects, end };
                changes.push(PendingChange { command, actor: Actor::client(user, origin) });
            }
            Record::Held { subjects } => {
                let mut held = self.held_by_start.lock();
                for subject in subjects.into_iter().map(Whose::subject) {
                    if !held.contains(&subject) {
                        gate.apply(|snapshot| snapshot.hold(subject.clone()));
                        held.push(subject);
                    }
                }
            }
        }
        Ok(())
    }

    /// These are held in the gate, until the changes that they are about can be ended.
    pub fn held_by_start(&self) -> Vec<Subject> {
        self.held_by_start.lock().clone()
    }

    /// Says what [`held_by_start`](Self::held_by_start) gives from now on.
    pub fn set_held_by_start(&self, subjects: Vec<Subject>) {
        *self.held_by_start.lock() = subjects;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().len() + self.changes.lock().len()
    }

    /// Does none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One after the other. What they hold in the gate is released once its cutoff is there.
    async fn retry_changes(&self, store: &Store, gate: &Gate) {
        while !store.health().hangs() {
            let Some(PendingChange { command, actor }) = self.changes.lock().first().cloned() else { return };
            // Nobody waits for it, so the other process of an upgrade may take its time.
            let Ok(cutoffs) = store.execute(command.clone(), actor).await else { return };
            gate.apply_cutoffs(&cutoffs);
            gate.apply(|snapshot| command.subjects.iter().for_each(|subject| snapshot.release(subject)));
            self.changes.lock().retain(|change| change.command.id != command.id);
        }
    }

    /// Tries again, many in one commit, until none waits or one fails. While a commit hangs, its queue is long enough.
    pub async fn retry(&self, store: &Store, gate: &Gate) {
        self.retry_changes(store, gate).await;
        while !store.health().hangs() {
            let next: Vec<Revocation> = self.waiting.lock().values().take(AT_ONCE).cloned().collect();
            if next.is_empty() {
                return;
            }
            let mut writes = JoinSet::new();
            for revocation in next {
                let (id, store) = (revocation.id, store.clone());
                writes.spawn(async move { (id, revocation.write(&store).await) });
            }
            let mut all_written = true;
            while let Some(written) = writes.join_next().await {
                match written {
                    Ok((id, Ok(_))) => drop(self.waiting.lock().remove(&id)),
                    _ => all_written = false,
                }
            }
            if !all_written {
                return;
            }
        }
    }
}

/// What one process tells the other of what waits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Token {
        id: [u8; 16],
        expires_at: u64,
        user: Box<str>,
        origin: String,
    },
    /// Those that changed nothing are not pending.
    Change {
        id: i64,
        subjects: Vec<Whose>,
        is_unknown: bool,
        user: Box<str>,
        origin: Box<str>,
    },
    /// Of changes that a start could not end.
    Held {
        subjects: Vec<Whose>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Whose {
    Everybody,
    User(Box<str>),
    Organization(Box<str>),
    Email(Box<str>),
}

impl Record {
    fn of(Revocation { id, expires_at, user, origin }: &Revocation) -> Self {
        Self::Token { id: id.0, expires_at: expires_at.0, user: user.clone(), origin: origin.clone() }
    }

    fn of_change(PendingChange { command, actor }: &PendingChange) -> Self {
        Self::Change {
            id: command.id.0,
            subjects: command.subjects.iter().map(Whose::of).collect(),
            is_unknown: command.end == ChangeEnd::Unknown,
            user: actor.name.clone(),
            origin: actor.origin.clone(),
        }
    }

    fn of_held(subjects: &[Subject]) -> Self {
        Self::Held { subjects: subjects.iter().map(Whose::of).collect() }
    }

    fn to_line(&self) -> String {
        // Its parts are numbers and texts.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Whose {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Everybody => Self::Everybody,
            Subject::User(name) => Self::User(name.clone()),
            Subject::Organization(name) => Self::Organization(name.clone()),
            Subject::Email(email) => Self::Email(email.clone()),
        }
    }

    fn subject(self) -> Subject {
        match self {
            Self::Everybody => Subject::Everybody,
            Self::User(name) => Subject::User(name),
            Self::Organization(name) => Subject::Organization(name),
            Self::Email(email) => Subject::Email(email),
        }
    }
}

/// Half of what the store takes into one commit: others may be in it.
const AT_ONCE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::{Cache, CacheLimits};
    use crate::auth::denial::Denial;
    use crate::auth::identity::Identity;
    use crate::auth::keys::{Algorithm, Fingerprint, Key, KeySet};
    use crate::auth::name::Name;
    use crate::auth::revocation::RevocationSnapshot;
    use crate::auth::secret::Secret;
    use crate::auth::token::{Origin, TokenRules, UnknownUsers, Verified};
    use crate::store::peers::Ask;
    use std::time::Duration;

    fn new_gate() -> Gate {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let keys = KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
        let cache = Cache::new(CacheLimits { entries: 0, bytes: 0 }, 1, || 0, 0);
        let snapshot = RevocationSnapshot::default();
        Gate::new(keys, TokenRules::DEFAULT, cache, Duration::MAX, snapshot, Duration::ZERO)
    }

    fn check(gate: &Gate, id: TokenId) -> Result<(), Denial> {
        let user = Name::parse_user("anna").unwrap();
        let organization = Name::parse("o").unwrap();
        let identity = Identity { user, email: "e".into(), organization };
        let token = Verified {
            id,
            folded_email: None,
            fields: identity.fields().unwrap(),
            identity,
            origin: Origin::Foreign,
            issued_at: UnixTime(4000),
            expires_at: UnixTime(5000),
            not_before: None,
            key: Fingerprint([1; 32]),
            generation: 0,
        };
        gate.snapshot()
            .check(&token, &TokenRules { unknown_users: UnknownUsers::Accept, ..TokenRules::DEFAULT })
    }

    #[test]
    fn what_waits_is_taken_over_whole() {
        let peers = Peers::default();
        let (asks, told) = std::sync::mpsc::channel();
        peers.link(asks);
        let (before, after, gate) = (Pending::new(peers), Pending::default(), new_gate());
        let user: Box<str> = "anna".into();
        let id = TokenId([7; 16]);
        let token =
            Revocation { id, expires_at: UnixTime(5000), user: user.clone(), origin: "192.0.2.1".into() };
        before.push(token);
        let subjects = vec![
            Subject::User(user),
            Subject::Email("a@example.com".into()),
            Subject::Organization("O \"1\"".into()),
            Subject::Everybody,
        ];
        for (number, end) in [(1, ChangeEnd::Made), (2, ChangeEnd::Unknown)] {
            let command = EndChange { id: ChangeId(number), subjects: subjects.clone(), end };
            before.push_change(PendingChange { command, actor: Actor::client("bert", "192.0.2.2") });
        }
        let told: Vec<String> = told
            .try_iter()
            .map(|ask| match ask {
                Ask::Hold(line) => line,
                Ask::Apply(_) => panic!("nothing was committed"),
            })
            .collect();
        assert_eq!(told, before.lines(), "each is told of at once");
        let is_admitted = |gate: &Gate, number| check(gate, TokenId([number; 16]));
        after.hold(&told[0], &gate, Lived(1)).unwrap();
        assert_eq!([7, 8].map(|number| is_admitted(&gate, number)), [Err(Denial::RevokedToken), Ok(())]);
        // Twice is once.
        for line in told.iter().chain(&told) {
            after.hold(line, &gate, Lived(1)).unwrap();
        }
        assert_eq!((after.len(), after.lines()), (3, before.lines()));
        // By any of those that are held.
        assert!(matches!(is_admitted(&gate, 8), Err(Denial::RevokedEverybody | Denial::RevokedUser)));
        // What a start holds is told to one that comes later.
        let (third, gate) = (Pending::default(), new_gate());
        let anna = vec![Subject::User("anna".into())];
        after.set_held_by_start(anna.clone());
        let lines = after.lines();
        for line in lines.iter().rev().take(1).chain(&lines) {
            third.hold(line, &gate, Lived(1)).unwrap();
        }
        assert_eq!((third.held_by_start(), third.lines()), (anna, lines));
        assert!(after.hold("{\"other\":{}}", &gate, Lived(1)).is_err());
        assert_eq!(after.len(), 3);
    }

    #[test]
    fn a_token_waits_once() {
        let pending = Pending::default();
        for (id, origin) in [(1, "first"), (2, "other"), (1, "again")] {
            let (id, origin) = (TokenId([id; 16]), origin.to_owned());
            pending.push(Revocation { id, expires_at: UnixTime(1), user: "anna".into(), origin });
        }
        assert_eq!(pending.len(), 2);
        let waiting = pending.waiting.lock();
        assert_eq!(waiting.get(&TokenId([1; 16])).map(|one| one.origin.as_str()), Some("first"));
    }
}
