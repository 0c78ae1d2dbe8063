//! The layers of the source tree, checked against the sources: which layer may use which, where the database driver and
//! the engine may be named, and that no files import each other in a circle. The tables below are the rules;
//! [`imports`] reads who imports what.

mod circles;
mod imports;
mod planted;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use self::circles::circles;
use self::imports::{Crate, Imports, Sources};

/// The layers from the top, each with all that it may use. A layer is the folder or the file of that name in `src`.
/// [`a_layer_may_only_use_rows_below_its_own`] keeps the arrows pointing down.
const LAYERS: [(&str, &[&str]); 17] = [
    // Lists the modules. A re-export here would be a way around the rows below.
    ("lib", &[]),
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "edge",
            "service",
            "state_dir",
            "store",
            "logging",
            "metrics",
            "clock",
            "config",
            "control",
            "auth",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "edge",
            "tls",
            "service",
            "state_dir",
            "store",
            "logging",
            "metrics",
            "clock",
            "config",
            "control",
            "thread_slot",
            "auth",
        ],
    ),
    ("admin", &["service", "store", "logging", "metrics", "clock", "config", "auth"]),
    ("edge", &["tls", "service", "store", "logging", "metrics", "clock", "config", "thread_slot", "auth"]),
    ("tls", &["config", "auth"]),
    ("service", &["state_dir", "store", "logging", "metrics", "clock", "config", "auth"]),
    ("state_dir", &["store", "metrics", "clock", "config", "auth"]),
    ("store", &["logging", "metrics", "clock", "config", "auth"]),
    ("logging", &["config", "auth"]),
    ("metrics", &["thread_slot", "auth"]),
    ("clock", &["auth"]),
    ("config", &["auth"]),
    // A protocol and its socket, for both ends.
    ("control", &[]),
    ("thread_slot", &[]),
    ("auth", &[]),
];

/// What `auth` may not name: anything outside it arrives as an argument.
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

/// Where the database driver may be named: in the SQLite store, and where a bench fills a database with millions of rows,
/// which would take an hour by way of the store.
const DRIVER: (&str, &[&str]) =
    ("rusqlite", &["src/store/sqlite/", "benches/proxy/gateway.rs", "benches/fleet/starts.rs"]);

/// Where the driver of PostgreSQL may be named.
const POSTGRES: (&str, &[&str]) = ("tokio_postgres", &["src/store/postgres/"]);

/// Where the engine may be named: its phases and listeners in `edge`, what starts and stops it in `app`, the demo's
/// stand-in platform, and the proxy that the bench compares with.
const ENGINE: (&str, &[&str]) = (
    "pingora",
    &[
        "src/edge/answer.rs",
        "src/edge/connection.rs",
        "src/edge/connection_context.rs",
        "src/edge/cors.rs",
        "src/edge/cut.rs",
        "src/edge/deadline.rs",
        "src/edge/listener.rs",
        "src/edge/errors.rs",
        "src/edge/expect_continue.rs",
        "src/edge/gateway.rs",
        "src/edge/lane/allocations.rs",
        "src/edge/lane/client.rs",
        "src/edge/lane/half.rs",
        "src/edge/lane/http2.rs",
        "src/edge/lane/http2/forward.rs",
        "src/edge/lane/http2/stream.rs",
        "src/edge/platform_api.rs",
        "src/edge/lane/mod.rs",
        "src/edge/lane/platform.rs",
        "src/edge/lane/pool.rs",
        "src/edge/lane/reply.rs",
        "src/edge/lane/resources.rs",
        "src/edge/lane/response.rs",
        "src/edge/lane/tunnel.rs",
        "src/edge/local.rs",
        "src/edge/normalize.rs",
        "src/edge/pingora.rs",
        "src/edge/replay.rs",
        "src/edge/response.rs",
        "src/edge/retry.rs",
        "src/edge/socket.rs",
        "src/edge/upstream.rs",
        "src/edge/upstream/peers.rs",
        "src/edge/worker.rs",
        "src/tls/acceptor.rs",
        "src/admin/mod.rs",
        "src/app/",
        "src/cli/demo.rs",
        "benches/proxy/bare.rs",
    ],
);

