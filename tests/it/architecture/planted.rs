//! The checks themselves, on small sources: each violation that they look for is planted and must be found.

use super::circles::circles;
use super::imports::{Crate, Imports, Sources};
use super::{against_layers, code, named_elsewhere, names};

const CRATES: [Crate; 1] = [(Some("ours"), "src/lib.rs")];

fn read(files: &[(&str, &str)]) -> Imports {
    let sources: Sources = files.iter().map(|(file, text)| ((*file).into(), (*text).into())).collect();
    Imports::read(&sources, &CRATES)
}

/// Where the imports of `src/a/b.rs` lead, in a crate with the modules `a`, `a::b`, `a::c` and `d`.
fn targets(text: &str) -> Vec<String> {
    let imports = read(&[
        ("src/lib.rs", "mod a; mod d;"),
        ("src/a/mod.rs", "mod b; mod c;"),
        ("src/a/b.rs", text),
        ("src/a/c.rs", ""),
        ("src/d.rs", ""),
    ]);
    let of_b = imports.internal().filter(|(import, _)| import.file == "src/a/b.rs");
    of_b.map(|(import, target)| format!("{}:{target}", import.line)).collect()
}

#[test]
fn a_path_leads_to_the_file_of_its_module() {
    for (text, expected) in [
        ("use crate::{a::{c, c::X}, d};", &["1:src/a/c.rs", "1:src/a/c.rs", "1:src/d.rs"][..]),
        ("use crate::{\n  a::c::{self},\n  d::*,\n};", &["2:src/a/c.rs", "3:src/d.rs"]),
        ("use super::super::d::X;", &["1:src/d.rs"]),
        ("use super::X as Y;", &["1:src/a/mod.rs"]),
        ("pub use super::c::X;", &["1:src/a/c.rs"]),
        ("use ours::d::X;", &["1:src/d.rs"]),
        ("\nfn f() -> crate::d::X { super::c::g() }", &["2:src/d.rs", "2:src/a/c.rs"]),
        ("fn f(x: Vec<crate::d::X>) { use super::c; }", &["1:src/d.rs", "1:src/a/c.rs"]),
        ("use crate::a as e;\nfn f() { e::c::g() }", &["1:src/a/mod.rs", "2:src/a/c.rs"]),
        ("use super::*;\nfn f() { c::g() }", &["1:src/a/mod.rs", "2:src/a/c.rs"]),
        ("mod inline { use super::super::c; }", &["1:src/a/c.rs"]),
        ("#[cfg(test)] mod tests { use super::*; use crate::d::X; }", &["1:src/d.rs"]),
        ("pub(in crate::a) struct X; use self::X as Y; use std::fmt; use other::d;", &[]),
    ] {
        assert_eq!(targets(text), expected, "{text}");
    }
}

#[test]
fn a_path_in_a_macro_or_an_attribute_is_found() {
    for text in [
        "fn f() { println!(\"{}\", crate::d::X); }",
        "fn f() { assert!(matches!(x, [Some(crate::d::X)])); }",
        "fn f() { crate::d::call!(); }",
        "macro_rules! m { () => { $crate::d::X }; }",
        "macro_rules! m { () => { use crate::{d::X}; }; }",
        "#[arg(value_parser = crate::d::parse)] struct X;",
        "struct X { #[arg(value_parser = crate::d::parse)] x: u8 }",
    ] {
        assert_eq!(targets(text), ["1:src/d.rs"], "{text}");
    }
}

#[test]
fn code_for_tests_is_told_apart() {
    for (attribute, expected) in [
        ("#[cfg(test)]", true),
        ("#[test]", true),
        ("#[cfg(all(test, not(feature = \"x\")))]", true),
        ("#[cfg(test)]\n#[cfg(feature = \"x\")]", true),
        ("#[cfg(any(test, feature = \"x\"))]", false),
        ("#[cfg(not(test))]", false),
        ("", false),
    ] {
        let text = format!("mod a; mod b; {attribute} fn f() {{ crate::a::g() }}");
        let imports = read(&[("src/lib.rs", &text), ("src/a.rs", ""), ("src/b.rs", "")]);
        assert_eq!(imports.all[0].is_test, expected, "{attribute}");
    }
    let whole_file =
        [("src/lib.rs", "mod a; #[cfg(test)] mod b;"), ("src/a.rs", ""), ("src/b.rs", "use crate::a;")];
    assert!(read(&whole_file).all[0].is_test, "a file that a test module declares");
}

