//! What a login is told before its password is hashed: the user, whether it was seen from there before, and how often it was
//! unlocked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::harness::{Fixture, on_every_engine};
use super::samples::{DAY, START, key, mint_for, mint_with, organization, phc, user_subject};
use crate::auth::source::Source;
use crate::store::after_restore::AfterRestore;
use crate::store::command::{
    Mint, MintOutcome, NoteFailedLogins, RevokeKey, RevokeSubject, UnlockOutcome, UnlockUser, UserChange,
};
use crate::store::decision::{SOURCE_REFRESH, SOURCES_PER_USER};
use crate::store::records::LoginRecord;

/// One of 2^32 sources.
pub(super) fn source(which: u32) -> Source {
    Source::of(Ipv4Addr::from_bits(which).into())
}

/// Mints for a user who logs in from there.
pub(super) fn mint_from(fixture: &Fixture, name: &str, source: Source) {
    let outcome = fixture.execute(Mint { source: Some(source), ..mint_for(fixture.user(name)) });
    assert!(matches!(outcome, MintOutcome::Minted(..)), "{outcome:?}");
}

pub(super) fn is_known(fixture: &Fixture, name: &str, source: Source) -> bool {
    record(fixture, name, Some(source)).is_known_source
}

fn record(fixture: &Fixture, name: &str, source: Option<Source>) -> LoginRecord {
    fixture.wait(fixture.store.login_record(name, source))
}

/// Those of the first sources that are known.
fn known(fixture: &Fixture, name: &str, sources: u32) -> Vec<u32> {
    (0..sources).filter(|which| is_known(fixture, name, source(*which))).collect()
}

#[test]
fn record_is_the_users_own_with_its_hash_disabled_or_not() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Password(phc(7)));
        for disabled in [false, true] {
            if disabled {
                fixture.change("anna", UserChange::Disable);
            }
            for from in [None, Some(source(1))] {
                let user = Some(fixture.record("anna"));
                let sequence = fixture.sequence();
                let expected = LoginRecord { user, is_known_source: false, unlocks: 0, sequence };
                assert_eq!(record(&fixture, "anna", from), expected);
            }
            assert_eq!(fixture.user("anna").disabled, disabled);
        }
    });
}

#[test]
fn name_that_no_user_bears_has_a_record_without_a_user() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        mint_from(&fixture, "anna", source(1));
        let sequence = fixture.sequence();
        let nobody = LoginRecord { user: None, is_known_source: false, unlocks: 0, sequence };
        // Byte for byte: what a person would confuse with a user is nobody.
        for name in ["bert", "Anna", "anna ", "", "%"] {
            for from in [None, Some(source(1))] {
                assert_eq!(record(&fixture, name, from), nobody, "{name:?}");
            }
        }
    });
}

#[test]
fn source_of_a_mint_is_known_to_later_logins_of_its_user_alone() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let ipv6 = |bits: u128| Source::of(IpAddr::V6(Ipv6Addr::from_bits(bits << 64)));
        for from in [source(1), ipv6(0x2001_0db8_0000_0001)] {
            assert!(!is_known(&fixture, "anna", from));
            mint_from(&fixture, "anna", from);
            assert!(is_known(&fixture, "anna", from));
            assert!(!is_known(&fixture, "bert", from));
        }
        assert!(!is_known(&fixture, "anna", source(2)));
        assert!(!is_known(&fixture, "anna", ipv6(0x2001_0db8_0000_0002)));
        // A login from nowhere that is known is not from a known source.
        assert!(!record(&fixture, "anna", None).is_known_source);
        // Every process hears of it at its next login.
        let another = fixture.another(START);
        assert!(fixture.wait(another.login_record("anna", Some(source(1)))).is_known_source);
        let fixture = fixture.reopen();
        assert!(is_known(&fixture, "anna", source(1)));
    });
}

