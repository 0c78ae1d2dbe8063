//! The token endpoint: asks the pool, the store and the gate, and lets `auth` decide what it means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::sleep;

use super::login::{AuthenticationError, Authenticator, LoginAttempt, LoginError, MAX_RETRY_AFTER};
use super::pending_revocations::{Pending, Revocation};
use crate::auth::client_address::ClientAddress;
use crate::auth::denial::Denial;
use crate::auth::endpoint::{self, Credentials, InspectAuth, Refusal, TokenRequest};
use crate::auth::gate::{Gate, Permit};
use crate::auth::identity::Identity;
use crate::auth::keys::Fingerprint;
use crate::auth::reply::Reply;
use crate::auth::secret::Secret;
use crate::auth::source::Source;
use crate::auth::token::{Minted, TokenId};
use crate::auth::token_set::{Keep, RevokedToken};
use crate::auth::user_source::SourceName;
use crate::clock::Clock;
use crate::config::Limits;
use crate::metrics::{TokenAction, TokenOutcome};
use crate::store::command::{Actor, Mint, MintOutcome};
use crate::store::records::User;
use crate::store::{Store, StoreError};

/// All that the endpoint needs.
#[derive(Clone)]
pub struct TokenEndpoint {
    /// Keys, rules and the revocation snapshot.
    pub gate: Arc<Gate>,
    /// What a reload may replace; a request has what it began with.
    pub settings: Arc<ArcSwap<EndpointSettings>>,
    /// Where mints and revocations become durable.
    pub store: Store,
    /// Revocations that the store has not taken yet.
    pub pending: Arc<Pending>,
    /// Reads the clock.
    pub clock: Clock,
}

/// What the configuration says of the endpoint.
#[derive(Clone)]
pub struct EndpointSettings {
    /// Who may log in.
    pub users: Arc<dyn Authenticator>,
    /// How many tokens each user has had of late.
    pub mints: Arc<MintLimiter>,
    /// Who may inspect.
    pub inspect_auth: InspectAuth,
    /// `limits.revocations_per_user`
    pub max_revocations: u64,
}

/// Counts mints by user: only of users that exist, so they bound it.
pub type MintLimiter = DefaultKeyedRateLimiter<Box<str>>;

/// A limiter with the configured rate and burst.
pub fn mint_limiter(limits: &Limits) -> MintLimiter {
    RateLimiter::keyed(Quota::per_second(limits.mint_rate).allow_burst(limits.mint_burst))
}

/// One request to the endpoint, with what its method needs. What may be a credential is wiped when it is dropped.
#[derive(Debug)]
pub struct Call {
    /// As sent.
    pub method: Box<str>,
    /// Without its `?`.
    pub query: Option<Secret>,
    /// Every `Authorization` field.
    pub authorization: Vec<Secret>,
    /// The token in the `user-token` field, or what is wrong with those fields.
    pub token: Result<Secret, Denial>,
    /// The organization in the path, decoded.
    pub organization: Option<Box<str>>,
    /// Where it comes from.
    pub client: Option<ClientAddress>,
}

/// The answer, and what log and metrics say of it.
pub struct Served {
    /// What the client gets.
    pub reply: Reply,
    /// What it asked for; nothing that is counted if the method is wrong.
    pub counted: Option<(TokenAction, TokenOutcome)>,
    /// Who it was, once a password or token said so and the request was served or over a limit.
    pub user: Option<Box<str>>,
    /// The token that was minted or inspected.
    pub token: Option<TokenId>,
}

impl Served {
    fn new(reply: Reply, action: TokenAction, outcome: TokenOutcome) -> Self {
        Self { reply, counted: Some((action, outcome)), user: None, token: None }
    }

    /// The outcome as the log names it.
    pub const fn as_str(&self) -> &'static str {
        match self.counted {
            Some((_, outcome)) => outcome.as_str(),
            None => Refusal::Method.as_str(),
        }
    }
}

/// A user whose password is right, the store's sequence before anybody was asked for that, and who was, for how long.
type LoggedIn = (User, u64, Option<(SourceName, u64)>);

/// Why a request was not served.
enum Failure {
    Refused(Refusal),
    Login(LoginError),
    /// The password may have been changed since it was found right.
    Revoked,
    Organization,
    Token,
    Store(StoreError),
    Stale,
    NoKey,
    SignerRevoked,
    Random,
    RateLimited(Box<str>),
    RevocationLimit(Box<str>),
}

