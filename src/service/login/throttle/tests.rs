use super::*;
use std::net::{IpAddr, Ipv4Addr};

fn from(address: u32) -> Option<(Source, Network)> {
    let address = IpAddr::from(Ipv4Addr::from_bits(address));
    Some((Source::of(address), Network::of(address)))
}

fn attempt(name: &str, address: u32, is_known: bool) -> Attempt<'_> {
    Attempt { name, unlocks: 0, source: from(address), is_known }
}

fn throttle() -> Throttle {
    Throttle::new(Sketch::new([7; 32]))
}

fn seconds(seconds: u32) -> Ticks {
    Ticks(seconds * Ticks::PER_SECOND)
}

const HOUR: u32 = 3600;
const OWNER: u32 = 0xc000_0201;

/// Four days of attackers without a pause, ten thousand of them, beside an owner who logs in now and then.
#[test]
fn no_attacker_elsewhere_locks_an_owner_out_and_guesses_are_few_in_every_hour() {
    let throttle = throttle();
    let (mut guesses, mut second) = (Vec::new(), 0);
    let mut random = fastrand::Rng::with_seed(1);
    while second < 4 * 24 * HOUR {
        for _ in 0..3 {
            let attacker = throttle.counts(&attempt("owner", 0x0a00_0000 + random.u32(..10_000), false));
            if throttle.take(&attacker, 1, seconds(second)).is_ok() {
                guesses.push(second);
            }
        }
        if second % 600 < 7 {
            let owner = throttle.counts(&attempt("owner", OWNER, true));
            assert_eq!(throttle.take(&owner, 1, seconds(second)), Ok(()), "at {second} s");
            if random.u8(..10) > 0 {
                throttle.give_back(&owner, 1);
            }
        }
        second += 7;
    }
    for (at, first) in guesses.iter().enumerate() {
        let within = guesses[at..].iter().take_while(|guess| **guess < first + HOUR).count();
        assert!(within <= 100, "{within} guesses in the hour from {first} s");
    }
    assert!(guesses.len() > 4 * 24 * 30, "some must be let through, or a new address would wait for ever");
}

#[test]
fn an_attacker_behind_the_owners_address_delays_the_owner_by_three_minutes_at_most() {
    let throttle = throttle();
    let owner = throttle.counts(&attempt("owner", OWNER, true));
    let mut attacks = 0;
    while throttle.take(&owner, 1, seconds(0)).is_ok() {
        attacks += 1;
    }
    assert_eq!(attacks, 20);
    let throttled = throttle.check(&owner, seconds(0)).unwrap_err();
    assert_eq!(throttled, Throttled { reason: Reason::Source, seconds: 180 });
    assert_eq!(throttle.check(&owner, seconds(180)), Ok(()));
    // Other accounts at this address, and the owner elsewhere, go on.
    assert_eq!(throttle.check(&throttle.counts(&attempt("other", OWNER, true)), seconds(0)), Ok(()));
    assert_eq!(throttle.check(&throttle.counts(&attempt("owner", OWNER + 1, true)), seconds(0)), Ok(()));
    throttle.take(&owner, 1, seconds(180)).unwrap();
    throttle.give_back(&owner, 1);
    for _ in 0..20 {
        throttle.take(&owner, 1, seconds(181)).expect("a right password gives all of them back");
    }
}

#[test]
fn each_limit_is_reached_by_what_it_is_about_alone() {
    for (reason, limit, count) in [
        (Reason::Account, ACCOUNT, 60),
        (Reason::Source, SOURCE, 20),
        (Reason::Address, ADDRESS, 120),
        (Reason::Network, NETWORK, 600),
    ] {
        let throttle = throttle();
        let of = |number: u32| -> (String, u32, bool) {
            let name = |number: u32| format!("user{number}");
            match reason {
                Reason::Account => ("owner".into(), 0x0a00_0000 + (number << 8), false),
                Reason::Source => ("owner".into(), OWNER, true),
                Reason::Address => (name(number), OWNER, false),
                Reason::Network => (name(number), (OWNER & !0xff) + number % 200, false),
            }
        };
        for number in 0..count {
            let (name, address, is_known) = of(number);
            let counts = throttle.counts(&attempt(&name, address, is_known));
            assert_eq!(throttle.take(&counts, 1, seconds(0)), Ok(()), "{reason:?} {number}");
        }
        let (name, address, is_known) = of(count);
        let counts = throttle.counts(&attempt(&name, address, is_known));
        let throttled = throttle.check(&counts, seconds(0)).unwrap_err();
        assert_eq!((throttled.reason, throttled.seconds), (reason, limit.every / Ticks::PER_SECOND));
        assert_eq!(throttle.check(&counts, Ticks(limit.every)), Ok(()), "{reason:?}");
        let elsewhere = throttle.counts(&attempt("somebody", 0x2000_0000, false));
        assert_eq!(throttle.check(&elsewhere, seconds(0)), Ok(()), "{reason:?}");
    }
}

#[test]
fn unlocked_account_starts_from_zero() {
    let throttle = throttle();
    for is_known in [false, true] {
        let locked = attempt("owner", OWNER, is_known);
        let counts = throttle.counts(&locked);
        while throttle.take(&counts, 1, seconds(0)).is_ok() {}
        let unlocked = throttle.counts(&Attempt { unlocks: 1, source: from(OWNER + 0x1_0000), ..locked });
        assert_eq!(throttle.check(&unlocked, seconds(0)), Ok(()));
    }
}

#[test]
fn what_is_refused_does_not_count() {
    let throttle = throttle();
    let counts = throttle.counts(&attempt("owner", OWNER, false));
    while throttle.take(&counts, 1, seconds(0)).is_ok() {}
    for _ in 0..10_000 {
        assert!(throttle.take(&counts, 1, seconds(0)).is_err());
    }
    assert_eq!(throttle.check(&counts, seconds(90)), Ok(()));
    let debt = |wrong, tried| {
        let recent = Recent { wrong, tried };
        Debt { network: recent, address: recent }
    };
    assert_eq!(throttle.debt(&counts, seconds(0)), debt(60, 0));
    assert_eq!(throttle.debt(&counts, seconds(0)), debt(60, 1));
    assert_eq!(throttle.debt(&counts, seconds(59 * 1200)), debt(1, 0));
}
