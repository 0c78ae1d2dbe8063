//! A real Prometheus, with the configuration, the rules and the dashboard that are shipped: they work, and what they say
//! is what was sent.

use crate::client::{Client, request};
use crate::command::{eventually, finish, within};
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::observability::changed;
use crate::observe::observing;
use crate::options::Options;
use crate::platform::Platform;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(path)
}

/// A server of its own, killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// Watches one gateway with the shipped configuration, but for the target and for how often it looks.
    fn start(gateway: &Gateway, admin: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let text = fs::read_to_string(shipped("prometheus/prometheus.yml")).expect("a configuration");
        assert!(text.contains("127.0.0.1:9464") && text.contains("15s"), "{text}");
        let text = text.replace("127.0.0.1:9464", admin).replace("15s", "1s");
        let config = dir.path().join("prometheus.yml");
        fs::write(&config, text).expect("a file");
        let rules = "ds-gateway.rules.yml";
        fs::copy(shipped("prometheus").join(rules), dir.path().join(rules)).expect("rules");
        // It cannot say which port it chose, so it is given one that was free a moment ago.
        let free =
            || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        for _ in 0..5 {
            let address = free();
            let mut child = Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("prometheus, which `make deps` installs");
            let ready = within(20, || match child.try_wait().expect("a child") {
                Some(_) => Some(false),
                None => ask(address, "/-/ready").is_some_and(|(status, _)| status == 200).then_some(true),
            });
            if ready == Some(true) {
                gateway.still_healthy();
                return Self { child, address, _dir: dir };
            }
            drop(child.kill());
            drop(child.wait());
        }
        panic!("no Prometheus came up");
    }

    fn get(&self, target: &str) -> Value {
        let (status, json) = ask(self.address, target).expect("an answer");
        assert_eq!((status, &json["status"]), (200, &"success".into()), "{target}: {json}");
        json["data"].clone()
    }

    /// The samples that an expression has now.
    fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let encoded: String = url::form(expression);
        let data = self.get(&format!("/api/v1/query?query={encoded}"));
        let samples = data["result"].as_array().expect("a vector").iter();
        samples
            .map(|sample| {
                let value = sample["value"][1].as_str().expect("a number as text");
                (sample["metric"].clone(), value.parse().expect("a number"))
            })
            .collect()
    }

    /// The one value of an expression.
    fn value(&self, expression: &str) -> Option<f64> {
        match self.query(expression).as_slice() {
            [(_, value)] => Some(*value),
            [] => None,
            several => panic!("{expression}: {several:?}"),
        }
    }

    fn comes_to(&self, expression: &str, expected: f64) {
        let mut last = None;
        let reached = within(30, || {
            last = self.value(expression);
            (last == Some(expected)).then_some(())
        });
        assert!(reached.is_some(), "{expression} is {last:?} and not {expected}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

mod url {
    /// Everything but letters and digits as `%XX`.
    pub(super) fn form(text: &str) -> String {
        let one = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(one).collect()
    }
}

fn ask(address: SocketAddr, target: &str) -> Option<(u16, Value)> {
    let mut client = Client::try_connect(address).ok()?;
    client.try_send(request("GET", target, &[])).ok()?;
    let answer = client.answer().ok()?;
    Some((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

fn dashboard() -> Value {
    let text = fs::read_to_string(shipped("grafana/ds-gateway.json")).expect("a dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// Every expression of the dashboard, with its variables filled in.
fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets").clone());
    targets
        .map(|target| {
            let expression = target["expr"].as_str().expect("an expression");
            expression.replace("$__rate_interval", "20s").replace("$instance", ".*")
        })
        .collect()
}

/// What an expression measures, in the words of a panel's unit.
fn unit(expression: &str) -> &'static str {
    let has = |part: &str| expression.contains(part);
    match expression {
        _ if has("not_after_timestamp") => "d",
        _ if has("cpu_seconds") || has(") / sum") => "percentunit",
        _ if has("body_bytes") => "Bps",
        _ if has("_bytes") => "bytes",
        _ if has("_seconds") => "s",
        _ if has("errors_total") || has("evictions_total") => "cps",
        _ if has("rate(") => "reqps",
        _ => "none",
    }
}

#[test]
fn every_panel_shows_one_unit_and_the_first_row_single_values_with_thresholds() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut single = 0;
    for panel in panels {
        let shown = panel["fieldConfig"]["defaults"]["unit"].as_str().expect("a unit");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            assert_eq!(shown, unit(expression), "{}: {expression}", panel["title"]);
        }
        let is_first = panel["gridPos"]["y"] == 0;
        assert_eq!(panel["type"] == "stat", is_first, "{panel}");
        if is_first {
            single += 1;
            let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().expect("steps");
            assert!(steps.len() > 1 || shown == "reqps", "{panel}");
        }
    }
    assert!(single > 5, "{single}");
    let ids: std::collections::BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}

/// The variables that its reader chooses: a label, and the series whose values of it are offered.
fn variables() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let queries: Vec<_> = variables.filter(|variable| variable["type"] == "query").collect();
    assert!(!queries.is_empty(), "{dashboard}");
    queries
        .into_iter()
        .map(|variable| {
            let query = variable["query"]["query"].as_str().expect("a query");
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect(query);
            (label.to_owned(), series.to_owned())
        })
        .collect()
}

#[test]
fn a_real_prometheus_sees_what_was_sent_and_every_panel_and_rule_works() {
    let platform = Platform::echo();
    let gateway =
        Options::new(&platform).https().public("[\"/public/*\"]").set("log", "access", "false").start();
    let prometheus = Prometheus::start(&gateway, &gateway.admin_address().to_string());
    let token = gateway.mint();
    prometheus.comes_to("up{job=\"ds-gateway\"}", 1.0);
    let before =
        |decision: &str| gateway.metric("ds_gateway_decisions_total", &[&format!("decision={decision:?}")]);
    let before = ["admitted", "token_missing", "token_signature", "public"].map(|name| (name, before(name)));
    // Under load: four kinds of requests, from as many clients, each up to a thousand times a second, until it has looked four times.
    let forged = changed(&token);
    let requests = [
        (200, request("GET", "/ds-api/x", &[("user-token", &token)])),
        (401, request("GET", "/ds-api/x", &[])),
        (401, request("GET", "/ds-api/x", &[("user-token", &forged)])),
        (200, request("GET", "/public/x", &[])),
    ];
    let (start, is_over) = (Instant::now(), AtomicBool::new(false));
    let sent = thread::scope(|scope| {
        let clients = requests.each_ref().map(|(status, bytes)| {
            let (gateway, is_over) = (&gateway, &is_over);
            scope.spawn(move || {
                let mut client = gateway.client();
                let mut sent = 0_u32;
                // Not for ever, if something below fails.
                while !is_over.load(Relaxed) && start.elapsed().as_secs() < 60 {
                    assert_eq!(client.exchange(bytes).status, *status);
                    sent += 1;
                    // Tests beside this one hash passwords in idle time.
                    thread::sleep(Duration::from_millis(1));
                }
                sent
            })
        });
        let moving = within(30, || {
            // Differences between looks in which every kind grew.
            let moved = "min(changes(ds_gateway_decisions_total{decision=~\"admitted|token_missing|token_signature|public\"}[1m]))";
            prometheus.value(moved).filter(|moved| *moved >= 3.0)
        });
        is_over.store(true, Relaxed);
        let sent = clients.map(|client| client.join().expect("every answer as it should be"));
        assert!(moving.is_some(), "series that move");
        sent
    });
    for ((name, before), sent) in before.into_iter().zip(sent) {
        assert!(sent > 0, "{name}");
        let expression = format!("sum(ds_gateway_decisions_total{{decision={name:?}}})");
        prometheus.comes_to(&expression, before + f64::from(sent));
    }
    let minted = gateway.metric("ds_gateway_token_requests_total", &["action=\"mint\"", "outcome=\"ok\""]);
    gateway.log_in(USER, "wrong").is_error(401);
    gateway.log_in(USER, PASSWORD);
    prometheus.comes_to("sum(ds_gateway_token_requests_total{outcome=\"bad_credentials\"})", 1.0);
    prometheus.comes_to("sum(ds_gateway_token_requests_total{action=\"mint\",outcome=\"ok\"})", minted + 1.0);
    prometheus
        .comes_to("sum(ds_gateway_request_duration_seconds_count) - sum(ds_gateway_requests_total)", 0.0);

    let expressions = expressions();
    assert!(expressions.len() > 20, "{expressions:?}");
    for expression in &expressions {
        eventually(expression, || (!prometheus.query(expression).is_empty()).then_some(()));
    }

    for (label, series) in variables() {
        let values = prometheus.get(&format!("/api/v1/label/{label}/values?match[]={}", url::form(&series)));
        assert_eq!(values, serde_json::json!([gateway.admin_address().to_string()]), "{label} of {series}");
    }

    let rules = eventually("every rule to be evaluated", || {
        let groups = prometheus.get("/api/v1/rules")["groups"].clone();
        let rules = groups[0]["rules"].as_array().expect("rules").clone();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    assert!(rules.len() > 10, "{rules:?}");
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "a healthy gateway: {rule}");
    }

    drop(gateway.stop());
    prometheus.comes_to("up{job=\"ds-gateway\"}", 0.0);
}

/// The expressions of a page: a line each in its blocks of PromQL.
fn shown(page: &str) -> Vec<String> {
    let blocks = page.split("```promql\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    lines.map(str::to_owned).collect()
}

#[test]
fn every_expression_of_the_page_on_adoption_works() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adopt.md");
    let page = fs::read_to_string(page).expect("a page");
    let expressions = shown(&page);
    assert!(expressions.len() > 8, "{expressions:?}");
    let platform = Platform::echo();
    let gateway = observing(&platform, &[ENDPOINT]).set("log", "access", "false").start();
    let prometheus = Prometheus::start(&gateway, &gateway.admin_address().to_string());
    let metrics = gateway.admin("/metrics").text();
    let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in words.filter(|word| word.starts_with("ds_gateway_")) {
        // A histogram has its name without the series'.
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name}");
    }
    let of = |text: &str| {
        let found = expressions.iter().find(|expression| expression.contains(text));
        found.unwrap_or_else(|| panic!("no {text} in {expressions:?}"))
    };
    // Until a rate can be told from what was seen of it.
    eventually("a rate of what would be refused", || {
        assert_eq!(gateway.exchange(request("GET", "/ds-api/x", &[])).status, 200);
        thread::sleep(Duration::from_millis(100));
        let [(labels, _)] = prometheus.query(of("by (reason)")).try_into().ok()?;
        (labels["reason"] == "token_missing").then_some(())
    });
    let share = prometheus.value(of("admitted|observed")).expect("a share");
    assert!(share > 0.0 && share <= 1.0, "{share}");
    let left = prometheus.value(of("- time()")).expect("seconds");
    assert!(left > 0.0 && left <= 3600.0, "{left}");
    for expression in &expressions {
        prometheus.query(expression);
    }
}

#[test]
fn promtool_finds_the_rules_and_the_configuration_sound() {
    let folder = shipped("prometheus");
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "ds-gateway.rules.yml"],
        ["test", "rules", "ds-gateway.rules.test.yml"],
    ] {
        let mut command = Command::new("promtool");
        command.args(arguments).current_dir(&folder);
        let done = finish(command, "");
        assert_eq!(done.code, Some(0), "{arguments:?} {done:?}");
    }
    // Each alert has a test in which it fires.
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let (rules, tests) = (read("ds-gateway.rules.yml"), read("ds-gateway.rules.test.yml"));
    let fires = |alert: &str| tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let untested: Vec<_> = alerts.into_iter().filter(|alert| !fires(alert)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}
