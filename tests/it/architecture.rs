//! The arrows between the rooms, read from the sources: `auth` thinks and touches nothing, `store` remembers, `edge`
//! touches and does not think, `app` joins them.

use std::fs;
use std::path::{Path, PathBuf};

/// What `auth` may not even name: the outside world arrives there as an argument.
const OUTSIDE: [&str; 15] = [
    "pingora",
    "tokio",
    "std::fs",
    "std::net",
    "std::env",
    "std::time",
    "std::process",
    "SystemTime",
    "Instant",
    "getrandom",
    "rand::",
    "fastrand",
    "log::",
    "println!",
    "eprintln!",
];

/// Every `.rs` file of a room, be it a folder or a file.
fn files(room: &str) -> Vec<PathBuf> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            fs::read_dir(path)
                .expect("a folder")
                .for_each(|entry| walk(&entry.expect("an entry").path(), found));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.to_owned());
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&source.join(room), &mut found);
    let single = source.join(format!("{room}.rs"));
    if single.is_file() {
        found.push(single);
    }
    found.sort();
    found
}

/// A line without its comment. A `//` inside of a text is taken for one only after a blank or at the start.
fn code(line: &str) -> &str {
    let is_comment = |at: usize| at == 0 || line[..at].ends_with([' ', '\t', ';', '{', '}', ',']);
    line.match_indices("//").find(|(at, _)| is_comment(*at)).map_or(line, |(at, _)| &line[..at])
}

/// If the word stands in the line and is not the tail or the head of a longer one.
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = word.ends_with(part) && line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

/// All places of a room that name one of the words, as `file:line: word`.
fn mentions(room: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files(room) {
        let text = fs::read_to_string(&file).expect("a source");
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| names(code(line), word)) {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    found
}

/// The places where a room reaches into another, also by a group: `use crate::{edge::x, store}`.
fn reaches(room: &str, others: &[&str]) -> Vec<String> {
    let direct: Vec<String> =
        others.iter().flat_map(|other| [format!("crate::{other}"), format!("ds_gateway::{other}")]).collect();
    let mut found = mentions(room, &direct.iter().map(String::as_str).collect::<Vec<_>>());
    for file in files(room) {
        let text: String = fs::read_to_string(&file)
            .expect("a source")
            .lines()
            .map(|line| format!("{}\n", code(line)))
            .collect();
        for (at, opening) in text.match_indices("crate::{") {
            let (mut depth, mut heads) = (1, String::new());
            for c in text[at + opening.len()..].chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ if depth == 1 => heads.push(c),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            let first = |item: &str| item.trim().split("::").next().unwrap_or_default().trim().to_owned();
            let line = text[..at].lines().count();
            let named = heads.split(',').map(first).filter(|item| others.contains(&item.as_str()));
            found.extend(named.map(|item| format!("{}:{line}: crate::{{{item}}}", file.display())));
        }
    }
    found
}

#[test]
fn auth_touches_nothing() {
    let looked_at = files("auth");
    assert!(looked_at.len() > 5, "{looked_at:?}");
    let found = mentions("auth", &OUTSIDE);
    assert!(found.is_empty(), "auth names the outside world:\n{}", found.join("\n"));
}

#[test]
fn what_a_request_is_and_what_of_it_goes_on_knows_no_engine() {
    for file in ["edge/request.rs", "edge/rewrite.rs"] {
        assert_eq!(files(file).len(), 1, "{file}");
        let found = mentions(file, &["pingora", "tokio"]);
        assert!(found.is_empty(), "{file} names the engine:\n{}", found.join("\n"));
    }
}

#[test]
fn the_arrows_point_one_way() {
    for (room, others) in [
        ("auth", &["edge", "store", "app", "config", "cli", "metrics"][..]),
        ("store", &["edge", "app", "cli"]),
        ("edge", &["app", "cli"]),
        ("config", &["edge", "app", "cli", "store"]),
    ] {
        assert!(!files(room).is_empty(), "there is a room called {room}");
        let found = reaches(room, others);
        assert!(found.is_empty(), "{room} reaches where it may not:\n{}", found.join("\n"));
    }
}

#[test]
fn the_reader_of_sources_finds_what_it_looks_for() {
    assert!(
        names("use std::time::Duration;", "std::time")
            && names("tokio::spawn(x)", "tokio")
            && names("a(println!())", "println!")
    );
    assert!(
        !names("let operand::x", "rand::")
            && !names("catalog::x", "log::")
            && !names("tokio_like", "tokio")
            && !names("Instantly", "Instant")
    );
    assert_eq!((code("a // tokio"), code("//! tokio"), code("\"http://x\"")), ("a ", "", "\"http://x\""));
}
