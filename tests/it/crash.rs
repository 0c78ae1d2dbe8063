//! "Durable before acknowledged": processes killed at any moment, disks that are full or held by somebody else, and
//! the order of the system calls themselves.

use crate::audit::token_id;
use crate::client::{Client, basic, request};
use crate::command::{Folder, eventually, finish, started_by, told_of_full_disks, within};
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::house::{House, header};
use crate::jwt::token;
use crate::revocation::{delete, fresh, house_with, number_of};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many clients revoke at once.
const CLIENTS: u64 = 4;

/// Revocations that a client has at hand; a round ends long before.
const EACH: u64 = 2_000;

fn rounds() -> u64 {
    std::env::var("CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// What one client did before the end.
#[derive(Default)]
struct Told {
    revoked: Vec<String>,
    minted: Vec<String>,
}

/// Mints and revokes until the connection breaks; remembers what was acknowledged.
fn revoke_until_the_end(address: SocketAddr, tokens: impl Iterator<Item = String>, acks: &AtomicU64) -> Told {
    let mut told = Told::default();
    let Ok(mut client) = Client::try_connect(address) else { return told };
    for token in tokens {
        let Ok(answer) = client.try_send(delete(&token)).map_err(drop).and_then(|()| client.answer().map_err(drop))
        else {
            return told;
        };
        assert_eq!(answer.status, 204, "{answer:?}");
        acks.fetch_add(1, Ordering::Relaxed);
        told.revoked.push(token);
    }
    told
}

fn mint_until_the_end(address: SocketAddr) -> Told {
    let mut told = Told::default();
    let Ok(mut client) = Client::try_connect(address) else { return told };
    let mint = request("POST", ENDPOINT, &[("Authorization", &basic(USER, PASSWORD))]);
    while let Ok(answer) = client.try_send(&mint).map_err(drop).and_then(|()| client.answer().map_err(drop)) {
        assert_eq!(answer.status, 201, "{answer:?}");
        told.minted.push(answer.json()["user-token"].as_str().expect("a token").to_owned());
    }
    told
}

/// Those of the tokens that do not get this status; all on one connection.
fn not<'t>(gateway: &Gateway, status: u16, tokens: impl IntoIterator<Item = &'t String>) -> Vec<&'t String> {
    let mut client = gateway.client();
    let mut get = |token: &String| client.exchange(request("GET", "/x", &[("user-token", token)])).status;
    tokens.into_iter().filter(|token| get(token) != status).collect()
}

#[test]
fn killed_at_random_moments_it_loses_no_acknowledged_revocation_and_no_token() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(fastrand_seed);
    let (rounds, mut random) = (rounds(), Random(seed));
    eprintln!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let house = house_with(|options| options.set("log", "access", "false"));
    let House { platform, gateway, secret, number } = house;
    let forge = |user: &str, serial: u64| {
        let claims = crate::house::House::claims_of(number, user, serial);
        token(&secret, header().json(), claims.json())
    };
    let (mut gateway, mut longest) = (gateway, Duration::ZERO);
    let (mut revoked, mut minted) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Another user each round: the marks that replace very many revocations are not what is looked at here.
        let user = format!("round{round}");
        let (acks, address) = (AtomicU64::new(0), gateway.http());
        let (enough, pause) = (random.below(60), Duration::from_micros(random.below(3_000)));
        let mut folder = None;
        let told: Vec<Told> = thread::scope(|scope| {
            let mut threads: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    // Two and two revoke the same tokens: an answer that only repeats another must hold as well.
                    let serials = (0..EACH).map(move |serial| client / 2 * EACH + serial);
                    let (forge, user, acks) = (&forge, &user, &acks);
                    scope.spawn(move || {
                        revoke_until_the_end(address, serials.map(|serial| forge(user, serial)), acks)
                    })
                })
                .collect();
            threads.push(scope.spawn(move || mint_until_the_end(address)));
            eventually("revocations", || (acks.load(Ordering::Relaxed) >= enough).then_some(()));
            thread::sleep(pause);
            folder = Some(gateway.kill());
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        });
        let began = Instant::now();
        gateway = folder.expect("its folder").run(&[]);
        longest = longest.max(began.elapsed());
        let new: BTreeSet<String> = told.iter().flat_map(|told| told.revoked.clone()).collect();
        let lost = not(&gateway, 401, &new);
        assert!(lost.is_empty(), "round {round}: {} of {} revocations were lost: {lost:?}", lost.len(), new.len());
        let new_minted: Vec<String> = told.into_iter().flat_map(|told| told.minted).collect();
        let untouched: Vec<String> = (0..3).map(|serial| forge(&user, CLIENTS * EACH + serial)).collect();
        let lost = not(&gateway, 200, new_minted.iter().chain(&untouched));
        assert!(lost.is_empty(), "round {round}: tokens that nobody revoked are refused: {lost:?}");
        revoked.extend(new);
        minted.extend(new_minted);
    }
    let lost = not(&gateway, 401, &revoked);
    assert!(lost.is_empty(), "{} of {} revocations were lost in the end", lost.len(), revoked.len());
    assert!(not(&gateway, 200, &minted).is_empty());
    let numbers: BTreeSet<u64> = minted.iter().map(|token| number_of(token)).collect();
    assert_eq!(numbers.len(), minted.len(), "no number is given out twice");
    assert!(revoked.len() as u64 >= rounds, "{} revocations in {rounds} rounds", revoked.len());
    eprintln!("{} revoked, {} minted; the longest start took {longest:?}", revoked.len(), minted.len());
    gateway.still_healthy();
    drop(platform);
}
