//! A platform whose answers are not what it says they are: one client sees what is its own at most, the next one nothing of it, and the
//! connection is not used again.

use super::{RawPlatform, SCHEMES, SIDES, Scheme, answer_to, connect, has_taken, on_side, target_of};
use crate::client::{Answer, Channel, Client, request};
use crate::gateway::Gateway;
use crate::wire::Fault;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the platform does, one after the other.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    /// Waits until what was sent has surely been read.
    Pause,
    /// Waits until the client has its answer.
    Answered,
    Close,
}

/// What the client that asked sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Answer(u16, String),
    /// An answer that began and did not end.
    CutOff,
}

/// May the connection be used for another request?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    May,
    MayNot,
}

#[derive(Clone)]
struct Case {
    name: String,
    method: &'static str,
    steps: Vec<Step>,
    expected: Seen,
    next: Next,
}

/// What nobody may see who did not ask for it.
const POISON: &str = "HTTP/1.1 200 OK\r\nX-Asked: poison\r\nContent-Length: 6\r\n\r\npoison";

fn send(text: impl AsRef<str>) -> Step {
    Step::Send(text.as_ref().as_bytes().to_vec())
}

fn ok(body: &str) -> Seen {
    Seen::Answer(200, body.to_owned())
}

fn refused() -> Seen {
    Seen::Answer(502, String::new())
}

/// The steps behind an answer that is complete, by what they are called.
fn behinds() -> Vec<(&'static str, Vec<Step>)> {
    let late = |text: &str| vec![Step::Answered, send(text)];
    vec![
        ("another answer at once", vec![send(POISON)]),
        ("another answer a little later", vec![Step::Pause, send(POISON)]),
        ("another answer once it is idle", late(POISON)),
        ("one byte at once", vec![send("H")]),
        ("one byte later", late("H")),
        ("a line end later", late("\r\n")),
        ("a late 100 at once", vec![send("HTTP/1.1 100 Continue\r\n\r\n")]),
        ("a late 100 once it is idle", late("HTTP/1.1 100 Continue\r\n\r\n")),
        (
            "408 and its end",
            vec![
                Step::Answered,
                send("HTTP/1.1 408 Request Timeout\r\nX-Asked: poison\r\nContent-Length: 0\r\n\r\n"),
                Step::Close,
            ],
        ),
    ]
}