#[test]
fn an_import_from_a_layer_above_is_found() {
    for text in [
        "use crate::store::X;",
        "use crate::{store::{X, Y}};",
        "#[cfg(test)] mod tests { use super::super::super::store::X; }",
        "fn f() { debug_assert!(crate::store::X); }",
    ] {
        let files =
            [("src/auth/mod.rs", "mod x;"), ("src/auth/x.rs", text), ("src/store.rs", "use crate::auth::x;")];
        let found = against_layers(&read(&[&[("src/lib.rs", "mod auth; mod store;")], &files[..]].concat()));
        assert!(
            !found.is_empty() && found.iter().all(|line| line.ends_with("auth may not use store")),
            "{found:?}"
        );
    }
    let reexported = [("src/lib.rs", "mod auth; pub use auth::X;"), ("src/auth.rs", "use crate::X;")];
    assert_eq!(against_layers(&read(&reexported)).len(), 2, "lib.rs lends no way around");
    let stray = [("src/lib.rs", "mod stray;"), ("src/stray.rs", "")];
    assert_eq!(against_layers(&read(&stray)), ["src/stray.rs: not in a layer; add its layer to LAYERS"]);
}

#[test]
fn a_circle_is_shown_with_the_imports_that_make_it() {
    let found = circles(&read(&[
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::{b::X, d};"),
        ("src/b.rs", "\nfn f() { vec![crate::c::Y]; }"),
        ("src/c.rs", "pub use super::a::Z;"),
        ("src/d.rs", ""),
    ]));
    assert_eq!(
        found,
        ["a circle of 3 files:\n  \
          src/b.rs imports src/c.rs\n    src/b.rs:2: crate::c::Y\n  \
          src/c.rs imports src/a.rs\n    src/c.rs:1: super::a::Z\n  \
          src/a.rs imports src/b.rs\n    src/a.rs:1: crate::b::X"]
    );
}

#[test]
fn every_circle_is_found() {
    let root = ("src/lib.rs", "mod a; mod b; mod c;");
    let two =
        [("src/a.rs", "use crate::b;"), ("src/b.rs", "use crate::{a, c};"), ("src/c.rs", "use crate::b;")];
    assert_eq!(circles(&read(&[root, two[0], two[1], two[2]])).len(), 2);
    let parent =
        [("src/lib.rs", "mod a;"), ("src/a/mod.rs", "mod b; use b::X;"), ("src/a/b.rs", "use super::Y;")];
    assert_eq!(circles(&read(&parent)).len(), 1, "a parent and its child");
    let tests = ("src/b.rs", "#[cfg(test)] mod tests { use crate::a; }");
    assert!(circles(&read(&[root, two[0], tests, ("src/c.rs", "")])).is_empty(), "tests may look back");
}

#[test]
fn a_dependency_is_found_wherever_it_is_named() {
    for text in [
        "use driver::Connection;",
        "use driver as other;",
        "use {std::fmt, driver::{A, B as C}};",
        "pub use ::driver::A;",
        "fn f(x: &driver::A) {}",
        "fn f() { format!(\"{}\", driver::f()); }",
        "extern crate driver;",
        "#[cfg(test)] mod tests { use driver::A; }",
    ] {
        let imports = read(&[("src/lib.rs", "mod a;"), ("src/a.rs", text)]);
        assert!(!named_elsewhere(&imports, ("driver", &["src/b/"])).is_empty(), "{text}");
        assert!(named_elsewhere(&imports, ("driver", &["src/"])).is_empty(), "{text}");
    }
    let own = [("src/lib.rs", "mod driver; // driver::A\nuse driver::A;"), ("src/driver.rs", "")];
    assert!(named_elsewhere(&read(&own), ("driver", &[])).is_empty(), "a module of that name is ours");
}

#[test]
fn a_word_is_found_in_code_and_not_in_a_comment() {
    for (line, word, expected) in [
        ("use std::time::Duration;", "std::time", true),
        ("tokio::spawn(x)", "tokio", true),
        ("a(println!())", "println!", true),
        ("let operand::x", "rand::", false),
        ("catalog::x", "log::", false),
        ("tokio_like", "tokio", false),
        ("Instantly", "Instant", false),
    ] {
        assert_eq!(names(line, word), expected, "{word} in {line}");
    }
    for (line, expected) in [("a // tokio", "a "), ("//! tokio", ""), ("\"http://x\"", "\"http://x\"")] {
        assert_eq!(code(line), expected);
    }
}
