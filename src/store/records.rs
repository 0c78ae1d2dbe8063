//! What the store holds, as its readers see it.

use serde::{Deserialize, Serialize};

use crate::auth::identity::Identity;
use crate::auth::keys::{Fingerprint, KeySet};
use crate::auth::password::Phc;
use crate::auth::revocation::KeyUse;
use crate::auth::revocation::{Account, Cutoff, RevocationSnapshot, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::TokenId;
use crate::auth::token_set::RevokedToken;
use crate::auth::user_source::SourceName;

/// A user, without the password hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, e-mail address and organization.
    pub identity: Identity,
    /// Who checks its password.
    pub source: SourceName,
    /// No token is minted and none is admitted.
    pub disabled: bool,
    /// The sequence of the last change of the password or of a claim.
    pub credential_version: u64,
    /// When the user was added.
    pub created_at: UnixTime,
    /// When anything of the user last changed.
    pub updated_at: UnixTime,
}

/// A user and the hash of its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// All but the hash.
    pub user: User,
    /// The hash, with its algorithm and costs; `None` for a user whose password another source checks, and of which none is remembered.
    pub phc: Option<Phc>,
    /// When another source last said that the hash fits; `None` for a password that was set here.
    pub remembered: Option<Remembered>,
}

/// When a source said that a password is right whose hash is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The store's sequence before the source was asked: a cutoff that came later ends what is remembered.
    pub sequence: u64,
    /// The time.
    pub at: UnixTime,
}

/// A user as lists show it, with what the audit trail knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The user.
    pub user: User,
    /// When it last got a token by its password; `None` where the audit trail has no mint of it.
    pub last_login: Option<UnixTime>,
    /// How many tokens that were minted here it could use now.
    pub live_tokens: u64,
    /// When its source last said that a password is right whose hash is kept.
    pub remembered_at: Option<UnixTime>,
}

/// Which users are asked for. Every condition that is given holds.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Those of this organization.
    pub organization: Option<Box<str>>,
    /// Those that are disabled, or those that are not.
    pub disabled: Option<bool>,
    /// Those whose name or e-mail address has this in it, ASCII letters in either case.
    pub text: Option<Box<str>>,
    /// Those from there.
    pub source: Option<SourceName>,
    /// Those of whose password another source is known to have said that it is right, and whose hash is kept.
    pub remembered: bool,
}

/// A token that was minted here, as the audit trail has it. The token itself is kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintedToken {
    /// Its name.
    pub id: TokenId,
    /// The sequence of the transaction that minted it.
    pub sequence: u64,
    /// When it was minted.
    pub minted_at: UnixTime,
    /// Who asked for it: the user itself, or the account that ran the command line.
    pub minted_by: String,
    /// From where: a client's address, or the command line.
    pub origin: String,
    /// Its `exp`; `None` where an older program minted it.
    pub expires_at: Option<UnixTime>,
    /// What has become of it.
    pub state: TokenState,
}

/// What has become of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// The gate admits it.
    Live,
    /// Its `exp` is past.
    Expired,
    /// It is refused, because that was revoked; for a user, also because it was changed, disabled or removed.
    Revoked(RevocationKind),
}

/// Which tokens of a user are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenFilter {
    /// Also those that have expired.
    pub expired: bool,
}

/// What a login needs to know before its password is hashed, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRecord {
    /// The user, if one bears the name, disabled or not.
    pub user: Option<UserRecord>,
    /// Whether a token of this user was minted from the same source of late.
    pub is_known_source: bool,
    /// How often an operator has unlocked the user. What counts failed logins counts them under this number too, so that an unlock
    /// is in force at once in every gateway of the store, whatever it has counted: no gateway needs to hear of it by the feed.
    pub unlocks: u64,
    /// The store's sequence at that moment: what is revoked later is not known to whoever checks the password.
    pub sequence: u64,
}

/// Which secret a `kid` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedKey {
    /// The key's name.
    pub kid: String,
    /// What its secret is recognised by.
    pub fingerprint: Fingerprint,
    /// From when on it signs, and until when it verifies.
    pub key_use: KeyUse,
}

impl RecordedKey {
    /// Does it verify nothing any more?
    pub fn is_revoked(&self) -> bool {
        self.key_use.is_revoked()
    }

    /// Is it neither revoked nor retired?
    pub const fn may_sign(&self) -> bool {
        self.key_use.ends_at.is_none()
    }
}

/// Compares a key set with what is recorded. `Ok(true)`: all of it is; `Ok(false)`: some key is not recorded yet;
/// `Err`: the `kid` whose secret is not the recorded one.
pub fn compare_keys(recorded: &[RecordedKey], keys: &KeySet) -> Result<bool, String> {
    let mut all = true;
    for key in keys.iter() {
        match recorded.iter().find(|recorded| recorded.kid == key.kid()) {
            Some(recorded) if recorded.fingerprint == key.fingerprint() => {}
            Some(_) => return Err(key.kid().to_owned()),
            None => all = false,
        }
    }
    Ok(all)
}

/// A piece of what changed, to be applied to the gate's memory. Applying one twice, or late, changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Revocation cutoffs, as they stand now.
    pub cutoffs: Vec<(Subject, Cutoff)>,
    /// Tokens that were revoked one by one.
    pub tokens: Vec<RevokedToken>,
    /// Keys that were recorded or revoked.
    pub keys: Vec<RecordedKey>,
    /// Users that were added or changed; a removed one is a blocked cutoff.
    pub users: Vec<(Box<str>, Account)>,
    /// What the store keeps of time.
    pub time: StoredTime,
    /// Every change up to this sequence is in what was read so far.
    pub through: u64,
    /// The store's sequence when this piece was read.
    pub sequence: u64,
    /// Acknowledgements are requested up to this sequence.
    pub requested: u64,
}

