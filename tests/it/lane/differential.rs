//! The same bytes for the gateway with the lane and the one without: the platform gets the same requests, the client the same answers, and
//! the metrics count the same.

use super::recorder::{Arrived, Recorder};
use super::requests::{Sent, sent, short};
use super::third_reader::ThirdReader;
use super::{SIDES, has_taken, on_side};
use crate::client::Client;
use crate::command::eventually;
use crate::deployment::header;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, USER};
use crate::jwt::{self, Members, now};
use crate::observe::in_seconds;
use crate::options::{Key, Options};
use crate::seeds::{number, seeds};
use crate::wire::Fault;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// All that may differ: this, the case of names, where chunks begin and end, whether the connection goes on behind an answer of the
/// gateway's own, and whether a body is there that ends before its end.
mod permitted {
    /// Of the refusal of a request that cannot be parsed, which has no `Date`, or of one behind another: which of these it is, and all the
    /// rest. What is known to be wrong with it depends on how much of it was read, and the engine may have read its beginning with the
    /// other, where it mends some of what it refuses elsewhere.
    pub const NOT_PARSED: [u16; 4] = [400, 414, 417, 431];
    /// Of a request at the platform: whether it is there.
    pub const AT_THE_PLATFORM: [&str; 1] = ["connection"];
    /// Of a request at the platform: its value, which is another one for each request.
    pub const IDS: [&str; 2] = ["x-request-id", "traceparent"];
    /// Of an answer: whether it is there.
    pub const IN_AN_ANSWER: [&str; 1] = ["connection"];
    /// Of an answer: its value.
    pub const VALUES_IN_AN_ANSWER: [&str; 3] = ["x-request-id", "date", "retry-after"];
}

/// One side: a gateway and its platform.
struct Side {
    recorder: Arc<Recorder>,
    gateway: Gateway,
    lane: bool,
}

/// What became of what a client sent.
struct Outcome {
    requests: Vec<String>,
    answers: Vec<String>,
    /// How the connection ended.
    end: String,
    /// Was it ended because nothing had come for a while?
    is_cut_short: bool,
}

impl Outcome {
    fn is_as(&self, other: &Self) -> bool {
        (&self.requests, &self.answers, &self.end) == (&other.requests, &other.answers, &other.end)
    }
}

type Change = fn(Options) -> Options;

const PLAIN: Change = |options| options.public("[\"/public/*\"]");

const CHANGED: Change = |options| {
    options
        .public("[\"/public/*\", { path = \"/a/*\", methods = [\"OPTIONS\", \"HEAD\"] }]")
        .set("server", "trusted_proxies", "[\"127.0.1.0/24\"]")
        .set("platform", "host", "\"platform.test\"")
        .set("platform", "forward_token", "false")
        .set("platform", "forward_authorization", "true")
        .set("platform", "drop_headers", "[\"X-Dropped\"]")
        .set("limits", "body_bytes", "66000")
        .set("cors", "origins", "[\"https://dashboard.example\"]")
};

const OBSERVED: Change = |options| {
    options
        .public("[\"/public/*\"]")
        .set("routes", "mode", "\"observe\"")
        .set("routes", "observe_until", in_seconds(3600))
        .set("routes", "enforce", "[\"/ds-api/user-token\", \"/a/b\"]")
};