impl From<AuthenticationError> for Failure {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Login(error) => Self::Login(error),
            AuthenticationError::Store(error) => Self::Store(error),
            AuthenticationError::Revoked => Self::Revoked,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl TokenEndpoint {
    /// Answers one request.
    pub async fn serve(&self, call: Call) -> Served {
        let action = match &*call.method {
            "POST" => TokenAction::Mint,
            "GET" => TokenAction::Inspect,
            "DELETE" if call.organization.is_none() => return self.revoke(&call).await,
            _ => {
                let reply = Reply::method_not_allowed(call.organization.is_some());
                return Served { reply, counted: None, user: None, token: None };
            }
        };
        match self.answer(&call, &self.settings.load_full()).await {
            Ok(served) => served,
            Err(failure) => fail(failure, action),
        }
    }

    /// Ends the token that the request carries. In force here before anything else; durable before the 204.
    async fn revoke(&self, call: &Call) -> Served {
        let failed =
            |denial: Denial| Served::new(Reply::denied(denial), TokenAction::Revoke, TokenOutcome::BadToken);
        let token = match &call.token {
            Ok(token) => token.expose_secret(),
            Err(denial) => return failed(*denial),
        };
        let reading = self.clock.read();
        let verified = match self.gate.identify_at(token, reading.now) {
            Ok(verified) => verified,
            Err(denial) => return failed(denial),
        };
        let revocation = Revocation {
            id: verified.id,
            expires_at: verified.expires_at,
            user: verified.identity.user.as_str().into(),
            origin: call.client.map(|client| client.to_string()).unwrap_or_default(),
        };
        let keep = Keep::Expires(verified.expires_at);
        let revoked = RevokedToken { id: verified.id, keep, lived: self.clock.lived() };
        self.gate.apply(|snapshot| snapshot.revoke_tokens([revoked]));
        // Every time, even where it is in force already: it may be so in memory only, and a 204 is a promise.
        let written = revocation.clone().write(&self.store).await;
        let (reply, outcome) = match written {
            Ok(sequence) => (Reply::revoked(sequence), TokenOutcome::Ok),
            Err(error) => {
                log::error!("a revocation is active but not durable; retrying: {error}");
                self.pending.push(revocation);
                (Reply::store_unavailable(), TokenOutcome::StoreUnavailable)
            }
        };
        Served {
            user: Some(verified.identity.user.as_str().into()),
            token: Some(verified.id),
            ..Served::new(reply, TokenAction::Revoke, outcome)
        }
    }

    async fn answer(&self, call: &Call, by: &EndpointSettings) -> Result<Served, Failure> {
        let authorization: Vec<&[u8]> = call.authorization.iter().map(Secret::expose_secret).collect();
        let query = call.query.as_ref().map(Secret::expose_secret);
        let read = endpoint::read(&call.method, query, &authorization, by.inspect_auth);
        match read.map_err(Failure::Refused)? {
            TokenRequest::Mint { credentials } => {
                let (user, minted) = self.mint(credentials, call, by).await?;
                let reply = Reply::minted(&minted.token, minted.sequence);
                Ok(Served {
                    user: Some(user.identity.user.as_str().into()),
                    token: Some(minted.id),
                    ..Served::new(reply, TokenAction::Mint, TokenOutcome::Ok)
                })
            }
            TokenRequest::Inspect { credentials, token } => {
                if let Some(credentials) = credentials {
                    log_in(credentials, call, &*by.users).await?;
                }
                let permit = self.inspect(token.as_bytes(), call)?;
                let reply = Reply::inspected(&permit);
                Ok(Served {
                    user: Some(permit.identity().user.as_str().into()),
                    token: Some(permit.id()),
                    ..Served::new(reply, TokenAction::Inspect, TokenOutcome::Ok)
                })
            }
        }
    }

    /// Mints for a user whose password fits. If the user changes in between, once more, then no.
    async fn mint(
        &self,
        credentials: Credentials,
        call: &Call,
        by: &EndpointSettings,
    ) -> Result<(User, Minted), Failure> {
        for _ in 0..2 {
            let (user, asked_at, checked_by) = match log_in(credentials.clone(), call, &*by.users).await {
                Err(Failure::Revoked) => continue,
                other => other?,
            };
            let name: Box<str> = user.identity.user.as_str().into();
            by.mints.check_key(&name).map_err(|_| Failure::RateLimited(name))?;
            if let Some(minted) =
                self.store_mint(&user, asked_at, checked_by, call.client, by.max_revocations).await?
            {
                return Ok((user, minted));
            }
        }
        Err(Failure::Login(LoginError::Refused))
    }

    async fn store_mint(
        &self,
        user: &User,
        asked_at: u64,
        checked_by: Option<(SourceName, u64)>,
        client: Option<ClientAddress>,
        max_revocations: u64,
    ) -> Result<Option<Minted>, Failure> {
        let source = client.map(|client| Source::of(client.ip));
        let client = client.map(|client| client.to_string()).unwrap_or_default();
        let actor = Actor::client(user.identity.user.as_str(), client);
        let deadline = Instant::now() + SUCCESSOR;
        loop {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|_| Failure::Random)?;
            let (keys, snapshot) = (self.gate.keys(), self.gate.snapshot());
            let signer = Arc::clone(snapshot.signer(&keys, self.clock.now()).ok_or(Failure::NoKey)?);
            let (key, rules, user) = (signer.fingerprint(), self.gate.rules(), user.clone());
            let mint = Mint { user, random, rules, signer, max_revocations, source, asked_at, checked_by };
            match self.store.execute_everywhere(mint, actor.clone()).await? {
                MintOutcome::Minted(minted, cutoffs) => {
                    self.gate.apply_cutoffs(&cutoffs);
                    return Ok(Some(minted));
                }
                MintOutcome::UserChanged => return Ok(None),
                MintOutcome::RevocationLimit => return Err(Failure::RevocationLimit(actor.name)),
                MintOutcome::SignerRevoked => self.read_of_end(key, deadline).await?,
            }
        }
    }

