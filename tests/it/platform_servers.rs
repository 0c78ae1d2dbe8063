//! Several servers behind the gateway, one of which is sick in every way that a server can be, under load: what is lost is stated, and
//! once it is left alone, nothing is.

use crate::client::{Answer, Client, request, request_with};
use crate::command::eventually;
use crate::curl::{BOTH, curl};
use crate::gateway::Gateway;
use crate::http2::token_field;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::platform_side::get;
use crate::proxies::free_address;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

/// Clients that ask one after the other on a connection each, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<u16>>>,
}

const CLIENTS: usize = 8;

/// In place of a status: the answer began and did not end.
const BROKEN_OFF: u16 = 0;

impl Load {
    fn start(gateway: &Gateway, token: &str, method: &'static str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..CLIENTS).map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (address, token) = (gateway.http(), token.to_owned());
            thread::spawn(move || {
                let (mut client, mut lost) = (None, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = client.take().unwrap_or_else(|| Client::connect(address));
                    connection.send(request(method, "/load", &[("user-token", &token)]));
                    match connection.answer() {
                        Ok(answer) if answer.status == 200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            client = (!answer.says_close()).then_some(connection);
                        }
                        Ok(answer) => lost.push(answer.status),
                        Err(_) => lost.push(BROKEN_OFF),
                    }
                }
                lost
            })
        });
        let clients = clients.collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more requests were answered.
    fn goes_on_for(&self, requests: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        let ends = || self.answered.load(Ordering::Relaxed) >= before + requests;
        eventually("answers", || ends().then_some(()));
    }

    /// The statuses of those that were not answered with 200.
    fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    }
}

/// A server as a process, which can be killed and paused.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(port: u16) -> Self {
        let script = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_POST = do_GET
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
        let mut child = Command::new("python3")
            .args(["-c", script, &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("bash").args(["-c", &format!("kill -s {name} {}", self.child.id())]).status();
        assert!(status.expect("bash").success());
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// An address that takes no more connections and refuses none, as one that a firewall drops: its backlog is full.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    fn open() -> Self {
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
            socket.listen(1).and_then(tokio::net::TcpListener::into_std).expect("a listener")
        });
        let address = listener.local_addr().expect("an address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let waiting = std::iter::from_fn(connect).collect();
        Self { address, _listener: listener, _waiting: waiting }
    }
}

/// A gateway in front of three good servers and one other, whose number is 1.
struct Setup {
    good: Vec<Platform>,
    gateway: Gateway,
    token: String,
    sick: SocketAddr,
}

impl Setup {
    fn new(sick: SocketAddr, change: impl FnOnce(Options) -> Options) -> Self {
        let good: Vec<Platform> = (0..3).map(|_| Platform::echo()).collect();
        let urls = [good[0].url(), format!("http://{sick}"), good[1].url(), good[2].url()];
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let options = Options::servers(&urls).set("platform", "connect_timeout", "\"1s\"");
        let gateway = change(options.set("platform", "read_timeout", "\"1s\"")).start();
        let token = gateway.mint();
        Self { good, gateway, token, sick }
    }

    fn load(&self, method: &'static str) -> Load {
        Load::start(&self.gateway, &self.token, method)
    }

    fn addresses(&self, state: &str) -> f64 {
        let server = format!("server=\"{}\"", self.sick);
        let state = format!("state=\"{state}\"");
        self.gateway.metric("ds_gateway_platform_addresses", &[&server, &state])
    }

    fn is_left_out(&self) {
        eventually("the server to be left out", || (self.addresses("ejected") == 1.0).then_some(()));
    }

    fn is_back(&self) {
        eventually("the server to be back", || (self.addresses("in_use") == 1.0).then_some(()));
    }

    fn failed(&self, fault: &str) -> f64 {
        let (server, fault) = (format!("server=\"{}\"", self.sick), format!("fault=\"{fault}\""));
        self.gateway.metric("ds_gateway_platform_tries_failed_total", &[&server, &fault])
    }

