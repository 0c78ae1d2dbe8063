//! Once a connection is warm, its requests allocate nothing in the lane: counted on the thread that serves it. Client and platform
//! are real sockets on threads of their own, which are not counted. What is still allocated stands beside its case;
//! the access log, which is off here, needs a line a request.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::Lane;
use crate::auth::client_address::ClientAddress;
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::token::mint;
use crate::clock::Clock;
use crate::config::{Config, StorePlace};
use crate::edge::admission::Activity;
use crate::edge::connection_context::Connection;
use crate::edge::cut::ConnectionApp;
use crate::edge::decide::tests::runtime;
use crate::edge::gateway::{Gateway, Shared};
use crate::edge::quota::Quotas;
use crate::edge::socket::Socket;
use crate::logging::Sink;
use crate::metrics::{Addresses, CertificateState, Facts, Metrics, ReloadState, ServerMetrics};
use crate::service::login::chain::Chain;
use crate::service::login::failed_logins::FailedLogins;
use crate::service::login::passwords::Logins;
use crate::service::token_endpoint::{EndpointSettings, TokenEndpoint, mint_limiter};
use crate::service::user_changes::UserChanges;
use crate::store::Store;

/// A client, what the platform answers it, and how the answer that the client gets ends.
struct Case {
    name: &'static str,
    settings: &'static str,
    request: String,
    answer: String,
    end: &'static str,
    is_trusted: bool,
    /// Bytes that a request may allocate, and for what.
    most: (u64, &'static str),
}

impl Case {
    fn new(name: &'static str, request: &str, answer: &str, end: &'static str) -> Self {
        let (request, answer) = (request.replace('\n', "\r\n"), answer.replace('\n', "\r\n"));
        Self { name, settings: "", request, answer, end, is_trusted: false, most: NOTHING }
    }

    fn at_most(self, bytes: u64, what: &'static str) -> Self {
        Self { most: (bytes, what), ..self }
    }

