//! How SQLite carries out every statement of the store: by an index, or by a scan that is allowed by name.
//!
//! The statements are taken from the sources, so that none can be forgotten: whatever is given to a connection as SQL is either a
//! literal, which is explained here, or named here with where it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::Connection;
use syn::visit::{self, Visit};
use syn::{Expr, ExprMacro, ExprMethodCall, ItemConst, ItemMod, Lit, LitStr, Token};

use super::file::DatabaseFile;
use crate::auth::time::UnixTime;

/// Scans that may be, by the beginning of the statement, with the reason.
const ALLOWED: [(&str, &str); 28] = [
    (
        "SELECT name, email, organization, phc, disabled, credential_version, created_at, updated_at, imported, source, remembered_at, remembered_number FROM users ORDER BY name",
        "`store check` reads every user",
    ),
    ("SELECT DISTINCT kind, name FROM user_changes", "few: those that nobody has ended"),
    (
        "SELECT email FROM users",
        "a command asks whether anybody has an address, and SQL does not fold as we do",
    ),
    ("SELECT number, wanted FROM sequence", "one row"),
    ("UPDATE sequence SET", "one row"),
    ("SELECT lived, floor, expired_below, forgettable FROM clock", "one row"),
    ("UPDATE clock SET", "one row"),
    (
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks",
        "a start reads everything",
    ),
    ("SELECT token_id, keep, dated, lived FROM revoked_tokens", "a start reads everything"),
    (
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL, reason FROM marks
         WHERE reason IS NOT NULL AND number < ?2 AND name = ?4",
        "sorts the few that have one name",
    ),
    ("SELECT name, disabled FROM users", "a start reads everything"),
    (
        "SELECT kid, fingerprint, revoked_at, number, signs_from, activation, ends_at FROM keys ORDER BY kid",
        "few rows: keys",
    ),
    (
        "SELECT kid, fingerprint, revoked_at, number, signs_from, activation, ends_at FROM keys WHERE number",
        "few rows: keys",
    ),
    ("SELECT EXISTS (SELECT 1 FROM keys", "few rows: keys"),
    ("SELECT kid, number, revoked_at FROM keys", "few rows: keys"),
    ("UPDATE keys SET revoked_at = ?2, number = ?3 WHERE fingerprint", "few rows: keys"),
    ("SELECT id, applied, seen_at + lease >= ?1 FROM gateways", "few rows: gateways of the last days"),
    ("SELECT keys, seen_at + lease FROM gateways", "few rows: gateways of the last days"),
    ("SELECT coalesce(max(at), 0) FROM audit", "once, when a store is migrated"),
    ("SELECT name FROM users", "once, when a store is migrated"),
    ("SELECT id, lived FROM audit ORDER BY id LIMIT", "from the front, and no further"),
    ("SELECT through FROM audit_counted", "one row"),
    ("SELECT clients, operators FROM audit_counted", "one row"),
    ("UPDATE audit_counted SET", "one row"),
    ("SELECT coalesce(max(lived), 0) FROM hours", "one end of the table, by its own key"),
    ("DELETE FROM known_sources WHERE \"user\" = ?1 AND source IN", "sorts the few of one user"),
    ("UPDATE marks SET second = ?1 WHERE second > ?1", "with the gateways stopped"),
    ("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)", "one row is enough"),
];

/// What statements about a table have in a place of theirs, one after the other.
const PARTS: [(&str, &str, &[&str]); 4] = [
    ("audit", "{of_action}", &["AND action = 'login_failed'", ""]),
    ("audit", "{of_user}", &["AND (subject = ?4 OR actor = ?4 OR claimed = ?4)", ""]),
    (
        "marks",
        "{conditions}",
        &[
            "name = ?4 AND kind IN ('everybody', 'user', 'organization', 'email') AND (CAST(?5 AS TEXT) IS NULL OR kind = ?5) AND +number",
            "CAST(?4 AS TEXT) IS NULL AND kind || '' = ?5 AND number",
            "CAST(?4 AS TEXT) IS NULL AND CAST(?5 AS TEXT) IS NULL AND number",
        ],
    ),
    (
        "revoked_tokens",
        "{conditions}",
        &["\"user\" = ?4 AND number", "token_id = ?4 AND +number", "CAST(?4 AS TEXT) IS NULL AND number"],
    ),
];

/// Files whose statements read whole tables, since that is what they are for: copies and checks, which wait for nobody. And this one.
const READ_EVERYTHING: [&str; 4] = ["copy.rs", "inspect.rs", "plans.rs", "tables.rs"];

