//! The gateway of one worker: asks for a decision, carries it out as far as nothing is sent, and says what became of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use http::header::{HOST, USER_AGENT};
use pingora::proxy::Session;

use super::access_log::{Exchange, access_line, millis};
use super::client::origin;
use super::clock_reading::read_clock;
use super::connection_context::{self as connection, Connection};
use super::cut::{self, Whereabouts};
use super::decide::{Decision, Facts, decide};
use super::ending::Ending;
use super::ongoing::{Ongoing, sweep};
use super::request_head::{EngineHead, RequestHead};
use super::request_state::RequestState;
use super::runtime::Runtime;
use super::trace::Trace;
use crate::auth::gate::{ClockReading, Pass};
use crate::auth::policy::Affected;
use crate::auth::reply::{Overload, Reply};
use crate::clock::Clock;
use crate::logging::{AccessLine, Sink};
use crate::metrics::{Metrics, SequenceWait};
use crate::service::token_endpoint::{Call, TokenEndpoint};
use crate::service::user_changes::UserChanges;
use crate::store::read_gap::ReadGap;
use crate::store::sequence_waits::SequenceWaits;

/// The gateway, for whoever carries its requests. Each worker has one of its own; copies are the same one.
#[derive(Clone)]
pub struct Gateway {
    /// What requests are decided by. Of this worker alone: taking it writes to no word that another core uses.
    pub runtime: Arc<ArcSwap<Runtime>>,
    /// What they have in common.
    pub shared: Shared,
    /// Requests in flight that a token admitted.
    pub(super) ongoing: Arc<Ongoing>,
}

/// What stays as it is while the process runs.
#[derive(Clone)]
pub struct Shared {
    /// The token endpoint.
    pub tokens: TokenEndpoint,
    /// Changes of users on the platform.
    pub user_changes: UserChanges,
    /// Reads the clock.
    pub clock: Clock,
    /// After a pause the first requests wait for what was revoked meanwhile.
    pub gap: Arc<ReadGap>,
    /// Requests that wait for a sequence of the store.
    pub sequence_waits: Arc<SequenceWaits>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Log lines.
    pub sink: Sink,
    /// Is each answer the last of its connection?
    pub ending: Arc<Ending>,
}

impl Gateway {
    /// Of one worker.
    pub fn new(runtime: Runtime, shared: Shared) -> Self {
        Self { runtime: Arc::new(ArcSwap::from_pointee(runtime)), shared, ongoing: Arc::default() }
    }

    /// A request whose head is complete.
    pub(super) fn begin(&self) -> RequestState {
        RequestState::new(self.runtime.load_full(), self.shared.metrics.begin())
    }

    /// Asks for the decision on a request, and carries it out as far as nothing is sent.
    pub(super) async fn decision(
        &self,
        session: &Session,
        state: &mut RequestState,
    ) -> Result<Next, Overload> {
        let request = session.req_header();
        let raw = session.as_downstream().as_http1().map(|http1| http1.get_headers_raw_bytes());
        let head = EngineHead {
            method: request.method.as_str(),
            target: request.raw_path(),
            version: request.version,
            headers: &request.headers,
            raw: raw.as_deref(),
            has_unannounced_body: state.has_unannounced_body,
        };
        // Every request comes by a connection.
        let connection = connection::of(session.digest()).ok_or(Overload::Requests)?;
        // Before it waits for the clock; an answer of our own gives it up.
        state.active = Some(connection.active_request());
        let clock = self.read_clock().await;
        let field_bytes = || head.fields().map(|(name, value)| name.len() + value.len()).sum();
        let mut decision = judge(&head, connection, head.raw.is_none().then(field_bytes), clock, state)?;
        if let Decision::Wait(sequence, _) = decision
            && self.is_applied(sequence, &state.runtime).await
        {
            // By what was applied, the token may be revoked.
            decision = decide(&head, &state.runtime, self.read_clock().await);
        }
        match decision {
            Decision::Forward(pass, facts) => {
                self.forwards(pass, facts, &head, state)?;
                Ok(Next::Forward)
            }
            Decision::Change(pass, facts, affected) => {
                self.forwards(pass, facts, &head, state)?;
                // It may end its own token, and has an end that must be known.
                state.watched = None;
                Ok(match self.begin_change(&affected, state).await {
                    Ok(()) => Next::Forward,
                    Err(reply) => Next::Answer(reply),
                })
            }
            Decision::Endpoint(call, facts) => {
                state.facts = facts;
                let call = Call { client: state.client, ..call };
                let served = self.shared.tokens.serve(call).await;
                state.facts.word = served.as_str();
                if let Some((action, outcome)) = served.counted {
                    self.shared.metrics.token_request(action, outcome);
                }
                state.user = served.user;
                state.token = served.token;
                Ok(Next::Answer(served.reply))
            }
            Decision::Wait(_, facts) => {
                self.answers(facts, state);
                Ok(Next::Answer(Reply::not_applied()))
            }
            Decision::Answer(reply, facts) => {
                self.answers(facts, state);
                Ok(Next::Answer(reply))
            }
        }
    }

