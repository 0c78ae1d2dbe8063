//! A gateway that shares its key with the tests, and the table of refusals that they hold it against.

use crate::client::request;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, USER};
use crate::jwt::{self, Members, now, token};
use crate::options::{Key, Options};
use crate::platform::Platform;
use std::fmt::Display;

/// A gateway whose key the test has, and what is needed to make tokens of its own with it.
pub struct Deployment {
    pub platform: Platform,
    pub gateway: Gateway,
    pub secret: Vec<u8>,
    /// The number of a mint, so that no cutoff stands above the tokens made here.
    pub number: u64,
}

impl Deployment {
    pub fn open() -> Self {
        let platform = Platform::echo();
        let key = Key::ours("k1");
        let gateway = Options::new(&platform).key(key.clone()).start();
        let (_, claims) = jwt::read(&gateway.mint());
        let number = claims["jti"].as_str().expect("a jti").split('.').next().expect("<n>");
        Self { platform, secret: key.secret, number: number.parse().expect("a number"), gateway }
    }

    pub fn claims(&self) -> Members {
        let now = now();
        let jti = format!("{}.{}", self.number, "AbCdEfGhIjKlMnOpQrStUw");
        let times = Members::new().and("exp", now + 3_600).and("iat", now);
        times.text("database", ORGANIZATION).text("email", EMAIL).text("user", USER).text("jti", &jti)
    }

    pub fn token(&self, header: &Members, claims: &Members) -> String {
        token(&self.secret, header.json(), claims.json())
    }

    pub fn good(&self) -> String {
        self.token(&header(), &self.claims())
    }

    pub fn with_header(&self, header: impl AsRef<[u8]>) -> String {
        token(&self.secret, header, self.claims().json())
    }

    pub fn with_claims(&self, claims: impl AsRef<[u8]>) -> String {
        token(&self.secret, header().json(), claims)
    }

    pub fn with(&self, claim: &str, json: impl Display) -> String {
        self.token(&header(), &self.claims().with(claim, json))
    }
}

pub fn header() -> Members {
    Members::header("HS256", "k1")
}

/// The rows of a table: what it is, and the lines of the request that say it.
#[derive(Default)]
pub struct Rows(Vec<(String, Vec<u8>)>);

impl Rows {
    pub fn token(&mut self, name: impl Display, token: impl AsRef<str>) {
        self.lines(name, format!("user-token: {}\r\n", token.as_ref()));
    }

    pub fn lines(&mut self, name: impl Display, lines: impl Into<Vec<u8>>) {
        self.0.push((name.to_string(), lines.into()));
    }
}

/// Sends every row, then a good request on the same connection, and holds both against the contract.
pub fn all_are_refused(deployment: &Deployment, rows: &Rows) {
    let good = deployment.good();
    let second = request("GET", "/ds-api/second", &[("user-token", &good)]);
    let mut client = deployment.gateway.client();
    assert_eq!(client.exchange(&second).status, 200, "the token that the rows are made from is admitted");
    let mut first_body = None;
    let mut wrong = Vec::new();
    for (name, lines) in &rows.0 {
        let mut bytes = b"GET /ds-api/canary HTTP/1.1\r\nHost: gateway.test\r\nx-canary: canary\r\n".to_vec();
        bytes.extend(lines);
        bytes.extend(b"\r\n");
        client.send(&bytes);
        match client.answer() {
            Ok(answer) => {
                let body = first_body.get_or_insert_with(|| answer.body.clone());
                if answer.status != 401 || answer.body != *body || answer.says_close() {
                    wrong.push(format!(
                        "{name}: {} {} {:?}",
                        answer.status,
                        answer.text(),
                        answer.head.fields
                    ));
                } else {
                    answer.is_error(401);
                    assert!(
                        answer.values("www-authenticate").iter().all(|value| !value.starts_with("Basic")),
                        "{name}"
                    );
                }
            }
            Err(fault) => wrong.push(format!("{name}: {fault:?}")),
        }
        if !matches!(client.try_send(&second).map(|()| client.answer()), Ok(Ok(answer)) if answer.status == 200)
        {
            wrong.push(format!("{name}: the connection is of no use for a second request"));
            client = deployment.gateway.client();
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.0.len(), wrong.join("\n"));
    deployment.platform.never_saw("canary");
    let seen = deployment.platform.requests();
    let seconds = seen.iter().filter(|seen| seen.target == "/ds-api/second").count();
    assert_eq!(seconds, rows.0.len() + 1, "every good request went on, once");
    deployment.gateway.still_healthy();
}