    /// While the server is left out nothing is lost, and the others have equal shares.
    fn the_rest_is_served_evenly(&self) {
        let before: Vec<usize> = self.good.iter().map(|platform| platform.requests().len()).collect();
        let load = self.load("POST");
        load.goes_on_for(900);
        assert_eq!(load.stop(), [0u16; 0], "a server that is left out costs no request");
        let after = self.good.iter().map(|platform| platform.requests().len());
        let shares: Vec<usize> = after.zip(before).map(|(after, before)| after - before).collect();
        let (least, most) = (shares.iter().min().expect("three"), shares.iter().max().expect("three"));
        assert!(most - least <= 40, "{shares:?}");
    }

    /// The server and the cause are named in the log, in words, and not once for each request.
    fn is_logged(&self, fault: &str, cause: &str) {
        let of_server = |line: &Value| line["server"] == self.sick.to_string().as_str();
        let lines: Vec<Value> = self.gateway.log.messages("platform server failed");
        let lines: Vec<Value> = lines.into_iter().filter(of_server).collect();
        let of_fault = lines.iter().filter(|line| line["fault"] == fault).count();
        assert!((1..=4).contains(&of_fault), "{lines:#?}");
        let names = |line: &Value| {
            line["fault"] == fault && line["cause"].as_str().is_some_and(|text| text.contains(cause))
        };
        assert!(lines.iter().any(names), "{lines:#?}");
        let out = self.gateway.log.messages("platform server is left out after failures in a row");
        assert!(out.iter().any(of_server), "{out:?}");
    }
}

/// Nothing is lost: no connection was made, so everything is sent again elsewhere, a POST too.
#[test]
fn a_black_hole_costs_no_request() {
    let hole = BlackHole::open();
    let setup = Setup::new(hole.address, |options| options);
    let load = setup.load("POST");
    setup.is_left_out();
    load.goes_on_for(100);
    assert_eq!(load.stop(), [0u16; 0]);
    let failed = setup.failed("connect_timeout");
    assert!(failed >= 3.0 && failed <= (3 * CLIENTS) as f64, "{failed}");
    setup.the_rest_is_served_evenly();
    setup.is_logged("connect_timeout", "no connection within");
    // For longer than the first back-offs, so that it is probed while requests come.
    let load = setup.load("POST");
    thread::sleep(Duration::from_secs(5));
    assert_eq!(load.stop(), [0u16; 0]);
    // It is still one, and no request has found that out.
    assert_eq!(setup.failed("connect_timeout"), failed);
    // Once it answers it is used again.
    let address = hole.address;
    drop(hole);
    eventually("the port", || TcpListener::bind(address).ok().map(drop));
    let platform = Platform::at(address, Behaviour::Echo);
    let load = setup.load("POST");
    setup.is_back();
    eventually("its requests", || (platform.requests().len() > 10).then_some(()));
    assert_eq!(load.stop(), [0u16; 0]);
}

/// Lost is at most what it was at work on, one request a client; what had been sent on a connection that was kept is sent again.
#[test]
fn a_killed_server_costs_what_it_was_at_work_on() {
    let mut process = Process::start(0);
    let port = process.address.port();
    let setup = Setup::new(process.address, |options| options);
    let load = setup.load("GET");
    load.goes_on_for(200);
    process.end();
    setup.is_left_out();
    load.goes_on_for(200);
    // What it was at work on may have been enough to leave it out. Then it is a request that asks it again after a while, so there must be some.
    eventually("a connection to be refused", || (setup.failed("connect_refused") >= 1.0).then_some(()));
    let lost = load.stop();
    println!("killed: {} of the requests are lost: {lost:?}", lost.len());
    let is_expected = |status: &u16| matches!(*status, 502 | BROKEN_OFF);
    assert!(lost.len() <= CLIENTS && lost.iter().all(is_expected), "{lost:?}");
    setup.the_rest_is_served_evenly();
    setup.is_logged("connect_refused", "connection refused");
    let _again = Process::start(port);
    let load = setup.load("POST");
    setup.is_back();
    load.goes_on_for(200);
    assert_eq!(load.stop(), [0u16; 0]);
}

