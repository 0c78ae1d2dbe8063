//! Who an act is recorded for: the account that the system knows, and beside it the one that sudo claims.

use crate::audit::{account, rows};
use crate::command::finish;
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};

#[test]
fn the_actor_is_the_real_account_and_never_what_a_variable_says() {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let me = account();
    for (variables, claimed) in [
        (&[][..], None),
        (&[("SUDO_USER", "anna")], Some("anna")),
        (&[("SUDO_USER", me.as_str())], None),
        (&[("SUDO_USER", "")], None),
        (&[("SUDO_USER", "anna\nforged")], None),
        (&[("USER", "mallory"), ("LOGNAME", "mallory"), ("SUDO_UID", "7")], None),
        (&[("SUDO_USER", "anna"), ("USER", "mallory")], Some("anna")),
    ] {
        let mut command = folder.command(&["revoke", "user", USER]);
        for name in ["SUDO_USER", "USER", "LOGNAME"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        finish(command, "").ok();
        let rows = rows(&folder, &[]);
        let row = rows.last().expect("a row");
        assert_eq!(row["action"], "revoke_user", "{row}");
        assert_eq!(
            (&row["actor"], &row["claimed_actor"]),
            (&me.as_str().into(), &claimed.into()),
            "{variables:?}"
        );
    }
    // Both names find it.
    assert_eq!(rows(&folder, &["--user", "anna"]).len(), 2);
    assert_eq!(rows(&folder, &["--user", &me]).len(), rows(&folder, &[]).len() - 1, "all but the new key's");
    let text = folder.cli(&["audit", "list", "--user", "anna"], "").ok();
    assert!(text.lines().all(|line| line.contains(&format!("by {me} (sudo: anna)"))), "{text}");
}
