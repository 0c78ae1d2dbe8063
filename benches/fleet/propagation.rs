//! From the acknowledgement of a revocation in one gateway to its refusal by all others.

use std::thread;
use std::time::{Duration, Instant};

use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::name::Name;
use ds_gateway::auth::token::{Minted, mint};
use ds_gateway::clock::wall;
use ds_gateway::store::block_on;

use crate::database::{self, Rates, Usage, memory};
use crate::gateway::{Gateway, keys, place};
use crate::load::{Load, millis, revoke};
use crate::stats::quantile;
use crate::variable::variable;

/// Prints what it is with so many gateways each time.
pub fn measure(counts: impl Iterator<Item = usize>) {
    let (seconds, rate) = (variable("SECONDS", 10), variable("RATE", 1000));
    println!(
        "| gateways | load | refused by all others after ms: p50, p99, max | by each: p50, p99 | acknowledged after ms: p50, p99 | statements/s | transactions/s | cores: database, gateways | memory a gateway |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for count in counts {
        let server = database::start(count);
        let database = server.create_database();
        let place = place(&server.url(&database));
        let before = memory("self", "VmRSS");
        let mut gateways = vec![Gateway::create(&place)];
        gateways.extend((1..count).map(|number| Gateway::open(&place, number)));
        thread::sleep(Duration::from_secs(2));
        let each = memory("self", "VmRSS").saturating_sub(before) as f64 / count as f64;
        let look = || Usage::of(&server, &database);
        let line = |load: &str, sample: &Sample, acknowledged: &[f64], rates: &Rates| {
            println!(
                "| {count} | {load} | {} | {} | {} | {:.0} | {:.0} | {:.2}, {:.2} | {:.2} MB |",
                figures(&sample.by_all, &[0.5, 0.99, 1.0]),
                figures(&sample.by_each, &[0.5, 0.99]),
                figures(acknowledged, &[0.5, 0.99]),
                rates.statements,
                rates.commits,
                rates.database,
                rates.process,
                each / 1e6,
            );
            if std::env::var_os("STATEMENTS").is_some() {
                rates.by_text.iter().take(30).for_each(|(text, rate)| println!("    {rate:9.1}  {text}"));
            }
        };

        let before = look();
        thread::sleep(Duration::from_secs(seconds));
        line("at rest", &Sample::default(), &[], &look().since(&before));

        let before = look();
        let sample = sample(&gateways, Duration::from_secs(seconds));
        line("one after the other", &sample, &sample.acknowledged, &look().since(&before));

        let writers = variable("WRITERS", count);
        let stores = gateways.iter().take(writers).map(|gateway| gateway.store.clone()).collect();
        let load = Load::start(stores, rate);
        thread::sleep(Duration::from_secs(2));
        let before = look();
        let sample = self::sample(&gateways, Duration::from_secs(seconds));
        let rates = look().since(&before);
        let acknowledged = load.end();
        line(&format!("{rate} revocations/s by {writers}"), &sample, &acknowledged, &rates);
        // One after the other they would wait for one another.
        thread::scope(|scope| gateways.into_iter().for_each(|gateway| drop(scope.spawn(|| drop(gateway)))));
    }
}

/// Times in milliseconds.
#[derive(Default)]
struct Sample {
    acknowledged: Vec<f64>,
    by_each: Vec<f64>,
    by_all: Vec<f64>,
}

/// Revokes one token after the other for so long, by each gateway in turn.
fn sample(gateways: &[Gateway], time: Duration) -> Sample {
    let (mut sample, began) = (Sample::default(), Instant::now());
    for (number, gateway) in gateways.iter().enumerate().cycle() {
        if began.elapsed() > time {
            break;
        }
        // At no moment that has to do with theirs.
        thread::sleep(Duration::from_micros(fastrand::u64(20_000..60_000)));
        let token = token(gateway);
        assert!(gateways.iter().all(|gateway| gateway.admits(&token.token)), "every gateway admits it");
        let sent = Instant::now();
        if let Err(error) = block_on(revoke(&gateway.store, token.id)) {
            eprintln!("a revocation was not acknowledged: {error}");
            continue;
        }
        sample.acknowledged.push(millis(sent.elapsed()));
        let acknowledged = Instant::now();
        let mut others: Vec<&Gateway> = gateways
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number)
            .map(|(_, other)| other)
            .collect();
        while !others.is_empty() {
            let admitting = others.len();
            others.retain(|other| other.admits(&token.token));
            let passed = millis(acknowledged.elapsed());
            sample.by_each.extend((others.len()..admitting).map(|_| passed));
            if others.is_empty() {
                sample.by_all.push(passed);
            } else {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
    sample
}

/// A token of somebody, as a gateway would have minted it.
pub fn token(gateway: &Gateway) -> Minted {
    let identity = Identity {
        user: Name::parse_user(&format!("user-{}", fastrand::u16(..))).unwrap(),
        email: "someone@example.com".into(),
        organization: Name::parse("Main Org.").unwrap(),
    };
    let keys = keys();
    let signer = keys.signer();
    // A sequence that the store will not have given out by then.
    let random = fastrand::u128(..).to_be_bytes();
    mint(&identity, 1 << 40, random, wall(), &gateway.rules(), signer).unwrap()
}

fn figures(values: &[f64], shares: &[f64]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let figures: Vec<String> =
        shares.iter().map(|share| format!("{:.1}", quantile(values, *share))).collect();
    figures.join(", ")
}