/// Both sides, and a token that is good on each.
fn sides(change: Change) -> ([Side; 2], String) {
    let key = Key::ours("k1");
    let sides = SIDES.map(|lane| {
        let recorder = Arc::new(Recorder::open());
        let options =
            change(recorder.platform.options()).key(key.clone()).set("server", "half_close", "true");
        let options = options.set("server", "threads", "1").set("limits", "body_timeout", "\"5s\"");
        Side { gateway: on_side(options, lane).start(), recorder, lane }
    });
    let numbers = sides.each_ref().map(|side| {
        let (_, claims) = jwt::read(&side.gateway.mint());
        let number = claims["jti"].as_str().expect("a jti").split('.').next().expect("<n>");
        number.parse::<u64>().expect("a number")
    });
    let jti = format!("{}.{}", numbers[0].max(numbers[1]), "AbCdEfGhIjKlMnOpQrStUw");
    let times = Members::new().and("exp", now() + 3_600).and("iat", now());
    let claims =
        times.text("database", ORGANIZATION).text("email", EMAIL).text("user", USER).text("jti", &jti);
    let token = jwt::token(&key.secret, header().json(), claims.json());
    for side in &sides {
        assert!(matches!(side.gateway.status(&token), 200..400 | 500), "the token is good on both sides");
        side.recorder.take("127.0.0.1");
    }
    (sides, token)
}

impl Side {
    /// Sends all of it from an address, with a pause at each cut, and says what became of it.
    fn send(&self, from: IpAddr, sent: &Sent, pause: Duration, silence: Duration) -> (Outcome, Vec<Arrived>) {
        let mut client = Client::connect_from(from, self.gateway.http());
        let mut begin = 0;
        for &cut in sent.cuts.iter().chain([&sent.bytes.len()]) {
            // The gateway may have ended the connection by now.
            if client.try_send(&sent.bytes[begin..cut]).is_err() {
                break;
            }
            begin = cut;
            if begin < sent.bytes.len() {
                thread::sleep(pause);
            }
        }
        let (answers, end, is_cut_short) = answers(client, &sent.methods, silence);
        let arrived = self.recorder.take(&from.to_string());
        let platform = self.recorder.platform.address.to_string();
        (
            Outcome {
                requests: arrived.iter().map(|arrived| request(arrived, &platform)).collect(),
                answers,
                end,
                is_cut_short,
            },
            arrived,
        )
    }

