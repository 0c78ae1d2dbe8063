//! The real gateway: its release binary, configured, given a user and a token as an operator would.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::keys::{Algorithm, Key};
use ds_gateway::auth::name::Name;
use ds_gateway::auth::password::{HashMemory, Phc};
use ds_gateway::auth::secret::Secret;
use ds_gateway::auth::time::UnixTime;
use ds_gateway::auth::token::{TokenId, TokenRules, mint as mint_token};
use ds_gateway::clock::wall;

use crate::client::{self, Outcome, Request, Transport};
use crate::process::{self, Running};
use crate::server::{AccessLog, Server};

/// A folder with a configuration, a key and a store, and a token of the user in it.
pub struct Gateway {
    folder: PathBuf,
    pub token: String,
    /// When the token was minted, in seconds since 1970.
    minted_at: u64,
    launches: AtomicUsize,
}

/// The files of a certificate and its key.
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Whether it writes a line for every request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    Requests,
    Events,
}

impl Gateway {
    /// Creates all of it, and returns once the gateway has admitted the token.
    pub async fn prepare(folder: PathBuf, platform: SocketAddr) -> Result<Self> {
        fs::create_dir(&folder)?;
        fs::write(folder.join("gateway.toml"), configuration(platform))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join("key"))?
            .write_all(KEY.as_bytes())?;

