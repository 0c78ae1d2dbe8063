//! Changes of users that the platform is asked for: what is noted of them, and the cutoffs that they become.

use super::harness::{Fixture, on_every_engine};
use super::samples::{START, email_subject, organization_subject, user_subject};
use crate::auth::denial::Denial;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::store::command::UserChange;
use crate::store::user_change::{BeginChange, ChangeEnd, ChangeId, EndChange, EndForgottenChanges};

fn begin(fixture: &Fixture, subjects: &[Subject]) -> ChangeId {
    fixture.execute(BeginChange { subjects: subjects.to_vec() })
}

/// Ends a change; whose tokens it ended.
fn end(fixture: &Fixture, id: ChangeId, subjects: &[Subject], end: ChangeEnd) -> Vec<Subject> {
    let cutoffs = fixture.execute(EndChange { id, subjects: subjects.to_vec(), end });
    cutoffs.into_iter().map(|(subject, _)| subject).collect()
}

fn forget(fixture: &Fixture, before: u64) -> Vec<Subject> {
    let cutoffs = fixture.execute(EndForgottenChanges { before: UnixTime(before), all: false });
    cutoffs.into_iter().map(|(subject, _)| subject).collect()
}

fn open(fixture: &Fixture) -> Vec<Subject> {
    fixture.wait(fixture.store.open_changes())
}

#[test]
fn change_that_is_noted_ends_no_token_until_it_is_made() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        let subjects = [email_subject("anna@example.com"), user_subject("bert")];
        let (first, second) = (begin(&fixture, &subjects), begin(&fixture, &subjects[..1]));
        assert_ne!(first, second);
        assert_eq!((fixture.verdict(&token), open(&fixture).len()), (Ok(()), 2));
        assert_eq!(end(&fixture, first, &subjects, ChangeEnd::Refused), []);
        assert_eq!((fixture.verdict(&token), open(&fixture)), (Ok(()), subjects[..1].to_vec()));
        assert_eq!(end(&fixture, second, &subjects[..1], ChangeEnd::Made), subjects[..1]);
        assert_eq!((fixture.verdict(&token), open(&fixture)), (Err(Denial::RevokedEmail), vec![]));
        assert_eq!(fixture.verdict(&fixture.mint("anna")), Ok(()));
        let row = fixture.dump().audit.into_iter().find(|row| row.action == "platform_change").unwrap();
        assert_eq!(row.subject, "anna@example.com");
    });
}

#[test]
fn change_of_which_nobody_knows_the_end_ends_tokens_now_and_once_more_later() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = fixture.mint("anna");
        let subjects = [user_subject("anna")];
        let id = begin(&fixture, &subjects);
        assert_eq!(end(&fixture, id, &subjects, ChangeEnd::Unknown), subjects);
        // By an old password, perhaps: the platform may not have been done.
        let between = fixture.mint("anna");
        assert_eq!((fixture.verdict(&before), fixture.verdict(&between)), (Err(Denial::RevokedUser), Ok(())));
        assert_eq!(forget(&fixture, START), []);
        assert_eq!(forget(&fixture, START + 1), subjects);
        assert_eq!(fixture.verdict(&between), Err(Denial::RevokedUser));
        assert_eq!((open(&fixture), forget(&fixture, START + 9)), (vec![], vec![]));
    });
}

/// The platform may still be at it, or another gateway that stops before it knows.
#[test]
fn change_that_a_start_ends_is_ended_once_more_later() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = fixture.mint("anna");
        let subjects = [user_subject("anna")];
        begin(&fixture, &subjects);
        // The clock may have been ahead when it was noted.
        let start = EndForgottenChanges { before: UnixTime(START - 9), all: true };
        assert_eq!(fixture.execute(start).len(), 1);
        let between = fixture.mint("anna");
        assert_eq!((fixture.verdict(&before), fixture.verdict(&between)), (Err(Denial::RevokedUser), Ok(())));
        assert_eq!(forget(&fixture, START + 1), subjects);
        assert_eq!((fixture.verdict(&between), open(&fixture)), (Err(Denial::RevokedUser), vec![]));
    });
}

#[test]
fn change_that_another_gateway_took_for_forgotten_still_ends_tokens() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let subjects = [organization_subject("Main Org.")];
        let id = begin(&fixture, &subjects);
        assert_eq!(forget(&fixture, START + 1), subjects);
        let token = fixture.mint("anna");
        assert_eq!(end(&fixture, id, &subjects, ChangeEnd::Made), subjects);
        assert_eq!(fixture.verdict(&token), Err(Denial::RevokedOrganization));
    });
}

#[test]
fn cutoff_by_name_is_about_the_user_whose_name_is_written_alike_too() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let tokens = ["anna", "bert"].map(|name| fixture.mint(name));
        let subjects = [user_subject("ANNA")];
        let id = begin(&fixture, &subjects);
        assert_eq!(
            end(&fixture, id, &subjects, ChangeEnd::Made),
            [user_subject("anna"), user_subject("ANNA")]
        );
        assert_eq!(tokens.map(|token| fixture.verdict(&token)), [Err(Denial::RevokedUser), Ok(())]);
    });
}

#[test]
fn disabled_user_stays_disabled_through_a_change() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        fixture.change("anna", UserChange::Disable);
        let subjects = [user_subject("anna")];
        let id = begin(&fixture, &subjects);
        end(&fixture, id, &subjects, ChangeEnd::Made);
        assert!(fixture.user("anna").disabled);
        assert_eq!(fixture.verdict(&token), Err(Denial::RevokedUser));
    });
}

#[test]
fn note_of_a_change_survives_a_crash_and_is_in_a_copy() {
    on_every_engine(|fixture| {
        let subjects = [Subject::Everybody];
        begin(&fixture, &subjects);
        assert_eq!(open(&fixture.back_up()), subjects);
        assert_eq!(open(&fixture.reopen()), subjects);
    });
}