#[test]
fn mint_without_a_source_remembers_none() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.mint("anna");
        assert!(!record(&fixture, "anna", None).is_known_source);
        assert!(!is_known(&fixture, "anna", source(0)));
    });
}

#[test]
fn refused_mint_remembers_no_source() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.record_keys(&[("old", 1)]);
        fixture.execute(RevokeKey { kid: "old".into(), successors: vec![] });
        let user = fixture.user("anna");
        let from = Some(source(1));
        let revoked = Mint { source: from, ..mint_with(user.clone(), key("old", 1)) };
        let limited = Mint { source: from, max_revocations: 0, ..mint_for(user.clone()) };
        let outcome = fixture.execute(revoked);
        assert!(matches!(outcome, MintOutcome::SignerRevoked), "{outcome:?}");
        let outcome = fixture.execute(limited);
        assert!(matches!(outcome, MintOutcome::RevocationLimit), "{outcome:?}");
        fixture.change("anna", UserChange::Password(phc(1)));
        let outcome = fixture.execute(Mint { source: from, ..mint_for(user) });
        assert!(matches!(outcome, MintOutcome::UserChanged), "{outcome:?}");
        assert!(!is_known(&fixture, "anna", source(1)));
    });
}

#[test]
fn beyond_the_bound_the_source_that_was_not_seen_for_longest_is_forgotten() {
    on_every_engine(|fixture| {
        let bound = u32::try_from(SOURCES_PER_USER).unwrap();
        fixture.add("anna");
        fixture.add("bert");
        mint_from(&fixture, "bert", source(0));
        // Nobody's order of texts, and a user each of whose sources came at another time.
        for which in 0..bound {
            fixture.set_time(START + u64::from(which));
            mint_from(&fixture, "anna", source(which));
        }
        assert_eq!(known(&fixture, "anna", 100), Vec::from_iter(0..bound));
        // The first one is seen again.
        let later = START + SOURCE_REFRESH + 1;
        fixture.set_time(later);
        mint_from(&fixture, "anna", source(0));
        assert_eq!(known(&fixture, "anna", 100), Vec::from_iter(0..bound));
        mint_from(&fixture, "anna", source(99));
        let left: Vec<u32> = [0].into_iter().chain(2..bound).chain([99]).collect();
        assert_eq!(known(&fixture, "anna", 100), left);
        assert!(is_known(&fixture, "bert", source(0)));
    });
}

#[test]
fn newest_source_is_kept_though_all_came_in_one_second() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        // Both ways: no order of texts decides.
        for which in (0..70).chain((100..200).rev()) {
            mint_from(&fixture, "anna", source(which));
            assert!(is_known(&fixture, "anna", source(which)), "{which}");
        }
        assert_eq!(known(&fixture, "anna", 200).len(), SOURCES_PER_USER);
    });
}

#[test]
fn removed_user_leaves_no_source_to_the_next_of_its_name() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        for name in ["anna", "bert"] {
            (0..3).for_each(|which| mint_from(&fixture, name, source(which)));
        }
        fixture.change("anna", UserChange::Remove);
        assert_eq!(known(&fixture, "anna", 3), [0; 0]);
        fixture.add("anna");
        assert_eq!(known(&fixture, "anna", 3), [0; 0]);
        assert_eq!(known(&fixture, "bert", 3), [0, 1, 2]);
    });
}

#[test]
fn every_other_change_of_a_user_keeps_its_sources() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        mint_from(&fixture, "anna", source(1));
        let moved = UserChange::Claims { email: None, organization: Some(organization("Other")) };
        for change in [UserChange::Password(phc(1)), moved, UserChange::Disable, UserChange::Enable] {
            fixture.change("anna", change.clone());
            assert!(is_known(&fixture, "anna", source(1)), "{change:?}");
        }
    });
}

