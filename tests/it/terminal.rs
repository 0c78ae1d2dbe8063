//! Commands on a terminal, which is a real one here: what they ask, and how they leave it.

use crate::command::{DEADLINE, Folder, eventually};
use crate::commands::list;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A command with a terminal of its own, which a person sits at.
struct Session {
    child: Child,
    keyboard: File,
    terminal: OwnedFd,
    screen: Arc<Mutex<String>>,
}

impl Session {
    fn start(command: &Command) -> Self {
        let pty = openpty(None, None).expect("a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        // It is the terminal that `/dev/tty` means, too.
        let mut started = Command::new("setsid");
        started.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        let child = started.stdin(end()).stdout(end()).stderr(end()).spawn().expect("a command that starts");
        let screen = Arc::<Mutex<String>>::default();
        let mut output = File::from(pty.master.try_clone().expect("a descriptor"));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("a lock").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keyboard: File::from(pty.master), terminal: pty.slave, screen }
    }

    fn screen(&self) -> String {
        self.screen.lock().expect("a lock").clone()
    }

    #[track_caller]
    fn sees(&self, text: &str) {
        eventually(text, || self.screen().contains(text).then_some(()));
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal");
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).expect("a terminal's modes")
    }

    /// Waits until what is typed is not shown.
    #[track_caller]
    fn hides(&self) {
        eventually("a prompt", || (!self.modes().local_flags.contains(LocalFlags::ECHO)).then_some(()));
    }

    #[track_caller]
    fn ends(&mut self) -> ExitStatus {
        eventually("its end", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn folder() -> Folder {
    Options::servers(&["http://127.0.0.1:1"]).nobody().folder()
}

fn adding(folder: &Folder) -> Session {
    Session::start(&folder.command(&["user", "add", USER, "--email", EMAIL, "--organization", ORGANIZATION]))
}

#[test]
fn a_password_that_is_typed_twice_is_taken_and_never_shown() {
    let folder = folder();
    let mut session = adding(&folder);
    let before = tcgetattr(&session.terminal).expect("modes").local_flags;
    session.sees("Password: ");
    session.hides();
    session.types("canary-password\n");
    session.sees("Again: ");
    session.hides();
    session.types("canary-password\n");
    assert_eq!(session.ends().code(), Some(0), "{}", session.screen());
    assert!(!session.screen().contains("canary"), "{}", session.screen());
    assert!(session.modes().local_flags.contains(LocalFlags::ECHO) || !before.contains(LocalFlags::ECHO));
    assert_eq!(list(&folder).len(), 1);
}

#[test]
fn whatever_ends_a_command_at_its_prompt_leaves_the_terminal_as_it_was() {
    let folder = folder();
    for at_second in [false, true] {
        for (keys, sent, expected) in [
            (Some("\u{3}"), None, Signal::SIGINT),
            (Some("half a password\u{3}"), None, Signal::SIGINT),
            (None, Some("INT"), Signal::SIGINT),
            (None, Some("TERM"), Signal::SIGTERM),
            (None, Some("HUP"), Signal::SIGHUP),
            (None, Some("QUIT"), Signal::SIGQUIT),
        ] {
            let pty = openpty(None, None).expect("a terminal");
            let before = tcgetattr(&pty.slave).expect("modes");
            drop(pty);
            let mut session = adding(&folder);
            session.sees("Password: ");
            session.hides();
            if at_second {
                session.types("a password\n");
                session.sees("Again: ");
                session.hides();
            }
            if let Some(keys) = keys {
                session.types(keys);
            }
            if let Some(sent) = sent {
                let mut kill = Command::new("kill");
                kill.args(["-s", sent, &session.child.id().to_string()]);
                assert!(kill.status().expect("kill").success());
            }
            let status = session.ends();
            // The shell that has started it sees the signal, and ends a loop around it.
            assert_eq!(
                status.signal(),
                Some(expected as i32),
                "{keys:?} {sent:?} {status}: {}",
                session.screen()
            );
            let after = session.modes();
            assert_eq!(after.local_flags, before.local_flags, "{keys:?} {sent:?}");
            assert_eq!(after.input_flags, before.input_flags, "{keys:?} {sent:?}");
        }
    }
    assert!(list(&folder).is_empty());
}

#[test]
fn revoking_every_token_asks_on_a_terminal_and_nowhere_else() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let question = "Revoke every token of every user? [y/N]";
    let token = gateway.mint();
    for (keys, code) in [("n\n", 64), ("\n", 64), ("maybe\n", 64), ("\u{4}", 64)] {
        let mut session = Session::start(&gateway.folder.command(&["revoke", "all"]));
        session.sees(question);
        session.types(keys);
        assert_eq!(session.ends().code(), Some(code), "{keys:?}: {}", session.screen());
        session.sees("not revoked");
        assert_eq!(gateway.status(&token), 200, "{keys:?}");
    }
    for keys in ["y\n", "YES\n"] {
        let token = gateway.mint();
        let mut session = Session::start(&gateway.folder.command(&["revoke", "all"]));
        session.sees(question);
        session.types(keys);
        assert_eq!(session.ends().code(), Some(0), "{}", session.screen());
        assert_eq!(gateway.status(&token), 401, "{keys:?}");
    }
    let token = gateway.mint();
    let mut unasked = Session::start(&gateway.folder.command(&["revoke", "all", "--yes"]));
    assert_eq!(unasked.ends().code(), Some(0), "{}", unasked.screen());
    assert!(!unasked.screen().contains(question));
    assert_eq!(gateway.status(&token), 401);
    let token = gateway.mint();
    let script = gateway.folder.cli(&["revoke", "all"], "");
    assert!(!script.stderr.contains(question), "{script:?}");
    script.ok();
    assert_eq!(gateway.status(&token), 401, "a script is not asked");
    gateway.still_healthy();
}

#[test]
fn the_log_is_text_on_a_terminal_and_json_elsewhere() {
    let folder = folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let session = Session::start(&folder.command(&["run"]));
    session.sees(" listening ");
    assert!(!session.screen().contains('{'), "{}", session.screen());
    drop(session);
    // Every other test reads JSON from a pipe.
    let gateway: Gateway = folder.run(&[]);
    assert!(!gateway.log.messages("listening").is_empty());
    let _ = DEADLINE;
}