/// What is given to a connection and is not a literal there.
const NAMED: [(&str, &str); 6] = [
    ("source", "of a copy: a literal beside it"),
    ("statement", "a literal, put together above it"),
    ("query", "of the feed: literals where `Cut::rows` is called"),
    ("is_blank", "a literal beside it"),
    ("script", "a schema"),
    ("&format!", "literals, put together below"),
];

#[test]
fn every_statement_uses_an_index_or_is_allowed_to_scan() {
    let folder = tempfile::tempdir().unwrap();
    let file = DatabaseFile::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
    let connection = file.connect().unwrap();
    let mut statements = statements();
    statements.extend(statements_of_triggers(&connection));
    // The one row of a copy that is not finished is in no store.
    statements.retain(|statement| !statement.contains("ds_gateway_copy"));
    assert!(statements.len() > 40, "{}", statements.len());
    let (mut wrong, mut unused) = (Vec::new(), BTreeSet::from(ALLOWED.map(|(begin, _)| begin)));
    for statement in &statements {
        let mut explained = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        let mut rows = explained.raw_query();
        let mut plan = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            plan.push(row.get::<_, String>("detail").unwrap());
        }
        // What a subquery yields is bounded by its own steps.
        let of_subqueries: Vec<String> =
            plan.iter().filter_map(|step| Some(step.strip_prefix("CO-ROUTINE ")?.to_owned())).collect();
        // A temporary table is written where the disk may be full, and sorts all that there is.
        let is_costly = |step: &&String| {
            let of_what = step.split_once(' ').map(|(_, what)| what).unwrap_or_default();
            let is_bounded =
                of_subqueries.iter().any(|name| name == of_what) || step.contains("CONSTANT ROW");
            // A search without a condition is one for an end of the table, and may read all of it.
            let reads_all = step.starts_with("SCAN") || (step.starts_with("SEARCH") && !step.ends_with(')'));
            (reads_all && !is_bounded) || step.contains("TEMP B-TREE") || step.contains("AUTOMATIC")
        };
        let costly: Vec<_> = plan.iter().filter(is_costly).collect();
        let allowed = ALLOWED.iter().find(|(begin, _)| statement.starts_with(&words(begin)));
        match allowed {
            _ if costly.is_empty() => {}
            Some((begin, _)) => _ = unused.remove(begin),
            None => wrong.push(format!("{statement}\n    {costly:?} of {plan:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unused.is_empty(), "these scan no more: {unused:?}");
}

#[test]
fn scan_of_a_large_table_is_found() {
    for (statement, expected) in [
        ("DELETE FROM revoked_tokens WHERE keep < ?1 - iif(dated, 1, 2)", true),
        ("DELETE FROM revoked_tokens WHERE lived < ?1", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        let connection = file.connect().unwrap();
        let plan: String = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .and_then(|mut explained| explained.query_row([0], |row| row.get("detail")))
            .unwrap();
        assert_eq!(plan.starts_with("SCAN"), expected, "{plan}");
    }
}

/// What the schema's triggers do at each row: it would not be in the plan of what sets them off.
fn statements_of_triggers(connection: &Connection) -> BTreeSet<String> {
    let mut triggers = connection.prepare("SELECT sql FROM sqlite_master WHERE type = 'trigger'").unwrap();
    let triggers = triggers.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let statements: BTreeSet<String> = triggers
        .flat_map(|trigger| {
            let trigger = words(&trigger.unwrap());
            let (_, rest) = trigger.split_once(" BEGIN ").unwrap();
            let steps = rest.strip_suffix(" END").unwrap();
            let steps =
                steps.split(';').map(|step| words(&without_rows(step))).filter(|step| !step.is_empty());
            steps.collect::<Vec<_>>()
        })
        .collect();
    assert!(!statements.is_empty());
    statements
}

/// A trigger's step as a statement of its own: the columns of the row that set it off are parameters.
fn without_rows(step: &str) -> String {
    let is_name = |symbol: char| symbol.is_ascii_alphanumeric() || symbol == '_';
    let pieces = step.replace("new.", "old.");
    let mut pieces = pieces.split("old.");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + "?" + piece.trim_start_matches(is_name))
}

/// Every statement in the sources, of this folder and of what the engines share, without their tests.
fn statements() -> BTreeSet<String> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let folders = ["sqlite", "sql"].map(|folder| std::fs::read_dir(store.join(folder)).unwrap());
    let mut statements = BTreeSet::new();
    let mut texts = String::new();
    let mut files = 0;
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs")
            || READ_EVERYTHING.iter().any(|name| path.ends_with(name))
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        texts += &words(&text.replace("\\\"", "\""));
        let source = syn::parse_file(&text).unwrap();
        let mut finder = Finder { file: path.display().to_string(), ..Finder::default() };
        finder.visit_file(&source);
        assert!(finder.unnamed.is_empty(), "{}: not a literal: {:?}", finder.file, finder.unnamed);
        let constants = finder.constants.clone();
        statements.extend(finder.statements.iter().flat_map(|text| completed(text, &constants)));
        files += 1;
    }
    assert!(files > 10, "{files}");
    for part in PARTS.iter().flat_map(|(_, _, parts)| *parts) {
        assert!(texts.contains(part), "no source has this part: {part}");
    }
    statements
}

/// A statement with what is put into its places: constants of the same file, and parts that are there or not.
fn completed(text: &str, constants: &BTreeMap<String, String>) -> Vec<String> {
    let text = constants
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    // Each part with each of every other place.
    let texts = PARTS.iter().fold(vec![text], |texts, (of, place, parts)| {
        let complete = |text: String| match text.contains(of) && text.contains(place) {
            true => parts.iter().map(|part| text.replace(place, part)).collect(),
            false => vec![text],
        };
        texts.into_iter().flat_map(complete).collect()
    });
    for text in &texts {
        assert!(!text.contains('{'), "what is put in here? {text}");
    }
    texts.iter().map(|text| words(text)).collect()
}

/// However the lines of it are broken.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Default)]
struct Finder {
    file: String,
    constants: BTreeMap<String, String>,
    statements: Vec<String>,
    unnamed: Vec<String>,
}

impl Finder {
    fn literal(&mut self, text: &LitStr) {
        let text = text.value();
        let verb = text.split_whitespace().next().unwrap_or_default();
        if ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "REPLACE", "{SELECT}"].contains(&verb) {
            self.statements.push(text);
        }
    }

    /// Looks at an argument that SQLite will take as SQL.
    fn sql(&mut self, argument: Option<&Expr>) {
        let name = match argument {
            Some(Expr::Lit(literal)) if matches!(literal.lit, Lit::Str(_)) => return,
            Some(Expr::Path(path)) => path.path.get_ident().map(ToString::to_string).unwrap_or_default(),
            Some(Expr::Reference(reference)) => match &*reference.expr {
                Expr::Macro(called) if called.mac.path.is_ident("format") => "&format!".into(),
                Expr::Path(path) => path.path.get_ident().map(ToString::to_string).unwrap_or_default(),
                _ => "&…".into(),
            },
            _ => "something else".into(),
        };
        if !NAMED.iter().any(|(named, _)| *named == name) {
            self.unnamed.push(name);
        }
    }
}

