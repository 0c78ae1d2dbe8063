//! Which file imports which, read from the sources: `use` declarations, paths in code, and paths in the tokens of
//! macros and attributes, each resolved to the file that defines the module.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta, Token, TraitItem, UseTree};

/// The text of each source file by its path from the top of the repository.
pub type Sources = BTreeMap<String, String>;

/// A crate: the name that other crates import it by, if they do, and its root file.
pub type Crate = (Option<&'static str>, &'static str);

/// A module's path; its first element is the root file of its crate.
type ModulePath = Vec<String>;

/// One place where a file names something by a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub file: String,
    pub line: usize,
    /// As written, with groups expanded: `crate::auth::gate::Gate`.
    pub path: String,
    /// The other file of ours that it leads to. `None`: the standard library, a dependency or the file itself.
    pub target: Option<String>,
    /// Compiled for tests only.
    pub is_test: bool,
}

impl Import {
    /// `file:line: path`, and where the path leads.
    pub fn describe(&self) -> String {
        let target =
            self.target.as_ref().map_or_else(String::new, |target| format!("  (defined in {target})"));
        format!("{}:{}: {}{target}", self.file, self.line, self.path)
    }

    /// Is this the dependency's name, or a path into it?
    pub fn is_of(&self, dependency: &str) -> bool {
        self.target.is_none() && self.path.split("::").next() == Some(dependency)
    }
}

/// The imports of some crates.
#[derive(Debug, Default)]
pub struct Imports {
    /// Every file that a `mod` declaration leads to, starting at the crates' roots.
    pub files: BTreeSet<String>,
    pub all: Vec<Import>,
}

impl Imports {
    /// Parses the crates. Panics where a file is missing or is not Rust.
    pub fn read(sources: &Sources, crates: &[Crate]) -> Self {
        let mut index = Index::default();
        for &(name, root) in crates {
            if let Some(name) = name {
                index.crates.insert(name.into(), vec![root.into()]);
            }
            index.load(sources, root, vec![root.into()], false);
        }
        let mut all: Vec<Import> = index.mentions.iter().map(|mention| index.resolve(mention)).collect();
        all.dedup();
        Self { files: index.modules.into_values().collect(), all }
    }

    /// Those that lead from one of our files to another.
    pub fn internal(&self) -> impl Iterator<Item = (&Import, &str)> {
        self.all.iter().filter_map(|import| Some((import, import.target.as_deref()?)))
    }
}

/// A path as it stands in a module.
struct Mention {
    file: String,
    module: ModulePath,
    line: usize,
    segments: Vec<String>,
    is_test: bool,
}

/// What all files together declare.
#[derive(Default)]
struct Index {
    crates: BTreeMap<String, ModulePath>,
    /// The file that each module is written in.
    modules: BTreeMap<ModulePath, String>,
    /// What a `use` binds a name to, by module and name.
    names: BTreeMap<(ModulePath, String), Vec<String>>,
    /// What a module imports with `*`.
    globs: BTreeMap<ModulePath, Vec<Vec<String>>>,
    mentions: Vec<Mention>,
}

impl Index {
    fn load(&mut self, sources: &Sources, file: &str, module: ModulePath, is_test: bool) {
        let text = sources.get(file).unwrap_or_else(|| panic!("{file}: declared by a `mod`, but missing"));
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let is_test = is_test || is_test_only(&syntax.attrs);
        self.modules.insert(module.clone(), file.into());
        let folder = folder_of(file, module.len() == 1);
        let mut reader = Reader { file, module, folder, is_test, index: self, children: Vec::new() };
        reader.visit_file(&syntax);
        for child in reader.children {
            let found = child.candidates.iter().find(|candidate| sources.contains_key(*candidate));
            let found = found.unwrap_or_else(|| panic!("{file}: no {}", child.candidates.join(" or ")));
            self.load(sources, found, child.module, child.is_test);
        }
    }

    fn resolve(&self, mention: &Mention) -> Import {
        let found = self.absolute(&mention.module, &mention.segments, 0);
        let target = found.and_then(|path| self.file_of(&path)).filter(|target| **target != mention.file);
        Import {
            file: mention.file.clone(),
            line: mention.line,
            path: mention.segments.join("::"),
            target: target.cloned(),
            is_test: mention.is_test,
        }
    }

