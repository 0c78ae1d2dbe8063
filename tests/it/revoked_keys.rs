//! A revoked key verifies nothing ever again, whatever is restored, copied or created afterwards.

use crate::command::{Done, Folder, private};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::jwt::{self, Members, now};
use crate::options::Options;
use crate::platform::Platform;
use crate::revocation::{number_of, revoke};
use crate::seeds::seeds;
use std::fs;
use std::path::{Path, PathBuf};

/// A signing key that somebody else has a copy of.
#[derive(Clone)]
struct Stolen {
    kid: String,
    secret: Vec<u8>,
}

impl Stolen {
    /// The key that signs.
    fn from(folder: &Folder) -> Self {
        let listed = folder.cli(&["key", "list"], "").ok();
        let line = listed.lines().find(|line| line.contains(" signing ")).expect("a key that signs");
        let kid = line.split(' ').next().expect("a kid").to_owned();
        let content = fs::read_to_string(key_file(folder, &kid)).expect("a key");
        Self { kid, secret: content.trim_end().into() }
    }

    /// How the gateway answers to a token that somebody makes with it now, which no cutoff refuses.
    fn status(&self, gateway: &Gateway) -> u16 {
        let (now, number) = (now(), number_of(&gateway.mint()));
        let claims = Members::new().and("exp", now + 3_600).and("iat", now).text("database", ORGANIZATION);
        let claims = claims.text("email", EMAIL).text("user", USER);
        let claims = claims.text("jti", &format!("{number}.AAAAAAAAAAAAAAAAAAAAAA"));
        let header = Members::header("HS256", &self.kid);
        gateway.status(&jwt::token(&self.secret, header.json(), claims.json()))
    }

    /// Revokes it, as its owner should.
    fn revoke(&self, folder: &Folder) {
        revoke(folder, &["key", &self.kid, "--replace"]).ok();
    }
}

fn key_file(folder: &Folder, kid: &str) -> PathBuf {
    folder.state().join(format!("keys/{kid}.hs256"))
}

fn cli(folder: &Folder, action: &str, copy: &Path) -> Done {
    folder.cli(&[action, copy.to_str().expect("a path")], "")
}

/// Takes the store away, as if it were lost, with what lies beside it under these names.
fn lose(folder: &Folder, more: &[&str]) {
    for end in [&["", "-wal", "-shm"], more].concat() {
        drop(fs::remove_file(folder.state().join(format!("gateway.db{end}"))));
    }
}

#[test]
fn restore_leaves_a_key_revoked_that_was_revoked_after_the_backup() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let stolen = Stolen::from(&gateway.folder);
    let copy = gateway.folder.dir.path().join("backup");
    cli(&gateway.folder, "backup", &copy).ok();
    assert_eq!(stolen.status(&gateway), 200);
    stolen.revoke(&gateway.folder);
    assert_eq!(stolen.status(&gateway), 401);

    let mut folder = gateway.stop();
    // Of what the first one leaves, too.
    for _ in 0..2 {
        let done = cli(&folder, "restore", &copy);
        assert!(!done.stderr.contains("warning"), "nothing is lost: {done:?}");
        let said = done.ok();
        assert!(said.contains(&format!("the key {:?} stays revoked", stolen.kid)), "{said}");
        assert!(said.contains("made the key"), "one that signs is needed: {said}");
        let gateway = folder.run(&[]);
        assert_eq!(stolen.status(&gateway), 401);
        gateway.still_healthy();
        folder = gateway.stop();
    }
    let trail = folder.cli(&["audit", "list"], "").ok();
    assert!(trail.lines().any(|line| line.contains("revoke_key") && line.contains(&stolen.kid)), "{trail}");
}

#[test]
fn key_that_is_revoked_in_the_backup_stays_revoked() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let stolen = Stolen::from(&gateway.folder);
    stolen.revoke(&gateway.folder);
    let copy = gateway.folder.dir.path().join("backup");
    cli(&gateway.folder, "backup", &copy).ok();
    let folder = gateway.stop();
    fs::remove_dir_all(folder.state()).expect("a folder");
    cli(&folder, "restore", &copy).ok();
    let gateway = folder.run(&[]);
    assert_eq!(stolen.status(&gateway), 401);
    gateway.still_healthy();
}

#[test]
fn restore_says_what_it_cannot_know_and_the_command_that_it_names_works() {
    type Harm = fn(&Folder);
    let harms: [(&str, Harm); 4] = [
        ("missing", |folder| lose(folder, &["-revoked-keys"])),
        ("damaged", |folder| {
            lose(folder, &["-revoked-keys"]);
            private(&folder.state().join("gateway.db"), &[0xff; 8192]);
        }),
        ("a new store", |folder| {
            lose(folder, &["-revoked-keys", "-sequence"]);
            let add =
                ["user", "add", "x", "--email", EMAIL, "--organization", "O", "--password-stdin", "--init"];
            folder.cli(&add, PASSWORD).ok();
        }),
        ("another machine", |folder| fs::remove_dir_all(folder.state()).expect("a folder")),
    ];
    for (name, harm) in harms {
        let platform = Platform::echo();
        let gateway = Options::new(&platform).start();
        let stolen = Stolen::from(&gateway.folder);
        let copy = gateway.folder.dir.path().join("backup");
        // A new store has not come as far.
        (0..5).for_each(|_| drop(gateway.mint()));
        cli(&gateway.folder, "backup", &copy).ok();
        stolen.revoke(&gateway.folder);
        let folder = gateway.stop();
        harm(&folder);
        let done = cli(&folder, "restore", &copy);
        for words in ["warning", "is valid again", "ds-gateway revoke key"] {
            assert!(done.code == Some(0) && done.stderr.contains(words), "{name}: {done:?}");
        }
        stolen.revoke(&folder);
        let gateway = folder.run(&[]);
        assert_eq!(stolen.status(&gateway), 401, "{name}");
        gateway.still_healthy();
    }
}

