//! A store whose time was wrong for long, set right by what the wall clock says.

use super::harness::{Fixture, on_every_engine};
use super::samples::{ACCEPT, DAY, START, foreign_token, organization_subject, sequence_of, user_subject};
use crate::auth::denial::Denial;
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::UnixTime;
use crate::store::command::{RepairClock, RepairedClock, RevokeSubject, UserChange};
use crate::store::records::Revocation;

/// What the command line does, whose clock says that it is this time, while no gateway runs.
fn repair(fixture: &Fixture, seconds: u64) -> RepairedClock {
    fixture.execute_on(&fixture.command_line(seconds), RepairClock)
}

/// A store that has lived a thousand seconds by a clock that was that far ahead from the second ten on.
fn ahead(fixture: Fixture) -> Fixture {
    fixture.set_time(START + 10);
    fixture.add("anna");
    fixture.add("disabled");
    fixture.revoke(user_subject("early"));
    fixture.set_time(START + 1000);
    fixture.change("disabled", UserChange::Disable);
    fixture.revoke(organization_subject("late"));
    fixture.revoke(user_subject("late"));
    // The clock is set right; only a process that starts now believes it.
    fixture.set_time(START + 10);
    fixture.reopen()
}

#[test]
fn floor_and_future_cutoffs_become_the_wall_clocks_with_a_cutoff_on_everybody() {
    on_every_engine(|fixture| {
        let fixture = ahead(fixture);
        let (rows, sequence, before) = (fixture.audit().len(), fixture.sequence(), fixture.dump());
        let cutoffs = fixture.cutoffs();
        let lived = fixture.wait(fixture.store.time()).lived;
        let repaired = repair(&fixture, START + 10);
        let expected =
            RepairedClock { floor: UnixTime(START + 1000), wall: UnixTime(START + 10), cutoffs: 3 };
        assert_eq!(repaired, expected);

        let time = fixture.wait(fixture.store.time());
        assert_eq!((time.floor, time.lived), (UnixTime(START + 10), lived));
        // Every cutoff is what it was, but for its time; and the one on everybody is new.
        let bounded = cutoffs.into_iter().filter(|(subject, _)| *subject != Subject::Everybody);
        let mut expected: Vec<_> = bounded
            .map(|(subject, cutoff)| (subject, Cutoff { time: cutoff.time.min(time.floor), ..cutoff }))
            .collect();
        let everybody = Cutoff {
            sequence: sequence + 1,
            time: UnixTime(START + 10),
            lived,
            blocked: false,
            revocation: true,
        };
        expected.push((Subject::Everybody, everybody));
        assert_eq!(fixture.cutoffs(), expected);
        let row = Revocation {
            kind: "everybody",
            subject: String::new(),
            sequence: sequence + 1,
            time: UnixTime(START + 10),
            blocked: false,
            user: None,
            reason: Some("repair_clock".into()),
        };
        assert_eq!(fixture.revocations().first(), Some(&row));
        let audit = fixture.audit().split_off(rows);
        let told: Vec<_> = audit
            .iter()
            .map(|row| (row.sequence, row.at, row.action.as_str(), row.subject.as_str(), row.actor.as_str()))
            .collect();
        assert_eq!(told, [(sequence + 1, UnixTime(START + 10), "repair_clock", "everybody", "operator")]);
        assert_eq!(fixture.sequence(), sequence + 1);
        assert_eq!((fixture.dump().users, fixture.dump().keys), (before.users, before.keys));
    });
}

#[test]
fn token_of_before_a_repair_is_refused_and_one_of_after_it_has_the_wall_clocks_time() {
    on_every_engine(|fixture| {
        let fixture = ahead(fixture);
        let before = fixture.mint("anna");
        assert_eq!(before.issued_at, UnixTime(START + 1000));
        repair(&fixture, START + 10);
        // The gateway starts again.
        let fixture = fixture.reopen();
        let after = fixture.mint("anna");
        assert_eq!(after.issued_at, UnixTime(START + 10));
        assert!(sequence_of(&before) < sequence_of(&after));
        assert_eq!(
            (fixture.verdict(&before), fixture.verdict(&after)),
            (Err(Denial::RevokedEverybody), Ok(()))
        );
        // The platform's tokens are compared with the cutoffs' times, which are right again.
        let verdict = |user, time| fixture.load().check(&foreign_token(user, START + time), &ACCEPT);
        assert_eq!(verdict("late", 20), Ok(()));
        assert_eq!(verdict("late", 15), Err(Denial::RevokedEverybody));
        // Nobody is let in by it.
        assert_eq!(verdict("disabled", 5000), Err(Denial::RevokedUser));
    });
}

#[test]
fn repair_of_a_clock_that_is_right_ends_every_token_and_moves_nothing_back() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = fixture.mint("anna");
        fixture.revoke(user_subject("nobody"));
        // The store has stood still for a day: its floor is behind, and comes up at once.
        let repaired = repair(&fixture, START + DAY);
        let expected = RepairedClock { floor: UnixTime(START), wall: UnixTime(START + DAY), cutoffs: 0 };
        assert_eq!(repaired, expected);
        assert_eq!(fixture.wait(fixture.store.time()).floor, UnixTime(START + DAY));
        assert_eq!(fixture.cutoff(&user_subject("nobody")).unwrap().time, UnixTime(START));
        assert_eq!(fixture.cutoff(&Subject::Everybody).unwrap().time, UnixTime(START + DAY));
        assert_eq!(fixture.verdict(&before), Err(Denial::RevokedEverybody));
    });
}

#[test]
fn blocked_user_stays_blocked_by_a_revocation_after_a_repair() {
    on_every_engine(|fixture| {
        let fixture = ahead(fixture);
        repair(&fixture, START + 10);
        let fixture = fixture.reopen();
        fixture.execute(RevokeSubject { subject: user_subject("disabled") });
        let cutoff = fixture.cutoff(&user_subject("disabled")).unwrap();
        assert_eq!((cutoff.time, cutoff.blocked), (UnixTime(START + 10), true));
    });
}
