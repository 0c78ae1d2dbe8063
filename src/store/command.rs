//! What may be asked of the store: one type for each command, and what becomes of it.
//!
//! A command is one transaction. The store stamps its time, takes the next sequence, decides by a pure function
//! of `decision` and writes the audit row. A command that is refused says so in its outcome and has
//! changed nothing.

use std::collections::HashSet;
use std::sync::Arc;

use super::records::User;
use crate::auth::identity::Identity;
use crate::auth::keys::{Fingerprint, Key, KeySet};
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::source::Source;
use crate::auth::time::UnixTime;
use crate::auth::token::{Minted, TokenId, TokenRules};
use crate::auth::user_source::SourceName;

/// A change of the store, or an attempt at one.
pub trait Command: Send + 'static {
    /// What becomes of it.
    type Outcome: Send + 'static;
}

/// Who changes something, and from where: what every audit row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// A user of the API, or the account that runs the command line.
    pub name: Box<str>,
    /// A client's address, or the command line.
    pub origin: Box<str>,
    /// The account that it says it acts for, where that is another one: whom sudo was started by.
    pub claimed: Option<Box<str>>,
    /// In which capacity.
    pub role: Role,
}

/// In which capacity somebody acts. What operators did stays in the audit trail longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// By a request to the gateway, which anybody may send.
    Client,
    /// By the command line, or as the gateway itself.
    Operator,
}

impl Actor {
    /// Anyone who sent a request.
    pub fn client(name: impl Into<Box<str>>, origin: impl Into<Box<str>>) -> Self {
        Self { name: name.into(), origin: origin.into(), claimed: None, role: Role::Client }
    }

    /// Anyone who gives commands on the gateway's machine, or the gateway itself.
    pub fn operator(name: impl Into<Box<str>>, origin: impl Into<Box<str>>) -> Self {
        Self { role: Role::Operator, ..Self::client(name, origin) }
    }

    /// The same actor, which says that it acts for that account.
    #[must_use]
    pub fn claiming(self, claimed: Option<Box<str>>) -> Self {
        Self { claimed, ..self }
    }

    /// The gateway itself, in its upkeep.
    pub fn gateway() -> Self {
        Self::operator("ds-gateway", "upkeep")
    }
}

/// Mints a token for a user whose password was checked at `user.credential_version`.
#[derive(Clone, Debug)]
pub struct Mint {
    /// The user as it was when the password was checked.
    pub user: User,
    /// For the `jti`.
    pub random: [u8; 16],
    /// How long the token lives.
    pub rules: TokenRules,
    /// The key that signs.
    pub signer: Arc<Key>,
    /// A user of whom so many revoked tokens are kept gets no more: each takes memory in every gateway.
    pub max_revocations: u64,
    /// Where the login came from, to be remembered for later ones.
    pub source: Option<Source>,
    /// The store's sequence before anybody was asked whether the password is right: a cutoff that came later may have been set because
    /// it no longer is. [`NO_PASSWORD`](Self::NO_PASSWORD) where none was checked.
    pub asked_at: u64,
    /// Who said so, where that is not the store, and how many milliseconds that took.
    pub checked_by: Option<(SourceName, u64)>,
}

impl Mint {
    /// Nobody was asked for a password: no cutoff came later.
    pub const NO_PASSWORD: u64 = u64::MAX;
}

/// What becomes of a [`Mint`].
#[derive(Debug)]
pub enum MintOutcome {
    /// The token, in the store's order, and the cutoffs that it was minted after: a gate that has not read
    /// of them yet must apply them before the token is handed out.
    Minted(Minted, Vec<(Subject, Cutoff)>),
    /// The user changed since its password was checked, or a cutoff was set that concerns it; or it is disabled or gone.
    UserChanged,
    /// The key was revoked or retired a moment ago; this gateway has not read of it, nor of the key in its place.
    SignerRevoked,
    /// [`max_revocations`](Mint::max_revocations) tokens of the user are revoked, one by one, and kept.
    RevocationLimit,
}