/// Lost is what waits for it until it is left out, one request a client, and then one for each back-off: a process that was stopped still
/// accepts, so one request must find out whether it answers.
#[test]
fn a_stopped_server_is_left_out_where_timeouts_count() {
    let process = Process::start(0);
    let setup = Setup::new(process.address, |options| options.set("platform", "eject_on", "[\"timeout\"]"));
    let load = setup.load("GET");
    load.goes_on_for(200);
    process.signal("STOP");
    setup.is_left_out();
    load.goes_on_for(200);
    let lost = load.stop();
    println!("stopped: {} of the requests are lost: {lost:?}", lost.len());
    assert!(lost.len() <= CLIENTS + 3 && lost.iter().all(|status| *status == 504), "{lost:?}");
    assert!(setup.failed("read_timeout") >= 3.0);
    setup.is_logged("read_timeout", "no byte of an answer within platform.read_timeout");
    process.signal("CONT");
    let load = setup.load("GET");
    setup.is_back();
    load.goes_on_for(200);
    load.stop();
}

/// A client that leaves sooner than the read time-out does not have every further request sent to the server that says nothing: the one
/// that finds out begins the next back-off, and those that follow go to the others.
#[test]
fn a_client_that_leaves_a_silent_server_loses_one_request_for_each_back_off() {
    let platform = Platform::start(Behaviour::Reset);
    let setup = Setup::new(platform.address, |options| options.set("platform", "read_timeout", "\"60s\""));
    let load = setup.load("GET");
    setup.is_left_out();
    load.stop();
    platform.behave(Behaviour::Never);
    let answers = |number: usize| {
        let mut stream = TcpStream::connect(setup.gateway.http()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
        let asked = request("GET", &format!("/impatient/{number}"), &[("user-token", &setup.token)]);
        stream.write_all(&asked).expect("a request");
        stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0)
    };
    let mut numbers = 0..;
    for round in 1..=2 {
        eventually("a request that finds out", || (!answers(numbers.next()?)).then_some(()));
        // It is over once the gateway has seen that its client is gone.
        let abandoned = || setup.failed("abandoned") == f64::from(round);
        eventually("it to be counted", || abandoned().then_some(()));
        for number in numbers.by_ref().take(5) {
            assert!(answers(number), "round {round}, request {number}");
        }
        assert_eq!(setup.addresses("ejected"), 1.0);
    }
    setup.is_logged("abandoned", "left before an answer");
    platform.behave(Behaviour::Echo);
    let load = setup.load("GET");
    setup.is_back();
    assert_eq!(load.stop(), [0u16; 0]);
}

/// Nor does a request that takes long, such as a slow upload, keep a server out that is back: another one finds out beside it.
#[test]
fn a_slow_upload_does_not_keep_a_server_out() {
    let platform = Platform::start(Behaviour::Reset);
    let setup = Setup::new(platform.address, |options| options.set("platform", "read_timeout", "\"60s\""));
    let load = setup.load("GET");
    setup.is_left_out();
    load.stop();
    platform.behave(Behaviour::Echo);
    // Each sends a head and waits with its body; the one that is the trial is seen at the server.
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: a\r\nuser-token: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        setup.token
    );
    let mut uploads = Vec::new();
    eventually("an upload that finds out", || {
        let mut client = setup.gateway.client();
        client.send(&head);
        uploads.push(client);
        thread::sleep(Duration::from_millis(100));
        platform.saw("/upload").then_some(())
    });
    assert_eq!(setup.addresses("ejected"), 1.0);
    let load = setup.load("GET");
    setup.is_back();
    assert_eq!(load.stop(), [0u16; 0]);
    for mut client in uploads {
        client.send("5\r\n12345\r\n0\r\n\r\n");
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
}

