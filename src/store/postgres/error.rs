//! What an error of PostgreSQL means, by its SQLSTATE.
//!
//! Messages of the server may hold values. Its `DETAIL` is never shown, and its primary message only where that names objects and
//! conditions alone.

use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use super::tls::TlsFault;
use crate::store::error::StoreError;

/// As whom the gateway works in which database, for what is said to the operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account<'a> {
    /// The role.
    pub(super) user: &'a str,
    /// The database.
    pub(super) database: &'a str,
}

/// What an error means: one of the variants of [`StoreError`], and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explained {
    cause: Cause,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Unavailable,
    Refused,
    NoTls,
    ReadOnly,
    Conflict,
    DiskFull,
    DiskFailed,
    Damaged,
    Locked,
    TimedOut,
    Failed,
}

impl Explained {
    /// What an error means to an account.
    pub(super) fn new(error: &Error, account: Account<'_>) -> Self {
        match error.as_db_error() {
            Some(error) => {
                let (code, message) = (error.code().code(), error.message());
                Self::of_server(code, message, &object(error), account)
            }
            None => Self::of_connection(error),
        }
    }

    /// The server cannot be used now.
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self { cause: Cause::Unavailable, text: text.into() }
    }

    /// TLS could not even be begun.
    pub(super) fn no_tls(text: impl Into<String>) -> Self {
        Self { cause: Cause::NoTls, text: text.into() }
    }

    /// The server is there and does not take writes, or takes them and should not.
    pub(super) fn wrong_role(text: impl Into<String>) -> Self {
        Self { cause: Cause::Unavailable, text: text.into() }
    }

    /// The same, said of a host.
    #[must_use]
    pub(super) fn at(self, host: &impl std::fmt::Display) -> Self {
        Self { text: format!("{host}: {}", self.text), ..self }
    }

    /// One for several hosts, each of which failed. If one of them may do a little later, so may all.
    pub(super) fn of_all(failures: Vec<Self>) -> Self {
        let is_transient = |failure: &Self| StoreError::from(failure.clone()).is_transient();
        let cause = match failures.iter().find(|failure| is_transient(failure)).or(failures.last()) {
            Some(failure) => failure.cause,
            None => Cause::Unavailable,
        };
        let texts: Vec<String> = failures.into_iter().map(|failure| failure.text).collect();
        Self { cause, text: texts.join("; ") }
    }

    fn of_server(code: &str, message: &str, object: &str, account: Account<'_>) -> Self {
        let Account { user, database } = account;
        let class = code.get(..2).unwrap_or_default();
        let said = format!("{message} ({code})");
        let unsaid = format!("SQLSTATE {code}{object}");
        let (cause, text) = match (code, class) {
            ("42501", _) => (
                Cause::Refused,
                format!(
                    "{said}: as an owner run `GRANT ALL ON ALL TABLES IN SCHEMA public TO \"{user}\"; GRANT ALL ON ALL SEQUENCES \
                     IN SCHEMA public TO \"{user}\"; GRANT USAGE, CREATE ON SCHEMA public TO \"{user}\"` in the database {database:?}, \
                     or make {user:?} the owner of the database"
                ),
            ),
            ("28P01", _) => (
                Cause::Refused,
                format!(
                    "{said}: correct the password of {user:?} for the database {database:?} in store.password_file, PGPASSWORD or .pgpass"
                ),
            ),
            (_, "28") => (
                Cause::Refused,
                format!(
                    "{said}: let {user:?} into the database {database:?} in the server's pg_hba.conf, by `CREATE ROLE \"{user}\" LOGIN`, \
                         or with its certificate or password"
                ),
            ),
            ("3D000", _) => (
                Cause::Refused,
                format!(
                    "{said}: run `CREATE DATABASE \"{database}\" OWNER \"{user}\"`, or correct store.url"
                ),
            ),
            ("25006", _) => (Cause::ReadOnly, said),
            ("25P03" | "25P04", _) => (Cause::Unavailable, said),
            ("40001" | "40P01" | "40003" | "40000", _) => (Cause::Conflict, unsaid),
            ("53100", _) => (Cause::DiskFull, said),
            (_, "53" | "08") => (Cause::Unavailable, said),
            ("55P03", _) => (Cause::Locked, said),
            ("57014", _) => (Cause::TimedOut, said),
            ("57P04", _) => (Cause::Refused, said),
            (_, "57") => (Cause::Unavailable, said),
            ("58030", _) => (Cause::DiskFailed, said),
            ("XX001" | "XX002", _) => (Cause::Damaged, said),
            // They name objects: "relation "users" does not exist".
            ("42P01" | "42703" | "42883" | "42704" | "3F000", _) => (Cause::Failed, said),
            _ => (Cause::Failed, unsaid),
        };
        Self { cause, text }
    }

    fn of_connection(error: &Error) -> Self {
        use std::error::Error as _;
        let kind = error.to_string();
        let source = error.source();
        if let Some(fault) = source.and_then(|source| source.downcast_ref::<TlsFault>()) {
            return Self::no_tls(fault.to_string());
        }
        if let Some(error) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
            let is_nonsense =
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
            let cause = if is_nonsense { Cause::Failed } else { Cause::Unavailable };
            return Self { cause, text: format!("{kind}: {error}") };
        }
        // Sources of the kinds below are sentences of the driver; those of others may quote values.
        let said = || source.map_or_else(|| kind.clone(), |source| format!("{kind}: {source}"));
        match kind.as_str() {
            "error performing TLS handshake" => Self::no_tls(said()),
            "authentication error" | "invalid configuration" => Self { cause: Cause::Refused, text: said() },
            _ if error.is_closed() => Self::unavailable(kind),
            "timeout waiting for server" => Self::unavailable(kind),
            _ => Self { cause: Cause::Failed, text: kind },
        }
    }
}

