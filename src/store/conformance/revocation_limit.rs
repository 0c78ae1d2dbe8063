//! How many revoked tokens of one user are kept: a mint is refused at the limit, a revocation never is.
//!
//! `CONFORMANCE_SEED` repeats a history.

use std::collections::HashMap;

use super::harness::{Fixture, on_every_engine};
use super::samples::{ALL, DAY, RULES, START, mint_for, minted, revoke_id, sequence_of, token_id, verified};
use crate::auth::denial::Denial;
use crate::auth::token::Verified;
use crate::store::command::{
    Expiry, Mint, MintOutcome, NoteFailedLogins, Purge, RevokeKey, RevokeToken, UserChange,
};

const LIMIT: u64 = 5;

/// By then what was revoked in the first hour is forgotten.
const OVER: u64 = 3600 + RULES.retention();

fn mint(fixture: &Fixture, name: &str) -> MintOutcome {
    fixture.execute(Mint { max_revocations: LIMIT, ..mint_for(fixture.user(name)) })
}

fn is_refused(fixture: &Fixture, name: &str) -> bool {
    match mint(fixture, name) {
        MintOutcome::Minted(..) => false,
        MintOutcome::RevocationLimit => true,
        other => panic!("{other:?}"),
    }
}

fn revoke(fixture: &Fixture, which: std::ops::Range<u64>, user: &str) {
    fixture.execute_many(which.map(|which| revoke_id(which, START + DAY, Some(user))));
}

/// Lets the first hour end and its revocations be forgotten.
fn forget(fixture: &Fixture) {
    fixture.set_time(START + 3600);
    fixture.execute(NoteFailedLogins { failures: vec![] });
    fixture.set_time(START + OVER);
    while fixture.execute(Purge { retention: RULES.retention() }) > 0 {}
}

#[test]
fn user_at_the_limit_gets_no_token_and_nobody_else_is_refused() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        revoke(&fixture, 0..LIMIT - 1, "anna");
        assert!(!is_refused(&fixture, "anna"));
        revoke(&fixture, LIMIT..LIMIT + 1, "anna");
        fixture.unchanged(|| assert!(is_refused(&fixture, "anna")));
        assert!(!is_refused(&fixture, "bert"));
    });
}

#[test]
fn revocation_beyond_the_limit_is_one_of_that_token_alone() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let tokens: Vec<Verified> = (0..LIMIT + 4).map(|_| fixture.mint("anna")).collect();
        let (kept, revoked) = tokens.split_last().unwrap();
        for (token, sequence) in revoked.iter().zip(sequence_of(kept) + 1..) {
            assert_eq!(fixture.revoke_token(token), sequence);
            assert_eq!(fixture.verdict(token), Err(Denial::RevokedToken));
        }
        assert!(is_refused(&fixture, "anna"));
        assert_eq!(fixture.verdict(kept), Ok(()));
        let last = fixture.audit().pop().unwrap();
        assert_eq!((last.action.as_str(), last.subject.as_str()), ("revoke_token", "anna"));
        assert!(fixture.revocation("user", "anna").is_none(), "no cutoff takes their place");
    });
}

#[test]
fn each_token_counts_once_and_for_its_user_alone() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        revoke(&fixture, 0..LIMIT - 1, "anna");
        // Again, whoever it is said to be of; others'; and those of nobody that is known.
        revoke(&fixture, 0..LIMIT - 1, "anna");
        revoke(&fixture, 0..LIMIT - 1, "bert");
        revoke(&fixture, 100..100 + LIMIT, "bert");
        revoke(&fixture, 200..200 + LIMIT, "Anna");
        fixture.execute_many((300..300 + LIMIT).map(|which| revoke_id(which, START + DAY, None)));
        assert!(!is_refused(&fixture, "anna"));
        // One whose expiry nobody knew counts like the others.
        let id = token_id(400);
        let expiry = Expiry::Within { max_lifetime: RULES.max_lifetime };
        fixture.execute(RevokeToken { id, expiry, user: Some("anna".into()) });
        assert!(is_refused(&fixture, "anna"));
    });
}

#[test]
fn user_gets_tokens_again_once_its_revocations_are_forgotten() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        revoke(&fixture, 0..LIMIT, "anna");
        forget(&fixture);
        assert!(!is_refused(&fixture, "anna"));
        revoke(&fixture, 0..LIMIT - 1, "anna");
        assert!(!is_refused(&fixture, "anna"));
        revoke(&fixture, 100..101, "anna");
        assert!(is_refused(&fixture, "anna"));
    });
}