/// Without that, slow answers are nobody's fault: it stays in use.
#[test]
fn a_slow_server_is_left_in_use() {
    let slow = Platform::start(Behaviour::Never);
    let setup = Setup::new(slow.address, |options| options);
    let load = setup.load("GET");
    eventually("time-outs", || (setup.failed("read_timeout") >= 12.0).then_some(()));
    assert_eq!(setup.addresses("in_use"), 1.0);
    assert!(load.stop().iter().all(|status| *status == 504));
}

/// Lost are the first three in a row and those beside them, and one for each back-off: what was sent on a new connection may have been
/// acted upon.
#[test]
fn a_resetting_server_is_left_out() {
    let platform = Platform::start(Behaviour::Reset);
    let setup = Setup::new(platform.address, |options| options);
    let load = setup.load("GET");
    setup.is_left_out();
    load.goes_on_for(200);
    let lost = load.stop();
    println!("resetting: {} of the requests are lost: {lost:?}", lost.len());
    assert!(lost.len() <= CLIENTS + 5 && lost.iter().all(|status| *status == 502), "{lost:?}");
    setup.is_logged("closed", "the connection ended before the answer was complete");
    platform.behave(Behaviour::Echo);
    let load = setup.load("GET");
    setup.is_back();
    load.stop();
}

/// Answers with 5xx are answers, unless the configuration says otherwise.
#[test]
fn a_server_that_answers_with_errors_is_left_out_where_they_count() {
    let error =
        || Behaviour::Raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec());
    let platform = Platform::start(error());
    let setup = Setup::new(platform.address, |options| options);
    for _ in 0..40 {
        get(&setup.gateway, "/x", &setup.token);
    }
    assert_eq!(setup.addresses("in_use"), 1.0);
    let setup = Setup::new(platform.address, |options| options.set("platform", "eject_on", "[\"5xx\"]"));
    let answers = (0..40).map(|_| get(&setup.gateway, "/x", &setup.token).status);
    let errors = answers.filter(|status| *status == 503).count();
    assert!((3..=8).contains(&errors), "{errors}");
    assert_eq!(setup.addresses("ejected"), 1.0);
}