#[test]
fn revoked_key_outlives_a_store_that_is_lost_or_put_back_by_hand() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let stolen = Stolen::from(&gateway.folder);
    let (copy, older) =
        (gateway.folder.dir.path().join("backup"), gateway.folder.dir.path().join("older.db"));
    cli(&gateway.folder, "backup", &copy).ok();
    let folder = gateway.stop();
    fs::copy(folder.state().join("gateway.db"), &older).expect("a copy");
    let gateway = folder.run(&[]);
    stolen.revoke(&gateway.folder);

    // An older file in its place, also where nobody knows how far the store had come.
    let mut folder = gateway.stop();
    for more in [&[][..], &["-sequence"]] {
        lose(&folder, more);
        fs::copy(&older, folder.state().join("gateway.db")).expect("a copy");
        for arguments in [&["run"][..], &["key", "list"]] {
            let refused = folder.cli(arguments, "");
            assert!(refused.code == Some(1) && refused.stderr.contains("--restored"), "{refused:?}");
        }
        let gateway = folder.run(&["--restored"]);
        assert_eq!(stolen.status(&gateway), 401, "{more:?}");
        gateway.still_healthy();
        folder = gateway.stop();
    }
    // A restore that was interrupted when the store had been moved aside, and is done again.
    lose(&folder, &[]);
    let said = cli(&folder, "restore", &copy).ok();
    assert!(said.contains("stays revoked"), "{said}");
    let gateway = folder.run(&[]);
    assert_eq!(stolen.status(&gateway), 401);
    // A store that is gone for good.
    let folder = gateway.stop();
    lose(&folder, &[]);
    let add = ["user", "add", USER, "--email", EMAIL, "--organization", ORGANIZATION, "--password-stdin"];
    folder.cli(&[&add[..], &["--init"]].concat(), PASSWORD).ok();
    let gateway = folder.run(&[]);
    assert_eq!(stolen.status(&gateway), 401);
    gateway.still_healthy();
}

#[test]
fn no_sequence_of_backups_restores_and_starts_brings_a_revoked_key_back() {
    for (seed, steps) in seeds("REVOKED_KEYS_SEED", &[1, 2], 6, 8) {
        println!("REVOKED_KEYS_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let platform = Platform::echo();
        let mut gateway = Options::new(&platform).start();
        let copies = ["one", "two"].map(|name| gateway.folder.dir.path().join(name));
        for copy in &copies {
            cli(&gateway.folder, "backup", copy).ok();
        }
        let mut revoked = vec![Stolen::from(&gateway.folder)];
        revoked[0].revoke(&gateway.folder);
        for step in 0..steps {
            let copy = &copies[random.usize(..2)];
            let what = random.u8(..6);
            println!("step {step}: {what} {}", copy.display());
            match what {
                0 => {
                    let stolen = Stolen::from(&gateway.folder);
                    stolen.revoke(&gateway.folder);
                    revoked.push(stolen);
                }
                1 => drop(cli(&gateway.folder, "backup", copy).ok()),
                2 => gateway = gateway.kill().run(&[]),
                // Where a key of the same name has another secret by now, such a store is refused: it needs its own keys.
                3 if !has_other_keys(&gateway.folder, copy) => {
                    let folder = gateway.stop();
                    lose(&folder, &[]);
                    fs::copy(copy.join("gateway.db"), folder.state().join("gateway.db")).expect("a copy");
                    gateway = folder.run(&["--restored"]);
                }
                _ => {
                    let folder = if random.bool() { gateway.stop() } else { gateway.kill() };
                    cli(&folder, "restore", copy).ok();
                    gateway = folder.run(&[]);
                }
            }
            for stolen in &revoked {
                assert_eq!(stolen.status(&gateway), 401, "{}", stolen.kid);
            }
        }
        gateway.still_healthy();
    }
}

/// Has the backup a key of another secret under the name of one in the state folder?
fn has_other_keys(folder: &Folder, copy: &Path) -> bool {
    let keys = fs::read_dir(copy.join("keys")).expect("keys").map(|entry| entry.expect("a key").path());
    let read = |path: &Path| fs::read(path).ok();
    keys.into_iter().any(|path| {
        let here = read(&folder.state().join("keys").join(path.file_name().expect("a name")));
        here.is_some() && here != read(&path)
    })
}