    fn with(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }
}

/// `$T` is a token.
fn cases() -> Vec<Case> {
    let get = "GET /ds-api/agents?x=1 HTTP/1.1\nHost: gateway.test\nAccept: */*\nUser-Agent: curl/8.5.0\nuser-token: $T\n\n";
    let head = get.replacen("GET", "HEAD", 1);
    let close = "HTTP/1.1 200 OK\nDate: now\nContent-Type: application/json\nContent-Length: 7\n\nTHE END";
    let post = |length: usize| {
        let head = "POST /ds-api/agents HTTP/1.1\nHost: gateway.test\nContent-Type: application/json\nuser-token: $T\n";
        format!("{head}Content-Length: {length}\n\n{}", "x".repeat(length))
    };
    let sized = |length: usize| {
        format!("HTTP/1.1 200 OK\nDate: now\nContent-Length: {}\n\n{}THE END", length + 7, "y".repeat(length))
    };
    let forwarded = get.replace("user-token", "X-Forwarded-For: 192.0.2.7\nX-Request-Id: 4711\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nuser-token");
    vec![
        Case::new("GET", get, close, "THE END"),
        Case::new("HEAD", &head, "HTTP/1.1 200 OK\nDate: now\nContent-Length: 7\n\n", "\r\n\r\n"),
        Case::new("a small body", &post(100), close, "THE END"),
        Case::new("a body of 8 KiB", &post(8 << 10), close, "THE END"),
        Case::new("a body of 60 KiB", &post(60 << 10), close, "THE END"),
        Case::new("an answer of 15 KiB", get, &sized(15 << 10), "THE END"),
        Case::new("an answer of 300 KiB", get, &sized(300 << 10), "THE END"),
        Case::new(
            "a chunked answer",
            get,
            "HTTP/1.1 200 OK\nDate: now\nTransfer-Encoding: chunked\n\n5;a=b\nhello\n7\nTHE END\n0\nX-Sum: 1\n\n",
            "THE END\r\n0\r\n\r\n",
        ),
        Case::new(
            "an interim answer",
            get,
            "HTTP/1.1 103 Early Hints\nLink: a\n\nHTTP/1.1 200 OK\nDate: now\nContent-Length: 7\n\nTHE END",
            "THE END",
        ),
        Case::new(
            "an answer of 50 fields",
            get,
            &format!(
                "HTTP/1.1 200 OK\nDate: now\n{}Content-Length: 7\n\nTHE END",
                "X-Field: value\n".repeat(50)
            ),
            "THE END",
        ),
        Case::new(
            "a folded line",
            get,
            "HTTP/1.1 200 OK\nDate: now\nX-Folded: a\n b\nContent-Length: 7\n\nTHE END",
            "THE END",
        )
        .at_most(80, "the line without its folds"),
        Case::new(
            "a sequence that is applied",
            &get.replace("Accept", "X-DS-At-Least: 0\nAccept"),
            close,
            "THE END",
        ),
        Case::new("no token", &get.replace("user-token: $T\n", ""), close, "}"),
        Case::new("a forged token", &get.replace("$T", "$Tx"), close, "}")
            .at_most(600, "what is read of a token, and our own answer"),
        Case::new("a longest duration", get, close, "THE END").with("[limits]\nrequest_duration = \"50s\"\n"),
        Case::new(
            "a page of another origin",
            &get.replace("Accept", "Origin: https://a.example\nAccept"),
            close,
            "THE END",
        )
        .with("[cors]\norigins = [\"https://a.example\"]\n"),
        Case { is_trusted: true, ..Case::new("a proxy's word", &forwarded, close, "THE END") }
            .at_most(200, "what the proxy says"),
    ]
}

#[test]
fn a_request_on_a_warm_connection_allocates_nothing() {
    let over = |case: &Case| {
        let (most, what) = case.most;
        let is_known = |bytes: &u64| *bytes <= most * u64::from(COUNTED);
        // What a request allocates, it allocates each time; on a busy machine a connection may also be made again.
        let mut bytes = allocated(case);
        for _ in 0..2 {
            bytes = if is_known(&bytes) { bytes } else { allocated(case) };
        }
        let is_known = is_known(&bytes);
        (!is_known)
            .then(|| format!("{}: {bytes} bytes for {COUNTED} requests; known: {most} for {what}", case.name))
    };
    let over: Vec<String> = cases().iter().filter_map(over).collect();
    assert!(over.is_empty(), "{}", over.join("\n"));
}

/// Bytes that were allocated for the requests that are counted.
fn allocated(case: &Case) -> u64 {
    let platform = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (gateway, token) = gateway(platform.local_addr().unwrap(), case.settings, folder.path());
    let answer = case.answer.clone().into_bytes();
    thread::spawn(move || {
        for stream in platform.incoming() {
            let answer = answer.clone();
            thread::spawn(move || serve(stream.unwrap(), &answer));
        }
    });
    let (request, end) = (case.request.replace("$T", &token), case.end.as_bytes());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, phase) = (listener.local_addr().unwrap(), AtomicU8::new(WARMING));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (_stop, stopping) = watch::channel(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            let first = ask(&mut stream, request.as_bytes(), end);
            for number in 1..WARM + COUNTED {
                if number == WARM {
                    phase.store(COUNTING, Ordering::Release);
                }
                assert_eq!(ask(&mut stream, request.as_bytes(), end), first, "{}", case.name);
            }
            phase.store(DONE, Ordering::Release);
        });
        let (stream, client) = listener.accept().unwrap();
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).unwrap();
        runtime.block_on(async {
            let limits = gateway.runtime.load().limits;
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let activity = Arc::new(Activity::new(Instant::now(), Instant::now()));
            let budget = Quotas::new(&limits, 1).budget();
            let connection =
                Connection::new(ClientAddress::of_socket(client), case.is_trusted, false, activity, budget);
            let engine = Arc::new(http_proxy(&Arc::<ServerConf>::default(), gateway.clone()));
            let engine = ConnectionApp::new(engine, limits);
            let lane = Lane::new(gateway.clone(), 1);
            let socket = Box::new(Socket::new(stream, client, None, limits.write_timeout));
            let bytes = counted(lane.serve(socket, connection, &limits, &engine, &stopping), &phase).await;
            let metrics = scrape(&gateway);
            let taken = format!("fast_lane_requests_total{{result=\"taken\"}} {}\n", WARM + COUNTED);
            assert!(metrics.contains(&taken), "{}: {metrics}", case.name);
            bytes
        })
    })
}

/// What the gateway has counted.
fn scrape(gateway: &Gateway) -> String {
    gateway.shared.metrics.scrape(Facts {
        gate: &gateway.runtime.load().gate,
        uptime: Duration::ZERO,
        dropped_log_lines: 0,
        info_labels: &[],
        observed_until: None,
        pending_revocations: 0,
        clock_error: 0,
        store_queue_length: 0,
        store_commit_age: Duration::ZERO,
        certificates: &CertificateState::default(),
        servers: &ServerMetrics::new(["a"]),
        addresses: &[Addresses::default()],
        reload: &ReloadState::default(),
    })
}