    /// What it has counted, but for what tells the sides apart.
    fn counted(&self) -> BTreeMap<String, String> {
        eventually("no request in flight", || {
            (self.gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
        });
        let text = self.gateway.admin("/metrics").text();
        // What cannot be parsed is counted as it ends, and so by chance if its client ends too.
        let is_compared = |line: &&str| {
            COMPARED.iter().any(|name| line.starts_with(name)) && !line.contains("route=\"refused\"")
        };
        let sample =
            |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
        text.lines().filter(is_compared).filter_map(sample).collect()
    }
}

const COMPARED: [&str; 6] = [
    "ds_gateway_requests_total",
    "ds_gateway_decisions_total",
    "ds_gateway_would_refuse_total",
    "ds_gateway_token_requests_total",
    "ds_gateway_platform_faults_total",
    "ds_gateway_requests_refused_total",
];

/// A request at the platform, as far as it must be the same.
fn request(arrived: &Arrived, platform: &str) -> String {
    let value = |name: &str, value: &str| match name {
        _ if permitted::IDS.contains(&name) => "…".to_owned(),
        // Of a request of HTTP/1.0 without one.
        "host" if value == platform => "the platform".to_owned(),
        _ => value.to_owned(),
    };
    let fields = fields(&arrived.head.fields, &permitted::AT_THE_PLATFORM, value);
    format!("{} {fields:?} {}", arrived.head.start, shown(&arrived.body))
}

/// Names in lower case and values; those of one name in order.
fn fields(
    fields: &[(String, String)],
    left_out: &[&str],
    value: impl Fn(&str, &str) -> String,
) -> Vec<(String, String)> {
    let lower = fields.iter().map(|(name, text)| {
        let name = name.to_ascii_lowercase();
        let text = value(&name, text);
        (name, text)
    });
    let mut all: Vec<_> = lower.filter(|(name, _)| !left_out.contains(&name.as_str())).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn shown(body: &[u8]) -> String {
    let sum = body.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{} bytes, {sum:x}, {}", body.len(), body[..body.len().min(100)].escape_ascii())
}

/// The answers to these requests and any that come unasked, and how the connection ended. It is half closed once all are there, or
/// nothing has come for a while: the engine serves no request behind another one whose client is known to have ended.
fn answers(mut client: Client, methods: &[String], silence: Duration) -> (Vec<String>, String, bool) {
    let mut all = Vec::new();
    let mut methods = methods.iter();
    let stream = client.sender();
    stream.set_read_timeout(Some(silence)).expect("a time");
    let (mut has_finished, mut has_another, mut is_cut_short) = (false, false, false);
    let mut finish = |client: &mut Client| {
        client.finish();
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        !std::mem::replace(&mut has_finished, true)
    };
    loop {
        let method = methods.next().map_or_else(
            || {
                finish(&mut client);
                ""
            },
            String::as_str,
        );
        loop {
            let answer = match client.answer_to(method) {
                Ok(answer) => answer,
                Err(Fault::Silent) if finish(&mut client) => {
                    is_cut_short = true;
                    continue;
                }
                Err(Fault::Closed) => return (all, "the end".to_owned(), is_cut_short),
                Err(fault) => {
                    let rest = client.wire().rest().unwrap_or_default();
                    return (all, format!("{fault:?} {}", rest.escape_ascii()), is_cut_short);
                }
            };
            let is_parsed = !answer.values("date").is_empty();
            if permitted::NOT_PARSED.contains(&answer.status) && (has_another || !is_parsed) {
                all.push("refused".to_owned());
                return (all, String::new(), is_cut_short);
            }
            let value = |name: &str, value: &str| match permitted::VALUES_IN_AN_ANSWER.contains(&name) {
                true => "…".to_owned(),
                false => value.to_owned(),
            };
            let fields = fields(&answer.head.fields, &permitted::IN_AN_ANSWER, value);
            all.push(format!("{} {fields:?} {}", answer.head.start, shown(&answer.body)));
            if answer.status >= 200 {
                has_another = true;
                break;
            }
        }
    }
}

/// A request that is not answered in the first time is not whole, or the machine is busy; not in the second.
const SILENCES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// Sends it through both sides; what differs, what arrived, and whether it was sent once more, since an answer may have been late.
fn check(
    sides: &[Side; 2],
    from: IpAddr,
    sent: &Sent,
    pause: Duration,
) -> (Option<String>, Vec<Arrived>, bool) {
    let send = |silence| {
        let [(one, mut arrived), (other, more)] =
            sides.each_ref().map(|side| side.send(from, sent, pause, silence));
        arrived.extend(more);
        (one, other, arrived)
    };
    let [first, second] = SILENCES;
    let (mut one, mut other, mut arrived) = send(first);
    let is_repeated = !one.is_as(&other) && (one.is_cut_short || other.is_cut_short);
    if is_repeated {
        eprintln!("once more, slower: {sent:?}");
        (one, other, arrived) = send(second);
    }
    let is_fault = !one.is_as(&other) || one.end.starts_with("Silent");
    let fault = is_fault.then(|| {
        let [requests, answers] = [(&one.requests, &other.requests), (&one.answers, &other.answers)];
        let ends = (&vec![one.end.clone()], &vec![other.end.clone()]);
        let differences = [requests, answers, ends].map(|(one, other)| difference(one, other)).concat();
        format!("{sent:?}\n{differences}")
    });
    (fault, arrived, is_repeated)
}

/// What only one side has.
fn difference(lane: &[String], engine: &[String]) -> String {
    let at = lane.iter().zip(engine).take_while(|(one, other)| one == other).count();
    let [lane, engine] = [&lane[at..], &engine[at..]];
    if lane.is_empty() && engine.is_empty() {
        return String::new();
    }
    format!("  after {at} that are the same:\n    lane:   {lane:?}\n    engine: {engine:?}\n")
}

/// What came of many cases.
#[derive(Default)]
struct Findings {
    faults: Vec<String>,
    arrived: Vec<Arrived>,
    /// Cases that were sent once more, so that the sides need not have counted the same.
    repeated: usize,
}

/// Has several clients send what `next` gives, until it gives no more.
fn run(sides: &[Side; 2], pause: Duration, next: impl Fn() -> Option<Sent> + Sync) -> Findings {
    let findings = Mutex::new(Findings::default());
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (findings, next) = (&findings, &next);
            scope.spawn(move || {
                // Every second one is a proxy that is trusted, where there are any.
                let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1 + number % 2, 1 + number));
                while findings.lock().expect("a lock").faults.len() < 5 {
                    let Some(sent) = next() else { return };
                    let (fault, arrived, is_repeated) = check(sides, from, &sent, pause);
                    let mut findings = findings.lock().expect("a lock");
                    findings.faults.extend(fault);
                    findings.arrived.extend(arrived);
                    findings.repeated += usize::from(is_repeated);
                }
            });
        }
    });
    findings.into_inner().expect("findings")
}

