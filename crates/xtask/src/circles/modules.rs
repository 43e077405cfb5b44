//! The modules of a crate: the names each has, and the paths that it mentions.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, Token, UseTree};

use super::Sources;
use super::error::SourceError;
use super::paths;

/// The modules that are reached from a root file without passing a test.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<SourceFile>,
    /// The crate first. Modules that are written out are here as well.
    pub(super) modules: Vec<Module>,
    pub(super) mentions: Vec<Mention>,
}

#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: String,
    /// The module's path below the crate: `waits::queue`.
    pub(super) name: String,
    /// The file that declares it.
    above: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Module {
    /// The file in which it is written.
    pub(super) file: usize,
    pub(super) parent: Option<usize>,
    pub(super) names: BTreeMap<String, Name>,
    /// The paths before `::*`.
    pub(super) globs: Vec<Vec<String>>,
}

/// What a name in a module stands for. Of two things of one name (a module, and a function from it), the first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Module(usize),
    Import(Vec<String>),
    Item,
}

/// A path that a module writes, its groups and renames undone.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) module: usize,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// A file that is still to be read, for a module that has been declared.
#[derive(Debug)]
struct Declared {
    module: usize,
    path: String,
    /// The folder of its children's files.
    folder: String,
}

impl Tree {
    pub(super) fn read(root: &str, sources: &Sources) -> Result<Self, SourceError> {
        let mut tree = Self::default();
        let module = tree.add_module(0, None);
        let mut declared =
            vec![Declared { module, path: root.to_owned(), folder: folder_of(root).to_owned() }];
        while let Some(next) = declared.pop() {
            let Some(text) = sources.get(&next.path) else {
                return Err(SourceError::NoRoot { file: next.path });
            };
            let parsed = syn::parse_file(text).map_err(|error| syntax(&next.path, &error))?;
            let (module, above) = (next.module, tree.modules[next.module].parent);
            let file = tree.files.len();
            tree.modules[module].file = file;
            tree.files.push(SourceFile {
                path: next.path.clone(),
                name: tree.names_of(module).join("::"),
                above: above.map(|above| tree.modules[above].file),
            });
            if is_test(&parsed.attrs) {
                continue;
            }
            let mut reader = Reader {
                tree: &mut tree,
                sources,
                module,
                path: next.path,
                folder: next.folder,
                declared: &mut declared,
                error: None,
            };
            reader.items(&parsed.items);
            if let Some(error) = reader.error {
                return Err(error);
            }
        }
        Ok(tree)
    }

    /// Whether the module of the file `above` contains that of `below`, at any depth.
    pub(super) fn is_above(&self, above: usize, below: usize) -> bool {
        let mut file = Some(below);
        while let Some(at) = file {
            if at == above {
                return true;
            }
            file = self.files[at].above;
        }
        false
    }

    fn add_module(&mut self, file: usize, parent: Option<usize>) -> usize {
        self.modules.push(Module { file, parent, names: BTreeMap::new(), globs: Vec::new() });
        self.modules.len() - 1
    }

    fn add_name(&mut self, module: usize, text: String, name: Name) {
        let names = &mut self.modules[module].names;
        match names.get_mut(&text) {
            Some(older) if *older > name => *older = name,
            Some(_) => {}
            None => {
                names.insert(text, name);
            }
        }
    }

    /// The names from the crate down to `module`, without the crate.
    fn names_of(&self, module: usize) -> Vec<&str> {
        let Some(parent) = self.modules[module].parent else { return Vec::new() };
        let mut names = self.names_of(parent);
        let is_it = |name: &Name| *name == Name::Module(module);
        names.extend(
            self.modules[parent].names.iter().find(|(_, name)| is_it(name)).map(|(text, _)| text.as_str()),
        );
        names
    }
}

/// Reads one file.
struct Reader<'a> {
    tree: &'a mut Tree,
    sources: &'a Sources,
    /// The module whose items are read.
    module: usize,
    path: String,
    folder: String,
    declared: &'a mut Vec<Declared>,
    error: Option<SourceError>,
}

