//! A change of a user that changes nothing: no token ends, nothing is recorded, and the command says so.

use crate::audit::rows;
use crate::command::eventually;
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::number_of;

#[test]
fn a_change_that_changes_nothing_revokes_nothing() {
    let platform = Platform::echo();
    let disabled = User::new("disabled", "pw", EMAIL, ORGANIZATION);
    let gateway = Options::new(&platform).user(disabled).start();
    let folder = &gateway.folder;
    folder.cli(&["user", "disable", "disabled"], "").ok();
    let token = gateway.mint();
    let before = rows(folder, &[]);
    let number = number_of(&token) as f64;
    for arguments in [
        &["user", "enable", USER][..],
        &["user", "disable", "disabled"],
        &["user", "set", USER, "--email", EMAIL],
        &["user", "set", USER, "--organization", ORGANIZATION],
        &["user", "set", USER, "--email", EMAIL, "--organization", ORGANIZATION],
        &["user", "set", "disabled", "--email", EMAIL],
    ] {
        let said = folder.cli(arguments, "").ok();
        assert!(said.contains("nothing to change"), "{arguments:?}: {said}");
    }
    assert_eq!(rows(folder, &[]), before, "nothing happened, so nothing is in the trail");
    // A change that is one comes after them in the feed: what they had done would be in force by then.
    folder.cli(&["user", "set", "disabled", "--email", "new@example.com"], "").ok();
    let reached = || gateway.metric("ds_gateway_store_number", &[]);
    eventually("the next change", || (reached() > number).then_some(()));
    assert_eq!(reached(), number + 1.0, "none of them took a sequence");
    assert_eq!(gateway.status(&token), 200);

    // These always are a change, even to what is there already.
    for (arguments, input) in
        [(&["user", "passwd", USER, "--password-stdin"][..], PASSWORD), (&["revoke", "user", USER], "")]
    {
        let token = gateway.mint();
        assert_eq!(gateway.status(&token), 200);
        folder.cli(arguments, input);
        eventually("the token to end", || (gateway.status(&token) == 401).then_some(()));
    }
    gateway.still_healthy();
}
