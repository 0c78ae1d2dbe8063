//! Log lines that cannot be written: they are counted, and cost nothing else.

use crate::client::request;
use crate::command::{Folder, eventually};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use std::fs::File;
use std::process::Stdio;

fn folder(platform: &Platform) -> Folder {
    let folder = Options::new(platform).set("admin", "listen", "\"127.0.0.2:0\"").folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    folder
}

/// A gateway whose standard error is a full disk.
fn full_disk(folder: Folder) -> Gateway {
    let command = folder.command(&["run"]);
    Gateway::start_unheard(folder, command, File::create("/dev/full").expect("a device"))
}

/// A gateway whose standard error is a pipe that nobody reads any more.
fn closed_pipe(folder: Folder) -> Gateway {
    let command = folder.command(&["run"]);
    let mut gateway = Gateway::start_unheard(folder, command, Stdio::piped());
    drop(gateway.stderr());
    gateway
}

#[test]
fn log_lines_that_cannot_be_written_are_counted_one_by_one() {
    type Start = fn(Folder) -> Gateway;
    let starts: [(&str, Start); 2] = [("full disk", full_disk), ("closed pipe", closed_pipe)];
    for (name, start) in starts {
        let platform = Platform::echo();
        let gateway = start(folder(&platform));
        let lost = || gateway.metric("ds_gateway_log_lines_dropped_total", &[]);
        // Those of the start are gone, or on the way.
        gateway.still_healthy();
        let mut settled = lost();
        eventually(&format!("{name}: the lines of a start"), || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let before = std::mem::replace(&mut settled, lost());
            (settled > 0.0 && settled == before).then_some(())
        });
        let mut client = gateway.client();
        for _ in 0..100 {
            assert_eq!(client.exchange(request("GET", "/refused", &[])).status, 401);
        }
        eventually(&format!("{name}: a hundred more"), || (lost() >= settled + 100.0).then_some(()));
        assert_eq!(lost(), settled + 100.0, "{name}");
        gateway.still_healthy();
        drop(gateway.stop());
    }
}
