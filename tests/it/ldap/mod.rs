//! Users of a directory. This source is asked by itself, through the library; a real slapd answers, which the test starts on free ports
//! with people, groups and certificates of its own. What no slapd would answer comes from a server that says what a test wants.

mod accounts;
mod bounds;
mod certificates;
mod direct;
mod fake;
mod faults;
mod groups;
mod hostile;
mod injection;
mod logins;
pub mod people;
mod secrets;
pub mod slapd;
mod tls;
pub mod users;