/// Bytes that this thread allocates from the first poll to the last in which requests are counted.
async fn counted(serving: impl Future<Output = ()>, phase: &AtomicU8) -> u64 {
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().unwrap();
    let (mut first, mut last) = (None, 0);
    let mut serving = pin!(serving);
    std::future::poll_fn(|cx| {
        let is_counting = phase.load(Ordering::Acquire) == COUNTING;
        if is_counting {
            first.get_or_insert(allocated.get());
        }
        let ended = serving.as_mut().poll(cx);
        if is_counting {
            last = allocated.get();
        }
        ended
    })
    .await;
    last - first.unwrap()
}

/// Sends a request; the length of its answer.
fn ask(stream: &mut TcpStream, request: &[u8], end: &[u8]) -> usize {
    stream.write_all(request).unwrap();
    let mut came = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while !came.ends_with(end) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&came));
        came.extend_from_slice(&buffer[..count]);
    }
    came.len()
}

/// The platform: reads requests whose bodies have a length, and answers each.
fn serve(mut stream: TcpStream, answer: &[u8]) {
    let (mut came, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let head = came.windows(4).position(|four| four == b"\r\n\r\n");
        let length = head.map(|head| {
            let text = String::from_utf8_lossy(&came[..head]).to_ascii_lowercase();
            let body = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            head + 4 + body.map_or(0, |body| body.parse().unwrap())
        });
        if let Some(length) = length.filter(|length| came.len() >= *length) {
            came.drain(..length);
            if stream.write_all(answer).is_err() {
                return;
            }
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => came.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

/// A gateway in front of a platform, and a token for it.
fn gateway(platform: SocketAddr, settings: &str, folder: &Path) -> (Gateway, String) {
    let log = if settings.contains("[log]") { "" } else { "[log]\naccess = false\nlevel = \"error\"\n" };
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [platform]\nservers = [\"http://{platform}\"]\n{settings}{log}"
    );
    let (config, _) = Config::parse(&text, folder, std::iter::empty());
    let (config, _) = config.unwrap();
    let (runtime, limits) = (runtime(&text), config.limits);
    let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
    let store = Store::create(&StorePlace::Sqlite(folder.join("store")), clock.clone(), Arc::clone(&metrics))
        .unwrap();
    let failures = Arc::<FailedLogins>::default();
    let logins = Logins::start(&limits, config.trusted_logins, None, Arc::clone(&metrics), failures).unwrap();
    let settings = EndpointSettings {
        users: Arc::new(Chain::of_store(
            store.clone(),
            Arc::new(logins),
            clock.clone(),
            Arc::clone(&metrics),
        )),
        mints: Arc::new(mint_limiter(&limits)),
        inspect_auth: config.inspect_auth,
        max_revocations: limits.revocations_per_user,
    };
    let tokens = TokenEndpoint {
        gate: Arc::clone(&runtime.gate),
        settings: Arc::new(ArcSwap::from_pointee(settings)),
        store,
        pending: Arc::default(),
        clock: clock.clone(),
    };
    let (keys, rules) = (runtime.gate.keys(), runtime.gate.rules());
    let token = mint(&ANNA, 5, [1; 16], clock.now(), &rules, keys.signer()).unwrap().token;
    let sink = Sink::install(config.log);
    let gate = Arc::clone(&runtime.gate);
    let user_changes = UserChanges::new(tokens.store.clone(), gate, clock.clone(), Arc::default());
    let shared = Shared {
        tokens,
        user_changes,
        clock,
        gap: Arc::default(),
        sequence_waits: Arc::default(),
        metrics,
        sink,
        ending: Arc::default(),
    };
    (Gateway::new(runtime, shared), token)
}

static ANNA: LazyLock<Identity> = LazyLock::new(|| Identity {
    user: Name::parse_user("anna").unwrap(),
    email: "anna@example.com".into(),
    organization: Name::parse("Main Org.").unwrap(),
});

const NOTHING: (u64, &str) = (0, "nothing");

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const DONE: u8 = 2;

/// Requests before those that are counted.
const WARM: u32 = 50;

const COUNTED: u32 = 100;