    /// The file of the longest prefix that is a module.
    fn file_of(&self, path: &[String]) -> Option<&String> {
        (1..=path.len()).rev().find_map(|length| self.modules.get(&path[..length]))
    }

    /// The path from its crate's root; `None` if it leads out of our crates.
    fn absolute(&self, module: &[String], segments: &[String], depth: usize) -> Option<ModulePath> {
        let (head, mut rest) = segments.split_first()?;
        let mut path = match head.as_str() {
            "crate" => module[..1].to_vec(),
            "self" => module.to_vec(),
            "super" => parent(module),
            name => self.named(module, name, depth)?,
        };
        if matches!(head.as_str(), "self" | "super") {
            while let Some(("super", after)) = rest.split_first().map(|(head, after)| (head.as_str(), after))
            {
                (path, rest) = (parent(&path), after);
            }
        }
        path.extend_from_slice(rest);
        Some(path)
    }

    /// The module that a name stands for: a child, an imported module, or one of our crates.
    fn named(&self, module: &[String], name: &str, depth: usize) -> Option<ModulePath> {
        // A name may be imported from a path that begins with an imported name.
        if depth > 8 {
            return None;
        }
        let is_module = |path: &ModulePath| self.modules.contains_key(path);
        let child = |parent: &[String]| Some([parent, &[name.to_owned()]].concat()).filter(is_module);
        let imported = || {
            let path = self.names.get(&(module.to_vec(), name.to_owned()))?;
            self.absolute(module, path, depth + 1).filter(is_module)
        };
        let by_glob = || {
            let mut globs = self.globs.get(module)?.iter();
            globs.find_map(|glob| child(&self.absolute(module, glob, depth + 1)?))
        };
        child(module).or_else(imported).or_else(by_glob).or_else(|| self.crates.get(name).cloned())
    }
}

/// A `mod name;`, and the files one of which it is.
struct Child {
    module: ModulePath,
    candidates: Vec<String>,
    is_test: bool,
}

/// Reads one file.
struct Reader<'f> {
    file: &'f str,
    /// The module that the reader is in: the file's, or one written inside it.
    module: ModulePath,
    /// Where the files of its children lie.
    folder: String,
    is_test: bool,
    index: &'f mut Index,
    children: Vec<Child>,
}

