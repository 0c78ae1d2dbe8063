//! What real clients send, recorded (`clients/recorded.txt`), is taken by the fast lane, or left to the engine for the reason that is
//! written beside it. A lane that took nothing would answer the same.

use crate::client::Client;
use crate::command::eventually;
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::Platform;
use std::collections::BTreeMap;

const RECORDED: &str = include_str!("clients/recorded.txt");

/// Why a request is left to the engine, and why that is right.
const REASONS: [(&str, &str); 3] = [
    (
        "version",
        "HTTP/1.0 has no persistent connection and no chunks: two sets of rules would be one too many",
    ),
    ("field", "100-continue must be answered before the body comes"),
    ("body", "where a chunked body ends, only its coding says"),
];

/// A request as a client sent it.
struct Recorded {
    client: &'static str,
    /// `taken`, or a reason.
    result: &'static str,
    bytes: String,
}

impl Recorded {
    fn method(&self) -> &str {
        self.bytes.split(' ').next().expect("a method")
    }

    /// A client's PUT and PATCH differ from its POST by the method.
    fn variants(self) -> Vec<Self> {
        let others = if self.method() == "POST" { &["PUT", "PATCH"][..] } else { &[] };
        let of = |method: &&str| Self { bytes: self.bytes.replacen("POST", method, 1), ..self };
        let others: Vec<Self> = others.iter().map(of).collect();
        [self].into_iter().chain(others).collect()
    }
}

fn recorded(token: &str) -> Vec<Recorded> {
    let parts = RECORDED.split("=== ").skip(1).map(|part| {
        let (title, text) = part.split_once('\n').expect("a title");
        let (client, result) = title.rsplit_once(": ").expect("a result");
        let text = text.strip_suffix('\n').expect("a line");
        let bytes = text.replace('\n', "\r\n").replacen("TOKEN", token, 1);
        Recorded { client, result, bytes }
    });
    parts.flat_map(Recorded::variants).collect()
}

/// What the lane has counted, by result.
fn counts(gateway: &Gateway) -> BTreeMap<String, u64> {
    let scrape = gateway.admin("/metrics").text();
    let samples = scrape.lines().filter_map(|line| {
        let (result, count) =
            line.strip_prefix("ds_gateway_fast_lane_requests_total{result=\"")?.split_once("\"} ")?;
        Some((result.to_owned(), count.parse().expect("a count")))
    });
    samples.collect()
}

/// The one result that was counted once more than before.
fn counted(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let new = after.iter().filter(|(result, count)| before.get(*result) != Some(*count));
    new.map(|(result, count)| format!("{result} {}", count - before.get(result).unwrap_or(&0)))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn what_clients_send_is_taken_or_left_for_a_reason_that_is_known() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("server", "fast_lane", true).start();
    let all = recorded(&gateway.mint());
    assert!(all.len() > 70, "{}", all.len());
    for name in ["curl", "requests", "Go", "Node", "Java", "Ansible", "wrk", "Apache HttpClient"] {
        let is_taken = |one: &Recorded| one.client.contains(name) && one.result == "taken";
        assert!(all.iter().any(is_taken), "nothing of {name} is taken");
    }
    let mut faults = Vec::new();
    for one in &all {
        let is_known = one.result == "taken" || REASONS.iter().any(|(reason, _)| *reason == one.result);
        assert!(is_known, "{}: {}", one.client, one.result);
        let before = counts(&gateway);
        let mut client = Client::connect(gateway.http());
        client.send(&one.bytes);
        let status = client.final_answer_to(one.method()).map(|answer| answer.status);
        drop(client);
        // It is counted when the client has its answer.
        let counted = eventually("a count", || {
            let counted = counted(&before, &counts(&gateway));
            (!counted.is_empty()).then_some(counted)
        });
        if status != Ok(200) || counted != format!("{} 1", one.result) {
            faults.push(format!("{}: {status:?}, {counted}\n{}", one.client, one.bytes));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), all.len(), faults.join("\n"));
    let seen = platform.requests();
    assert_eq!(seen.len(), all.len());
    for (seen, sent) in seen.iter().zip(&all) {
        assert_eq!(seen.values("x-ds-user").len(), 1, "{}: {seen:?}", sent.client);
        assert_eq!(
            String::from_utf8_lossy(&seen.body).contains("name"),
            sent.bytes.contains("name"),
            "{}: {seen:?}",
            sent.client
        );
        for name in ["connection", "upgrade", "http2-settings"] {
            let is_harmless = |value: &&str| value.eq_ignore_ascii_case("keep-alive");
            assert!(seen.values(name).iter().all(is_harmless), "{}: {seen:?}", sent.client);
        }
    }
    gateway.still_healthy();
}

/// On one connection, as a client that keeps it would send them.
#[test]
fn a_client_that_keeps_its_connection_stays_in_the_lane() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("server", "fast_lane", true).start();
    let all = recorded(&gateway.mint());
    let kept = |one: &&Recorded| {
        one.result == "taken" && !one.bytes.to_ascii_lowercase().contains("connection: close")
    };
    let before = counts(&gateway);
    let mut client = Client::connect(gateway.http());
    let mut sent = 0;
    for one in all.iter().filter(kept) {
        client.send(&one.bytes);
        assert_eq!(
            client.final_answer_to(one.method()).map(|answer| answer.status),
            Ok(200),
            "{}",
            one.client
        );
        sent += 1;
    }
    assert!(sent > 40, "{sent}");
    let expected = format!("taken {sent}");
    eventually("all of them", || (counted(&before, &counts(&gateway)) == expected).then_some(()));
    gateway.still_healthy();
}
