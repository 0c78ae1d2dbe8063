//! What a gateway is started with.

use crate::command::{Folder, eventually, private};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::platform::Platform;
use std::collections::BTreeMap;
use std::env::VarError;
use std::fmt::Write as _;
use std::fs;
use tempfile::TempDir;

/// A user to add with the command line.
#[derive(Clone)]
pub struct User {
    pub name: String,
    pub password: String,
    pub email: String,
    pub organization: String,
}

impl User {
    pub fn new(name: &str, password: &str, email: &str, organization: &str) -> Self {
        let [name, password, email, organization] = [name, password, email, organization].map(str::to_owned);
        Self { name, password, email, organization }
    }
}

/// A signing key that the test knows.
#[derive(Clone)]
pub struct Key {
    pub kid: String,
    pub secret: Vec<u8>,
    pub foreign: bool,
}

impl Key {
    pub fn ours(kid: &str) -> Self {
        let secret = format!("a secret of the tests, long enough: {kid}").into_bytes();
        Self { kid: kid.to_owned(), secret, foreign: false }
    }

    pub fn foreign(kid: &str) -> Self {
        Self { foreign: true, ..Self::ours(kid) }
    }
}

/// Does the suite run with the fast lane, as gateways do by default? With `FAST_LANE=false` every gateway is started without it, but for
/// those of tests that set it themselves. `make test` does both; a test that is about the lane alone asks here, and says that it is skipped.
pub fn has_fast_lane() -> bool {
    match std::env::var("FAST_LANE").as_deref() {
        Ok("false") => false,
        Ok("true") | Err(VarError::NotPresent) => true,
        other => panic!("FAST_LANE is true or false, not {other:?}"),
    }
}

/// What a gateway is started with: by default one plain listener, no key, and the user of the published example.
#[derive(Clone)]
pub struct Options {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    users: Vec<User>,
    keys: Vec<Key>,
}

impl Options {
    pub fn new(platform: &Platform) -> Self {
        Self::servers(&[platform.url().as_str()])
    }

    pub fn servers(urls: &[&str]) -> Self {
        let users = vec![User::new(USER, PASSWORD, EMAIL, ORGANIZATION)];
        let options = Self { sections: BTreeMap::new(), users, keys: Vec::new() };
        let options = if has_fast_lane() { options } else { options.set("server", "fast_lane", "false") };
        options
            .set("server", "http", "[\"127.0.0.1:0\"]")
            .set("server", "state_dir", "\"state\"")
            .set("server", "threads", "2")
            .set("admin", "listen", "\"127.0.0.1:0\"")
            .set("platform", "servers", format!("{urls:?}"))
    }

    /// Sets a key of the configuration to a TOML value.
    pub fn set(mut self, section: &str, key: &str, value: impl ToString) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_string());
        self
    }

    pub fn unset(mut self, section: &str, key: &str) -> Self {
        self.sections.get_mut(section).and_then(|keys| keys.remove(key)).expect("a key to take away");
        self
    }

    pub fn https(self) -> Self {
        self.set("server", "https", "[\"127.0.0.1:0\"]")
    }

    pub fn public(self, entries: &str) -> Self {
        self.set("routes", "public", entries)
    }

    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    pub fn nobody(mut self) -> Self {
        self.users.clear();
        self
    }

    pub fn key(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// Writes the configuration and its key files, and starts nothing.
    pub fn folder(self) -> Folder {
        let folder = Folder { dir: TempDir::new().expect("a temporary folder") };
        self.write(&folder);
        folder
    }

    /// The same, in a folder that is there: what its gateway has after a reload.
    pub fn write(mut self, folder: &Folder) {
        let dir = &folder.dir;
        let mut rows = Vec::new();
        for key in &self.keys {
            let file = format!("{}.key", key.kid);
            private(&dir.path().join(&file), &key.secret);
            rows.push(format!(
                "{{ kid = {:?}, algorithm = \"HS256\", file = {file:?}, foreign = {} }}",
                key.kid, key.foreign
            ));
        }
        if !rows.is_empty() {
            self = self.set("token", "keys", format!("[{}]", rows.join(", ")));
        }
        fs::write(folder.config(), self.text()).expect("a configuration");
    }

    /// The configuration, without its keys.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (section, keys) in &self.sections {
            writeln!(text, "[{section}]").expect("a string");
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").expect("a string");
            }
        }
        text
    }

    /// Starts the gateway with its users, and waits until it is ready and knows them.
    pub fn start(self) -> Gateway {
        let (users, keyed) = (self.users.clone(), !self.keys.is_empty());
        let folder = self.folder();
        // Without keys of its own the command line may create the store; with them only `run --init` may.
        if !keyed {
            users.iter().for_each(|user| folder.add(user));
            return folder.run(&[]);
        }
        let gateway = folder.run(&["--init"]);
        for user in &users {
            gateway.folder.add(user);
            eventually("a user added while running", || gateway.login(&user.name, &user.password));
        }
        gateway
    }
}