#[test]
fn copy_and_restored_store_know_the_sources_that_were_known() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        mint_from(&fixture, "anna", source(1));
        let copy = fixture.back_up();
        mint_from(&fixture, "anna", source(2));
        assert_eq!(known(&copy, "anna", 3), [1]);
        copy.execute(AfterRestore { known: fixture.sequence(), revoked_keys: vec![] });
        assert_eq!(known(&copy, "anna", 3), [1]);
        assert_eq!(known(&fixture, "anna", 3), [1, 2]);
    });
}

/// Lived time decides, as of everything that is deleted.
#[test]
fn wall_clock_that_jumps_makes_no_source_older() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        mint_from(&fixture, "anna", source(1));
        // Years ahead, in a process that has only just begun.
        let ahead = fixture.another(START + 1000 * DAY);
        fixture.execute_on(&ahead, NoteFailedLogins { failures: vec![] });
        let mint = Mint { source: Some(source(2)), ..mint_for(fixture.user("anna")) };
        fixture.execute_on(&ahead, mint);
        assert_eq!(known(&fixture, "anna", 3), [1, 2]);
    });
}

fn unlock(fixture: &Fixture, name: &str) -> UnlockOutcome {
    fixture.execute(UnlockUser { name: name.into() })
}

fn unlocks(fixture: &Fixture, name: &str) -> u64 {
    record(fixture, name, None).unlocks
}

#[test]
fn unlock_is_counted_and_changes_nothing_else_of_the_user() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        fixture.change("bert", UserChange::Disable);
        mint_from(&fixture, "anna", source(1));
        let token = fixture.mint("anna");
        let (before, another) = (fixture.dump(), fixture.another(START));
        for count in 1..=3 {
            assert_eq!(unlock(&fixture, "anna"), UnlockOutcome::Unlocked);
            assert_eq!(unlocks(&fixture, "anna"), count);
            // Another gateway's next login knows of it, whatever its replica has read.
            assert_eq!(fixture.wait(another.login_record("anna", None)).unlocks, count);
        }
        assert_eq!(unlocks(&fixture, "bert"), 0);
        // One that is disabled stays so.
        assert_eq!(unlock(&fixture, "bert"), UnlockOutcome::Unlocked);
        assert_eq!((unlocks(&fixture, "anna"), unlocks(&fixture, "bert")), (3, 1));
        let after = fixture.dump();
        assert_eq!(
            (after.users, after.revocations, after.keys),
            (before.users, before.revocations, before.keys)
        );
        assert_eq!(fixture.verdict(&token), Ok(()));
        assert!(is_known(&fixture, "anna", source(1)));
    });
}

#[test]
fn name_that_no_user_bears_is_not_unlocked() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        // With a cutoff of its own, and no user for that.
        fixture.execute(RevokeSubject { subject: user_subject("zoe") });
        // As a login is looked up: byte for byte.
        for name in ["zoe", "Anna", "anna ", "", "%"] {
            assert_eq!(fixture.unchanged(|| unlock(&fixture, name)), UnlockOutcome::Unknown, "{name:?}");
            assert_eq!(unlocks(&fixture, name), 0, "{name:?}");
        }
        assert_eq!(unlocks(&fixture, "anna"), 0);
    });
}

/// A count that went back would bring back what was counted under it.
#[test]
fn unlocks_of_a_name_never_become_fewer() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        unlock(&fixture, "anna");
        fixture.change("anna", UserChange::Remove);
        let sequence = fixture.sequence();
        let expected = LoginRecord { user: None, is_known_source: false, unlocks: 1, sequence };
        assert_eq!(record(&fixture, "anna", Some(source(1))), expected);
        assert_eq!(unlock(&fixture, "anna"), UnlockOutcome::Unknown);
        fixture.add("anna");
        assert_eq!(unlocks(&fixture, "anna"), 1);
        unlock(&fixture, "anna");
        let copy = fixture.back_up();
        assert_eq!((unlocks(&fixture, "anna"), unlocks(&copy, "anna")), (2, 2));
        let fixture = fixture.reopen();
        assert_eq!(unlocks(&fixture, "anna"), 2);
    });
}
