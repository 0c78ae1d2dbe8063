//! `ds-gateway user list` and `user show`: users, their last login, and how many tokens they could use.

use clap::Args;
use serde::Serialize;

use super::context::{ConfigArgs, run};
use super::output::{Failure, print, say};
use crate::auth::user_source::SourceName;
use crate::service::users::Users;
use crate::store::records::{ListedUser, UserFilter};

/// `ds-gateway user list`
#[derive(Args, Debug)]
pub(super) struct List {
    /// Only users of this organization
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Only users that are disabled
    #[arg(long, conflicts_with = "enabled")]
    disabled: bool,
    /// Only users that are enabled
    #[arg(long)]
    enabled: bool,
    /// Only users with this text in their name or e-mail address
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only users whose passwords are checked there: store, ldap or platform
    #[arg(long, value_name = "SOURCE", value_parser = parse_source)]
    source: Option<SourceName>,
    /// Only users of whose password another source has said that it is right and whose hash is kept (users.platform.remember)
    #[arg(long)]
    remembered: bool,
    /// Begin after this name: the last one of the page before
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    after: String,
    /// Show at most this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// As a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl List {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let users = self.config.open_users()?;
        if self.json { self.print_json(&users) } else { self.print_table(&users) }
    }

    /// Every user that is asked for, a page at a time: nothing is locked, and no more is held, while a page is printed.
    fn pages(
        &self,
        users: &Users,
        mut print: impl FnMut(Vec<Row>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let filter = UserFilter {
            organization: self.organization.as_deref().map(Into::into),
            disabled: (self.disabled || self.enabled).then_some(self.disabled),
            text: self.search.as_deref().map(Into::into),
            source: self.source,
            remembered: self.remembered,
        };
        let (mut after, mut left) = (self.after.clone(), self.limit.unwrap_or(usize::MAX));
        while left > 0 {
            let page = run(users.page(filter.clone(), &after, left))?;
            let Some(last) = page.last() else { break };
            (after, left) = (last.user.identity.user.to_string(), left.saturating_sub(page.len()));
            print(page.into_iter().map(Row::from).collect())?;
        }
        Ok(())
    }

    /// As one array.
    fn print_json(&self, users: &Users) -> Result<(), Failure> {
        let mut is_first = true;
        self.pages(users, |rows| {
            let mut text = String::new();
            for row in rows {
                text.push_str(if std::mem::take(&mut is_first) { "[" } else { "," });
                let object = serde_json::to_string_pretty(&row).map_err(Failure::cannot_start)?;
                object.lines().for_each(|line| text.extend(["\n  ", line]));
            }
            print(&text)
        })?;
        say(if is_first { "[]" } else { "\n]" })
    }

    /// As a table. The columns are as wide as the first page needs; a longer cell further down moves its own line only.
    fn print_table(&self, users: &Users) -> Result<(), Failure> {
        let mut widths = None;
        self.pages(users, |rows| {
            let cells: Vec<[String; COLUMNS]> = rows.iter().map(Row::cells).collect();
            let mut text = String::new();
            let widths = *widths.get_or_insert_with(|| {
                let widths = widths_of(&cells);
                text.push_str(&line(widths, &HEAD.map(str::to_owned)));
                widths
            });
            cells.iter().for_each(|cells| text.push_str(&line(widths, cells)));
            print(&text)
        })?;
        if widths.is_none() { print(&line(widths_of(&[]), &HEAD.map(str::to_owned))) } else { Ok(()) }
    }
}

/// Prints one user.
pub(super) fn show(user: ListedUser, json: bool) -> Result<(), Failure> {
    let row = Row::from(user);
    if json {
        return say(serde_json::to_string_pretty(&row).map_err(Failure::cannot_start)?);
    }
    say(format_args!("name          {}", row.name))?;
    say(format_args!("email         {}", row.email))?;
    say(format_args!("organization  {}", row.organization))?;
    say(format_args!("source        {}", row.source))?;
    say(format_args!("state         {}", row.state()))?;
    say(format_args!("created       {} UTC", row.created_at))?;
    say(format_args!("changed       {} UTC", row.updated_at))?;
    match &row.last_login {
        Some(time) => say(format_args!("last login    {time} UTC"))?,
        None => say("last login    none in the audit trail")?,
    }
    if let Some(time) = &row.remembered_at {
        say(format_args!("remembered    {time} UTC"))?;
    }
    say(format_args!("live tokens   {}", row.live_tokens))
}

/// A user as shown.
#[derive(Serialize)]
struct Row {
    name: String,
    email: String,
    organization: String,
    source: &'static str,
    disabled: bool,
    credential_version: u64,
    created_at: String,
    updated_at: String,
    /// Absent where the audit trail has none.
    last_login: Option<String>,
    live_tokens: u64,
    /// Absent where no hash is kept of what another source found right.
    #[serde(skip_serializing_if = "Option::is_none")]
    remembered_at: Option<String>,
}

impl Row {
    fn state(&self) -> &'static str {
        if self.disabled { "disabled" } else { "enabled" }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let login = self.last_login.clone().unwrap_or_else(|| "-".into());
        let [name, organization, email] = [&self.name, &self.organization, &self.email].map(Clone::clone);
        let (source, state) = (self.source.to_owned(), self.state().to_owned());
        [name, organization, email, source, state, login, self.live_tokens.to_string()]
    }
}

impl From<ListedUser> for Row {
    fn from(ListedUser { user, last_login, live_tokens, remembered_at }: ListedUser) -> Self {
        Self {
            name: user.identity.user.to_string(),
            email: user.identity.email.into(),
            organization: user.identity.organization.to_string(),
            source: user.source.as_str(),
            disabled: user.disabled,
            credential_version: user.credential_version,
            created_at: user.created_at.to_string(),
            updated_at: user.updated_at.to_string(),
            last_login: last_login.map(|time| time.to_string()),
            live_tokens,
            remembered_at: remembered_at.map(|time| time.to_string()),
        }
    }
}

fn parse_source(name: &str) -> Result<SourceName, String> {
    SourceName::parse(name).ok_or_else(|| "expected store, ldap or platform".to_owned())
}

const COLUMNS: usize = 7;

/// The columns of the table; times are UTC.
const HEAD: [&str; COLUMNS] =
    ["NAME", "ORGANIZATION", "EMAIL", "SOURCE", "STATE", "LAST LOGIN", "LIVE TOKENS"];

fn widths_of(rows: &[[String; COLUMNS]]) -> [usize; COLUMNS] {
    let width = |cell: &str| cell.chars().count();
    rows.iter().fold(HEAD.map(width), |mut widths, cells| {
        for (widest, cell) in widths.iter_mut().zip(cells) {
            *widest = (*widest).max(width(cell));
        }
        widths
    })
}

fn line(widths: [usize; COLUMNS], cells: &[String; COLUMNS]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    format!("{}\n", padded.join("  ").trim_end())
}