const CLIENTS: u8 = 6;

/// Long enough that what was sent before has been read, as a rule.
const PAUSE: Duration = Duration::from_millis(1);

/// Holds the property for so many cases, and what arrived against a reader that is not ours.
fn holds(change: Change, seed: u64, cases: u64) {
    let (sides, token) = sides(change);
    let before = sides.each_ref().map(Side::counted);
    let source = Mutex::new((Rng::with_seed(seed), cases));
    let next = || {
        let mut source = source.lock().expect("a lock");
        source.1 = source.1.checked_sub(1)?;
        Some(sent(&mut source.0, &token))
    };
    let Findings { faults, arrived, repeated } = run(&sides, PAUSE, next);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let after = sides.each_ref().map(Side::counted);
    let grown = |side: usize| {
        let grown = after[side].iter().filter(|(name, value)| before[side].get(*name) != Some(value));
        grown.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>()
    };
    if repeated == 0 {
        assert_eq!(grown(0), grown(1), "what both count");
    }
    sides.iter().for_each(|side| has_taken(&side.gateway, side.lane));
    let taken = sides[0].gateway.metric("ds_gateway_fast_lane_requests_total", &["result=\"taken\""]);
    eprintln!("{cases} cases, {} requests at both platforms, {taken} taken by the lane", arrived.len());
    assert!(taken > cases as f64 / 4.0, "{taken} of {cases} taken");
    ThirdReader::open().check(&arrived);
}

fn hold(change: Change) {
    let cases = number("LANE_CASES").unwrap_or(400);
    for (seed, cases) in seeds("LANE_SEED", &[1], cases / 2, cases) {
        eprintln!("LANE_SEED={seed}");
        holds(change, seed, cases);
    }
}

#[test]
fn the_lane_and_the_engine_do_the_same_with_the_same_bytes() {
    hold(PLAIN);
}

#[test]
fn the_lane_and_the_engine_do_the_same_behind_a_proxy_and_with_other_settings() {
    hold(CHANGED);
}

#[test]
fn the_lane_and_the_engine_do_the_same_while_routes_are_observed() {
    hold(OBSERVED);
}

#[test]
fn the_lane_and_the_engine_do_the_same_wherever_the_bytes_are_cut() {
    let (sides, token) = sides(PLAIN);
    let mut all = Vec::new();
    for sent in short(&token) {
        // In a token, one place is as good as another.
        let is_dull = |cut: &usize| {
            let tokens =
                sent.bytes.windows(token.len()).enumerate().filter(|(_, text)| *text == token.as_bytes());
            tokens.into_iter().any(|(at, _)| (at + 3..at + token.len() - 3).contains(cut))
        };
        let cuts = (0..=sent.bytes.len()).filter(|cut| !is_dull(cut));
        all.extend(cuts.map(|cut| Sent { cuts: vec![cut], ..sent.clone() }));
    }
    let all = Mutex::new(all);
    eprintln!("{} cuts", all.lock().expect("a lock").len());
    let Findings { faults, .. } = run(&sides, PAUSE * 2, || all.lock().expect("a lock").pop());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    sides.iter().for_each(|side| has_taken(&side.gateway, side.lane));
}
