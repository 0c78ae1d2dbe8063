//! What the caller sets.

use std::fmt::Display;
use std::str::FromStr;

/// What an environment variable says, or what it would say.
pub fn variable<T: FromStr>(name: &str, otherwise: T) -> T
where
    T::Err: Display,
{
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => otherwise,
    }
}
