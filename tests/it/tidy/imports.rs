//! Finds which source file uses which other file, from the text alone: `use` declarations, and paths
//! that begin with `crate`, `super`, `self` or the crate's name. A re-exported name (`pub use`) resolves
//! to the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Path of a module from the crate root.
pub type Module = Vec<String>;

/// Sources of one crate: the library or a binary.
pub struct Sources {
    /// Directory of the root file.
    root: PathBuf,
    files: BTreeMap<Module, File>,
}

struct File {
    path: PathBuf,
    /// All paths used in the file, absolute from the crate root.
    uses: Vec<Vec<String>>,
    /// Re-exports of other modules: the name, and the path it comes from.
    exports: BTreeMap<String, Vec<String>>,
}

/// One file uses another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The importing module.
    pub from: Module,
    /// The imported module.
    pub to: Module,
}

impl Sources {
    /// Reads the crate whose root file is `root`, without the binaries below `bin`.
    pub fn read(root: &Path) -> Self {
        let directory = root.parent().expect("a root lies in a directory").to_owned();
        let mut sources = Self { root: directory.clone(), files: BTreeMap::new() };
        for entry in walkdir::WalkDir::new(&directory).sort_by_file_name().into_iter().flatten() {
            let path = entry.path();
            let is_other = path.strip_prefix(&directory).is_ok_and(|below| below.starts_with("bin"));
            if path.extension().is_some_and(|e| e == "rs") && !is_other {
                let module = sources.module_of(path, root);
                sources.files.insert(module.clone(), File::read(path, &module));
            }
        }
        sources
    }

    fn module_of(&self, file: &Path, root: &Path) -> Module {
        if file == root {
            return Vec::new();
        }
        let below = file.strip_prefix(&self.root).expect("below the root").with_extension("");
        let mut module: Module = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        module
    }

    /// All modules, each with its file.
    pub fn files(&self) -> impl Iterator<Item = (&Module, &Path)> {
        self.files.iter().map(|(module, file)| (module, &*file.path))
    }

    /// All imports, each pair once. `of` is this crate, with `root` = `crate`, or another crate that
    /// paths call `root`.
    pub fn imports(&self, of: &Self, root: &str) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (module, file) in &self.files {
            for path in file.uses.iter().filter(|path| path[0] == root) {
                if let Some(to) = of.home(&path[1..], 0).filter(|to| to != module || root != "crate") {
                    imports.insert(Import { from: module.clone(), to });
                }
            }
        }
        imports
    }

    /// The module that defines the item at `path`.
    fn home(&self, path: &[String], depth: usize) -> Option<Module> {
        let known = (0..=path.len()).rev().find(|&length| self.files.contains_key(&path[..length]))?;
        let (module, rest) = path.split_at(known);
        match rest.first().and_then(|name| self.files[module].exports.get(name)) {
            Some(origin) if depth < 8 => self.home(origin, depth + 1),
            _ => Some(module.to_vec()),
        }
    }
}

impl File {
    fn read(path: &Path, module: &Module) -> Self {
        let text = fs::read_to_string(path).expect("a source is text");
        let syntax = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut paths = Paths { module: module.clone(), depth: 0, uses: Vec::new(), exports: BTreeMap::new() };
        paths.visit_file(&syntax);
        Self { path: path.to_owned(), uses: paths.uses, exports: paths.exports }
    }
}

/// Collects the paths of one file.
struct Paths {
    module: Module,
    /// Number of enclosing inline modules.
    depth: usize,
    uses: Vec<Vec<String>>,
    exports: BTreeMap<String, Vec<String>>,
}

impl Paths {
    /// The absolute path: `crate` or the name of another crate, then the rest. `None` for an empty path.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let here = || std::iter::once("crate".to_owned()).chain(self.module.iter().cloned());
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" | "hfl" => Some(path.to_vec()),
            "self" => Some(here().chain(path[1..].iter().cloned()).collect()),
            "super" => {
                let up = supers.saturating_sub(self.depth).min(self.module.len());
                let keep = 1 + self.module.len() - up;
                Some(here().take(keep).chain(path[supers..].iter().cloned()).collect())
            }
            // May be a child module. A path that is not a file resolves to this module.
            _ => Some(here().chain(path.iter().cloned()).collect()),
        }
    }

    fn leaves(&mut self, tree: &syn::UseTree, before: &[String], is_passed_on: bool) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        let (path, name) = match tree {
            syn::UseTree::Path(path) => return self.leaves(&path.tree, &with(&path.ident), is_passed_on),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.leaves(item, before, is_passed_on));
            }
            syn::UseTree::Glob(_) => return self.uses.extend(self.absolute(before)),
            syn::UseTree::Name(name) if name.ident == "self" => (before.to_vec(), before.last().cloned()),
            syn::UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            syn::UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
        };
        let Some(absolute) = self.absolute(&path) else { return };
        if let (true, 0, Some(name), "crate") = (is_passed_on, self.depth, name, absolute[0].as_str()) {
            self.exports.insert(name, absolute[1..].to_vec());
        } else {
            self.uses.push(absolute);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_passed_on = !matches!(item.vis, syn::Visibility::Inherited);
        self.leaves(&item.tree, &[], is_passed_on);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Unit tests may import anything.
        if item.content.is_some() && item.ident != "tests" {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.uses.extend(self.absolute(&parts));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        let text = mac.tokens.to_string().replace(' ', "");
        for root in ["crate::", "hfl::", "super::"] {
            for (at, _) in text.match_indices(root) {
                let path = text[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next();
                let parts: Vec<String> =
                    path.unwrap_or_default().split("::").filter(|p| !p.is_empty()).map(str::to_owned).collect();
                let starts = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                if starts {
                    self.uses.extend(self.absolute(&parts));
                }
            }
        }
    }
}