impl Command for Mint {
    type Outcome = MintOutcome;
}

/// Replaces an old hash by one with today's costs: the password is the same, so no token ends.
#[derive(Clone, Debug)]
pub struct Rehash {
    /// The user's name.
    pub user: Name,
    /// The version at which the password was checked; a later one is left alone.
    pub credential_version: u64,
    /// The new hash.
    pub phc: Phc,
}

impl Command for Rehash {
    type Outcome = ();
}

/// When the token that is to be revoked expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this time, as the token says.
    At(UnixTime),
    /// Nobody here knows; within `max_lifetime` seconds, as every token does.
    Within {
        /// `token.max_lifetime`, in seconds.
        max_lifetime: u64,
    },
}

/// Revokes one token.
#[derive(Clone, Debug)]
pub struct RevokeToken {
    /// Which.
    pub id: TokenId,
    /// When it expires.
    pub expiry: Expiry,
    /// Whose it is, where that is known.
    pub user: Option<Box<str>>,
}

impl Command for RevokeToken {
    /// The sequence of the transaction that revoked it: an earlier one if it was revoked before.
    type Outcome = u64;
}

/// Revokes every token of a user, an organization or everybody that was minted before.
#[derive(Clone, Debug)]
pub struct RevokeSubject {
    /// Whose tokens. The store need not know the name.
    pub subject: Subject,
}

impl Command for RevokeSubject {
    /// The sequence of the transaction that did it.
    type Outcome = u64;
}

/// Revokes a key by its name, for good.
#[derive(Clone, Debug)]
pub struct RevokeKey {
    /// Its name.
    pub kid: String,
    /// Keys to record in the same transaction, so that at no time there is none that signs.
    pub successors: Vec<KeyRecord>,
}

/// What becomes of a [`RevokeKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeKeyOutcome {
    /// It verifies nothing from this sequence on; an earlier one if it was revoked before.
    Revoked(u64),
    /// The store has never had a key of that name.
    Unknown,
    /// A successor's `kid` stands for another secret.
    Conflict(String),
}

impl Command for RevokeKey {
    type Outcome = RevokeKeyOutcome;
}

/// Lets a key sign from some time on, in the place of the one that signs until then.
#[derive(Clone, Debug)]
pub struct ActivateKey {
    /// Its name.
    pub kid: String,
    /// From when on; `None`: at once.
    pub at: Option<UnixTime>,
}

/// What becomes of an [`ActivateKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivateKeyOutcome {
    /// It signs from then on, on each gateway that has this sequence, once every gateway has the key.
    Activated {
        /// The sequence of the transaction that said so.
        sequence: u64,
        /// From when on.
        from: UnixTime,
    },
    /// The store has never had a key of that name.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It was retired.
    Retired,
}

impl Command for ActivateKey {
    type Outcome = ActivateKeyOutcome;
}

/// Ends a key without ending a token: it signs nothing more, and verifies no token that ends later than those that it has signed.
#[derive(Clone, Debug)]
pub struct RetireKey {
    /// Its name.
    pub kid: String,
    /// How far from now the `exp` of a token may be that a gateway admits, in seconds.
    pub longest: u64,
}

/// What becomes of a [`RetireKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetireKeyOutcome {
    /// It signs nothing from this sequence on, or from an earlier one if it was retired before.
    Retired {
        /// The sequence of the transaction that said so.
        sequence: u64,
        /// It verifies no token whose `exp` is later.
        ends_at: UnixTime,
    },
    /// The store has never had a key of that name.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It may be the one that signs: no other was activated after it.
    Signs,
    /// This other one was activated after it, and some running gateway does not have it.
    NotEverywhere(String),
}

impl Command for RetireKey {
    type Outcome = RetireKeyOutcome;
}

/// A key to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its name.
    pub kid: String,
    /// What its secret is recognised by.
    pub fingerprint: Fingerprint,
}