    /// Waits until the gate knows that a key signs no more, of which the store has just said so: another signs in its place.
    async fn read_of_end(&self, key: Fingerprint, deadline: Instant) -> Result<(), Failure> {
        while self.gate.snapshot().may_sign(key) {
            if Instant::now() >= deadline {
                return Err(Failure::SignerRevoked);
            }
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    fn inspect(&self, token: &[u8], call: &Call) -> Result<Permit, Failure> {
        let permit = self.gate.inspect(token, self.clock.read()).map_err(|denial| match denial {
            Denial::StateStale => Failure::Stale,
            _ => Failure::Token,
        })?;
        match belongs(permit.identity(), call) {
            Ok(()) => Ok(permit),
            Err(_) => Err(Failure::Token),
        }
    }
}

/// A user of the organization in the path whose password is right.
async fn log_in(
    credentials: Credentials,
    call: &Call,
    users: &dyn Authenticator,
) -> Result<LoggedIn, Failure> {
    let (client, arrived) = (call.client.map(|client| client.ip), Instant::now());
    let accepted = users.authenticate(LoginAttempt { credentials, client, arrived }).await?;
    if let Err(failure) = belongs(&accepted.verified.user.identity, call) {
        // As late as a wrong password's: nothing may tell that it was right.
        tokio::time::sleep_until(accepted.refuse_at.into()).await;
        return Err(failure);
    }
    let (asked_at, checked_by) = (accepted.asked_at, accepted.checked_by);
    Ok((users.complete(accepted).await, asked_at, checked_by))
}

/// Is the organization in the path, if there is one, this identity's?
fn belongs(identity: &Identity, call: &Call) -> Result<(), Failure> {
    match &call.organization {
        Some(name) if **name != *identity.organization.as_str() => Err(Failure::Organization),
        _ => Ok(()),
    }
}

/// How long a login waits for the key that signs in the place of one that has ended meanwhile.
const SUCCESSOR: Duration = Duration::from_secs(1);

/// How often it is looked for.
const ASK_AGAIN: Duration = Duration::from_millis(5);

fn fail(failure: Failure, action: TokenAction) -> Served {
    let mut user = None;
    let (reply, outcome) = match failure {
        Failure::Refused(Refusal::TokenParameter) => {
            (Reply::refused(Refusal::TokenParameter), TokenOutcome::BadRequest)
        }
        Failure::Refused(refusal) => (Reply::refused(refusal), TokenOutcome::BadCredentials),
        Failure::Login(LoginError::Refused) | Failure::Revoked => {
            (Reply::refused(Refusal::Credentials), TokenOutcome::BadCredentials)
        }
        // Nothing may tell a right password from a wrong one here.
        Failure::Organization => (Reply::refused(Refusal::Credentials), TokenOutcome::OrganizationMismatch),
        Failure::Token => (Reply::token_refused(), TokenOutcome::BadToken),
        Failure::Login(LoginError::Busy) => (Reply::busy(), TokenOutcome::Busy),
        Failure::Login(LoginError::Unavailable) => {
            (Reply::source_unavailable(), TokenOutcome::SourceUnavailable)
        }
        Failure::Login(LoginError::Throttled(throttled)) => {
            (Reply::throttled(throttled.seconds, MAX_RETRY_AFTER), TokenOutcome::Throttled)
        }
        Failure::Store(error) => {
            log::error!("the token endpoint cannot use the store: {error}");
            let reply = if error.needs_operator() { Reply::internal() } else { Reply::store_unavailable() };
            (reply, TokenOutcome::StoreUnavailable)
        }
        Failure::Stale => {
            log::error!("the store has not been read for longer than store.max_staleness");
            (Reply::store_unavailable(), TokenOutcome::StoreUnavailable)
        }
        Failure::SignerRevoked => {
            log::warn!("the signing key was just revoked or retired and its successor is not loaded yet");
            (Reply::store_unavailable(), TokenOutcome::StoreUnavailable)
        }
        Failure::RateLimited(name) => {
            user = Some(name);
            (Reply::too_many_tokens(), TokenOutcome::RateLimited)
        }
        Failure::RevocationLimit(name) => {
            user = Some(name);
            (Reply::too_many_revocations(), TokenOutcome::RevocationLimit)
        }
        Failure::NoKey => {
            log::error!(
                "no token can be issued: every signing key is revoked or retired and no other could be read"
            );
            (Reply::no_signing_key(), TokenOutcome::NoKey)
        }
        Failure::Random => {
            log::error!("the system provides no random bytes");
            (Reply::internal(), TokenOutcome::StoreUnavailable)
        }
    };
    Served { user, ..Served::new(reply, action, outcome) }
}
