//! A store that can be read but not written, for longer than every bound that it could run into: what is known goes on, what
//! others revoke is in force, and nothing that waits to be written is lost.

use crate::audit::{rows, token_id};
use crate::command::{DEADLINE, Folder, eventually, told_of_full_disks, within};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::revoke_once;

/// `store.max_staleness` of these tests, in seconds: the gateway waits two for another process's transaction.
const MAX_STALENESS: u64 = 3;

/// Why the store takes no writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Obstacle {
    /// The disk is full for the gateway; another process may write over what is there.
    FullDisk,
    /// Another process is in the middle of a transaction.
    ForeignTransaction,
}

const OBSTACLES: [Obstacle; 2] = [Obstacle::FullDisk, Obstacle::ForeignTransaction];

/// Keeps a gateway from writing until [`Held::end`].
struct Held(Option<rusqlite::Connection>);

impl Obstacle {
    /// Keeps the gateway from writing. Returns once it has failed to, with what happens meanwhile to be written.
    fn hold(self, gateway: &Gateway, meanwhile: impl FnOnce()) -> Held {
        let failed = errors(gateway);
        let other = match self {
            Self::FullDisk => {
                gateway.disk("4096");
                None
            }
            Self::ForeignTransaction => {
                let store = gateway.folder.state().join("gateway.db");
                let other = rusqlite::Connection::open(store).expect("a store");
                other.busy_timeout(DEADLINE).expect("a connection");
                other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
                Some(other)
            }
        };
        meanwhile();
        eventually("a commit that fails", || (errors(gateway) > failed).then_some(()));
        Held(other)
    }
}

impl Held {
    fn end(self, gateway: &Gateway) {
        gateway.disk("unlimited");
        if let Some(other) = self.0 {
            other.execute_batch("ROLLBACK").expect("an end");
        }
    }
}

fn errors(gateway: &Gateway) -> f64 {
    gateway.metric("ds_gateway_store_commit_errors_total", &[])
}

fn start(options: Options) -> Gateway {
    let folder = options.folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let command = told_of_full_disks(&folder.command(&["run"]));
    Gateway::start(folder, command)
}

#[test]
fn gateway_stays_open_while_its_store_takes_no_writes_for_longer_than_max_staleness() {
    for obstacle in OBSTACLES {
        let platform = Platform::echo();
        // Everything that writes by itself does so all the time.
        let gateway = start(
            Options::new(&platform)
                .set("store", "max_staleness", format!("\"{MAX_STALENESS}s\""))
                .set("store", "heartbeat_interval", "\"100ms\"")
                .set("store", "upkeep_interval", "\"100ms\""),
        );
        let [token, revoked] = [(); 2].map(|()| gateway.mint());
        let held = obstacle.hold(&gateway, || ());
        let mut is_revoked = false;
        let refusal = within(3 * MAX_STALENESS, || {
            let answers = [gateway.status(&token), gateway.admin("/readyz").status];
            if obstacle == Obstacle::FullDisk && !is_revoked {
                // Durable; whether it is confirmed is another question, since the gateway cannot write that it knows.
                let done = revoke_once(&gateway.folder, &["token", &token_id(&revoked)]);
                assert!([Some(0), Some(75)].contains(&done.code), "{done:?}");
                eventually("the revocation to be in force", || {
                    (gateway.status(&revoked) == 401).then_some(())
                });
                is_revoked = true;
            }
            (answers != [200, 200]).then_some(answers)
        });
        assert_eq!(refusal, None, "{obstacle:?}");
        assert_eq!(gateway.metric("ds_gateway_store_stale", &[]), 0.0, "{obstacle:?}");
        held.end(&gateway);
        eventually("a mint", || gateway.login(USER, PASSWORD));
        assert_eq!(gateway.status(&revoked) == 401, is_revoked, "{obstacle:?}");
        gateway.still_healthy();
    }
}

fn failures(folder: &Folder) -> u64 {
    let rows = rows(folder, &["--user", USER]);
    let failed = rows.iter().filter(|row| row["action"] == "login_failed");
    failed.map(|row| row["count"].as_u64().expect("a count")).sum()
}

#[test]
fn failed_logins_are_written_once_when_the_store_takes_writes_again() {
    for obstacle in OBSTACLES {
        let platform = Platform::echo();
        let gateway = start(Options::new(&platform).set("store", "upkeep_interval", "\"10ms\""));
        let held = obstacle.hold(&gateway, || {
            for _ in 0..3 {
                assert_eq!(gateway.login(USER, "wrong"), None);
            }
        });
        // Not only the first attempt fails.
        let failed = errors(&gateway);
        eventually("more commits that fail", || (errors(&gateway) > failed + 1.0).then_some(()));
        assert_eq!(gateway.login(USER, "wrong"), None);
        held.end(&gateway);
        eventually("what failed meanwhile", || (failures(&gateway.folder) >= 4).then_some(()));
        assert_eq!(gateway.login(USER, "wrong"), None);
        eventually("one more", || (failures(&gateway.folder) >= 5).then_some(()));
        assert_eq!(failures(&gateway.folder), 5, "{obstacle:?}: each of them once");
        gateway.still_healthy();
    }
}