/// Answers of which each is complete as it is: a name, a method, the bytes, and what is seen.
fn wholes() -> Vec<(&'static str, &'static str, &'static str, Seen)> {
    let empty = |status| Seen::Answer(status, String::new());
    vec![
        ("a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", ok("ab")),
        ("a length of 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ok("")),
        (
            "chunks",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            ok("ab"),
        ),
        (
            "chunks with extensions and trailers",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\nab\r\n0;c\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n",
            ok("ab"),
        ),
        (
            "no chunk but the last",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ok(""),
        ),
        ("204", "DELETE", "HTTP/1.1 204 No Content\r\n\r\n", empty(204)),
        ("304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", empty(304)),
        ("HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", ok("")),
        ("HEAD in chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ok("")),
        ("HEAD of no length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", ok("")),
        (
            "HTTP/1.0 that is kept",
            "GET",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab",
            ok("ab"),
        ),
        (
            "an interim answer first",
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            ok("ab"),
        ),
    ]
}

/// Answers after which the connection is done with, whatever follows or does not.
fn lasts() -> Vec<(&'static str, &'static str, &'static str, Seen)> {
    let empty = |status| Seen::Answer(status, String::new());
    vec![
        (
            "Connection: close",
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
            ok("ab"),
        ),
        (
            "close among others",
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nab",
            ok("ab"),
        ),
        (
            ONLY_OF_THE_LANE,
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
            ok("ab"),
        ),
        ("HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", ok("ab")),
        (
            "204 with a body",
            "DELETE",
            "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison",
            empty(204),
        ),
        (
            "204 with chunks",
            "DELETE",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n",
            empty(204),
        ),
        (
            "304 with a body",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
            empty(304),
        ),
        (
            "304 with chunks",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n",
            empty(304),
        ),
        ("HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", ok("")),
        (
            "HEAD with chunks",
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n",
            ok(""),
        ),
        (
            "unequal lengths",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
            refused(),
        ),
        (
            "unequal lengths in one field",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nabc",
            refused(),
        ),
        ("a length with a sign", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab", refused()),
        ("a length in hexadecimal", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nab", refused()),
        ("an empty length", "GET", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nab", refused()),
        (
            "a length beyond all",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",
            refused(),
        ),
        (
            "a coding that nobody asked for",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            refused(),
        ),
        (
            "chunks in chunks",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            refused(),
        ),
        (
            "101 that nobody asked for",
            "GET",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\npoison",
            refused(),
        ),
        ("another protocol", "GET", "SSH-2.0-OpenSSH_9.2\r\n\r\npoison", refused()),
        ("a request", "GET", "GET /poison HTTP/1.1\r\nHost: x\r\n\r\n", refused()),
        ("a version that there is not", "GET", "HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nab", refused()),
        ("a status of two digits", "GET", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nab", refused()),
        ("a field without a colon", "GET", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nab", refused()),
        ("a NUL in a field", "GET", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nab", refused()),
        (
            "an interim answer with a body",
            "GET",
            "HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\npoison\r\n\r\n",
            refused(),
        ),
    ]
}

/// The engine reads no `Connection` field but the first.
const ONLY_OF_THE_LANE: &str = "close in a second field";

/// The engine takes a size without a digit for the last chunk.
const NO_SIZE: &str = "\r\n2\r\nab\r\n0\r\n\r\n";

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Bodies that go wrong behind a good head.
fn broken_bodies(lane: bool) -> Vec<(String, Vec<Step>)> {
    let mut all: Vec<(String, Vec<Step>)> = [
        "zz\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "2\nab\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\nab0\r\n\r\n",
        "ffffffffffffffffff\r\nab\r\n0\r\n\r\n",
        NO_SIZE,
        "1\r\na\r\n2 ab\r\n0\r\n\rx",
    ]
    .into_iter()
    .filter(|chunks| lane || *chunks != NO_SIZE)
    .map(|chunks| {
        (
            format!("chunks that are none: {chunks:?}"),
            vec![send(CHUNKED), Step::Pause, send(chunks), send(POISON)],
        )
    })
    .collect();
    for (name, first) in [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab".to_owned()),
        ("a chunk", format!("{CHUNKED}a\r\nab")),
        ("the end of chunks", format!("{CHUNKED}2\r\nab\r\n")),
        ("the last line end", format!("{CHUNKED}2\r\nab\r\n0\r\n")),
    ] {
        all.push((format!("the end before {name}"), vec![send(&first), Step::Close]));
        all.push((format!("silence before {name}"), vec![send(&first)]));
    }
    all
}

fn cases(lane: bool) -> Vec<Case> {
    let mut all = Vec::new();
    for (name, method, text, expected) in wholes() {
        let case = |behind: &str, steps: Vec<Step>, next| Case {
            name: format!("{name}, behind it {behind}"),
            method,
            steps,
            expected: expected.clone(),
            next,
        };
        all.push(case("nothing", vec![send(text)], Next::May));
        all.push(case(
            "nothing, byte by byte",
            text.bytes().map(|byte| Step::Send(vec![byte])).collect(),
            Next::May,
        ));
        for (behind, steps) in behinds() {
            // What comes in the middle of an answer of one write is sent in that write.
            let steps = match steps.as_slice() {
                [Step::Send(more)] => vec![Step::Send([text.as_bytes(), more].concat())],
                _ => [vec![send(text)], steps].concat(),
            };
            all.push(case(behind, steps, Next::MayNot));
        }
    }
    for (name, method, text, expected) in lasts() {
        if !lane && name == ONLY_OF_THE_LANE {
            continue;
        }
        let case = |behind: &str, steps: Vec<Step>| Case {
            name: format!("{name}, behind it {behind}"),
            method,
            steps,
            expected: expected.clone(),
            next: Next::MayNot,
        };
        all.push(case("nothing", vec![send(text)]));
        all.push(case("another answer", vec![send(format!("{text}{POISON}"))]));
        all.push(case("another answer later", vec![send(text), Step::Answered, send(POISON)]));
    }
    for (name, steps) in broken_bodies(lane) {
        all.push(Case { name, method: "GET", steps, expected: Seen::CutOff, next: Next::MayNot });
    }
    for (name, steps, expected) in [
        ("the end without a byte", vec![Step::Close], refused()),
        ("the end in a head", vec![send("HTTP/1.1 200 OK\r\nContent-Le"), Step::Close], refused()),
        (
            "a head without an end",
            vec![send(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1_200_000)))],
            refused(),
        ),
        (
            "no length",
            vec![send("HTTP/1.1 200 OK\r\n\r\nab"), Step::Pause, send("cd"), Step::Close],
            ok("abcd"),
        ),
        (
            "chunks and a length",
            vec![
                send(
                    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                ),
                send(POISON),
            ],
            ok("ab"),
        ),
        (
            "chunks of HTTP/1.0",
            vec![
                send(
                    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                ),
                send(POISON),
            ],
            ok("ab"),
        ),
        (
            "interim answers without an end",
            vec![send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200))],
            refused(),
        ),
    ] {
        all.push(Case { name: name.to_owned(), method: "GET", steps, expected, next: Next::MayNot });
    }
    all
}

/// The word that both sides of a test wait for. The time is for a case that went wrong.
fn wait(receiver: &Mutex<Receiver<()>>) {
    let _ = receiver.lock().expect("a lock").recv_timeout(Duration::from_secs(10));
}

/// A platform that plays the case at `/case`, and answers anything else as it should.
struct Stage {
    platform: RawPlatform,
    case: Arc<Mutex<Option<Case>>>,
    /// Requests on connections that were not to be used again.
    misused: Arc<Mutex<Vec<String>>>,
    answered: Sender<()>,
    done: Mutex<Receiver<()>>,
}

impl Stage {
    fn open() -> Self {
        let (case, misused) = (Arc::<Mutex<Option<Case>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let ((answered, heard), (tell_done, done)) = (channel(), channel());
        let (heard, tell_done) = (Mutex::new(heard), Mutex::new(tell_done));
        let (cases, misuses) = (Arc::clone(&case), Arc::clone(&misused));
        let platform = RawPlatform::start(move |mut wire| {
            let mut is_spent = None;
            loop {
                let Ok(head) = wire.head() else { return Ok(()) };
                let target = target_of(&head.start);
                if let Some(name) = is_spent {
                    misuses.lock().expect("a lock").push(format!("{name}: {target}"));
                    return wire.inner().write_all(POISON.as_bytes());
                }
                if target != "/case" {
                    wire.inner().write_all(&answer_to(&target))?;
                    continue;
                }
                let case = cases.lock().expect("a lock").clone().expect("a case");
                let played = play(&case.steps, wire.inner(), &heard);
                let _ = tell_done.lock().expect("a lock").send(());
                if !played? {
                    return Ok(());
                }
                if case.next == Next::MayNot {
                    is_spent = Some(case.name);
                }
            }
        });
        Self { platform, case, misused, answered, done: Mutex::new(done) }
    }
}

/// Does what the case says; whether the connection is still open.
fn play(steps: &[Step], stream: &mut TcpStream, answered: &Mutex<Receiver<()>>) -> io::Result<bool> {
    // Of cases that did not wait for it.
    while answered.lock().expect("a lock").try_recv().is_ok() {}
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(bytes)?,
            Step::Pause => thread::sleep(Duration::from_millis(20)),
            Step::Answered => wait(answered),
            Step::Close => {
                drop(stream.shutdown(Shutdown::Both));
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A client that counts its requests.
struct Asker<'g> {
    gateway: &'g Gateway,
    token: &'g str,
    scheme: Scheme,
    asked: usize,
}

impl Asker<'_> {
    /// Asks for something that only this request is answered with; what is wrong with the answer.
    fn ask(&mut self, client: &mut Client<Box<dyn Channel>>) -> Result<(), String> {
        self.asked += 1;
        let target = format!("/number/{}", self.asked);
        client.send(request("GET", &target, &[("user-token", self.token)]));
        match client.answer() {
            Ok(answer)
                if answer.status == 200
                    && answer.text() == target
                    && answer.values("x-asked") == [target] =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Plays a case, and asks again: on the same connection if it is still there, on another one and on a new one.
    fn check(
        &mut self,
        stage: &Stage,
        case: &Case,
        other: &mut Client<Box<dyn Channel>>,
    ) -> Result<(), String> {
        *stage.case.lock().expect("a lock") = Some(case.clone());
        let mut client = connect(self.gateway, self.scheme);
        // So that there is a kept connection for the case to happen on.
        self.ask(&mut client).map_err(|fault| format!("before: {fault}"))?;
        client.send(request(case.method, "/case", &[("user-token", self.token)]));
        let answer = client.final_answer_to(case.method);
        let _ = stage.answered.send(());
        wait(&stage.done);
        let is_kept = answer.as_ref().is_ok_and(|answer| !answer.says_close());
        let seen = seen(answer);
        if seen.as_ref() != Ok(&case.expected) {
            return Err(format!("{seen:?} instead of {:?}", case.expected));
        }
        if is_kept {
            self.ask(&mut client).map_err(|fault| format!("on the same connection: {fault}"))?;
        } else {
            let more = client.wire().rest().unwrap_or_default();
            if String::from_utf8_lossy(&more).contains("poison") {
                return Err(format!("before the end: {:?}", String::from_utf8_lossy(&more)));
            }
        }
        self.ask(other).map_err(|fault| format!("on another connection: {fault}"))?;
        let mut new = connect(self.gateway, self.scheme);
        self.ask(&mut new).map_err(|fault| format!("on a new connection: {fault}"))?;
        // A case that was tried again, as may be, has said so twice.
        while stage.done.lock().expect("a lock").try_recv().is_ok() {}
        let misused = std::mem::take(&mut *stage.misused.lock().expect("a lock"));
        if misused.is_empty() { Ok(()) } else { Err(format!("used again: {misused:?}")) }
    }
}

fn seen(answer: Result<Answer, Fault>) -> Result<Seen, String> {
    match answer {
        Ok(answer) if answer.status == 502 => {
            answer.is_error(502);
            Ok(refused())
        }
        Ok(answer) => Ok(Seen::Answer(answer.status, answer.text())),
        Err(Fault::Truncated) => Ok(Seen::CutOff),
        Err(fault) => Err(format!("{fault:?}")),
    }
}

/// Plays every case on one side, for clients of one kind.
fn faults(lane: bool, scheme: Scheme) -> Vec<String> {
    let stage = Stage::open();
    let options = stage.platform.options().https().set("server", "threads", "1");
    let gateway = on_side(options.set("platform", "read_timeout", "\"1s\""), lane).start();
    let token = gateway.mint();
    let mut asker = Asker { gateway: &gateway, token: &token, scheme, asked: 0 };
    let mut other = connect(&gateway, scheme);
    let mut faults = Vec::new();
    // What TLS adds is the same for all of them, and costs more.
    let step = if scheme == Scheme::Https { 3 } else { 1 };
    for case in cases(lane).into_iter().step_by(step) {
        if let Err(fault) = asker.check(&stage, &case, &mut other) {
            faults.push(format!("lane {lane}, {scheme:?}, {}: {fault}", case.name));
            other = connect(&gateway, scheme);
            stage.misused.lock().expect("a lock").clear();
        }
    }
    has_taken(&gateway, lane);
    faults
}

#[test]
fn an_answer_is_seen_by_the_client_that_it_is_for_and_by_no_other() {
    let faults: Vec<String> = thread::scope(|scope| {
        let sides = SIDES.map(|lane| SCHEMES.map(|scheme| scope.spawn(move || faults(lane, scheme))));
        sides.into_iter().flatten().flat_map(|side| side.join().expect("a side")).collect()
    });
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