impl Reader<'_> {
    fn mention(&mut self, line: usize, segments: Vec<String>) {
        let (file, module, is_test) = (self.file.to_owned(), self.module.clone(), self.is_test);
        self.index.mentions.push(Mention { file, module, line, segments, is_test });
    }

    /// Reads on, remembering whether what has these attributes is compiled for tests only.
    fn within(&mut self, attributes: &[Attribute], read: impl FnOnce(&mut Self)) {
        let outside = self.is_test;
        self.is_test |= is_test_only(attributes);
        read(self);
        self.is_test = outside;
    }

    fn import(&mut self, prefix: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(prefix, &path.tree);
                prefix.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(prefix, tree)),
            UseTree::Name(leaf) => self.bind(prefix, &leaf.ident, None),
            UseTree::Rename(leaf) => self.bind(prefix, &leaf.ident, Some(&leaf.rename)),
            UseTree::Glob(glob) => {
                self.index.globs.entry(self.module.clone()).or_default().push(prefix.clone());
                let line = glob.star_token.spans[0].start().line;
                self.mention(line, [prefix.as_slice(), &["*".to_owned()]].concat());
            }
        }
    }

    /// The end of a `use`: `a::b::leaf`, `a::b::{self}`, either with `as rename`.
    fn bind(&mut self, prefix: &[String], leaf: &syn::Ident, rename: Option<&syn::Ident>) {
        let mut path = prefix.to_vec();
        if leaf != "self" || prefix.is_empty() {
            path.push(leaf.to_string());
        }
        let name = rename.map(ToString::to_string).or_else(|| path.last().cloned()).unwrap_or_default();
        self.index.names.insert((self.module.clone(), name), path.clone());
        self.mention(leaf.span().start().line, path);
    }

    /// Finds the paths in tokens that are not parsed: the arguments of a macro or of an attribute.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(first) => {
                    let end = path_end(&tokens, at);
                    if self.scan_group(&tokens, at, end) {
                        at = end + 3;
                        continue;
                    }
                    let names = tokens[at..end].iter().filter(|token| matches!(token, TokenTree::Ident(_)));
                    let segments: Vec<String> = names.map(ToString::to_string).collect();
                    if segments.len() > 1 {
                        self.mention(first.span().start().line, segments);
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads `path::{…}`, whose path is `tokens[at..end]`; `false` if that is not what stands there.
    fn scan_group(&mut self, tokens: &[TokenTree], at: usize, end: usize) -> bool {
        if !is_separator(tokens, end) || !matches!(tokens.get(end + 2), Some(TokenTree::Group(_))) {
            return false;
        }
        let tree = syn::parse2::<UseTree>(tokens[at..end + 3].iter().cloned().collect());
        tree.map(|tree| self.import(&mut Vec::new(), &tree)).is_ok()
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        self.within(attributes_of(item), |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &Vec::new(),
        };
        self.within(attributes, |reader| visit::visit_impl_item(reader, item));
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => &Vec::new(),
        };
        self.within(attributes, |reader| visit::visit_trait_item(reader, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let stem = format!("{}/{name}", self.folder);
        self.module.push(name);
        if item.content.is_some() {
            self.index.modules.insert(self.module.clone(), self.file.to_owned());
            let outside = std::mem::replace(&mut self.folder, stem);
            visit::visit_item_mod(self, item);
            self.folder = outside;
        } else {
            let borrowed = path_of(item).map(|path| normal(&format!("{}/{path}", self.folder)));
            // What is borrowed from another crate is checked there.
            let is_test = self.is_test || borrowed.is_some();
            let own = || vec![format!("{stem}.rs"), format!("{stem}/mod.rs")];
            let candidates = borrowed.map_or_else(own, |file| vec![file]);
            self.children.push(Child { module: self.module.clone(), candidates, is_test });
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&mut Vec::new(), &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.mention(item.ident.span().start().line, vec![item.ident.to_string()]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (Some(first), true) = (path.segments.first(), path.segments.len() > 1) {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(first.ident.span().start().line, segments);
        }
        visit::visit_path(self, path);
    }

    // `pub(in crate::auth)` says who may import, and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.scan(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.scan(list.tokens.clone());
    }
}

/// Where the children of a file's module lie: beside `main.rs`, `lib.rs` and `mod.rs`, else in a folder of its name.
fn folder_of(file: &str, is_root: bool) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    if is_root || name == "mod.rs" { folder.into() } else { file.trim_end_matches(".rs").into() }
}

/// What `#[path = "…"]` says of a `mod name;` that is not inside another module of its file.
fn path_of(item: &syn::ItemMod) -> Option<String> {
    let attribute = item.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta {
        Meta::NameValue(syn::MetaNameValue {
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }),
            ..
        }) => Some(path.value()),
        _ => None,
    }
}

/// The same path without `..`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn parent(module: &[String]) -> ModulePath {
    module[..module.len().saturating_sub(1).max(1)].to_vec()
}

/// The end of the path that begins at `at`: `a`, `a::b`, `a::b::c`.
fn path_end(tokens: &[TokenTree], at: usize) -> usize {
    let mut end = at + 1;
    while is_separator(tokens, end) && matches!(tokens.get(end + 2), Some(TokenTree::Ident(_))) {
        end += 3;
    }
    end
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

/// Is what has these attributes left out of an ordinary build?
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = || attribute.parse_args::<Meta>().is_ok_and(|meta| needs_test(&meta));
        attribute.path().is_ident("test") || attribute.path().is_ident("cfg") && condition()
    })
}

fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else {
        return condition.path().is_ident("test");
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).unwrap_or_default();
    if list.path.is_ident("all") {
        parts.iter().any(needs_test)
    } else {
        list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(needs_test)
    }
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