impl<'s> Visit<'s> for Finder {
    fn visit_item_mod(&mut self, module: &'s ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_const(&mut self, constant: &'s ItemConst) {
        match &*constant.expr {
            // A part of statements, which are explained where they are put together.
            Expr::Lit(literal) if constant.ident == "SELECT" => {
                if let Lit::Str(text) = &literal.lit {
                    self.constants.insert(constant.ident.to_string(), text.value());
                }
            }
            _ => visit::visit_item_const(self, constant),
        }
    }

    fn visit_expr_method_call(&mut self, call: &'s ExprMethodCall) {
        let takes_sql = match call.method.to_string().as_str() {
            "prepare" | "prepare_cached" | "execute_batch" => true,
            // Of a statement, they take the parameters alone.
            "execute" => call.args.len() == 2 && is_connection(&call.receiver),
            "query_row" => call.args.len() == 3,
            "one" | "find" | "all" | "each" | "change" | "write" => {
                call.args.len() >= 2 && is_connection(&call.receiver)
            }
            _ => false,
        };
        if takes_sql {
            self.sql(call.args.first());
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_macro(&mut self, called: &'s ExprMacro) {
        // The text of a `format!` is in tokens.
        let first = called.mac.parse_body_with(|input: syn::parse::ParseStream<'_>| {
            let text = input.parse::<LitStr>()?;
            input.parse::<Option<Token![,]>>()?;
            input.parse::<proc_macro2::TokenStream>()?;
            Ok(text)
        });
        if let Ok(text) = first {
            self.literal(&text);
        }
    }

    fn visit_lit_str(&mut self, text: &'s LitStr) {
        self.literal(text);
    }
}

fn is_connection(receiver: &Expr) -> bool {
    matches!(receiver, Expr::Path(path) if path.path.get_ident().is_some_and(|name| {
        ["connection", "transaction", "snapshot", "savepoint"].contains(&name.to_string().as_str())
    }))
}
