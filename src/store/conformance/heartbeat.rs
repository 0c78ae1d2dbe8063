//! Which gateways run and how far each has come.

use std::collections::HashSet;

use super::harness::{Fixture, on_every_engine};
use super::samples::START;
use crate::auth::keys::Fingerprint;
use crate::store::command::{Deregister, Heartbeat, RequestAcknowledgements};
use crate::store::records::Acknowledgement;

fn beat(fixture: &Fixture, gateway: &str, applied: u64) {
    fixture.execute(Heartbeat { gateway: gateway.into(), applied, lease: 12, keys: vec![] });
}

/// Those whose lease holds.
fn heard(fixture: &Fixture) -> Vec<(String, u64)> {
    let found = fixture.acknowledgements().into_iter().filter(|row| row.is_leased);
    found.map(|Acknowledgement { gateway, applied, .. }| (gateway, applied)).collect()
}

#[test]
fn last_heartbeat_of_each_gateway_counts() {
    on_every_engine(|fixture| {
        assert_eq!(heard(&fixture), []);
        beat(&fixture, "one", 5);
        beat(&fixture, "two", 6);
        beat(&fixture, "one", 7);
        assert_eq!(heard(&fixture), [("one".into(), 7), ("two".into(), 6)]);
        // Another process sees them too.
        let another = fixture.another(START);
        let seen = fixture.wait(another.acknowledgements());
        assert_eq!(seen.len(), 2);
    });
}

#[test]
fn gateway_whose_lease_has_ended_is_told_apart() {
    on_every_engine(|fixture| {
        beat(&fixture, "one", 5);
        fixture.set_time(START + 12);
        beat(&fixture, "two", 5);
        // To the second.
        assert_eq!(heard(&fixture), [("one".into(), 5), ("two".into(), 5)]);
        fixture.set_time(START + 13);
        assert_eq!(heard(&fixture), [("two".into(), 5)]);
        assert_eq!(fixture.acknowledgements().len(), 2, "it has not said that it stopped");
        fixture.set_time(START + 1000);
        beat(&fixture, "one", 9);
        assert_eq!(heard(&fixture), [("one".into(), 9)]);
    });
}

#[test]
fn deregistered_gateway_is_not_counted_until_it_is_back() {
    on_every_engine(|fixture| {
        beat(&fixture, "one", 5);
        beat(&fixture, "two", 5);
        fixture.execute(Deregister { gateway: "one".into() });
        assert_eq!(heard(&fixture), [("two".into(), 5)]);
        fixture.unchanged(|| fixture.execute(Deregister { gateway: "one".into() }));
        fixture.unchanged(|| fixture.execute(Deregister { gateway: "TWO".into() }));
        beat(&fixture, "one", 6);
        assert_eq!(heard(&fixture), [("one".into(), 6), ("two".into(), 5)]);
    });
}

#[test]
fn requested_sequence_follows_the_request_and_nothing_else() {
    on_every_engine(|fixture| {
        let requested = || {
            let sequence = fixture.sequence();
            // At every place of the feed: before its end, at its end, and when it is asked there again.
            let found = [0, sequence, sequence].map(|after| fixture.changes(after, 1).requested);
            assert!(found.iter().all(|requested| *requested == found[0]), "{found:?}");
            found[0]
        };
        assert_eq!(requested(), 0);
        fixture.add("anna");
        assert_eq!(requested(), 0);
        fixture.execute(RequestAcknowledgements);
        assert_eq!(requested(), fixture.sequence());
        let first = requested();
        fixture.add("bert");
        beat(&fixture, "one", 3);
        assert_eq!(requested(), first);
        // By another process, with nothing new in the feed.
        assert_eq!(fixture.changes(fixture.sequence(), 1).requested, first);
        fixture.execute_on(&fixture.another(START), RequestAcknowledgements);
        assert_eq!(requested(), fixture.sequence());
        fixture.unchanged(|| fixture.execute(RequestAcknowledgements));
    });
}

#[test]
fn a_heartbeat_says_which_of_its_keys_every_other_gateway_has_whose_lease_holds() {
    on_every_engine(|fixture| {
        let [one, two, three] = [1, 2, 3].map(|byte| Fingerprint([byte; 32]));
        let beat = |gateway: &str, keys: &[Fingerprint]| {
            let heartbeat = Heartbeat { gateway: gateway.into(), applied: 1, lease: 12, keys: keys.to_vec() };
            fixture.execute(heartbeat)
        };
        let shared = || fixture.wait(fixture.store.shared_keys());
        assert_eq!(shared(), None);
        assert_eq!(beat("silent", &[]), HashSet::new());
        assert_eq!(shared(), None);
        assert_eq!(beat("a", &[one, two]), HashSet::from([one, two]));
        assert_eq!(beat("b", &[two, three]), HashSet::from([two]));
        assert_eq!(beat("a", &[one]), HashSet::new());
        assert_eq!(shared(), Some(HashSet::new()));
        fixture.set_time(START + 13);
        // The lease of the other has ended.
        assert_eq!(beat("a", &[one, two]), HashSet::from([one, two]));
        assert_eq!(shared(), Some(HashSet::from([one, two])));
        assert_eq!(beat("b", &[two]), HashSet::from([two]));
        fixture.execute(Deregister { gateway: "b".into() });
        assert_eq!(shared(), Some(HashSet::from([one, two])));
    });
}
