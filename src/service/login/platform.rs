//! The platform's own users: their passwords are checked by its token endpoint, and the token that it returns says who they are.

mod answer;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use self::answer::{described_by_inspection, described_by_token, token_in};
use super::source::{Answer, Presence, Refused, Unavailable, UserSource};
use crate::auth::endpoint::Credentials;
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::secret::Secret;
use crate::config::{PlatformLogin, PlatformSays};

/// A request of the gateway's own to the platform. Target and value may hold secrets.
#[derive(Debug)]
pub struct ApiRequest {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: Secret,
    /// The value of `Authorization`.
    pub authorization: Secret,
}

/// What the platform answered.
#[derive(Debug)]
pub struct ApiAnswer {
    /// HTTP status code.
    pub status: u16,
    /// All of the body.
    pub body: Secret,
}

/// Sends requests to the platform, over connections that are verified as those of clients' requests are.
#[async_trait]
pub trait PlatformApi: Send + Sync {
    /// Sends one and waits for all of the answer, within a time of its own. It is sent once.
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, Unavailable>;
}

/// The platform's users.
pub struct PlatformUsers {
    api: Arc<dyn PlatformApi>,
    settings: PlatformLogin,
}

impl PlatformUsers {
    /// Those of the platform that `api` reaches.
    pub const fn new(api: Arc<dyn PlatformApi>, settings: PlatformLogin) -> Self {
        Self { api, settings }
    }

    async fn ask(&self, credentials: &Credentials) -> Result<Answer, Unavailable> {
        let authorization = basic(credentials);
        let request = ApiRequest {
            method: "POST",
            target: Secret::new(self.settings.path.clone().into_bytes()),
            authorization: authorization.clone(),
        };
        let answer = self.api.send(request).await?;
        match answer.status {
            status if status == self.settings.success => {}
            // An account that is locked is nobody's business but its owner's.
            401 | 403 => return Ok(Answer::Refused(Refused::Password)),
            500.. => return Err(Unavailable::Failing),
            _ => return Err(Unavailable::Invalid),
        }
        let token = token_in(&answer.body, &self.settings.member).ok_or(Unavailable::Invalid)?;
        let identity = match self.settings.says {
            PlatformSays::Claims => described_by_token(&token),
            PlatformSays::Inspection => self.inspect(&token, authorization).await?,
        };
        Ok(identity.map_or(Answer::Refused(Refused::Identity), Answer::Accepted))
    }

    /// Asks the platform what its token says.
    async fn inspect(&self, token: &Secret, authorization: Secret) -> Result<Option<Identity>, Unavailable> {
        let token = std::str::from_utf8(token.expose_secret()).map_err(|_| Unavailable::Invalid)?;
        // Reserved at once, so that no copy of the token is left where it grew.
        let mut target = String::with_capacity(self.settings.path.len() + 7 + 3 * token.len());
        target.push_str(&self.settings.path);
        target.push_str("?token=");
        target.extend(utf8_percent_encode(token, QUERY_VALUE));
        let target = Secret::new(target.into_bytes());
        let answer = self.api.send(ApiRequest { method: "GET", target, authorization }).await?;
        match answer.status {
            200 => {}
            500.. => return Err(Unavailable::Failing),
            _ => return Err(Unavailable::Invalid),
        }
        described_by_inspection(&answer.body).ok_or(Unavailable::Invalid)
    }
}

#[async_trait]
impl UserSource for PlatformUsers {
    async fn authenticate(&self, credentials: &Credentials) -> Answer {
        self.ask(credentials).await.unwrap_or_else(Answer::Unavailable)
    }

    async fn find(&self, _user: &Name) -> Option<Presence> {
        None
    }
}

/// The credentials in the scheme in which the platform reads them (RFC 7617), in UTF-8.
fn basic(credentials: &Credentials) -> Secret {
    let (name, password) = (credentials.user.as_str(), credentials.password.expose_secret());
    let mut pair = Vec::with_capacity(name.len() + 1 + password.len());
    pair.extend_from_slice(name.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(password);
    let pair = Secret::new(pair);
    let mut value = String::with_capacity(6 + pair.expose_secret().len().div_ceil(3) * 4);
    value.push_str("Basic ");
    STANDARD.encode_string(pair.expose_secret(), &mut value);
    Secret::new(value.into_bytes())
}

/// What is encoded in the value of a query parameter: all but the unreserved characters of RFC 3986 §2.3.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests;