/// All of them dead: half are still asked, and no request is sent more often than three times.
#[test]
fn servers_that_are_all_dead_are_asked_within_the_budget() {
    let ports: Vec<SocketAddr> = (0..4).map(|_| free_address()).collect();
    let urls: Vec<String> = ports.iter().map(|address| format!("http://{address}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let gateway = Options::servers(&urls).start();
    let token = gateway.mint();
    for _ in 0..50 {
        get(&gateway, "/x", &token).is_error(502);
    }
    let sum = |state: &str| gateway.metric("ds_gateway_platform_addresses", &[state]);
    assert_eq!((sum("in_use"), sum("ejected")), (2.0, 2.0));
    let tries = gateway.metric("ds_gateway_platform_tries_total", &[]);
    assert!((50.0..=150.0).contains(&tries), "{tries}");
    assert_eq!(gateway.metric("ds_gateway_platform_tries_failed_total", &["connect_refused"]), tries);
    assert_eq!(gateway.metric("ds_gateway_platform_faults_total", &["unreachable"]), 50.0);
    let platform = Platform::at(ports[0], Behaviour::Echo);
    eventually("the one that is back", || (get(&gateway, "/back", &token).status == 200).then_some(()));
    drop(platform);
}

/// The one access line of an answer.
fn access(gateway: &Gateway, answer: &Answer) -> Value {
    let id = answer.value("x-request-id");
    eventually("an access line", || {
        gateway.log.messages("access").into_iter().find(|line| line["request_id"] == id)
    })
}

#[test]
fn the_access_line_says_which_server_how_many_tries_and_why() {
    let (dead, platform) = (free_address(), Platform::echo());
    let gateway = Options::servers(&[&format!("http://{dead}"), &platform.url()])
        .set("server", "threads", "1")
        .set("platform", "read_timeout", "\"1s\"")
        .start();
    let token = gateway.mint();
    let line = access(&gateway, &get(&gateway, "/one", &token));
    assert_eq!(
        (&line["server"], &line["tries"], &line["fault"], &line["status"]),
        (&platform.address.to_string().into(), &2.into(), &"connect_refused".into(), &200.into())
    );
    // Refused here: no server, no try.
    let line = access(&gateway, &gateway.exchange(request("GET", "/x", &[])));
    assert_eq!((line.get("server"), line.get("tries"), line.get("fault")), (None, None, None));
    let raw = |text: &str| Behaviour::Raw(text.as_bytes().to_vec());
    let alone = Options::new(&platform).set("platform", "read_timeout", "\"1s\"").start();
    let token = alone.mint();
    for (behaviour, status, fault) in [
        (Behaviour::Close, 502, "closed"),
        (Behaviour::Reset, 502, "closed"),
        (Behaviour::Never, 504, "read_timeout"),
        (raw("nothing like HTTP\r\n\r\n"), 502, "malformed"),
        (raw("HTTP/1.1 200 OK\r\nContent-Le"), 502, "closed"),
        (raw("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), 502, "malformed"),
        (raw(&"HTTP/1.1 103 Early\r\n\r\n".repeat(1_000)), 502, "endless_interim"),
        (raw("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"), 500, ""),
    ] {
        platform.behave(behaviour);
        // A request with no kept connection.
        let answer =
            alone.client().exchange_final(request_with("POST", "/y", &[("user-token", &token)], b"x"));
        assert_eq!(answer.status, status, "{fault}");
        let line = access(&alone, &answer);
        assert_eq!(line["server"], platform.address.to_string().as_str(), "{fault}");
        assert_eq!((&line["tries"], line["fault"].as_str().unwrap_or("")), (&1.into(), fault));
    }
}

/// Over both protocols: interim answers without end get a 502, and a few of them an answer.
#[test]
fn interim_answers_end() {
    let endless = Behaviour::Custom(Arc::new(|_, stream| {
        // As long as somebody reads: it stops when the gateway has had enough.
        while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
        Ok(())
    }));
    let few = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20);
    let few = format!("{few}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").into_bytes();
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = token_field(&gateway.mint());
    for protocol in BOTH {
        let ask = |target: &str| {
            curl(protocol, &format!("https://{}{target}", gateway.https()), &["-H", &token], "")
        };
        platform.behave(endless.clone());
        ask("/endless").is(502);
        platform.behave(Behaviour::Raw(few.clone()));
        assert_eq!(ask("/few").is(200).text(), "ok", "{protocol:?}");
    }
    let failed = gateway.metric("ds_gateway_platform_tries_failed_total", &["endless_interim"]);
    assert_eq!(failed, 2.0);
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

/// What may be sent twice: nothing that a server may have acted upon, unless twice does the same as once.
#[test]
fn only_idempotent_requests_on_closed_kept_connections_are_sent_again() {
    // The first request of a connection is answered, and each further one is met by its end, or by the beginning of an answer.
    let serve = |second: &'static [u8]| {
        Behaviour::Custom(Arc::new(move |seen, stream| {
            if seen.target != "/warm" {
                return stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            stream.read(&mut [0; 4096]).map(drop)?;
            stream.write_all(second)
        }))
    };
    for (method, second, status, times) in [
        ("GET", b"".as_slice(), 200, 1),
        ("HEAD", b"", 200, 1),
        ("PUT", b"", 200, 1),
        ("DELETE", b"", 200, 1),
        ("OPTIONS", b"", 200, 1),
        ("POST", b"", 502, 0),
        ("PATCH", b"", 502, 0),
        ("GET", b"H", 502, 0),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-", 502, 0),
        ("GET", b"HTTP/1.1 103 Early Hints\r\n\r\n", 502, 0),
    ] {
        let platform = Platform::start(serve(second));
        let gateway = Options::new(&platform).set("server", "threads", "1").start();
        let token = gateway.mint();
        assert_eq!(get(&gateway, "/warm", &token).status, 200);
        let mut client = gateway.client();
        client.send(request(method, "/again", &[("user-token", &token)]));
        let answer = client.final_answer_to(method).expect("an answer");
        assert_eq!(answer.status, status, "{method} {second:?}");
        // The first time it was read by the end of the connection, which records bytes and no request.
        let again = platform.requests().iter().filter(|seen| seen.target == "/again").count();
        assert_eq!(again, times, "{method} {second:?}");
        let retries = gateway.metric("ds_gateway_platform_retries_total", &["outcome=\"sent\""]);
        assert_eq!(retries, times as f64, "{method} {second:?}");
    }
}

/// A healthy server that answers one request on a connection and resets it on the next: whatever is kept, a request that may be sent again
/// is answered, for its second try takes a new connection.
#[test]
fn kept_connections_that_are_all_closed_cost_no_idempotent_request() {
    const KEPT: usize = 6;
    let all_here = Arc::new(Barrier::new(KEPT));
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |seen, stream| {
        if seen.target.starts_with("/warm") {
            all_here.wait();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        // Closed with the second request unread.
        stream.peek(&mut [0]).map(drop)
    })));
    let gateway = Options::new(&platform).set("server", "threads", "1").start();
    let token = gateway.mint();
    thread::scope(|scope| {
        for number in 0..KEPT {
            let (gateway, token) = (&gateway, &token);
            scope.spawn(move || assert_eq!(get(gateway, &format!("/warm/{number}"), token).status, 200));
        }
    });
    for number in 0..3 * KEPT {
        assert_eq!(get(&gateway, &format!("/{number}"), &token).status, 200, "request {number}");
    }
    let stale = gateway.metric("ds_gateway_platform_tries_failed_total", &["kept_connection_closed"]);
    let sent = gateway.metric("ds_gateway_platform_retries_total", &["outcome=\"sent\""]);
    assert!(stale >= KEPT as f64 && stale == sent, "{stale} {sent}");
    assert_eq!(gateway.metric("ds_gateway_platform_addresses", &["state=\"in_use\""]), 1.0);
}

/// One name that nobody knows keeps no other server from being used, at the start too.
#[test]
fn a_name_that_cannot_be_resolved_costs_nothing() {
    let platform = Platform::echo();
    let unknown = "http://no-such-name.invalid:9000";
    let gateway = Options::servers(&[unknown, &platform.url()])
        .set("platform", "resolve_interval", "\"100ms\"")
        .start();
    let token = gateway.mint();
    for number in 0..20 {
        assert_eq!(get(&gateway, &format!("/{number}"), &token).status, 200);
    }
    let addresses = |server: &str| gateway.metric("ds_gateway_platform_addresses", &[server]);
    assert_eq!((addresses("no-such-name"), addresses(&platform.address.to_string())), (0.0, 1.0));
    let lines = gateway.log.lines();
    let told: Vec<_> =
        lines.iter().filter(|line| line.contains("platform server name cannot be resolved")).collect();
    assert!(told.len() == 1 && told[0].contains("platform.servers: no-such-name.invalid:9000"), "{told:?}");
    assert!(!told[0].contains("last known"), "it never had an address: {told:?}");
    let folder = Options::servers(&[unknown]).folder();
    let done = folder.cli(&["run", "--init"], "");
    assert!(done.code == Some(1) && done.stderr.contains("no-such-name.invalid:9000"), "{done:?}");
}
