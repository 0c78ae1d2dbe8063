//! `ds-gateway demo`: the whole thing on loopback, with a platform that shows what it received.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use http::Response;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use super::context::{LOCK_WAIT, RETRY, run};
use super::output::Failure;
use crate::app::{self, Hooks, Listening};
use crate::auth::secret::Secret;
use crate::clock::Clock;
use crate::config::{Config, Materials};
use crate::edge::listener::Bound;
use crate::logging::Sink;
use crate::service::users::{self, AddError, NewPassword, Users};
use crate::state_dir::{Creation, Services, State};
use crate::store::Opening;
use crate::store::command::Actor;

/// `ds-gateway demo`
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// The port for HTTPS on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 8443)]
    port: u16,
}

impl Demo {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let folder =
            tempfile::Builder::new().prefix("ds-gateway-demo-").tempdir().map_err(Failure::cannot_start)?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let platform = Bound::bind("platform", any).map_err(Failure::cannot_start)?;
        let (config, materials) = configuration(folder.path(), self.port, platform.address())?;
        let sink = Sink::install(config.log.clone());
        add_user(&config)?;
        let (log, place) = (sink.clone(), folder.path().to_owned());
        let explain = move |listening: &Listening| {
            // What was logged so far comes first, and not among the commands.
            log.drain();
            explain(listening, &place);
        };
        let hooks = Hooks {
            services: vec![Box::new(app::local_service(
                "platform",
                Echo,
                config.limits,
                vec![platform],
                &Arc::default(),
            )?)],
            announce: Some(Box::new(explain)),
            on_exit: Some(Box::new(move || drop(folder))),
            ..Hooks::default()
        };
        let outcome = app::run((config, materials), Opening::Run, Creation::IfNew, &sink, hooks);
        sink.drain();
        Ok(outcome?)
    }
}

fn configuration(folder: &Path, port: u16, platform: SocketAddr) -> Result<(Config, Materials), Failure> {
    let text = format!(
        r#"# The configuration of the demo.
[server]
https = ["127.0.0.1:{port}"]
state_dir = "state"

[admin]
listen = "127.0.0.1:0"

[platform]
servers = ["http://{platform}"]

[routes]
public = ["/ds-api/", "/ds-api/download/*"]

[log]
format = "text"
"#
    );
    // For the commands that are tried beside it.
    std::fs::write(folder.join(CONFIGURATION), &text).map_err(Failure::cannot_start)?;
    let (config, _) = Config::parse(&text, folder, std::iter::empty());
    config.map_err(|errors| Failure::configuration(folder, &errors))
}

fn add_user(config: &Config) -> Result<(), Failure> {
    let keys = crate::config::SigningKeys::Generated;
    let folder = &config.server.state_dir;
    let services = Services { clock: Clock::start(), metrics: Arc::default(), lock_wait: LOCK_WAIT };
    let state = State::open(folder, &config.store, keys, Opening::Run, Creation::IfNew, services)?;
    let users = Users::new(state.store, Actor::operator("demo", "demo"), RETRY);
    let identity = users::identity(USER, "my.user@example.com", "Main Org.")?;
    let password = NewPassword::parse(Secret::new(PASSWORD.into()))?;
    run(async {
        users.add(identity, password).await.map_err(|error| match error {
            AddError::Password(error) => error.into(),
            AddError::Conflict(conflict) => {
                Failure::cannot_start(format!("the demo's user cannot be added: {conflict:?}"))
            }
            AddError::Store(error) => error.into(),
        })
    })
}

fn explain(listening: &Listening, folder: &Path) {
    let Some((https, admin)) = listening.https.first().zip(listening.admin.first()) else {
        return;
    };
    let url = format!("https://{https}");
    let program = std::env::current_exe().unwrap_or_else(|_| "ds-gateway".into());
    let [program, place, config, token] =
        [program, folder.to_owned(), folder.join(CONFIGURATION), folder.join("token")]
            .map(|path| quoted(&path));
    let command = |arguments: &str| format!("{program} {arguments} --config {config}");
    let add = command("user add anna --email anna@example.com --organization 'Main Org.' --password-stdin");
    let (list_users, list_tokens) = (command("user list"), command(&format!("token list --user {USER}")));
    let (revoke, audit) = (command(&format!("revoke token --token-file {token}")), command("audit list"));
    let log_in = format!("-k -u {USER}:{PASSWORD} -X POST {url}/ds-api/user-token");
    let ask = format!("curl -i -k -H \"user-token: $(cat {token})\" {url}/ds-api/servers");
    // At once, so that no line of the log comes between; a reader that went away is no reason to stop.
    let text = format!(
        "\
ds-gateway demo: a gateway on {url}, in front of a platform that shows what it received.
Its configuration and all that it keeps are in {place}, which is removed at the end. Ctrl-C ends it.
Paste these commands into another terminal, in any shell:

Obtain a token: 201
    curl -i {log_in}

Keep one in a file
    curl -s {log_in} | cut -d '\"' -f 4 > {token}

What does it say? 200
    curl -i -k -u {USER}:{PASSWORD} \"{url}/ds-api/user-token?token=$(cat {token})\"

With it, a request reaches the platform: 200
    {ask}

Without it: 401
    curl -i -k {url}/ds-api/servers

Public in this demo: 200
    curl -i -k {url}/ds-api/

Add a user; list users, and the tokens of one
    echo annaPassword | {add}
    {list_users}
    {list_tokens}

Revoke the token, which is refused from then on: 401
    {revoke}
    {ask}

Who did what
    {audit}

What the gateway counted
    curl -i http://{admin}/metrics
\n"
    );
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A path as a word of a command, in every shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |symbol: char| symbol.is_ascii_alphanumeric() || "/._-+@".contains(symbol);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Answers every request with what it received.
struct Echo;

#[async_trait]
impl ServeHttp for Echo {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let headers: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| {
                let shown = match name.as_str() {
                    "user-token" => "…".into(),
                    _ => String::from_utf8_lossy(value.as_bytes()),
                };
                format!("{name}: {shown}")
            })
            .collect();
        let body = serde_json::json!({
            "platform": "a stand-in that shows what it received",
            "method": request.method.as_str(),
            "target": String::from_utf8_lossy(request.raw_path()),
            "headers": headers,
        });
        let body = format!("{body:#}\n").into_bytes();
        // Every part is a constant or a number.
        Response::builder()
            .header("Content-Type", "application/json")
            .header("Content-Length", body.len())
            .body(body)
            .unwrap_or_default()
    }
}

const CONFIGURATION: &str = "gateway.toml";
const USER: &str = "myUser";
const PASSWORD: &str = "myPassword";