/// Table and constraint that an error is about.
fn object(error: &DbError) -> String {
    let name =
        |what: &str, name: Option<&str>| name.map(|name| format!(", {what} {name}")).unwrap_or_default();
    name("table", error.table()) + &name("constraint", error.constraint())
}

impl From<Explained> for StoreError {
    fn from(Explained { cause, text }: Explained) -> Self {
        match cause {
            Cause::Unavailable => Self::Unavailable(text),
            Cause::Refused => Self::Refused(text),
            Cause::NoTls => Self::NoTls(text),
            Cause::ReadOnly => Self::ReadOnly(text),
            Cause::Conflict => Self::Conflict(text),
            Cause::DiskFull => Self::DiskFull(text),
            Cause::DiskFailed => Self::DiskFailed(text),
            Cause::Damaged => Self::Damaged(text),
            Cause::Locked => Self::Locked,
            Cause::TimedOut => Self::TimedOut,
            Cause::Failed => Self::Failed(text),
        }
    }
}

impl Account<'_> {
    /// What an error means.
    pub(super) fn explain(self, error: &Error) -> StoreError {
        Explained::new(error, self).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account<'_> = Account { user: "gateway", database: "ds" };

    #[test]
    fn each_sqlstate_says_whether_to_wait_or_to_call_the_operator() {
        for (code, is_transient, needs_operator) in [
            ("08006", true, false),
            ("23505", false, false),
            ("25006", true, false),
            ("25P03", true, false),
            ("28000", false, true),
            ("28P01", false, true),
            ("3D000", false, true),
            ("40001", true, false),
            ("40P01", true, false),
            ("42501", false, true),
            ("42P01", false, false),
            ("53100", false, false),
            ("53200", true, false),
            ("53300", true, false),
            ("55P03", true, false),
            ("57014", true, false),
            ("57P01", true, false),
            ("57P02", true, false),
            ("57P03", true, false),
            ("57P04", false, true),
            ("58030", false, false),
            ("XX000", false, false),
            ("XX001", false, true),
        ] {
            let error = StoreError::from(Explained::of_server(code, "m", "", ACCOUNT));
            assert_eq!(
                (error.is_transient(), error.needs_operator()),
                (is_transient, needs_operator),
                "{code} {error}"
            );
        }
    }

    #[test]
    fn a_refusal_names_user_and_database_and_what_to_grant() {
        let text =
            |code| StoreError::from(Explained::of_server(code, "permission denied", "", ACCOUNT)).to_string();
        for code in ["28000", "28P01", "3D000", "42501"] {
            let text = text(code);
            assert!(text.contains("gateway") && text.contains("ds"), "{text}");
        }
        assert!(text("42501").contains("GRANT ALL ON ALL TABLES"), "{}", text("42501"));
    }

    #[test]
    fn a_message_that_may_hold_values_is_not_shown() {
        for code in ["22P02", "23505", "23514", "40001", "42601", "P0001", "XX000"] {
            let error =
                StoreError::from(Explained::of_server(code, "value \"ann\"", ", table users", ACCOUNT));
            assert!(!error.to_string().contains("ann"), "{error}");
            assert!(error.to_string().contains(code), "{error}");
        }
    }

    #[test]
    fn hosts_that_fail_together_may_do_later_if_one_may() {
        let refused = Explained::of_server("28P01", "no", "", ACCOUNT).at(&"a:1");
        let down = Explained::unavailable("down").at(&"b:2");
        for order in [vec![refused.clone(), down.clone()], vec![down, refused.clone()]] {
            let error = StoreError::from(Explained::of_all(order));
            assert!(matches!(&error, StoreError::Unavailable(_)), "{error}");
            assert!(error.to_string().contains("a:1") && error.to_string().contains("b:2"), "{error}");
        }
        assert!(matches!(StoreError::from(Explained::of_all(vec![refused])), StoreError::Refused(_)));
    }
}