/// What a request is and what of it goes on: files of `edge` that know neither the engine nor its runtime.
const ENGINE_FREE: [&str; 14] = [
    "src/edge/client.rs",
    "src/edge/decide.rs",
    "src/edge/forward.rs",
    "src/edge/lane/chunks.rs",
    "src/edge/lane/frames.rs",
    "src/edge/lane/handshake.rs",
    "src/edge/lane/head.rs",
    "src/edge/lane/outgoing.rs",
    "src/edge/lane/taken.rs",
    "src/edge/raw_head.rs",
    "src/edge/request.rs",
    "src/edge/request_head.rs",
    "src/edge/runtime.rs",
    "src/edge/trace.rs",
];

/// The crates that are checked.
const CRATES: [Crate; 5] = [
    (Some("ds_gateway"), "src/lib.rs"),
    (None, "src/main.rs"),
    (None, "benches/admit/main.rs"),
    (None, "benches/fleet/main.rs"),
    (None, "benches/proxy/main.rs"),
];

/// The most lines that a file of `src` has without a reason; files of tests have none.
const LONGEST: usize = 400;

/// Files that are longer, and why they are one file.
const LONG: [(&str, &str); 2] = [
    (
        "src/store/command.rs",
        "one closed set of types, a few lines each: what may be asked of the store is read in one place",
    ),
    ("src/edge/connection.rs", "one stream wrapper; the engine's eight traits pass through it"),
];

/// The build script is a crate by itself and runs before all others.
const UNCHECKED: [&str; 1] = ["src/build.rs"];

#[test]
fn layers_use_only_layers_below() {
    assert_none("imports that no arrow allows", &against_layers(&IMPORTS));
}

#[test]
fn a_layer_may_only_use_rows_below_its_own() {
    for (at, (layer, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            let is_below = LAYERS[at + 1..].iter().any(|(below, _)| below == used);
            assert!(is_below, "{layer} may use {used}, which is no row below it");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_none("circles of files that import each other", &circles(&IMPORTS));
}

#[test]
fn a_driver_is_named_in_its_store_alone() {
    for driver in [DRIVER, POSTGRES] {
        assert_none("mentions of a database driver outside its place", &named_elsewhere(&IMPORTS, driver));
    }
}

#[test]
fn the_engine_is_named_only_where_it_runs() {
    assert_none("mentions of the engine outside its place", &named_elsewhere(&IMPORTS, ENGINE));
    let (engine, places) = ENGINE;
    for place in places {
        let is_used = IMPORTS.all.iter().any(|import| import.is_of(engine) && import.file.starts_with(place));
        assert!(is_used, "{place} does not name the engine any more: remove it from ENGINE");
    }
}

#[test]
fn decisions_and_forwarded_fields_are_engine_free() {
    for file in ENGINE_FREE {
        assert!(SOURCES.contains_key(file), "{file}");
        assert_none("mentions of the engine or its runtime", &mentions(file, &["pingora", "tokio"]));
    }
}

#[test]
fn auth_does_no_io() {
    assert_none("words of the outside world in auth", &mentions("src/auth/", &OUTSIDE));
    // A group hides the words: `use std::{fs, net}`.
    let grouped = IMPORTS.all.iter().filter(|import| import.file.starts_with("src/auth/"));
    let grouped = grouped.filter(|import| OUTSIDE.iter().any(|word| names(&import.path, word)));
    let grouped: Vec<String> = grouped.map(|import| import.describe()).collect();
    assert_none("imports of the outside world in auth", &grouped);
}

#[test]
fn a_long_file_has_a_reason() {
    let is_test = |file: &str| file.ends_with("tests.rs") || file.contains("/conformance/");
    let is_code = |file: &&String| file.starts_with("src/") && !is_test(file);
    let lengths =
        SOURCES.iter().filter(|(file, _)| is_code(file)).map(|(file, text)| (file, text.lines().count()));
    let long: Vec<&String> = lengths.filter(|(_, lines)| *lines > LONGEST).map(|(file, _)| file).collect();
    for file in &long {
        let is_test = file.ends_with("/simulation.rs");
        assert!(is_test || LONG.iter().any(|(known, _)| known == file), "{file}: over {LONGEST} lines");
    }
    for (file, _) in LONG {
        assert!(long.iter().any(|known| *known == file), "{file} is no longer long: remove it from LONG");
    }
}

#[test]
fn every_source_file_is_checked() {
    for file in SOURCES.keys().filter(|file| !UNCHECKED.contains(&file.as_str())) {
        assert!(IMPORTS.files.contains(file), "{file}: no `mod` leads there");
    }
    for (layer, _) in LAYERS {
        let mut files = IMPORTS.files.iter().filter(|file| layer_of(file) == Some(layer));
        assert!(files.next().is_some(), "no file is in the layer {layer}");
    }
    let internal = |top: &str| IMPORTS.internal().filter(|(import, _)| import.file.starts_with(top)).count();
    let edges = (internal("src/"), internal("benches/"));
    assert!(edges.0 > 200 && edges.1 > 50, "too few imports for what the sources are: {edges:?}");
}

fn assert_none(what: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{} {what}:\n{}", violations.len(), violations.join("\n"));
}

/// Every Rust file in `src` and `benches`.
static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Sources::new();
    ["src", "benches"].iter().for_each(|folder| walk(top, &top.join(folder), &mut found));
    found
});

