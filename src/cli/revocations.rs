//! `ds-gateway revoke list`: what is revoked, the newest first.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::context::ConfigArgs;
use super::output::{Failure, print};
use crate::auth::time::UnixTime;
use crate::clock::wall;
use crate::store::block_on;
use crate::store::records::{Revocation, RevocationFilter, RevocationKind};

/// `ds-gateway revoke list`
#[derive(Args, Debug)]
pub(super) struct List {
    /// Only revocations of this kind
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// Only those of this user, organization, key or TokenId; for a user, of its single tokens too
    #[arg(long, visible_alias = "user", value_name = "NAME")]
    subject: Option<String>,
    /// Only revocations from this period, e.g. 24h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Show at most this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Token,
    User,
    Organization,
    Email,
    Everybody,
    Key,
}

impl List {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let store = self.config.open_store()?;
        let filter = RevocationFilter {
            kind: self.kind.map(Kind::of_store),
            subject: self.subject.map(Into::into),
            since: self.since.map_or(UnixTime(0), |period| wall().minus(period.as_secs())),
        };
        let (mut before, mut left) = (u64::MAX, self.limit.unwrap_or(usize::MAX));
        while left > 0 {
            let page = block_on(store.revocations(filter.clone(), before, left.min(PAGE)))?;
            let Some(last) = page.last() else { break };
            (before, left) = (last.sequence, left.saturating_sub(page.len()));
            let mut text = String::new();
            page.iter().try_for_each(|row| show(&mut text, row, self.json))?;
            print(&text)?;
        }
        Ok(())
    }
}

impl Kind {
    const fn of_store(self) -> RevocationKind {
        match self {
            Self::Token => RevocationKind::Token,
            Self::User => RevocationKind::User,
            Self::Organization => RevocationKind::Organization,
            Self::Email => RevocationKind::Email,
            Self::Everybody => RevocationKind::Everybody,
            Self::Key => RevocationKind::Key,
        }
    }
}

#[derive(Serialize)]
struct Line<'r> {
    kind: &'r str,
    subject: &'r str,
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    closed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'r str>,
}

fn show(out: &mut String, row: &Revocation, json: bool) -> Result<(), Failure> {
    let is_token = row.kind == RevocationKind::Token.as_str();
    let second = row.time.to_string();
    if json {
        let line = Line {
            kind: row.kind,
            subject: &row.subject,
            number: row.sequence,
            before: (!is_token).then(|| second.clone()),
            until: is_token.then_some(second),
            closed: row.blocked,
            user: row.user.as_deref(),
            reason: row.reason.as_deref(),
        };
        out.push_str(&serde_json::to_string(&line).map_err(Failure::cannot_start)?);
        out.push('\n');
        return Ok(());
    }
    let meaning = match (is_token, row.blocked) {
        (true, _) => format!("refused, expires by {second} UTC"),
        (false, true) => format!("every token is rejected, since {second} UTC"),
        (false, false) => format!("tokens issued before {second} UTC are rejected"),
    };
    let Revocation { kind, subject, sequence, user, reason, .. } = row;
    let user = user.as_ref().map(|user| format!("  of {user}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!("  ({reason})")).unwrap_or_default();
    writeln!(out, "{sequence:>8}  {kind:12}  {subject}{user}  {meaning}{reason}")
        .map_err(Failure::cannot_start)
}

/// Revocations that are read at once.
const PAGE: usize = 1000;
