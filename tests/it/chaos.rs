//! Three gateways and their database, killed, paused, failed over and cut off from each other at random, while clients mint, revoke, change a user and ask
//! through any of them. What each client saw is held against what must be:
//!
//! - a token whose revocation was acknowledged is admitted by nobody who is asked later than [`BOUND`] after that, and in the end by nobody;
//! - a token that nobody has asked to revoke is refused by nobody for that;
//! - a password that was changed mints nothing once the change is acknowledged, and ends what it has minted.

use crate::client::{Client, basic, request};
use crate::command::within;
use crate::contract::ENDPOINT;
use crate::deployment::header;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt::{self, Members, now};
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use crate::postgres_server::{Stop, TestServer};
use crate::revocation::delete;
use crate::seeds::{number, seeds};
use fastrand::Rng;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// `store.max_staleness`, and what a busy machine may take to ask.
const BOUND: Duration = Duration::from_secs(2 + 1);

const GATEWAYS: usize = 3;

/// How much longer it takes at most until something is done.
const MORE: Duration = Duration::from_secs(120);

/// So many of those that were revoked last are asked about most of the time.
const RECENT: usize = 20;

/// So many tokens are there to be revoked for each second.
const SUPPLY: u64 = 60;

/// Whose password changes.
const CHANGING: &str = "changing";

/// A way to the database that can be cut: what is sent then waits.
struct Link {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    /// Where new connections lead.
    port: Arc<AtomicU16>,
}

impl Link {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, is_cut) = (listener.local_addr().expect("an address"), Arc::<AtomicBool>::default());
        let (cut, port) = (Arc::clone(&is_cut), Arc::new(AtomicU16::new(port)));
        let leads_to = Arc::clone(&port);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", leads_to.load(Relaxed))) else { continue };
                // Or each round trip takes as long as an acknowledgement may be delayed.
                drop((client.set_nodelay(true), server.set_nodelay(true)));
                for (mut from, mut to) in [
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket")),
                    (server, client),
                ] {
                    let cut = Arc::clone(&cut);
                    thread::spawn(move || {
                        let mut buffer = [0; 16 * 1024];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            while cut.load(Relaxed) {
                                thread::sleep(Duration::from_millis(5));
                            }
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
                    });
                }
            }
        });
        Self { address, is_cut, port }
    }
}

/// What is known of a token.
struct Token {
    text: String,
    /// Of the user whose password changes: with which one it was minted.
    password: Option<usize>,
    /// Since when it was asked for a revocation.
    asked: bool,
    /// When its revocation was acknowledged.
    revoked: Option<Instant>,
}

/// Tokens as the gateway mints them, but for the time that a password takes.
fn supply(gateway: &Gateway, count: u64) -> Vec<Token> {
    let (_, claims) = jwt::read(&gateway.mint());
    let jti = claims["jti"].as_str().expect("a jti").split('.').next().expect("<n>").to_owned();
    let token = |serial: u64| {
        let jti = format!("{jti}.{serial:0>21}w");
        let claims = Members::new().and("exp", now() + 80_000).and("iat", now());
        let claims =
            claims.text("database", ORGANIZATION).text("email", EMAIL).text("user", USER).text("jti", &jti);
        let text = jwt::token(&Key::ours("k1").secret, header().json(), claims.json());
        Token { text, password: None, asked: false, revoked: None }
    };
    (0..count).map(token).collect()
}

/// What the clients know.
struct Known {
    tokens: Vec<Token>,
    /// When each password was replaced, as acknowledged; the last is the one that is set, or is being set.
    passwords: Vec<Option<Instant>>,
    faults: Vec<String>,
}

struct World {
    addresses: Vec<SocketAddr>,
    known: Mutex<Known>,
    is_over: AtomicBool,
    /// The token that is revoked next.
    next: AtomicUsize,
    /// Answers by kind: admitted, refused, minted, revoked, unavailable or lost.
    answers: [AtomicU64; 5],
}

impl World {
    fn count(&self, kind: usize) {
        self.answers[kind].fetch_add(1, Relaxed);
    }

    fn fault(&self, text: String) {
        eprintln!("FAULT: {text}");
        self.known.lock().expect("a lock").faults.push(text);
    }

    /// One request through any gateway; nothing if it was lost.
    fn ask(&self, random: &mut Rng, bytes: &[u8]) -> Option<(usize, u16, String)> {
        let which = random.usize(..GATEWAYS);
        let mut client = Client::try_connect(self.addresses[which]).ok()?;
        client.try_send(bytes).ok()?;
        let answer = client.answer().ok()?;
        Some((which, answer.status, answer.text()))
    }

