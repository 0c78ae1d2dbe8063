//! Bodies far larger than what the gateway may hold of them, and platforms that die in the middle of one.

use crate::client::request;
use crate::curl::{Protocol, curl};
use crate::gateway::Gateway;
use crate::http2::{token_field, url};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::seeds::number;
use crate::wire::{Fault, Wire};
use std::fs;
use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const GIGABYTE: usize = 1 << 30;
const MAY_GROW: u64 = 20 << 20;

/// What Argon2id takes for one password.
const A_HASH: u64 = 20 << 20;

/// How much passes: many times what the gateway may grow by, or so many megabytes as `LARGE_MEGABYTES` says.
fn size() -> usize {
    number("LARGE_MEGABYTES").map_or(GIGABYTE / 4, |megabytes| (megabytes as usize) << 20)
}

/// What every large body repeats: long enough that no buffer holds two of it, and no two places in it alike.
fn block() -> Vec<u8> {
    (0..16_384u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

/// Holds a stream against the repeated block.
struct Check {
    block: Vec<u8>,
    at: usize,
}

impl Check {
    fn new() -> Self {
        Self { block: block(), at: 0 }
    }

    fn eat(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let start = self.at % self.block.len();
            let count = bytes.len().min(self.block.len() - start);
            assert!(bytes[..count] == self.block[start..start + count], "a byte is wrong after {}", self.at);
            self.at += count;
            bytes = &bytes[count..];
        }
    }
}

/// Writes `size` bytes of the repeated block, in chunks of one block if that is wanted.
fn pour(to: &mut impl Write, size: usize, chunked: bool) -> io::Result<()> {
    let block = block();
    let mut chunk = format!("{:x}\r\n", block.len()).into_bytes();
    chunk.extend(&block);
    chunk.extend(b"\r\n");
    let piece = if chunked { &chunk } else { &block };
    assert_eq!(size % block.len(), 0, "whole blocks");
    for _ in 0..size / block.len() {
        to.write_all(piece)?;
    }
    to.write_all(if chunked { b"0\r\n\r\n" } else { b"" })
}

fn framing(size: usize, chunked: bool) -> String {
    if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {size}") }
}

/// Reads a body, and holds it against the repeated block.
fn drink(wire: &mut Wire<TcpStream>, length: Option<usize>) -> Result<usize, Fault> {
    let mut check = Check::new();
    match length {
        Some(length) => wire.pass(length, |bytes| check.eat(bytes))?,
        None => {
            while let Some(chunk) = wire.chunk()? {
                check.eat(&chunk);
            }
        }
    }
    Ok(check.at)
}

/// A platform that keeps nothing: to an upload it answers how much it was, and `/SIZE/CHUNKED` it sends.
fn flood() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || drop(serve(stream)));
        }
    });
    address
}

fn serve(stream: TcpStream) -> Result<(), Fault> {
    let mut answers = stream.try_clone().map_err(|_| Fault::Closed)?;
    let mut wire = Wire::new(stream);
    loop {
        let head = wire.head()?;
        let target = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
        let words: Vec<&str> = target.split('/').skip(1).collect();
        let sent = match words[..] {
            [size, chunked] => {
                let (size, chunked) = (size.parse().expect("a size"), chunked == "true");
                write!(answers, "HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(size, chunked))
                    .and_then(|()| pour(&mut answers, size, chunked))
            }
            _ => {
                let length = if head.is_chunked() { None } else { Some(head.length().unwrap_or(0)) };
                let count = drink(&mut wire, length)?.to_string();
                write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{count}", count.len())
            }
        };
        sent.map_err(|_| Fault::Closed)?;
    }
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kilobytes| kilobytes * 1024)
}

/// Runs `act` and says by how much the process was larger meanwhile than before, at most.
fn growth(process: u32, act: impl FnOnce()) -> u64 {
    let rest = resident(process);
    assert!(rest > 0, "the process is there");
    let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sampler = {
        let (most, over) = (Arc::clone(&most), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(process), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        })
    };
    act();
    over.store(true, Ordering::Relaxed);
    sampler.join().expect("a sampler");
    most.load(Ordering::Relaxed).saturating_sub(rest)
}

fn up(gateway: &Gateway, token: &str, size: usize, chunked: bool) {
    let mut client = gateway.client();
    let framing = framing(size, chunked);
    let (name, value) = framing.split_once(": ").expect("a field");
    client.send(request("PUT", "/upload", &[("user-token", token), (name, value)]));
    let mut sender = client.sender();
    let sending = thread::spawn(move || pour(&mut sender, size, chunked));
    sending.join().expect("a sender").expect("all is sent");
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, size.to_string()));
}

fn down(gateway: &Gateway, token: &str, size: usize, chunked: bool) {
    let mut client = gateway.client();
    client.send(request("GET", &format!("/{size}/{chunked}"), &[("user-token", token)]));
    let (status, head) = client.head().expect("a head");
    assert_eq!((status, head.is_chunked(), head.length()), (200, chunked, (!chunked).then_some(size)));
    assert_eq!(drink(client.wire(), head.length()).expect("a whole body"), size);
}

