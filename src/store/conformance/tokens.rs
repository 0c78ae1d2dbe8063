//! The tokens of a user: what the audit trail has of each, and that what is said of them is what the gate decides.

use super::harness::{Fixture, assert_pages, on_every_engine};
use super::samples::{
    ALL, DAY, RULES, START, actor, email_subject, key, mint_for, mint_with, minted, organization,
    organization_subject, phc, revoke_id, token_id, user_subject, verified,
};
use crate::auth::denial::Denial;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::token::{TokenId, Verified};
use crate::store::command::{Actor, Expiry, Purge, RevokeKey, RevokeToken, UserChange};
use crate::store::records::{MintedToken, RevocationFilter, RevocationKind, TokenFilter, TokenState};

fn tokens(fixture: &Fixture, user: &str, expired: bool) -> Vec<MintedToken> {
    fixture.wait(fixture.store.tokens(user, TokenFilter { expired }, u64::MAX, ALL))
}

fn state(fixture: &Fixture, token: &Verified) -> TokenState {
    let user = token.identity.user.as_str();
    let all = tokens(fixture, user, true);
    all.iter().find(|minted| minted.id == token.id).expect("a token of the trail").state
}

/// What the gate makes of a token at that time, in the words of the list.
fn decided(fixture: &Fixture, token: &Verified, now: u64) -> TokenState {
    if token.check_time(UnixTime(now), || UnixTime(0), &RULES).is_err() {
        return TokenState::Expired;
    }
    match fixture.verdict(token) {
        Ok(()) => TokenState::Live,
        Err(Denial::TokenExpired) => TokenState::Expired,
        Err(Denial::RevokedKey) => TokenState::Revoked(RevocationKind::Key),
        Err(Denial::RevokedEverybody) => TokenState::Revoked(RevocationKind::Everybody),
        Err(Denial::RevokedOrganization) => TokenState::Revoked(RevocationKind::Organization),
        Err(Denial::RevokedUser) => TokenState::Revoked(RevocationKind::User),
        Err(Denial::RevokedEmail) => TokenState::Revoked(RevocationKind::Email),
        Err(Denial::RevokedToken) => TokenState::Revoked(RevocationKind::Token),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn token_is_listed_with_all_that_its_mint_knew() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        fixture.set_time(START + 7);
        let mint = mint_for(fixture.user("anna"));
        let by_login = minted(fixture.execute_as(Actor::client("anna", "192.0.2.1:5"), mint.clone()));
        let by_hand = minted(fixture.execute_as(actor(), mint));
        let found = tokens(&fixture, "anna", false);
        let said: Vec<_> = found
            .iter()
            .map(|it| {
                (it.id, it.minted_at, it.minted_by.as_str(), it.origin.as_str(), it.expires_at, it.state)
            })
            .collect();
        let at = UnixTime(START + 7);
        let end = Some(at.plus(RULES.lifetime));
        let expected = [
            (by_hand.id, at, "operator", "command line", end, TokenState::Live),
            (by_login.id, at, "anna", "192.0.2.1:5", end, TokenState::Live),
        ];
        assert_eq!(said, expected, "the newest first");
        assert!(tokens(&fixture, "bert", true).is_empty());
        assert!(tokens(&fixture, "%", true).is_empty());
    });
}

#[test]
fn state_of_a_token_is_what_the_gate_decides() {
    type Act = fn(&Fixture, &Verified);
    let acts: [(Act, TokenState); 11] = [
        (|_, _| (), TokenState::Live),
        (|it, token| _ = it.revoke_token(token), TokenState::Revoked(RevocationKind::Token)),
        (|it, _| _ = it.revoke(user_subject("anna")), TokenState::Revoked(RevocationKind::User)),
        (|it, _| it.change("anna", UserChange::Password(phc(1))), TokenState::Revoked(RevocationKind::User)),
        (|it, _| it.change("anna", UserChange::Disable), TokenState::Revoked(RevocationKind::User)),
        (|it, _| it.change("anna", UserChange::Remove), TokenState::Revoked(RevocationKind::User)),
        (
            |it, _| _ = it.revoke(organization_subject("Main Org.")),
            TokenState::Revoked(RevocationKind::Organization),
        ),
        (
            |it, _| _ = it.revoke(email_subject("anna@example.com")),
            TokenState::Revoked(RevocationKind::Email),
        ),
        (|it, _| _ = it.revoke(Subject::Everybody), TokenState::Revoked(RevocationKind::Everybody)),
        (
            |it, _| _ = it.execute(RevokeKey { kid: "signer".into(), successors: vec![] }),
            TokenState::Revoked(RevocationKind::Key),
        ),
        (|it, _| it.set_time(START + RULES.lifetime), TokenState::Expired),
    ];
    for (act, expected) in acts {
        on_every_engine(|fixture| {
            fixture.add("anna");
            fixture.add("bert");
            fixture.record_keys(&[("signer", 0), ("other", 1)]);
            let token = fixture.mint("anna");
            act(&fixture, &token);
            let now = if expected == TokenState::Expired { START + RULES.lifetime } else { START };
            assert_eq!((state(&fixture, &token), decided(&fixture, &token, now)), (expected, expected));
            assert_eq!(tokens(&fixture, "anna", false).len(), usize::from(expected != TokenState::Expired));
        });
    }
}