impl Changes {
    /// Is there nothing more to read?
    pub const fn is_last(&self) -> bool {
        self.through >= self.sequence
    }

    /// Has a key appeared that may sign? Its file is to be read.
    pub fn has_new_key(&self) -> bool {
        self.keys.iter().any(RecordedKey::may_sign)
    }

    /// Brings the gate's memory up to [`through`](Self::through).
    pub fn apply(self, snapshot: &mut RevocationSnapshot) {
        for (subject, cutoff) in self.cutoffs {
            snapshot.apply_cutoff(subject, cutoff);
        }
        snapshot.revoke_tokens(self.tokens);
        for key in self.keys {
            snapshot.apply_key_use(key.fingerprint, key.key_use);
        }
        // After the cutoffs: a blocked one makes its user unknown, and a disabled user's record says what it is.
        for (name, account) in self.users {
            snapshot.set_account(name, account);
        }
        snapshot.expire_below(self.time.expired_below, self.time.forgettable);
        snapshot.advance(self.through);
    }
}

/// What the store keeps of time. Each part only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredTime {
    /// How long gateways have run on this store.
    pub lived: Lived,
    /// The wall clock as far as lived time bears it out: now is never before this.
    pub floor: UnixTime,
    /// Tokens of ours below this sequence have expired, whatever their `exp` says.
    pub expired_below: u64,
    /// What was revoked before this was about such tokens only.
    pub forgettable: Lived,
}

/// How far a gateway has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The gateway's name, unique to its process.
    pub gateway: String,
    /// Every change up to this sequence is in force there.
    pub applied: u64,
    /// May it still admit anything, as far as its heartbeats tell?
    pub is_leased: bool,
}

/// What a revocation revokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationKind {
    /// One token.
    Token,
    /// Every token of a user.
    User,
    /// Every token of an organization.
    Organization,
    /// Every token with an e-mail address.
    Email,
    /// Every token.
    Everybody,
    /// Every token that a key has signed.
    Key,
}

impl RevocationKind {
    /// As the command line names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::User => "user",
            Self::Organization => "organization",
            Self::Email => "email",
            Self::Everybody => "everybody",
            Self::Key => "key",
        }
    }
}

/// Which revocations are asked for.
#[derive(Clone, Debug, Default)]
pub struct RevocationFilter {
    /// Of one kind.
    pub kind: Option<RevocationKind>,
    /// Those of this name, `kid` or TokenId, and of this user's tokens.
    pub subject: Option<Box<str>>,
    /// Those that came after all that the audit trail has from before this time.
    pub since: UnixTime,
}

/// A revocation in force, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// `token`, `user`, `organization`, `email`, `everybody` or `key`.
    pub kind: &'static str,
    /// A TokenId, a name or a `kid`.
    pub subject: String,
    /// The sequence of the transaction that set it.
    pub sequence: u64,
    /// For tokens: by when it has expired. For the others: tokens issued before this are refused.
    pub time: UnixTime,
    /// Every token is refused: a user that is disabled or removed, a key.
    pub blocked: bool,
    /// For a token: whose it was, where that is known.
    pub user: Option<String>,
    /// For a cutoff: why it was set, as the audit trail calls it.
    pub reason: Option<String>,
}

/// What a change made of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// `email` or `organization`.
    pub field: String,
    /// What it was.
    pub from: String,
    /// What it is.
    pub to: String,
}

impl FieldChange {
    /// Who checked a password, where that was not the store, and in how many milliseconds.
    pub fn checked_by(source: SourceName, millis: Option<u64>) -> Self {
        let to = millis.map_or_else(|| source.to_string(), |millis| format!("{source}, {millis} ms"));
        Self { field: "checked_by".into(), from: String::new(), to }
    }

    /// In what an identity is another than before.
    pub fn between(old: &Identity, new: &Identity) -> Vec<Self> {
        let fields = [
            ("email", &*old.email, &*new.email),
            ("organization", old.organization.as_str(), new.organization.as_str()),
        ];
        let changed = fields.into_iter().filter(|(_, from, to)| from != to);
        changed
            .map(|(field, from, to)| Self { field: field.into(), from: from.into(), to: to.into() })
            .collect()
    }
}

/// A row of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place in the trail.
    pub id: i64,
    /// The sequence of the transaction that it tells of.
    pub sequence: u64,
    /// When.
    pub at: UnixTime,
    /// Who did it: a user of the API, or the account that ran the command line.
    pub actor: String,
    /// The account that the actor said it acts for, where that is another one.
    pub claimed: Option<String>,
    /// What: `mint`, `user_add`, `login_failed`, …
    pub action: String,
    /// To whom or what.
    pub subject: String,
    /// For actions on a token: 32 hexadecimal digits.
    pub token_id: Option<String>,
    /// From where: a client's address, a block of them, or the command line.
    pub origin: String,
    /// How often; more than 1 only where events are summed.
    pub count: u32,
    /// What was changed, where that has values to be shown.
    pub changes: Vec<FieldChange>,
}

/// Which rows of the audit trail are asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Those that this user did or was said to have done, or that were done to it.
    pub user: Option<Box<str>>,
    /// Those of this time or later.
    pub since: UnixTime,
    /// Failed logins alone.
    pub failed_logins: bool,
}