impl KeyRecord {
    /// Every key of a set.
    pub fn all(keys: &KeySet) -> Vec<Self> {
        keys.iter().map(|key| Self { kid: key.kid().to_owned(), fingerprint: key.fingerprint() }).collect()
    }
}

/// Records which secret each `kid` stands for, where that is not recorded yet.
#[derive(Clone, Debug)]
pub struct RecordKeys {
    /// The keys.
    pub keys: Vec<KeyRecord>,
}

/// What becomes of [`RecordKeys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKeysOutcome {
    /// All of them are recorded now.
    Recorded,
    /// This `kid` stands for another secret; nothing was recorded.
    Conflict(String),
}

impl Command for RecordKeys {
    type Outcome = RecordKeysOutcome;
}

/// A user to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Name, e-mail address and organization.
    pub identity: Identity,
    /// The hash of its password.
    pub phc: Phc,
}

/// Why a user cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameConflict {
    /// There is a user of that name already.
    Exists,
    /// A person would confuse the name with this user's.
    Confusable(String),
}

/// Adds a user. The tokens of a removed user of the same name stay revoked.
#[derive(Clone, Debug)]
pub struct AddUser {
    /// The user.
    pub user: NewUser,
}

impl Command for AddUser {
    type Outcome = Result<(), NameConflict>;
}

/// A user as an import has it.
#[derive(Clone, Debug)]
pub struct ImportedUser {
    /// All that a new user has.
    pub user: NewUser,
    /// Whether it is disabled. Where nothing is said of it, a new user is not, and another stays what it is.
    pub disabled: Option<bool>,
}

/// Imports users, in their order, until a conflict or the end of a slice of time: the rest is given again. A user that is there with the
/// same data is left alone, so an import can be repeated.
#[derive(Clone, Debug)]
pub struct ImportUsers {
    /// The users.
    pub users: Vec<ImportedUser>,
    /// Whether a user that is there with other data is changed, as [`ChangeUser`] would, or is a conflict.
    pub update: bool,
}

/// What becomes of [`ImportUsers`]: of the first so many users, that they are as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// So many were added,
    pub added: usize,
    /// so many changed, whose tokens are revoked,
    pub updated: usize,
    /// and so many were like that already.
    pub unchanged: usize,
    /// Why the user behind them is not imported, where that ended the slice.
    pub conflict: Option<ImportConflict>,
}

impl Imported {
    /// How many users are as they should be.
    pub const fn done(&self) -> usize {
        self.added + self.updated + self.unchanged
    }
}

/// What an import would do with a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportEffect {
    /// Add it.
    Added,
    /// Change it and revoke its tokens.
    Updated,
    /// Nothing.
    Unchanged,
    /// Refuse it.
    Conflict(ImportConflict),
}

/// Why a user cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportConflict {
    /// A person would confuse the name with this user's.
    Confusable(String),
    /// There is a user of that name, who is not to be changed.
    Differs(Difference),
}

/// In what a user in an import differs from the one in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The e-mail address.
    pub email: bool,
    /// The organization.
    pub organization: bool,
    /// The password hash.
    pub password: bool,
    /// Whether it is disabled.
    pub disabled: bool,
}

impl Command for ImportUsers {
    type Outcome = Imported;
}

/// What is to be changed of a user.
#[derive(Clone, Debug)]
pub enum UserChange {
    /// New claims, where given.
    Claims {
        /// The new e-mail address.
        email: Option<Box<str>>,
        /// The new organization.
        organization: Option<Name>,
    },
    /// A new password.
    Password(Phc),
    /// Block logins and revoke existing tokens.
    Disable,
    /// Allow logins again; existing tokens stay revoked.
    Enable,
    /// Delete the user; its cutoff stays.
    Remove,
}

/// Changes a user and revokes its tokens; a change that changes nothing revokes nothing.
#[derive(Clone, Debug)]
pub struct ChangeUser {
    /// The user's name.
    pub name: Box<str>,
    /// The change.
    pub change: UserChange,
}