#[test]
fn revocations_of_others_leave_a_token_live_and_so_do_those_before_its_mint() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        fixture.record_keys(&[("signer", 0), ("other", 1)]);
        fixture.revoke(Subject::Everybody);
        fixture.revoke(user_subject("anna"));
        fixture.revoke(organization_subject("Main Org."));
        fixture.change("anna", UserChange::Claims { email: None, organization: Some(organization("New")) });
        let token = fixture.mint("anna");
        let of_other_key = minted(fixture.execute(mint_with(fixture.user("anna"), key("other", 1))));
        fixture.revoke(user_subject("bert"));
        fixture.revoke(organization_subject("Main Org."));
        fixture.execute(revoke_id(1, START + 9, None));
        fixture.execute(RevokeKey { kid: "other".into(), successors: vec![] });
        assert_eq!(
            (state(&fixture, &token), decided(&fixture, &token, START)),
            (TokenState::Live, TokenState::Live)
        );
        let found = tokens(&fixture, "anna", false);
        let states: Vec<_> = found.iter().map(|token| (token.id, token.state)).collect();
        let by_key = TokenState::Revoked(RevocationKind::Key);
        assert_eq!(states, [(of_other_key.id, by_key), (token.id, TokenState::Live)]);
    });
}

#[test]
fn tokens_are_read_by_page_the_newest_first() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let mut expected: Vec<TokenId> = Vec::new();
        for _ in 0..7 {
            expected.push(fixture.mint("anna").id);
            fixture.mint("bert");
        }
        let read = assert_pages(|last: Option<&MintedToken>, limit| {
            let before = last.map_or(u64::MAX, |token| token.sequence);
            fixture.wait(fixture.store.tokens("anna", TokenFilter::default(), before, limit))
        });
        expected.reverse();
        assert_eq!(read.iter().map(|token| token.id).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn token_below_the_expired_sequence_is_not_counted_whatever_its_exp_says() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        // Long enough for every token of then to be gone.
        fixture.set_time(START + 20 * DAY);
        fixture.add("bert");
        fixture.set_time(START + 40 * DAY);
        while fixture.execute(Purge { retention: RULES.retention() }) > 0 {}
        fixture.set_time(START + 1);
        assert_eq!(state(&fixture, &token), TokenState::Expired);
        assert!(tokens(&fixture, "anna", false).is_empty());
    });
}

#[test]
fn revocation_by_token_id_alone_is_under_the_user_whose_it_is() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        let expiry = Expiry::Within { max_lifetime: RULES.max_lifetime };
        fixture.execute(RevokeToken { id: token.id, expiry, user: None });
        let row = fixture.audit().pop().unwrap();
        assert_eq!((row.action.as_str(), row.subject.as_str()), ("revoke_token", "anna"));
        assert_eq!(row.token_id, Some(token.id.to_string()));
        let filter = RevocationFilter { subject: Some("anna".into()), ..RevocationFilter::default() };
        let found = fixture.wait(fixture.store.revocations(filter, u64::MAX, ALL));
        let [revocation] = &found[..] else { panic!("{found:?}") };
        // It is kept until the token's own end, and no longer.
        assert_eq!((revocation.time, revocation.user.as_deref()), (token.expires_at, Some("anna")));
        assert_eq!(fixture.verdict(&token), Err(Denial::RevokedToken));
        // One that nobody here minted is nobody's, as far as is known.
        fixture.execute(RevokeToken { id: token_id(9), expiry, user: None });
        assert_eq!(fixture.audit().pop().unwrap().subject, "");
        let verified = verified(&minted(fixture.execute(mint_for(fixture.user("anna")))));
        assert_eq!(fixture.verdict(&verified), Ok(()));
    });
}
