//! `ds-gateway token list`: the tokens of a user, the newest first.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::context::{ConfigArgs, run};
use super::output::{Failure, print};
use crate::store::records::{MintedToken, TokenFilter, TokenState};

/// `ds-gateway token list`
///
/// It shows the tokens that were issued here, as the audit trail has them (`audit.keep`, `audit.max_bytes`). Tokens that the
/// platform issued are not in it. The tokens themselves are kept nowhere.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Whose tokens; the user may have been removed
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Also tokens that have expired
    #[arg(long)]
    all: bool,
    /// Show at most this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl List {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let store = self.config.open_store()?;
        let filter = TokenFilter { expired: self.all };
        let (mut before, mut left, mut is_known) = (u64::MAX, self.limit.unwrap_or(usize::MAX), false);
        while left > 0 {
            let page = run(store.tokens(&self.user, filter, before, left.min(PAGE)))?;
            let Some(last) = page.last() else { break };
            (before, left, is_known) = (last.sequence, left.saturating_sub(page.len()), true);
            let mut text = String::new();
            page.iter().try_for_each(|token| show(&mut text, token, self.json))?;
            print(&text)?;
        }
        if !is_known && run(store.user(&self.user))?.is_none() {
            return Err(Failure::no_such(format!("user {:?} not found, and no token of it", self.user)));
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Line<'t> {
    token_id: String,
    number: u64,
    minted_at: String,
    minted_by: &'t str,
    origin: &'t str,
    expires_at: Option<String>,
    state: &'static str,
    /// `token`, `user`, `organization`, `everybody` or `key`.
    revoked_by: Option<&'static str>,
}

fn show(out: &mut String, token: &MintedToken, json: bool) -> Result<(), Failure> {
    let MintedToken { id, sequence, minted_at, minted_by, origin, expires_at, state } = token;
    let (state, revoked_by) = match state {
        TokenState::Live => ("live", None),
        TokenState::Expired => ("expired", None),
        TokenState::Revoked(kind) => ("revoked", Some(kind.as_str())),
    };
    let expires_at = expires_at.map(|time| time.to_string());
    if json {
        let line = Line {
            token_id: id.to_string(),
            number: *sequence,
            minted_at: minted_at.to_string(),
            minted_by,
            origin,
            expires_at,
            state,
            revoked_by,
        };
        out.push_str(&serde_json::to_string(&line).map_err(Failure::cannot_start)?);
        out.push('\n');
        return Ok(());
    }
    let ends = expires_at.map_or_else(|| "at an unknown time".to_owned(), |time| format!("{time} UTC"));
    let by = revoked_by.map(|kind| format!(" ({kind})")).unwrap_or_default();
    writeln!(out, "{id}  minted {minted_at} UTC by {minted_by} from {origin}  ends {ends}  {state}{by}")
        .map_err(Failure::cannot_start)
}

/// Tokens that are read at once.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::time::UnixTime;
    use crate::auth::token::TokenId;

    #[test]
    fn an_end_that_is_not_known_has_no_time_zone() {
        let token = |expires_at| MintedToken {
            id: TokenId([7; 16]),
            sequence: 1,
            minted_at: UnixTime(0),
            minted_by: "anna".to_owned(),
            origin: "command line".to_owned(),
            expires_at,
            state: TokenState::Live,
        };
        for (expires_at, said) in [
            (None, "  ends at an unknown time  live\n"),
            (Some(UnixTime(60)), "  ends 1970-01-01 00:01:00 UTC  live\n"),
        ] {
            let mut text = String::new();
            show(&mut text, &token(expires_at), false).unwrap();
            assert!(text.ends_with(said), "{text:?}");
        }
    }
}
