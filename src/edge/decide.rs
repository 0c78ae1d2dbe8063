//! The whole decision about a request, top to bottom: syntax, route, token. It knows no engine, waits for nothing, and allocates
//! nothing for a request that is admitted by the cache.

use std::collections::BTreeSet;

use super::request::{Body, Refused, Validated, validate};
use super::request_head::RequestHead;
use super::runtime::Runtime;
use crate::auth::denial::Denial;
use crate::auth::endpoint::{self, InspectAuth};
use crate::auth::gate::{ClockReading, Pass, TokenField, WouldRefuse};
use crate::auth::policy::{Affected, Route, affected, split_target};
use crate::auth::reply::{Malformed, Reply};
use crate::auth::secret::Secret;
use crate::metrics::{DecisionLabel, RouteLabel};
use crate::service::token_endpoint::Call;

/// What becomes of a request. Nothing in it borrows from the head.
#[derive(Debug)]
pub enum Decision {
    /// It goes on to the platform.
    Forward(Pass, Facts),
    /// It goes on, and changes users of the platform: tokens of theirs end with it.
    Change(Pass, Facts, BTreeSet<Affected>),
    /// The token endpoint answers it.
    Endpoint(Call, Facts),
    /// It would go on, and names a sequence of the store that the gate has not applied: it waits for that, and is decided again.
    Wait(u64, Facts),
    /// It is answered at once.
    Answer(Reply, Facts),
}

/// What else the decision found, for those who carry it out, count it and log it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which way it goes.
    pub route: RouteLabel,
    /// What was decided about a request that wants to go on.
    pub label: Option<DecisionLabel>,
    /// The decision as the log names it.
    pub word: &'static str,
    /// What is wrong with it, where it is refused for its form.
    pub fault: Option<&'static str>,
    /// The body that follows the head.
    pub body: Body,
    /// Does the client wait for `100 Continue`?
    pub expects_continue: bool,
    /// Are there fields that must be dropped?
    pub has_managed: bool,
}

impl Facts {
    const fn of(route: RouteLabel, word: &'static str, validated: &Validated<'_>) -> Self {
        let Validated { body, expects_continue, has_managed, .. } = *validated;
        Self { route, label: None, word, fault: None, body, expects_continue, has_managed }
    }

    fn labelled(route: RouteLabel, label: DecisionLabel, validated: &Validated<'_>) -> Self {
        Self { label: Some(label), ..Self::of(route, label.as_str(), validated) }
    }
}

/// Decides on a request.
pub fn decide<H: RequestHead>(head: &H, runtime: &Runtime, clock: ClockReading) -> Decision {
    let validated = match validate(head, runtime.rewrite.managed(), &runtime.limits) {
        Ok(validated) => validated,
        Err(Refused { fault, body }) => {
            let reply = Reply::malformed(fault);
            let (route, word) = (RouteLabel::Refused, MALFORMED);
            let (fault, expects_continue, has_managed) = (Some(fault.as_str()), false, false);
            let facts = Facts { route, label: None, word, fault, body, expects_continue, has_managed };
            return Decision::Answer(reply, facts);
        }
    };
    // Before anybody is asked who it is: a browser sends it without the page's token.
    let (origins, methods) = (head.values("origin"), head.values("access-control-request-method"));
    if let Some(preflight) = runtime.cors.preflight(head.method(), origins, methods) {
        let facts = Facts::of(RouteLabel::Preflight, preflight.as_str(), &validated);
        return Decision::Answer(Reply::preflight(preflight, &runtime.cors), facts);
    }
    let of = (head, runtime, &validated);
    let has_body = validated.body != Body::Absent;
    let observed = runtime.observation.as_ref();
    match runtime.policy.classify(head.method(), head.target(), has_body) {
        Err(error) => {
            let fault = Some(error.as_str());
            let facts = Facts { fault, ..Facts::of(RouteLabel::Refused, MALFORMED, &validated) };
            Decision::Answer(Reply::malformed(Malformed::Target(error)), facts)
        }
        Ok(Route::Reserved(path)) => {
            let would_refuse = || Some(WouldRefuse::NotFound);
            match observed.and_then(|observed| observed.endpoint_pass(&path, clock, would_refuse)) {
                Some(pass) => forward(Pass::Observed(pass), RouteLabel::Endpoint, of),
                None => {
                    let facts = Facts::of(RouteLabel::Endpoint, "not_found", &validated);
                    Decision::Answer(Reply::not_found(), facts)
                }
            }
        }
        Ok(Route::Endpoint { path, organization }) => {
            let organization = organization.as_deref();
            let pass = observed.and_then(|observed| {
                let refusal = || refusal(head, validated.token, organization, observed.inspect_auth());
                observed.endpoint_pass(&path, clock, refusal)
            });
            match pass {
                Some(pass) => forward(Pass::Observed(pass), RouteLabel::Endpoint, of),
                None => {
                    let facts = Facts::of(RouteLabel::Endpoint, MALFORMED, &validated);
                    Decision::Endpoint(call(head, validated.token, organization), facts)
                }
            }
        }
        Ok(Route::Public(pass)) if validated.token != TokenField::Alias => {
            forward(Pass::Public(pass), RouteLabel::Public, of)
        }
        Ok(Route::Public(_) | Route::Protected) => {
            let (gate, token) = (&runtime.gate, validated.token);
            // Before the gate admits: what it admits by then is no older.
            let missing = validated.at_least.filter(|sequence| gate.sequence() < *sequence);
            // Denied once more where routes are observed: only the gate itself can say that it denies.
            let admitted = match (gate.admit(token, clock), observed) {
                (Err(_), Some(observed)) => gate.admit_or_observe(token, observed, head.target(), clock),
                (admitted, _) => admitted.map(Pass::Permit),
            };
            // On a route that is observed nobody waits: late would be a refusal.
            let is_observed = || observed.is_some_and(|observed| observed.observes(head.target(), clock));
            match (admitted, missing) {
                (Ok(_), Some(sequence)) if !is_observed() => {
                    Decision::Wait(sequence, Facts::of(RouteLabel::Protected, NOT_APPLIED, &validated))
                }
                (Ok(pass), _) => forward(pass, RouteLabel::Protected, of),
                (Err(denial), _) => {
                    let label = DecisionLabel::Denied(denial);
                    let facts = Facts::labelled(RouteLabel::Protected, label, &validated);
                    Decision::Answer(Reply::denied(denial), facts)
                }
            }
        }
    }
}