    /// What one client does until it is over. Those that write wait for seconds where a gateway is cut off; others ask on meanwhile.
    fn live(&self, writes: bool, mut random: Rng) {
        while !self.is_over.load(Relaxed) {
            match (writes, random.bool()) {
                (false, _) => self.get(&mut random),
                (true, true) => self.mint(&mut random),
                (true, false) => self.revoke(&mut random),
            }
            thread::sleep(Duration::from_millis(if writes { 20 } else { 1 }));
        }
    }

    fn mint(&self, random: &mut Rng) {
        let is_changing = random.u8(..4) == 0;
        let (user, password, which) = if is_changing {
            let count = self.known.lock().expect("a lock").passwords.len();
            // Now and then one that is no more.
            let which = if random.u8(..4) == 0 { random.usize(..count) } else { count - 1 };
            (CHANGING, format!("password {which}"), Some(which))
        } else {
            (USER, PASSWORD.to_owned(), None)
        };
        let began = Instant::now();
        let mint = request("POST", ENDPOINT, &[("Authorization", &basic(user, &password))]);
        let Some((gateway, status, text)) = self.ask(random, &mint) else { return self.count(4) };
        if status != 201 {
            return self.count(4);
        }
        self.count(2);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let text = json["user-token"].as_str().expect("a token").to_owned();
        let mut known = self.known.lock().expect("a lock");
        let is_old = which.is_some_and(|which| known.passwords[which].is_some_and(|ended| ended < began));
        known.tokens.push(Token { text, password: which, asked: false, revoked: None });
        drop(known);
        if is_old {
            self.fault(format!("gateway {gateway} minted with a password that was replaced before"));
        }
    }

    fn revoke(&self, random: &mut Rng) {
        let index = self.next.fetch_add(1, Relaxed);
        let mut known = self.known.lock().expect("a lock");
        if index >= known.tokens.len() {
            return;
        }
        known.tokens[index].asked = true;
        let text = known.tokens[index].text.clone();
        drop(known);
        match self.ask(random, &delete(&text)) {
            Some((_, 204, _)) => {
                self.count(3);
                let now = Instant::now();
                let mut known = self.known.lock().expect("a lock");
                known.tokens[index].revoked.get_or_insert(now);
            }
            _ => self.count(4),
        }
    }

    fn get(&self, random: &mut Rng) {
        let known = self.known.lock().expect("a lock");
        // As a rule one that was revoked of late, or is about to be.
        let (next, count) = (self.next.load(Relaxed), known.tokens.len());
        let index = match random.u8(..8) {
            0 => random.usize(..count),
            _ => random.usize(next.saturating_sub(RECENT)..next + 3).min(count - 1),
        };
        let token = &known.tokens[index];
        let ended = token.password.and_then(|which| known.passwords[which]);
        let (text, revoked) = (token.text.clone(), token.revoked.into_iter().chain(ended).min());
        drop(known);
        let began = Instant::now();
        let get = request("GET", "/x", &[("user-token", &text)]);
        let Some((gateway, status, _)) = self.ask(random, &get) else { return self.count(4) };
        match status {
            200 => {
                self.count(0);
                if let Some(after) = revoked.and_then(|revoked| began.checked_duration_since(revoked))
                    && after > BOUND
                {
                    self.fault(format!(
                        "gateway {gateway} admitted token {index} {after:?} after its end was acknowledged"
                    ));
                }
            }
            401 => {
                self.count(1);
                let known = self.known.lock().expect("a lock");
                let token = &known.tokens[index];
                // The last password may be about to be replaced.
                let may_be_ended = token.password.is_some() || token.asked;
                drop(known);
                if !may_be_ended {
                    self.fault(format!("gateway {gateway} refused token {index}, which nobody has ended"));
                }
            }
            _ => self.count(4),
        }
    }
}

/// What happens to the machines.
#[derive(Clone, Copy, Debug)]
enum Fault {
    DatabaseKilled,
    DatabasePaused,
    DatabaseRestarted,
    /// A standby that has not seen the last commits takes its place.
    FailedOver,
    /// One gateway is cut off from the database.
    Cut(usize),
    GatewayKilled(usize),
    GatewayPaused(usize),
}

fn fault(random: &mut Rng) -> Fault {
    let which = random.usize(..GATEWAYS);
    match random.u8(..10) {
        0 => Fault::DatabaseKilled,
        1 => Fault::DatabasePaused,
        2 => Fault::DatabaseRestarted,
        3 | 4 => Fault::FailedOver,
        5 | 6 => Fault::Cut(which),
        7 => Fault::GatewayKilled(which),
        _ => Fault::GatewayPaused(which),
    }
}

