//! Users as lists show them: which are asked for, when they last logged in, and how many tokens they could use.

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ALL, RULES, START, actor, mint_for, new_user, organization, organization_subject, user_subject,
};
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::store::command::{Actor, AddUser, NameConflict, NewUser, UserChange};
use crate::store::records::{ListedUser, UserFilter};

fn listed(fixture: &Fixture, name: &str) -> ListedUser {
    let found = fixture.wait(fixture.store.listed_user(name)).expect("a user");
    let in_list = fixture.wait(fixture.store.users(UserFilter::default(), "", ALL));
    assert!(in_list.contains(&found), "one and all say the same");
    found
}

fn log_in(fixture: &Fixture, name: &str) {
    let mint = mint_for(fixture.user(name));
    fixture.execute_as(Actor::client(name, "192.0.2.1:5"), mint);
}

#[test]
fn each_condition_narrows_the_list() {
    on_every_engine(|fixture| {
        for (name, email, of) in [
            ("anna", "anna@example.com", "One"),
            ("Bert", "b@Example.org", "One"),
            ("cleo%", "c@example.com", "Two"),
            ("dora", "d_x@example.com", "Two"),
        ] {
            let user = Name::parse_user(name).unwrap();
            let identity = Identity { user, email: email.into(), organization: organization(of) };
            let user = NewUser { identity, ..new_user(name) };
            assert_eq!(fixture.execute(AddUser { user }), Ok(()));
        }
        fixture.change("dora", UserChange::Disable);
        let all = UserFilter::default();
        let text = |text: &str| UserFilter { text: Some(text.into()), ..UserFilter::default() };
        let of = |name: &str| UserFilter { organization: Some(name.into()), ..UserFilter::default() };
        let disabled = |disabled| UserFilter { disabled: Some(disabled), ..UserFilter::default() };
        for (filter, after, limit, expected) in [
            (all.clone(), "", ALL, &["Bert", "anna", "cleo%", "dora"][..]),
            (all, "anna", 1, &["cleo%"]),
            (of("One"), "", ALL, &["Bert", "anna"]),
            (of("One"), "", 1, &["Bert"]),
            (of("One"), "Bert", 1, &["anna"]),
            (of("one"), "", ALL, &[]),
            (disabled(true), "", ALL, &["dora"]),
            (disabled(false), "", ALL, &["Bert", "anna", "cleo%"]),
            (UserFilter { disabled: Some(false), ..of("Two") }, "", ALL, &["cleo%"]),
            (text("BERT"), "", ALL, &["Bert"]),
            (text("example.ORG"), "", ALL, &["Bert"]),
            (text("%"), "", ALL, &["cleo%"]),
            (text("_"), "", ALL, &["dora"]),
            (text("@example.com"), "anna", ALL, &["cleo%", "dora"]),
            (text("nobody"), "", ALL, &[]),
        ] {
            let found = fixture.wait(fixture.store.users(filter.clone(), after, limit));
            let names: Vec<_> = found.iter().map(|listed| listed.user.identity.user.as_str()).collect();
            assert_eq!(names, expected, "{filter:?} after {after:?}");
        }
    });
}

#[test]
fn last_login_is_the_last_mint_by_the_user_itself() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        assert_eq!((listed(&fixture, "anna").last_login, listed(&fixture, "anna").live_tokens), (None, 0));
        fixture.execute_as(actor(), mint_for(fixture.user("anna")));
        assert_eq!(listed(&fixture, "anna").last_login, None, "a token made by an operator is no login");
        for time in [START + 5, START + 9] {
            fixture.set_time(time);
            log_in(&fixture, "anna");
        }
        fixture.set_time(START + 20);
        log_in(&fixture, "bert");
        fixture.execute_as(actor(), mint_for(fixture.user("anna")));
        assert_eq!(listed(&fixture, "anna").last_login, Some(UnixTime(START + 9)));
        assert_eq!(listed(&fixture, "bert").last_login, Some(UnixTime(START + 20)));
        assert_eq!(fixture.wait(fixture.store.listed_user("nobody")), None);
    });
}

#[test]
fn tokens_are_counted_as_long_as_they_are_admitted() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let live = |name| listed(&fixture, name).live_tokens;
        let fill = || (0..3).for_each(|_| log_in(&fixture, "anna"));
        fill();
        log_in(&fixture, "bert");
        assert_eq!((live("anna"), live("bert")), (3, 1));
        let token = fixture.mint("anna");
        fixture.revoke_token(&token);
        assert_eq!(live("anna"), 3);
        for subject in [user_subject("anna"), organization_subject("Main Org."), Subject::Everybody] {
            fixture.revoke(subject);
            assert_eq!(live("anna"), 0);
            fill();
            assert_eq!(live("anna"), 3);
        }
        fixture.change("anna", UserChange::Disable);
        assert_eq!(live("anna"), 0);
        fixture.change("anna", UserChange::Enable);
        assert_eq!(live("anna"), 0, "enabling revives nothing");
        fill();
        fixture.set_time(START + RULES.lifetime);
        assert_eq!(live("anna"), 0);
    });
}

#[test]
fn name_that_looks_like_a_users_in_another_script_is_refused() {
    on_every_engine(|fixture| {
        ["anna", "user1", "modern", "Zoë", "\u{412}\u{41e}\u{412}", "日本"]
            .iter()
            .for_each(|name| fixture.add(name));
        for (name, other) in [
            ("\u{430}nna", "anna"),
            ("\u{410}NNA", "anna"),
            ("ann\u{251}", "anna"),
            ("BOB", "\u{412}\u{41e}\u{412}"),
            ("u\u{455}er1", "user1"),
            ("Zo\u{451}", "Zoë"),
        ] {
            let refused = fixture.unchanged(|| fixture.execute(AddUser { user: new_user(name) }));
            assert_eq!(refused, Err(NameConflict::Confusable(other.into())), "{name}");
        }
        // Plain letters that look alike are an operator's choice, and so is another accent.
        for name in ["userl", "modem", "Zoé", "анна", "日木", "anne"] {
            assert_eq!(fixture.execute(AddUser { user: new_user(name) }), Ok(()), "{name}");
        }
        // A name that nobody bears any more keeps none out.
        fixture.change("anna", UserChange::Remove);
        assert_eq!(fixture.execute(AddUser { user: new_user("\u{430}nna") }), Ok(()));
        assert_eq!(
            fixture.execute(AddUser { user: new_user("anna") }),
            Err(NameConflict::Confusable("\u{430}nna".into()))
        );
    });
}