/// A request that goes on, counted as what let it through; one that is observed also as what would have become of it.
fn forward<H: RequestHead>(
    pass: Pass,
    route: RouteLabel,
    (head, runtime, validated): (&H, &Runtime, &Validated<'_>),
) -> Decision {
    let label = match &pass {
        Pass::Permit(_) => DecisionLabel::Admitted,
        Pass::Public(_) => DecisionLabel::Public,
        Pass::Observed(pass) => DecisionLabel::Observed(pass.would_refuse()),
    };
    let facts = Facts::labelled(route, label, validated);
    let affected = affected(&runtime.user_changes, head.method(), split_target(head.target()).0);
    if affected.is_empty() { Decision::Forward(pass, facts) } else { Decision::Change(pass, facts, affected) }
}

/// What the token endpoint would refuse of a request's form. Nobody is asked whether a password is right.
fn refusal<H: RequestHead>(
    head: &H,
    token: TokenField<'_>,
    organization: Option<&str>,
    inspect_auth: InspectAuth,
) -> Option<WouldRefuse> {
    if head.method() == b"DELETE" && organization.is_none() {
        return token.single().err().map(WouldRefuse::Denied);
    }
    let method = std::str::from_utf8(head.method()).unwrap_or_default();
    let authorization: Vec<&[u8]> = head.values("authorization").collect();
    let read = endpoint::read(method, split_target(head.target()).1, &authorization, inspect_auth);
    read.err().map(WouldRefuse::Endpoint)
}

/// A request for the token endpoint, with a copy of what its method needs: it is answered after a wait.
fn call<H: RequestHead>(head: &H, token: TokenField<'_>, organization: Option<&str>) -> Call {
    let secret = |bytes: &[u8]| Secret::new(bytes.to_vec());
    let method = head.method();
    let (is_mint, is_inspection, is_revocation) = (method == b"POST", method == b"GET", method == b"DELETE");
    let query = if is_inspection { split_target(head.target()).1 } else { None };
    Call {
        method: String::from_utf8_lossy(method).into(),
        query: query.map(secret),
        authorization: match is_mint || is_inspection {
            true => head.values("authorization").map(secret).collect(),
            false => Vec::new(),
        },
        token: if is_revocation { token.single().map(secret) } else { Err(Denial::TokenMissing) },
        organization: organization.map(Into::into),
        client: None,
    }
}

/// A request that is refused for its form.
pub(super) const MALFORMED: &str = "malformed";

/// A request whose sequence this gateway has not applied in time.
const NOT_APPLIED: &str = "not_applied";

#[cfg(test)]
pub(super) mod tests;
