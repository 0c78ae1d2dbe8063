use super::*;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use std::time::{Duration, Instant};

fn table(connections: usize, per_address: Option<usize>, workers: usize) -> Table {
    Table::new(Bounds { connections, per_address }, workers)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn activity(seconds: u64) -> Arc<Activity> {
    let started = Instant::now();
    Arc::new(Activity::new(started, started + Duration::from_secs(seconds)))
}

/// Opens a connection, which ends the returned one.
fn open(table: &mut Table, from: &str, socket: RawFd, at: u64) -> Result<Option<RawFd>, Refusal> {
    let yields = table.make_place(address(from), false)?;
    table.insert(address(from), socket, activity(at));
    Ok(yields)
}

#[test]
fn the_heaviest_source_yields_its_idlest() {
    let mut table = table(5, None, 1);
    for (from, socket, at) in
        [("10.0.0.1", 1, 1), ("10.0.1.1", 2, 9), ("10.0.1.1", 3, 4), ("10.0.1.2", 4, 2), ("10.0.2.1", 5, 0)]
    {
        assert_eq!(open(&mut table, from, socket, at), Ok(None));
    }
    assert_eq!(open(&mut table, "10.0.9.1", 6, 9), Ok(Some(3)), "of 10.0.1.1, which has two of the three");
    assert_eq!(open(&mut table, "10.0.1.7", 7, 9), Ok(Some(4)), "the newcomer's own network is the heaviest");
    assert_eq!(table.live, 5);
}

/// A flood is accepted faster than workers close what it displaces.
#[test]
fn those_that_are_ending_are_bounded() {
    let mut table = table(1_000, None, 1);
    for socket in 0..1_000 {
        open(&mut table, "10.0.0.1", socket, 0).unwrap();
    }
    for socket in 0..ENDING / 2 {
        assert!(open(&mut table, "10.0.0.2", socket as RawFd, 0).unwrap().is_some());
    }
    assert_eq!(open(&mut table, "10.0.0.2", 0, 0), Err(Refusal::Connections));
    for socket in 0..ENDING / 2 {
        assert!(open(&mut table, "10.0.9.1", socket as RawFd, 0).unwrap().is_some());
    }
    assert_eq!(open(&mut table, "10.0.9.1", 0, 0), Err(Refusal::Connections));
    let ended = table.entries.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.was_ended));
    table.remove(ended.unwrap());
    assert!(open(&mut table, "10.0.9.1", 0, 0).unwrap().is_some());
}

#[test]
fn what_works_does_not_yield() {
    let (mut table, mut requests) = (table(2, None, 1), Vec::new());
    for socket in [1, 2] {
        let busy = activity(0);
        requests.push(busy.request());
        table.insert(address("10.0.0.1"), socket, busy);
    }
    assert_eq!(open(&mut table, "10.0.9.1", 3, 0), Err(Refusal::Connections));
    requests.pop();
    assert_eq!(open(&mut table, "10.0.9.1", 3, 0), Ok(Some(2)));
}

#[test]
fn networks_that_are_busy_hide_nobody_and_ties_go_to_the_idlest() {
    let (mut table, mut requests) = (table(100, None, 1), Vec::new());
    for network in 0..20 {
        for host in [1, 2] {
            let busy = activity(0);
            requests.push(busy.request());
            table.insert(address(&format!("10.9.{network}.{host}")), 1_000, busy);
        }
    }
    for network in 0..60 {
        open(&mut table, &format!("10.0.{network}.1"), network, 100 - network as u64).unwrap();
    }
    assert_eq!(open(&mut table, "10.8.0.1", 2_000, 200), Ok(Some(59)), "idle for longest");
    assert_eq!(open(&mut table, "10.8.1.1", 2_001, 200), Ok(Some(58)));
}