impl Reader<'_> {
    /// The items of a module: what they are called, then what they mention.
    fn items(&mut self, items: &[Item]) {
        let is_read = |item: &&Item| !is_test(attributes(item));
        for item in items.iter().filter(is_read) {
            self.name(item);
        }
        for item in items.iter().filter(is_read) {
            self.visit_item(item);
        }
    }

    fn name(&mut self, item: &Item) {
        let (text, name) = match item {
            Item::Const(item) => (item.ident.to_string(), Name::Item),
            Item::Enum(item) => (item.ident.to_string(), Name::Item),
            Item::Fn(item) => (item.sig.ident.to_string(), Name::Item),
            Item::Static(item) => (item.ident.to_string(), Name::Item),
            Item::Struct(item) => (item.ident.to_string(), Name::Item),
            Item::Trait(item) => (item.ident.to_string(), Name::Item),
            Item::TraitAlias(item) => (item.ident.to_string(), Name::Item),
            Item::Type(item) => (item.ident.to_string(), Name::Item),
            Item::Union(item) => (item.ident.to_string(), Name::Item),
            Item::ExternCrate(item) if item.ident == "self" => match &item.rename {
                Some((_, name)) => (name.to_string(), Name::Import(vec!["crate".to_owned()])),
                None => return,
            },
            Item::Macro(item) => {
                let Some(ident) = &item.ident else { return };
                if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                    let mut path = vec!["crate".to_owned()];
                    path.extend(self.tree.names_of(self.module).into_iter().map(str::to_owned));
                    path.push(ident.to_string());
                    if self.module != 0 {
                        self.tree.add_name(0, ident.to_string(), Name::Import(path));
                    }
                }
                (ident.to_string(), Name::Item)
            }
            Item::Use(item) if item.leading_colon.is_none() => {
                for import in imports(&item.tree) {
                    match import.name {
                        Some(name) => self.tree.add_name(self.module, name, Name::Import(import.path)),
                        None if import.is_glob => self.tree.modules[self.module].globs.push(import.path),
                        None => {}
                    }
                }
                return;
            }
            _ => return,
        };
        self.tree.add_name(self.module, text, name);
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        self.tree.mentions.push(Mention { module: self.module, path, line });
    }

    fn tokens(&mut self, tokens: &TokenStream, is_read: impl Fn(&[String]) -> bool) {
        for (path, line) in paths::in_tokens(tokens.clone()) {
            if is_read(&path) {
                self.mention(path, line);
            }
        }
    }

    /// `mod name;` or `mod name { .. }`.
    fn child(&mut self, item: &syn::ItemMod) {
        let name = item.ident.unraw().to_string();
        let (file, parent) = (self.tree.modules[self.module].file, self.module);
        let child = self.tree.add_module(file, Some(parent));
        self.tree.add_name(parent, item.ident.to_string(), Name::Module(child));
        let folder = joined(&self.folder, &name);
        if let Some((_, items)) = &item.content {
            let outer = std::mem::replace(&mut self.folder, folder);
            self.module = child;
            self.items(items);
            self.module = parent;
            self.folder = outer;
            return;
        }
        let looked_for = match path_attribute(&item.attrs) {
            Some(path) => vec![joined(folder_of(&self.path), &path)],
            None => vec![format!("{folder}.rs"), format!("{folder}/mod.rs")],
        };
        if let Some(path) = looked_for.iter().find(|path| self.sources.contains_key(*path)) {
            let folder = if path.ends_with("/mod.rs") { folder_of(path).to_owned() } else { folder };
            self.declared.push(Declared { module: child, path: path.clone(), folder });
        } else {
            let line = line_of(item.ident.span());
            let absent = SourceError::NoFile { file: self.path.clone(), line, name, looked_for };
            self.error.get_or_insert(absent);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes(item)) {
            return;
        }
        match item {
            Item::Mod(item) => self.child(item),
            Item::Use(item) => {
                let is_of_another_crate = item.leading_colon.is_some();
                for import in imports(&item.tree).into_iter().filter(|_| !is_of_another_crate) {
                    self.mention(import.path, import.line);
                }
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !is_test(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_test(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            if let Some(first) = path.segments.first() {
                self.mention(segments, line_of(first.ident.span()));
            }
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(&call.tokens, |_| true);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            // The words of an attribute are its own: `default`, `error`.
            self.tokens(&list.tokens, |path| {
                path.len() > 1 && matches!(path[0].as_str(), "crate" | "self" | "super")
            });
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// One path of a `use`.
struct Imported {
    path: Vec<String>,
    /// What it is called here; `None` for a glob and for `as _`.
    name: Option<String>,
    is_glob: bool,
    line: usize,
}

fn imports(tree: &UseTree) -> Vec<Imported> {
    let mut found = Vec::new();
    collect(tree, &[], &mut found);
    found
}

fn collect(tree: &UseTree, before: &[String], found: &mut Vec<Imported>) {
    let named = |ident: &syn::Ident, rename: Option<&syn::Ident>, line| {
        let mut path = before.to_vec();
        // `{self}` is what is before the braces.
        if ident != "self" || path.is_empty() {
            path.push(ident.to_string());
        }
        let name = rename.map_or_else(|| path.last().cloned(), |name| Some(name.to_string()));
        Imported { path, name: name.filter(|name| name != "_"), is_glob: false, line }
    };
    match tree {
        UseTree::Path(path) => {
            let before: Vec<String> = before.iter().cloned().chain([path.ident.to_string()]).collect();
            collect(&path.tree, &before, found);
        }
        UseTree::Name(name) => found.push(named(&name.ident, None, line_of(name.ident.span()))),
        UseTree::Rename(name) => {
            found.push(named(&name.ident, Some(&name.rename), line_of(name.ident.span())));
        }
        UseTree::Glob(glob) => found.push(Imported {
            path: before.to_vec(),
            name: None,
            is_glob: true,
            line: line_of(glob.star_token.spans[0]),
        }),
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect(tree, before, found)),
    }
}

/// Whether what has these attributes is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_test_function = attribute.path().segments.last().is_some_and(|last| last.ident == "test");
        let is_for_tests = || attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition));
        is_test_function || attribute.path().is_ident("cfg") && is_for_tests()
    })
}

fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else { return condition.path().is_ident("test") };
    let Ok(inner) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else {
        return false;
    };
    if list.path.is_ident("all") {
        inner.iter().any(needs_test)
    } else {
        list.path.is_ident("any") && !inner.is_empty() && inner.iter().all(needs_test)
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find(|attribute| attribute.path().is_ident("path")).and_then(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        Some(text.value())
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
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

fn syntax(file: &str, error: &syn::Error) -> SourceError {
    let start = error.span().start();
    SourceError::Syntax {
        file: file.to_owned(),
        line: start.line,
        column: start.column + 1,
        message: error.to_string(),
    }
}

fn line_of(span: Span) -> usize {
    span.start().line
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `path` from `folder`, without `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