/// curl, reading and writing pipes of ours.
fn over_http2(gateway: &Gateway, token: &str, target: &str, arguments: &[&str]) -> Child {
    Command::new("curl")
        .args(["-q", "-sSk", "--http2", "-H", &token_field(token), "-H", "Expect:"])
        .args(arguments)
        .arg(url(gateway, target))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl")
}

fn up_over_http2(gateway: &Gateway, token: &str, size: usize, _: bool) {
    let mut child = over_http2(gateway, token, "/upload", &["-T", "-"]);
    let mut stdin = child.stdin.take().expect("stdin");
    let sending = thread::spawn(move || pour(&mut stdin, size, false));
    let done = child.wait_with_output().expect("curl");
    sending.join().expect("a sender").expect("all is sent");
    assert_eq!(
        (done.status.code(), String::from_utf8_lossy(&done.stdout).as_ref()),
        (Some(0), &*size.to_string())
    );
}

fn down_over_http2(gateway: &Gateway, token: &str, size: usize, chunked: bool) {
    let mut child = over_http2(gateway, token, &format!("/{size}/{chunked}"), &[]);
    let (mut check, mut buffer) = (Check::new(), vec![0; 1 << 16]);
    let mut stdout = child.stdout.take().expect("stdout");
    loop {
        let count = stdout.read(&mut buffer).expect("a pipe");
        if count == 0 {
            break;
        }
        check.eat(&buffer[..count]);
    }
    assert_eq!((child.wait().expect("curl").code(), check.at), (Some(0), size));
}

fn at_flat_memory(move_it: fn(&Gateway, &str, usize, bool), size: usize) {
    let gateway = Options::servers(&[&format!("http://{}", flood())]).https().start();
    let token = gateway.mint();
    // What the first request allocates for good is no growth.
    move_it(&gateway, &token, 1 << 20, false);
    for chunked in [false, true] {
        let grown = growth(gateway.process(), || move_it(&gateway, &token, size, chunked));
        assert!(grown < MAY_GROW, "{grown} bytes more while {size} passed, chunked: {chunked}");
    }
    assert_eq!(gateway.admin("/readyz").status, 200);
    gateway.mint();
}

#[test]
fn an_upload_of_any_size_passes_at_flat_memory() {
    at_flat_memory(up, size());
}

#[test]
fn a_download_of_any_size_passes_at_flat_memory() {
    at_flat_memory(down, size());
}

#[test]
fn streams_of_http_2_pass_at_flat_memory_too() {
    at_flat_memory(up_over_http2, size() / 4);
    at_flat_memory(down_over_http2, size() / 4);
}

#[test]
fn a_client_that_does_not_read_does_not_fill_the_memory() {
    let gateway = Options::servers(&[&format!("http://{}", flood())]).start();
    let token = gateway.mint();
    down(&gateway, &token, 1 << 20, false);
    let fast = gateway.client();
    let grown = growth(gateway.process(), || {
        let mut slow: Vec<_> = (0..20).map(|_| gateway.client()).collect();
        for client in &mut slow {
            client.send(request("GET", &format!("/{GIGABYTE}/true"), &[("user-token", &token)]));
            client.head().expect("a head");
        }
        // Time for whatever would fill up to do so: another client reads as much as it likes.
        down(&gateway, &token, size() / 4, false);
    });
    // On busy cores the login from above may still be hashed, by the fallback worker.
    assert!(grown < MAY_GROW + A_HASH, "{grown} bytes more for twenty clients that do not read");
    drop(fast);
    assert_eq!(gateway.admin("/readyz").status, 200);
    gateway.mint();
}

#[test]
fn a_platform_that_dies_in_the_middle_is_a_failure_that_the_client_sees() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    let size = 10 << 20;
    for chunked in [false, true] {
        platform.behave(Behaviour::Custom(Arc::new(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(size, chunked))?;
            let mut half = Vec::new();
            pour(&mut half, size / 2, chunked)?;
            // Without the end of the last chunk.
            stream.write_all(&half[..half.len() - 5])
        })));
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let answer = curl(protocol, &url(&gateway, "/dies"), &["-H", &token_field(&token)], "");
            assert_ne!(answer.exit, Some(0), "{protocol:?} {chunked}: {} bytes", answer.body.len());
            assert_eq!(answer.status, 200, "{protocol:?} {chunked}: {answer:?}");
        }
        let mut client = gateway.client();
        client.send(request("GET", "/dies", &[("user-token", &token)]));
        let (_, head) = client.head().expect("a head");
        assert_eq!(drink(client.wire(), head.length()), Err(Fault::Truncated), "{chunked}");
    }
    // In the middle of an upload.
    platform.behave(Behaviour::Reset);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let fields = [token_field(&token), "Expect:".to_owned()];
        let arguments = ["-H", &fields[0], "-H", &fields[1], "-T", "-"];
        let answer = curl(protocol, &url(&gateway, "/dies"), &arguments, &"u".repeat(size));
        assert!(answer.status == 502 || answer.exit != Some(0), "{protocol:?}: {answer:?}");
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