#[test]
fn a_lighter_network_never_yields_to_a_heavier_one() {
    let mut table = table(3, None, 1);
    for (from, socket) in [("10.0.0.1", 1), ("10.0.1.1", 2), ("10.0.1.2", 3)] {
        open(&mut table, from, socket, 0).unwrap();
    }
    let _requests = [1, 2].map(|id: usize| table.entries[id].as_ref().unwrap().activity.request());
    assert_eq!(open(&mut table, "10.0.1.3", 4, 0), Err(Refusal::Connections));
}

#[test]
fn an_address_has_its_own_bound() {
    let mut table = table(100, Some(2), 1);
    assert_eq!(open(&mut table, "10.0.0.1", 1, 0), Ok(None));
    assert_eq!(open(&mut table, "::ffff:10.0.0.1", 2, 0), Ok(None));
    assert_eq!(open(&mut table, "10.0.0.1", 3, 0), Err(Refusal::Address));
    assert_eq!(open(&mut table, "10.0.0.2", 3, 0), Ok(None));
    assert_eq!(table.readdress(2, address("10.0.0.1"), false), Err(Refusal::Address));
    table.remove(0);
    assert_eq!(open(&mut table, "10.0.0.1", 3, 0), Ok(None));
}

#[test]
fn each_worker_has_its_share() {
    let mut table = table(1_000, None, 3);
    for socket in 0..1_000 {
        open(&mut table, "10.0.0.1", socket, 0).unwrap();
    }
    assert_eq!(table.workers, [334, 333, 333]);
}

#[derive(Clone, Debug)]
enum Step {
    Open(u8),
    Close(usize),
    Work(usize),
    Readdress(usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<u8>().prop_map(Step::Open),
        1 => any::<usize>().prop_map(Step::Close),
        1 => any::<usize>().prop_map(Step::Work),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, from)| Step::Readdress(at, from)),
    ];
    vec(step, 0..200)
}

/// Two bits of network, two of block.
fn from(number: u8) -> IpAddr {
    IpAddr::from([10, 0, number >> 2 & 3, number & 3])
}

proptest! {
    /// Whatever comes and goes, the sums agree with the entries, and there are never more than there may be.
    #[test]
    fn the_sums_agree(steps in steps()) {
        let mut table = table(8, None, 2);
        let (mut ids, mut requests) = (Vec::new(), Vec::new());
        for (socket, step) in (0..).zip(steps) {
            match step {
                Step::Open(number) => {
                    let is_placed = table.make_place(from(number), false).is_ok();
                    ids.extend(is_placed.then(|| table.insert(from(number), socket, activity(0)).0));
                }
                Step::Close(at) if !ids.is_empty() => table.remove(ids.swap_remove(at % ids.len())),
                Step::Work(at) if !ids.is_empty() => {
                    requests.push(table.entries[ids[at % ids.len()]].as_ref().unwrap().activity.request());
                }
                Step::Readdress(at, number) if !ids.is_empty() => {
                    table.readdress(ids[at % ids.len()], from(number), false).unwrap();
                }
                _ => {}
            }
            let live: Vec<&Entry> = table.entries.iter().flatten().filter(|entry| !entry.was_ended).collect();
            prop_assert_eq!(table.live, live.len());
            prop_assert!(table.live <= 8);
            prop_assert_eq!(table.workers.iter().sum::<usize>(), ids.len());
            prop_assert_eq!(table.members.values().map(Vec::len).sum::<usize>(), live.len());
            for entry in live {
                let source = Source::of(entry.address);
                let same = |other: &&Entry| !other.was_ended && Source::of(other.address) == source;
                let size = table.entries.iter().flatten().filter(same).count();
                prop_assert_eq!(table.members[&source].len(), size);
                prop_assert_eq!(table.sources[&Network::of(entry.address)].size(source), size);
                let member = table.members[&source][entry.member];
                prop_assert_eq!(table.entries[member].as_ref().unwrap().socket, entry.socket);
            }
            prop_assert_eq!(table.networks.heaviest().map(|(size, _)| size).sum::<usize>(), table.live);
        }
    }
}
