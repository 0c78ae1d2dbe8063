use super::*;
use crate::auth::policy::{Policy, Route};
use proptest::prelude::*;

const START: ClockReading = ClockReading { now: UnixTime(1_700_000_000), uptime: Duration::from_secs(50) };
const LEFT: u64 = 1000;

fn observation(enforced: &[&str]) -> Observation {
    let enforced = enforced.iter().map(|path| EnforcedPath::new(path).unwrap()).collect();
    Observation::begin(START.now.plus(LEFT), enforced, InspectAuth::Basic, START)
}

/// What only the policy can show.
fn own_path() -> OwnPath {
    match Policy::default().classify(b"POST", ENDPOINT.as_bytes(), false) {
        Ok(Route::Endpoint { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

/// So many seconds after the start, by the wall clock and by the boot clock.
fn after(wall: u64, boot: u64) -> ClockReading {
    ClockReading { now: START.now.plus(wall), uptime: START.uptime + Duration::from_secs(boot) }
}

#[test]
fn every_denial_but_one_for_the_form_is_observed_where_the_route_is_not_enforced() {
    let (all, some) = (observation(&[]), observation(&["/ds-api/agents/*"]));
    for denial in Denial::ALL {
        let pass = |observation: &Observation, target: &str, reading| {
            let pass = observation.pass(denial, target.as_bytes(), reading);
            pass.map(|pass| pass.would_refuse())
        };
        let expected = (denial != Denial::TokenAlias).then_some(Some(WouldRefuse::Denied(denial)));
        for (observation, target, is_observed) in [
            (&all, "/ds-api/agents/7", true),
            (&all, "/DS-API//agents/7", true),
            (&all, "*", true),
            (&some, "/ds-api/servers?x=/ds-api/agents/7", true),
            (&some, "/ds-api/agents/7", false),
            (&some, "/ds-api/agents?x", false),
            (&some, "/ds-api/%61gents/7", false),
            (&some, "*", false),
        ] {
            let expected = expected.filter(|_| is_observed);
            assert_eq!(pass(observation, target, START), expected, "{denial:?} {target}");
            assert_eq!(pass(observation, target, after(LEFT, LEFT)), None, "{denial:?} {target}");
        }
    }
}

#[test]
fn the_token_endpoint_is_observed_unless_any_of_it_is_enforced() {
    for (enforced, expected) in [
        (&[][..], true),
        (&["/ds-api/agents/*"], true),
        (&["/ds-api/user-tokens", "/ds-api/user"], true),
        (&["/ds-api/user-token"], false),
        (&["/ds-api/x", "/ds-api/user-token/*"], false),
        (&["/ds-api/user-token/Other"], false),
        (&["/ds-api/*"], false),
        (&["/*"], false),
        (&["/DS-API/user-token"], false),
    ] {
        let observation = observation(enforced);
        let pass = |reading| {
            let pass = observation.endpoint_pass(&own_path(), reading, || Some(WouldRefuse::NotFound));
            pass.map(|pass| pass.would_refuse())
        };
        assert_eq!(pass(START), expected.then_some(Some(WouldRefuse::NotFound)), "{enforced:?}");
        assert_eq!(pass(after(LEFT, LEFT)), None, "{enforced:?}");
    }
}

#[test]
fn it_ends_by_the_clock_that_is_there_first() {
    let observation = observation(&[]);
    for (wall, boot, expected) in [
        (0, 0, true),
        (LEFT - 1, LEFT - 1, true),
        (LEFT, LEFT, false),
        // Ahead of time: whoever is in doubt enforces.
        (LEFT, 1, false),
        // The wall clock was set back, or stands still.
        (1, LEFT - 1, true),
        (1, LEFT, false),
        (0, LEFT * 2, false),
    ] {
        assert_eq!(observation.is_on(after(wall, boot)), expected, "{wall} {boot}");
    }
}

#[test]
fn what_is_over_at_the_start_lets_nothing_through() {
    for ago in [0, 1, LEFT] {
        let observation = Observation::begin(START.now.minus(ago), Vec::new(), InspectAuth::Basic, START);
        assert!(!observation.is_on(START), "{ago}");
        // Not later either, whatever the wall clock says then.
        let back = ClockReading { now: UnixTime(0), ..START };
        assert!(!observation.is_on(back), "{ago}");
    }
}

proptest! {
    /// Once the time has come by either clock there is no pass, for no denial and no target.
    #[test]
    fn nothing_is_observed_after_the_end(
        wall in 0..2 * LEFT, boot in 0..2 * LEFT, denial in prop::sample::select(Denial::ALL.to_vec()), target: Vec<u8>
    ) {
        let observation = observation(&[]);
        let reading = after(wall, boot);
        let is_over = wall >= LEFT || boot >= LEFT;
        let pass = observation.pass(denial, &target, reading);
        prop_assert_eq!(pass.is_some(), !is_over && denial != Denial::TokenAlias);
        prop_assert_eq!(observation.endpoint_pass(&own_path(), reading, || None).is_some(), !is_over);
    }
}