        let mut gateway =
            Self { folder, token: String::new(), minted_at: wall().0, launches: AtomicUsize::new(0) };
        let (server, _) = gateway.launch(&[], PROGRAM, &["--init"], Logs::Events, &[]).await?;
        gateway.add_user()?;
        gateway.minted_at = wall().0;
        gateway.token = mint(server.http).await?;
        let request = Request::get(Some(&gateway.token));
        process::until("the gateway admits its own token", async || {
            client::answers(server.http, Transport::Http, &request, Outcome::Forwarded).await
        })
        .await?;
        Ok(gateway)
    }

    /// Starts the gateway on the store that `prepare` left; how long it took from spawning it until `/readyz` said 200.
    pub async fn start(&self, logs: Logs) -> Result<(Server, Duration)> {
        self.launch(&[], PROGRAM, &[], logs, &[]).await
    }

    /// The same, with more settings: environment variables and their values.
    pub async fn start_with(&self, settings: &[(&str, &str)]) -> Result<Server> {
        Ok(self.launch(&[], PROGRAM, &[], Logs::Events, settings).await?.0)
    }

    /// The same, with a command before it.
    pub async fn start_under(&self, wrapper: &[String]) -> Result<(Server, Duration)> {
        self.launch(wrapper, PROGRAM, &[], Logs::Events, &[]).await
    }

    /// The same, of another build.
    pub async fn start_other(&self, program: &str, logs: Logs) -> Result<(Server, Duration)> {
        self.launch(&[], program, &[], logs, &[]).await
    }

    /// The builds that `OTHER` names, `a name=path/to/ds-gateway,…`, all on the one store; with more settings.
    pub async fn start_others(&self, settings: &[(&str, &str)]) -> Result<Vec<(&'static str, Server)>> {
        let asked = std::env::var("OTHER").unwrap_or_default();
        let mut others = Vec::new();
        for other in asked.split(',').filter(|other| !other.is_empty()) {
            let (name, program) = other.split_once('=').context("OTHER is name=path,name=path")?;
            let (server, _) = self.launch(&[], program, &[], Logs::Events, settings).await?;
            others.push((&*format!("ds-gateway, {name}").leak(), server));
        }
        Ok(others)
    }

    /// One that has revoked so many tokens of others.
    pub async fn revoked(folder: &Path, platform: SocketAddr, count: u64) -> Result<Self> {
        eprintln!("preparing a store with {count} revocations");
        let gateway = Self::prepare(folder.join(count.to_string()), platform).await?;
        gateway.revoke(count)?;
        Ok(gateway)
    }

    /// So many tokens of different users, as the gateway would have minted them.
    pub fn tokens(&self, count: u64) -> Result<Vec<String>> {
        self.tokens_of(wall(), count)
    }

    fn tokens_of(&self, at: UnixTime, count: u64) -> Result<Vec<String>> {
        let secret = Secret::new(KEY.as_bytes().to_vec());
        let key = Key::new(KID, Algorithm::Hs256, &secret, false).map_err(anyhow::Error::msg)?;
        let organization = Name::parse("Main Org.").map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let token = |number: u64| {
            let user =
                Name::parse_user(&format!("user-{number}")).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            let email = format!("user-{number}@example.com").into();
            let identity = Identity { user, email, organization: organization.clone() };
            // Numbers that the store will not have given out by then.
            let minted = mint_token(&identity, 1_000_000 + number, [7; 16], at, &TokenRules::DEFAULT, &key);
            Ok(minted.context("a token")?.token)
        };
        (0..count).map(token).collect()
    }

    /// A token that was good two days ago.
    pub fn expired(&self) -> Result<String> {
        let then = UnixTime(wall().0 - 2 * LIFETIME);
        self.tokens_of(then, 1)?.pop().context("a token")
    }

    /// Revokes so many tokens that nobody has, all of which expire with ours: what is asked about ours is asked among
    /// all of them. Straight into the table, in the order of its key: ten million, one by one, would take an hour.
    pub fn revoke(&self, count: u64) -> Result<()> {
        let mut ids: Vec<TokenId> = (0..count).map(|number| TokenId::of(&number.to_be_bytes())).collect();
        ids.sort_unstable();
        let mut store = rusqlite::Connection::open(self.folder.join("state/gateway.db"))?;
        store.pragma_update(None, "synchronous", "OFF")?;
        for ids in ids.chunks(500_000) {
            let transaction = store.transaction()?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO revoked_tokens (token_id, keep, dated, number) \
                 VALUES (?1, ?2, 1, (SELECT number FROM sequence))",
            )?;
            for id in ids {
                insert.execute((id.0, self.minted_at + LIFETIME))?;
            }
            drop(insert);
            transaction.commit()?;
        }
        Ok(())
    }

    /// The one that it signed for itself.
    pub fn certificate(&self) -> Certificate {
        let file = |name| self.folder.join("state/tls").join(name);
        Certificate { chain: file("self-signed.crt"), key: file("self-signed.key") }
    }

    async fn launch(
        &self,
        wrapper: &[String],
        program: &str,
        options: &[&str],
        logs: Logs,
        settings: &[(&str, &str)],
    ) -> Result<(Server, Duration)> {
        let log = self.folder.join(format!("log-{}", self.launches.fetch_add(1, Relaxed)));
        fs::write(&log, "")?;
        let mut command = process::on_proxy_core_under(wrapper, program);
        command
            .arg("run")
            .arg("--config")
            .arg(self.configuration())
            .args(options)
            .env("DS_GATEWAY__LOG__ACCESS", (logs == Logs::Requests).to_string())
            .envs(settings.iter().copied())
            .stderr(OpenOptions::new().append(true).open(&log)?);
        let start = Instant::now();
        let mut process = Running::spawn(command)?;
        let ready = process::until("the gateway is ready", async || {
            let Some(admin) = listener(&log, "admin") else {
                return process.has_ended();
            };
            let answer = client::get(admin, "/readyz").await;
            answer.is_ok_and(|(status, _)| status == 200)
        })
        .await;
        let ready_after = start.elapsed();
        let http = ready
            .and_then(|()| listener(&log, "http").context("no plain listener"))
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let (https, admin) = (listener(&log, "https"), listener(&log, "admin"));
        let access_log = (logs == Logs::Requests).then_some(AccessLog { path: log, marker: ACCESS });
        if let Some(log) = &access_log {
            log.empty()?;
        }
        Ok((Server { process, http, https, admin, access_log }, ready_after))
    }

    fn add_user(&self) -> Result<()> {
        let user = ["user", "add", USER, "--email", "bench@example.com"];
        self.run(&[&user[..], &["--organization", "Main Org.", "--password-stdin"]].concat(), PASSWORD)
    }

    /// An operator's command, with what it reads.
    fn run(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .arg("--config")
            .arg(self.configuration())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        child.stdin.take().context("standard input")?.write_all(input.as_bytes())?;
        let status = child.wait()?;
        ensure!(status.success(), "{}: {status}", arguments.join(" "));
        Ok(())
    }

    /// So many more, all with the password of the first; their names.
    pub fn import_users(&self, count: usize) -> Result<Vec<String>> {
        let hash = password_hash()?;
        let names: Vec<_> = (0..count).map(|number| format!("{USER}-{number}")).collect();
        self.import(names.iter().map(|name| (name.as_str(), hash.as_str())))?;
        Ok(names)
    }

    /// Users by name and password hash.
    pub fn import<'u>(&self, users: impl Iterator<Item = (&'u str, &'u str)>) -> Result<()> {
        let line = |(name, hash): (&str, &str)| {
            let email = format!("{name}@example.com");
            let user = json!({ "name": name, "email": email, "organization": "Main Org.", "password": hash });
            format!("{user}\n")
        };
        self.run(&["user", "import", "-"], &users.map(line).collect::<String>())
    }

    /// Disables all users whose name begins so, while no gateway runs. Straight into the table: the command takes one at a
    /// time, and waits each time for gateways that have just ended.
    pub fn disable(&self, prefix: &str) -> Result<()> {
        let store = rusqlite::Connection::open(self.folder.join("state/gateway.db"))?;
        let changed = store.execute("UPDATE users SET disabled = 1 WHERE name GLOB ?1 || '*'", [prefix])?;
        ensure!(changed > 0, "there is no user {prefix}…");
        Ok(())
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }
}