    /// Notes a change of users durably, before the platform is asked for it.
    async fn begin_change(
        &self,
        affected: &BTreeSet<Affected>,
        state: &mut RequestState,
    ) -> Result<(), Reply> {
        let origin = state.client.map(|client| client.to_string()).unwrap_or_default();
        match self.shared.user_changes.begin(affected, state.permit(), &origin).await {
            Ok(change) => {
                state.change = change;
                Ok(())
            }
            Err(error) => {
                log::error!(
                    "a change of users was not sent to the platform, since it cannot be noted: {error}"
                );
                state.facts.word = "store_unavailable";
                Err(Reply::store_unavailable())
            }
        }
    }

    /// A request goes on, for which there must be room.
    pub(super) fn forwards<H: RequestHead>(
        &self,
        pass: Pass,
        facts: Facts,
        head: &H,
        state: &mut RequestState,
    ) -> Result<(), Overload> {
        state.facts = facts;
        state.take_to_forward()?;
        facts.label.into_iter().for_each(|label| self.shared.metrics.decision(label));
        if let Pass::Permit(permit) = &pass {
            let token = head.values("user-token").next().unwrap_or_default();
            let target = state.runtime.observation.is_some().then(|| head.target());
            state.watched = Some(self.ongoing.watch(permit, token, target, state.started));
            self.sweep();
        }
        state.pass = Some(pass);
        state.platform = state.runtime.platforms.of(head.target());
        Ok(())
    }

    /// Has the gate asked again about requests in flight, if it is not yet.
    fn sweep(&self) {
        if self.ongoing.wants_sweeper() {
            let (ongoing, runtime) = (Arc::clone(&self.ongoing), Arc::clone(&self.runtime));
            tokio::spawn(sweep(ongoing, runtime, self.shared.clock.clone(), Arc::clone(&self.shared.gap)));
        }
    }

    /// A request is answered here.
    pub(super) fn answers(&self, facts: Facts, state: &mut RequestState) {
        state.facts = facts;
        facts.label.into_iter().for_each(|label| self.shared.metrics.decision(label));
    }

    /// Both clocks, now. After a pause of the process this waits for what was revoked meanwhile.
    pub(super) async fn read_clock(&self) -> ClockReading {
        read_clock(&self.shared.clock, &self.shared.gap).await
    }

    /// Waits until the gate has applied that sequence; whether it has.
    async fn is_applied(&self, sequence: u64, runtime: &Runtime) -> bool {
        let Shared { sequence_waits, metrics, .. } = &self.shared;
        let outcome = sequence_waits.wait(&runtime.gate, sequence).await;
        metrics.sequence_wait(outcome);
        outcome == SequenceWait::Applied
    }