/// What is broken on purpose, to see that it is found. Nothing else happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    /// Nobody hears of a change, and nobody looks for half a minute.
    DroppedNotifications,
    /// A revocation gets a sequence that was taken before the lock: others have read past it when it is committed.
    EarlySequence,
}

impl Plant {
    fn sql(self) -> &'static str {
        match self {
            Self::DroppedNotifications => {
                "CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''; \
                 DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$"
            }
            Self::EarlySequence => {
                "CREATE FUNCTION early() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.number := new.number - 2; RETURN new; END $$; \
                 CREATE TRIGGER early BEFORE INSERT ON revoked_tokens FOR EACH ROW EXECUTE FUNCTION early()"
            }
        }
    }
}

/// Lets it happen for so long. What was seen that must not be is in the result where something is planted; else there is nothing.
fn chaos(seed: u64, seconds: u64, plant: Option<Plant>) -> Vec<String> {
    let mut random = Rng::with_seed(seed);
    let (mut server, platform) = (TestServer::start(), Platform::echo());
    let database = server.create_database();
    let links: Vec<Link> = (0..GATEWAYS).map(|_| Link::to(server.port())).collect();
    let options = |which: usize| {
        let port = links[which].address.port();
        let is_blind = plant == Some(Plant::DroppedNotifications);
        let (poll, heartbeat, staleness) =
            if is_blind { ("30s", "30s", "60s") } else { ("100ms", "1s", "2s") };
        Options::new(&platform)
            .set("store", "poll_interval", format!("{poll:?}"))
            .set(
                "store",
                "url",
                format!("\"postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable\""),
            )
            .set("store", "heartbeat_interval", format!("{heartbeat:?}"))
            .set("store", "max_staleness", format!("{staleness:?}"))
            .set("limits.login", "trusted", "[\"127.0.0.0/8\"]")
            .set("log", "access", "false")
            .set("server", "http", format!("[\"{}\"]", crate::proxies::free_address()))
            .key(Key::ours("k1"))
    };
    let changing = User::new(CHANGING, "password 0", "changing@example.com", "Main Org.");
    let mut gateways = vec![Some(options(0).user(changing).start())];
    if let Some(plant) = plant {
        server.psql_in(&database, plant.sql());
        // So that its sessions begin anew.
        let folder = gateways[0].take().expect("a gateway").kill();
        gateways[0] = Some(folder.run(&[]));
    }
    gateways.extend((1..GATEWAYS).map(|which| Some(options(which).nobody().start())));
    let http = |gateway: &Option<Gateway>| gateway.as_ref().expect("a gateway").http();
    let world = World {
        addresses: gateways.iter().map(http).collect(),
        known: Mutex::new(Known {
            tokens: supply(gateways[0].as_ref().expect("a gateway"), SUPPLY * seconds),
            passwords: vec![None],
            faults: Vec::new(),
        }),
        is_over: AtomicBool::new(false),
        next: AtomicUsize::new(0),
        answers: Default::default(),
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for client in 0..12 {
            let (world, random) = (&world, Rng::with_seed(seed.wrapping_add(client + 1)));
            scope.spawn(move || world.live(client < 8, random));
        }
        // On a busy machine longer, so that something was done in between.
        let is_enough = || world.answers[2].load(Relaxed) > 0 && world.answers[3].load(Relaxed) > 3;
        while Instant::now() < end || (!is_enough() && Instant::now() < end + MORE) {
            thread::sleep(Duration::from_millis(random.u64(200..1500)));
            if plant.is_some() {
                continue;
            }
            let (fault, held) = (fault(&mut random), Duration::from_millis(random.u64(100..8000)));
            eprintln!("{fault:?} for {held:?}");
            let gateway = |which: usize| gateways[which].as_ref().expect("a gateway");
            match fault {
                Fault::DatabaseKilled => {
                    server.kill();
                    thread::sleep(held);
                    server.start_again();
                }
                Fault::DatabaseRestarted => {
                    server.stop(Stop::Fast);
                    server.start_again();
                }
                Fault::DatabasePaused => {
                    server.pause();
                    thread::sleep(held);
                    server.resume();
                }
                Fault::FailedOver => {
                    let mut standby = server.replica();
                    server.wait_for(&standby);
                    standby.stop(Stop::Fast);
                    thread::sleep(held / 4);
                    server.kill();
                    standby.start_again();
                    standby.promote();
                    links.iter().for_each(|link| link.port.store(standby.port(), Relaxed));
                    server = standby;
                    // Nobody who is started again meanwhile would know what is lost.
                    for which in 0..GATEWAYS {
                        let ready =
                            within(60, || (gateway(which).admin("/readyz").status == 200).then_some(()));
                        ready.expect("gateways write back what was lost");
                    }
                }
                Fault::Cut(which) => {
                    links[which].is_cut.store(true, Relaxed);
                    thread::sleep(held);
                    links[which].is_cut.store(false, Relaxed);
                }
                Fault::GatewayKilled(which) => {
                    let folder = gateways[which].take().expect("a gateway").kill();
                    thread::sleep(held / 4);
                    gateways[which] = Some(folder.run(&[]));
                }
                Fault::GatewayPaused(which) => {
                    gateway(which).signal("STOP");
                    thread::sleep(held);
                    gateway(which).signal("CONT");
                }
            }
            if random.bool() {
                change_password(&world, gateways[random.usize(..GATEWAYS)].as_ref().expect("a gateway"));
            }
        }
        world.is_over.store(true, Relaxed);
    });
    let counts = world.answers.each_ref().map(|count| count.load(Relaxed));
    let Known { tokens, passwords, faults } = world.known.into_inner().expect("what is known");
    let [admitted, refused, minted, revoked, lost] = counts;
    eprintln!(
        "{admitted} admitted, {refused} refused, {minted} minted, {revoked} revoked, {lost} unavailable or lost, {} passwords",
        passwords.len()
    );
    if plant.is_some() {
        return faults;
    }
    assert!(faults.is_empty(), "CHAOS_SEED={seed}: {} faults: {faults:#?}", faults.len());
    assert!(minted > 0 && revoked > 3 && admitted > 100, "little was done");
    // What holds in the end holds everywhere.
    for gateway in gateways.iter().flatten() {
        let mut said = String::new();
        let ready = within(60, || {
            let ready = gateway.admin("/readyz");
            said = ready.text();
            (ready.status == 200).then_some(())
        });
        if ready.is_none() {
            let sessions = "SELECT pid, application_name, state, wait_event, now() - xact_start, left(query, 80) \
                            FROM pg_stat_activity WHERE backend_type = 'client backend'";
            let sessions: Vec<String> = (0..3).map(|_| server.psql(sessions)).collect();
            panic!("CHAOS_SEED={seed}: a gateway is not ready: {said}\n{}", sessions.join("\n\n"));
        }
        let mut client = gateway.client();
        for (index, token) in tokens.iter().enumerate() {
            let ended =
                token.revoked.is_some() || token.password.is_some_and(|which| passwords[which].is_some());
            let get = request("GET", "/x", &[("user-token", &token.text)]);
            // On a busy machine it may be late with a look.
            let status =
                within(60, || Some(client.exchange(get.clone()).status).filter(|status| *status != 503));
            let status = status.expect("an answer");
            let is_right = match (ended, token.asked || token.password.is_some()) {
                (true, _) => status == 401,
                (false, false) => status == 200,
                (false, true) => true,
            };
            assert!(is_right, "CHAOS_SEED={seed}: token {index} gets {status} in the end");
        }
    }
    faults
}