/// The imports of all crates.
static IMPORTS: LazyLock<Imports> = LazyLock::new(|| Imports::read(&SOURCES, &CRATES));

fn walk(top: &Path, folder: &Path, found: &mut Sources) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(top, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(top).expect("a file below").to_string_lossy().into_owned();
            found.insert(name, fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// The imports from one layer into another that [`LAYERS`] does not allow, and files that are in none of its layers.
fn against_layers(imports: &Imports) -> Vec<String> {
    let unknown =
        imports.files.iter().filter(|file| layer_of(file).is_some_and(|layer| row(layer).is_none()));
    let mut found: Vec<String> =
        unknown.map(|file| format!("{file}: not in a layer; add its layer to LAYERS")).collect();
    for (import, target) in imports.internal() {
        let (Some(from), Some(to)) = (layer_of(&import.file), layer_of(target)) else {
            continue;
        };
        if from != to && row(from).is_some_and(|allowed| !allowed.contains(&to)) {
            found.push(format!("{}\n    {from} may not use {to}", import.describe()));
        }
    }
    found
}

/// The layer of a file in `src`.
fn layer_of(file: &str) -> Option<&str> {
    Some(file.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs"))
}

/// What the layer may use.
fn row(layer: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|(name, _)| *name == layer).map(|(_, allowed)| *allowed)
}

/// Where a dependency is named outside of the places where it may be.
fn named_elsewhere(imports: &Imports, (dependency, places): (&str, &[&str])) -> Vec<String> {
    let is_allowed = |file: &str| places.iter().any(|place| file.starts_with(place));
    let named = imports.all.iter().filter(|import| import.is_of(dependency) && !is_allowed(&import.file));
    named.map(|import| import.describe()).collect()
}

/// All lines of a file or folder that name one of the words, as `file:line: word`.
fn mentions(place: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in SOURCES.iter().filter(|(file, _)| file.starts_with(place)) {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| names(code(line), word)) {
                found.push(format!("{file}:{}: {word}", number + 1));
            }
        }
    }
    found
}

/// A line without its comment. A `//` inside a string is taken for one only after a blank or at the start.
fn code(line: &str) -> &str {
    let is_comment = |at: usize| at == 0 || line[..at].ends_with([' ', '\t', ';', '{', '}', ',']);
    line.match_indices("//").find(|(at, _)| is_comment(*at)).map_or(line, |(at, _)| &line[..at])
}

/// Does the word stand in the line, and not as the tail or the head of a longer one?
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = word.ends_with(part) && line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

/// The page on security names tests; each of them is there.
#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(top.join("docs/security.md")).expect("a page");
    let named = page.split('`').skip(1).step_by(2).filter_map(|word| word.split_once("::"));
    let mut missing = Vec::new();
    let mut count = 0;
    for (file, test) in named {
        // A long file has its unit tests in one beside it.
        let paths = match file.strip_suffix(".rs") {
            Some(stem) => vec![top.join(file), top.join(stem).join("tests.rs")],
            None => vec![top.join(format!("tests/it/{file}.rs"))],
        };
        let has_test = |text: String| text.contains(&format!("fn {test}("));
        let is_there = paths.iter().any(|path| fs::read_to_string(path).is_ok_and(has_test));
        count += 1;
        if !is_there {
            missing.push(format!("{file}::{test}"));
        }
    }
    assert!(missing.is_empty() && count > 20, "{count} {missing:?}");
}
