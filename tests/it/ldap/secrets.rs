//! No password is in what a log, a crash or a debugger's print would show.

use super::fake::{Fake, Reply};
use super::people::PASSWORD;
use super::slapd::Slapd;
use super::users::{Keys, SERVICE_PASSWORD, accepted, credentials};
use ds_gateway::service::login::source::Answer;
use std::sync::Mutex;

/// Keeps all that this process logs.
struct Log(Mutex<String>);

static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut line = format!("{} {}", record.target(), record.args());
        drop(record.key_values().visit(&mut Members(&mut line)));
        line.push('\n');
        self.0.lock().expect("a log").push_str(&line);
    }

    fn flush(&self) {}
}

/// Writes the members of a line.
struct Members<'l>(&'l mut String);

impl<'kvs> log::kv::VisitSource<'kvs> for Members<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}

#[test]
fn no_password_is_in_the_log_or_in_debug_output() {
    // Another test of this process may have a log already.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    let mut slapd = Slapd::start();
    let wrong = "wrong-canary-password";
    let keys = Keys::search(&[&slapd.ldap()]);
    let users = keys.users(slapd.folder());
    let direct = Keys::direct(&[&slapd.ldap()]).users(slapd.folder());
    let mut shown = String::new();
    for name in ["anna", "nobody", "twin", "disabled", "no.mail", "locked.for.good"] {
        for password in [PASSWORD, wrong] {
            for users in [&users, &direct] {
                shown += &format!("{:?} {:?}", users.login(name, password), users.find(name));
            }
        }
    }
    accepted(users.login("anna", PASSWORD));
    slapd.stop();
    assert!(matches!(users.login("anna", PASSWORD), Answer::Unavailable(_)));
    for bytes in [PASSWORD, wrong, "HTTP/1.1 400"] {
        let fake = Fake::start(move |_| Reply::Bytes(bytes.as_bytes().to_vec()));
        let users = Keys::search(&[&fake.url()]).users(slapd.folder());
        assert!(matches!(users.login("anna", PASSWORD), Answer::Unavailable(_)));
    }
    let (config, materials) = keys.load(slapd.folder());
    shown += &format!("{config:?} {materials:?} {:?} {:?}", users.source, credentials("anna", PASSWORD));
    let log = LOG.0.lock().expect("a log").clone();
    assert!(
        log.contains("directory refuses a login reason=wrong password")
            && log.contains("is left out server="),
        "{log}"
    );
    for secret in [PASSWORD, wrong, SERVICE_PASSWORD] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