/// Changes the password by the command line, through this gateway's way to the database.
fn change_password(world: &World, gateway: &Gateway) {
    let mut known = world.known.lock().expect("a lock");
    let next = known.passwords.len();
    known.passwords.push(None);
    drop(known);
    let change = || {
        let done = gateway
            .folder
            .cli(&["user", "passwd", CHANGING, "--password-stdin"], &format!("password {next}"));
        // 75: it is made, and not every gateway has confirmed.
        matches!(done.code, Some(0)).then_some(())
    };
    within(60, change).expect("the password is changed once the database is there");
    let now = Instant::now();
    let mut known = world.known.lock().expect("a lock");
    known.passwords[..next].iter_mut().for_each(|ended| _ = ended.get_or_insert(now));
}

#[test]
fn no_fault_lets_a_token_outlive_its_acknowledged_end() {
    let seconds = number("CHAOS_SECONDS").unwrap_or(20);
    for (seed, seconds) in seeds("CHAOS_SEED", &[], 0, seconds) {
        eprintln!("CHAOS_SEED={seed}");
        chaos(seed, seconds, None);
    }
}

/// The checker can find something: a feed that misses what it must not.
#[test]
fn a_feed_that_is_broken_on_purpose_is_found() {
    for plant in [Plant::DroppedNotifications, Plant::EarlySequence] {
        let faults = chaos(7, 8, Some(plant));
        let is_late = |fault: &&String| fault.contains("after its end was acknowledged");
        assert!(faults.iter().any(|fault| is_late(&fault)), "{plant:?} was not found: {faults:?}");
    }
}