/// As the gateway hashes the password of the first user today.
pub fn password_hash() -> Result<String> {
    let password = Secret::new(PASSWORD.into());
    let hash = Phc::hash(&password, [7; 16], &mut HashMemory::default()).context("a hash")?;
    Ok(hash.as_str().to_owned())
}

/// Where a listener is, as the gateway logs it (the configuration asks for port 0).
fn listener(log: &Path, name: &str) -> Option<SocketAddr> {
    let log = fs::read_to_string(log).ok()?;
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "listening" && line["listener"] == name)
        .and_then(|line| line.get("address")?.as_str()?.parse().ok())
}

/// The same token under another signature.
pub fn forged(token: &str) -> Result<String> {
    let (signed, signature) = token.rsplit_once('.').context("a token has dots")?;
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let rest = signature.get(1..).context("a signature")?;
    Ok(format!("{signed}.{other}{rest}"))
}

fn configuration(platform: SocketAddr) -> String {
    format!(
        r#"
[server]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
state_dir = "state"
threads = 1

[admin]
listen = "127.0.0.1:0"

[platform]
servers = ["http://{platform}"]

[token]
keys = [{{ kid = "{KID}", algorithm = "HS256", file = "key" }}]
"#
    )
}

/// A login.
pub async fn mint(gateway: SocketAddr) -> Result<String> {
    let (status, body) = client::exchange(gateway, &client::login(USER, PASSWORD)).await?;
    ensure!(status == 201, "minting: {status}");
    let body: Value = serde_json::from_slice(&body)?;
    let token = body.get("user-token").and_then(Value::as_str);
    Ok(token.context("no user-token in the answer")?.to_owned())
}

/// Revocations, and how a table names a gateway that has them.
pub const REVOCATIONS: [(&str, u64); 3] = [
    ("ds-gateway, 100 k revocations", 100_000),
    ("ds-gateway, 1 M revocations", 1_000_000),
    ("ds-gateway, 10 M revocations", 10_000_000),
];

/// In a line for a request, and in no other.
const ACCESS: &str = r#""message":"access""#;

const KID: &str = "bench";

/// The secret that tokens are signed with. Without a blank or a comma: some peers take it as an argument.
pub const KEY: &str = "a-key-of-the-bench-of-no-use-elsewhere-0";

/// Of a token, in seconds: the default.
const LIFETIME: u64 = 86_400;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ds-gateway");
pub const USER: &str = "bench";
pub const PASSWORD: &str = "correct horse battery staple";