    /// What the log says of a request.
    pub(super) fn access_line(
        &self,
        session: &Session,
        state: &RequestState,
        status: u16,
        elapsed: Duration,
    ) -> AccessLine {
        let request = session.req_header();
        let exchange = Exchange {
            method: request.method.as_str(),
            target: request.raw_path(),
            version: request.version,
            // Over HTTP/2 it is a part of the target.
            host: request
                .headers
                .get(HOST)
                .map(HeaderValue::as_bytes)
                .or_else(|| request.uri.authority().map(|authority| authority.as_str().as_bytes())),
            user_agent: request.headers.get(USER_AGENT).map(HeaderValue::as_bytes),
            bytes_received: session.body_bytes_read(),
            bytes_sent: session.body_bytes_sent(),
        };
        access_line(&self.shared.sink, state, &exchange, status, elapsed)
    }

    /// Has a request that is forwarded ended, and logged then, if its token no longer holds, if its body stands still over HTTP/2 or if it
    /// takes too long.
    pub(super) fn watch(&self, session: &Session, state: &mut RequestState) {
        let duration = state.runtime.request_duration(session.req_header().raw_path());
        let watched = state.watched.take();
        if duration.is_none() && !state.has_unannounced_body && watched.is_none() {
            return;
        }
        let has_line = self.shared.sink.writes_access();
        let line = has_line.then(|| self.access_line(session, state, 0, Duration::ZERO));
        let (sink, metrics) = (self.shared.sink.clone(), Arc::clone(&self.shared.metrics));
        let (route, started) = (state.facts.route, state.started);
        let (runtime, platform) = (Arc::clone(&state.runtime), state.platform);
        cut::watch(move |reason, Whereabouts { server, tries, is_event_stream }| {
            let (status, elapsed) = (reason.status(), started.elapsed());
            reason.count(&metrics);
            if is_event_stream {
                metrics.event_stream(route, status, elapsed);
            } else {
                metrics.request(route, status, elapsed);
            }
            let Some(line) = line else { return };
            let server = server.map(|server| runtime.platforms.get(platform).name(server).to_owned());
            let (fault, duration_ms) = (Some(reason.as_str()), millis(elapsed));
            sink.access(&AccessLine { status, fault, duration_ms, server, tries, ..line });
        });
        watched.into_iter().for_each(cut::ends_with);
        if state.has_unannounced_body {
            cut::body_begins();
        }
        if let Some(duration) = duration {
            cut::end_after(duration);
        }
    }
}

/// What follows a decision.
pub(super) enum Next {
    Forward,
    Answer(Reply),
}

/// Asks for the decision on a request that came by `connection`, after what every request needs was taken for it. `field_bytes` is the
/// size of its fields, where the connection has not taken it.
pub(super) fn judge<H: RequestHead>(
    head: &H,
    connection: &Connection,
    field_bytes: Option<usize>,
    clock: ClockReading,
    state: &mut RequestState,
) -> Result<Decision, Overload> {
    read_origin(connection, head, state);
    state.take_first(field_bytes)?;
    Ok(decide(head, &state.runtime, clock))
}

/// Where the request comes from: its connection's other end, or whom a trusted proxy names.
fn read_origin<H: RequestHead>(connection: &Connection, head: &H, state: &mut RequestState) {
    // A proxy that is trusted no longer is not believed on a connection that it has either.
    if !connection.is_trusted() || !state.runtime.proxies.contains(connection.peer().ip) {
        state.client = Some(connection.peer());
        state.reserved = Some(connection.reserved());
        return;
    }
    let runtime = &state.runtime;
    let mut origin = origin(connection.peer(), head, &runtime.proxies, runtime.forwarded_fields);
    if let Some(told) = &mut origin.told {
        if let Some(id) = told.request_id.take() {
            state.request_id.give(id);
        }
        state.trace = Some(Trace::continued(head, &state.request_id));
    }
    state.client = Some(origin.client);
    state.reserved = Some(connection.reserved_for(origin.client.ip));
    state.origin = Some(Box::new(origin));
}
