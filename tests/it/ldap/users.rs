//! The source that is tested, from the text of a configuration.

use ds_gateway::auth::endpoint::Credentials;
use ds_gateway::auth::name::Name;
use ds_gateway::auth::secret::Secret;
use ds_gateway::clock::Clock;
use ds_gateway::config::{Config, Materials};
use ds_gateway::service::login::ldap::LdapUsers;
use ds_gateway::service::login::source::{Answer, Presence, UserSource};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The password of the gateway's own account.
pub const SERVICE_PASSWORD: &str = "service-canary-password";

/// The keys of `[users.ldap]`.
#[derive(Clone)]
pub struct Keys(Vec<(String, String)>);

impl Keys {
    /// A search at these servers.
    pub fn search(servers: &[&str]) -> Self {
        Self(Vec::new())
            .set("preset", "\"openldap\"")
            .set("servers", format!("{servers:?}"))
            .set("bind_dn", "\"cn=gateway,ou=services,dc=example,dc=com\"")
            .set("bind_password_file", "\"password\"")
            .set("base", "\"ou=people,dc=example,dc=com\"")
            .set("organization", "\"Main Org.\"")
    }

    /// Direct binds at these servers.
    pub fn direct(servers: &[&str]) -> Self {
        let keys = Self::search(servers).unset("bind_dn").unset("bind_password_file").unset("base");
        keys.set("user_dn", "\"uid={user},ou=people,dc=example,dc=com\"")
    }

    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.retain(|(other, _)| other != key);
        self.0.push((key.to_owned(), value.into()));
        self
    }

    pub fn unset(mut self, key: &str) -> Self {
        self.0.retain(|(other, _)| other != key);
        self
    }

    /// What is in the files that the keys name, too.
    pub fn load(&self, folder: &Path) -> (Config, Materials) {
        let mut text = String::from(
            "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[platform]\nservers = [\"http://127.0.0.1:9\"]\n[users]\nsources = [\"store\", \"ldap\"]\n[users.ldap]\n",
        );
        for (key, value) in &self.0 {
            writeln!(text, "{key} = {value}").expect("a line");
        }
        let file = folder.join("password");
        if !file.exists() {
            std::fs::write(&file, SERVICE_PASSWORD).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let (loaded, _) = Config::parse(&text, folder, std::iter::empty());
        loaded.unwrap_or_else(|errors| panic!("{text}\n{errors:?}"))
    }

    /// The source.
    pub fn users(&self, folder: &Path) -> Users {
        let (config, materials) = self.load(folder);
        let settings = config.ldap.expect("a directory");
        let source = LdapUsers::new(settings, &materials.ldap, Clock::observer()).expect("certificates");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Users { source: Arc::new(source), runtime }
    }
}

/// The source, and what it runs on.
pub struct Users {
    pub source: Arc<LdapUsers>,
    pub runtime: Runtime,
}

impl Users {
    pub fn login(&self, user: &str, password: &str) -> Answer {
        self.runtime.block_on(self.source.authenticate(&credentials(user, password)))
    }

    /// Begins a login that is carried on while the runtime is used.
    pub fn begin(&self, user: &str, password: &str) -> JoinHandle<Answer> {
        let (source, credentials) = (self.source.clone(), credentials(user, password));
        self.runtime.spawn(async move { source.authenticate(&credentials).await })
    }

    pub fn end(&self, login: JoinHandle<Answer>) -> Answer {
        self.runtime.block_on(login).expect("an answer")
    }

    pub fn find(&self, user: &str) -> Option<Presence> {
        self.runtime.block_on(self.source.find(&Name::parse_user(user).expect("a name")))
    }
}

pub fn credentials(user: &str, password: &str) -> Credentials {
    let password = Secret::new(password.as_bytes().to_vec());
    Credentials { user: Name::parse_user(user).expect("a name"), password, variants: Vec::new() }
}

/// User, e-mail address and organization of somebody who was let in.
pub fn accepted(answer: Answer) -> (String, String, String) {
    match answer {
        Answer::Accepted(identity) => (
            identity.user.as_str().to_owned(),
            identity.email.to_string(),
            identity.organization.as_str().to_owned(),
        ),
        other => panic!("not accepted: {other:?}"),
    }
}