/// What ends all tokens of a user takes no memory for each.
#[test]
fn cutoff_neither_counts_nor_lifts_the_limit() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        revoke(&fixture, 0..LIMIT - 1, "anna");
        for change in [UserChange::Disable, UserChange::Enable] {
            fixture.change("anna", change);
        }
        assert!(!is_refused(&fixture, "anna"));
        revoke(&fixture, LIMIT..LIMIT + 1, "anna");
        fixture.change("anna", UserChange::Remove);
        fixture.add("anna");
        assert!(is_refused(&fixture, "anna"));
    });
}

#[test]
fn limit_holds_for_every_process_and_in_a_copy() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        revoke(&fixture, 0..LIMIT, "anna");
        let limited = || Mint { max_revocations: LIMIT, ..mint_for(fixture.user("anna")) };
        let refused = fixture.execute_on(&fixture.another(START), limited());
        assert!(matches!(refused, MintOutcome::RevocationLimit), "{refused:?}");
        assert!(is_refused(&fixture.back_up(), "anna"));
        // Each process has a limit of its own.
        let higher = Mint { max_revocations: LIMIT + 1, ..limited() };
        assert!(matches!(fixture.execute(higher), MintOutcome::Minted(..)));
        assert!(is_refused(&fixture.reopen(), "anna"));
    });
}

/// What would be the same after any wait is said first.
#[test]
fn changed_user_is_refused_as_changed_and_a_limit_as_a_limit() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.record_keys(&[("signer", 0)]);
        fixture.execute(RevokeKey { kid: "signer".into(), successors: vec![] });
        revoke(&fixture, 0..LIMIT, "anna");
        assert!(is_refused(&fixture, "anna"));
        let before = Mint { max_revocations: LIMIT, ..mint_for(fixture.user("anna")) };
        fixture.change("anna", UserChange::Disable);
        let outcome = fixture.execute(before);
        assert!(matches!(outcome, MintOutcome::UserChanged), "{outcome:?}");
    });
}

/// Mints, revocations, purges and restarts at random: a mint is refused exactly where so many of the user's tokens are kept.
#[test]
fn limit_is_exact_in_every_history() {
    let seed = std::env::var("CONFORMANCE_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = seed.map_or_else(|| vec![1, 2, fastrand::u64(..)], |seed| vec![seed]);
    for seed in seeds {
        println!("CONFORMANCE_SEED={seed}");
        on_every_engine(|fixture| history(fixture, seed));
    }
}

fn history(mut fixture: Fixture, seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let names = ["anna", "bert", "cleo"];
    names.iter().for_each(|name| fixture.add(name));
    let mut time = START;
    let mut owners = HashMap::new();
    let mut tokens: Vec<Verified> = Vec::new();
    for _ in 0..400 {
        let name = names[dice.usize(0..names.len())];
        match dice.u8(0..20) {
            0 => while fixture.execute(Purge { retention: RULES.retention() }) > 0 {},
            1 => fixture = fixture.reopen(),
            2 | 3 => {
                time += dice.u64(0..OVER / 4);
                fixture.set_time(time);
                fixture.execute(NoteFailedLogins { failures: vec![] });
            }
            4..12 if !tokens.is_empty() => {
                let token = &tokens[dice.usize(0..tokens.len())];
                // The operator does not always know whose it is, and no second one changes that.
                if dice.u8(0..4) == 0 {
                    fixture.execute(RevokeToken {
                        id: token.id,
                        expiry: Expiry::At(token.expires_at),
                        user: None,
                    });
                } else {
                    fixture.revoke_token(token);
                }
                if let Some(row) = fixture.revocation("token", &token.id.to_string()) {
                    owners.insert(token.id, row.user);
                }
            }
            _ => {
                let kept = fixture.changes(0, ALL).tokens;
                let is_of_user = |id| owners.get(id).is_some_and(|user| user.as_deref() == Some(name));
                let count = kept.iter().filter(|token| is_of_user(&token.id)).count() as u64;
                match mint(&fixture, name) {
                    MintOutcome::RevocationLimit => assert!(count >= LIMIT, "{count} of {name}"),
                    outcome => {
                        assert!(count < LIMIT, "{count} of {name}");
                        tokens.push(verified(&minted(outcome)));
                    }
                }
            }
        }
    }
    assert!(tokens.len() > 20, "few tokens were minted: {}", tokens.len());
}