/// What becomes of a [`ChangeUser`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The user was changed, and its tokens are revoked.
    Changed,
    /// The user is that already: nothing was changed and no token is revoked.
    Unchanged,
    /// There is no user of that name.
    Unknown,
}

impl Command for ChangeUser {
    type Outcome = ChangeOutcome;
}

/// Lets what was counted of a user's failed logins be forgotten: it may log in again at once, from everywhere. Its password, its tokens
/// and whether it is disabled stay as they are.
#[derive(Clone, Debug)]
pub struct UnlockUser {
    /// The user's name.
    pub name: Box<str>,
}

/// What becomes of an [`UnlockUser`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockOutcome {
    /// From now on failed logins are counted from zero.
    Unlocked,
    /// There is no user of that name.
    Unknown,
}

impl Command for UnlockUser {
    type Outcome = UnlockOutcome;
}

/// Failed logins that are summed as one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLogins {
    /// The account, or `unknown`.
    pub subject: String,
    /// The /24 or /64 that they came from, or `elsewhere`.
    pub origin: String,
    /// Who refused them.
    pub source: SourceName,
    /// How many there were.
    pub count: u32,
}

/// Writes failed logins to the audit trail, each sum under its own account and origin.
#[derive(Clone, Debug)]
pub struct NoteFailedLogins {
    /// The sums.
    pub failures: Vec<FailedLogins>,
}

impl Command for NoteFailedLogins {
    type Outcome = ();
}

/// Records that a gateway runs, and how far it has come.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The gateway's name, unique to its process.
    pub gateway: String,
    /// Every change up to this sequence is in force there.
    pub applied: u64,
    /// How long it may admit anything without another heartbeat, in seconds: by then it has read the store again, or admits nothing.
    pub lease: u64,
    /// The keys that it verifies with; none: it does not say.
    pub keys: Vec<Fingerprint>,
}

impl Command for Heartbeat {
    /// Those of them that every other gateway has whose lease holds.
    type Outcome = HashSet<Fingerprint>;
}

/// Records that a gateway has stopped.
#[derive(Clone, Debug)]
pub struct Deregister {
    /// The gateway's name.
    pub gateway: String,
}

impl Command for Deregister {
    type Outcome = ();
}

/// Asks every gateway to send a heartbeat once it has applied all up to now.
#[derive(Clone, Copy, Debug)]
pub struct RequestAcknowledgements;

impl Command for RequestAcknowledgements {
    type Outcome = ();
}

/// Deletes a slice of the revocations that no token can ask about any more and of the sources that were not seen for long, and notes
/// which tokens have expired.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    /// How long a revocation is remembered, in seconds of lived time:
    /// [`TokenRules::retention`](crate::auth::token::TokenRules::retention).
    pub retention: u64,
}

impl Command for Purge {
    /// How many rows were deleted; 0 when nothing is left to delete.
    type Outcome = usize;
}

/// Deletes a slice of the audit trail. A share of it is what one actor did of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Prune {
    /// Rows older than this go, in seconds of lived time.
    pub age: u64,
    /// Where all take more room than this, in bytes, the oldest of the largest share go: of clients, until they take half of it,
    /// and only then of operators. So nobody's rows go because of somebody who has more.
    pub bytes: u64,
}

impl Command for Prune {
    /// How many rows were counted or deleted; 0 when nothing is left to do.
    type Outcome = usize;
}

/// Sets what the store believes of the wall clock to what the wall clock says, after it was wrong for long: the floor, and every
/// cutoff that lies in the future. Puts a cutoff on everybody, since tokens may have been minted by the wrong clock. For stopped
/// gateways only: a running one would bring its own floor back.
#[derive(Clone, Copy, Debug)]
pub struct RepairClock;

/// What a [`RepairClock`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairedClock {
    /// The floor before.
    pub floor: UnixTime,
    /// The wall clock, which is the floor now.
    pub wall: UnixTime,
    /// How many cutoffs lay in the future.
    pub cutoffs: usize,
}

impl Command for RepairClock {
    type Outcome = RepairedClock;
}
