//! The modules of a kernel: which ones are needed, their dependencies, and the load order.
//!
//! Source: modules.dep(5); modules.builtin lists modules that are built in.

use std::collections::{HashMap, HashSet};

use super::decompress::{self, MODULE_MAX_BYTES};
use super::kernel::Kernel;
use super::module_list::{CLIENT, FIRST, OVERLAY, READ_ONLY, REQUIRED, REST};
use crate::disk::root::Root;
use crate::error::Error;

/// Maximum size of a module list in bytes.
const LIST_MAX_BYTES: u64 = 8 << 20;
/// Maximum number of modules in a miniroot.
const MODULES_MAX: usize = 256;
/// Maximum bytes of modules in a miniroot, decompressed.
const ALL_MAX_BYTES: u64 = 96 << 20;

/// A module in a miniroot.
#[derive(Debug, Clone)]
pub struct Module {
    /// Name in the kernel's form.
    pub name: String,
    /// Contents, decompressed.
    pub bytes: Vec<u8>,
}

/// The modules of one kernel.
struct Modules<'a> {
    root: &'a Root,
    directory: &'a str,
    /// Path of each module below the directory, and the names of its dependencies.
    files: HashMap<String, (String, Vec<String>)>,
    builtin: HashSet<String>,
}

/// The wanted modules of a kernel and their dependencies, in load order. All of `more` must exist.
///
/// # Errors
/// No module list; a required or requested module is missing; a damaged module.
pub fn collect(root: &Root, kernel: &Kernel, more: &[String]) -> Result<Vec<Module>, Error> {
    let modules = Modules::of(root, &kernel.modules)?;
    modules.check(&kernel.version, more)?;
    let first = FIRST.concat().into_iter().map(str::to_owned);
    // Requested modules may be for a network card.
    let asked = more.iter().map(|name| decompress::normal(name));
    let rest = [CLIENT].into_iter().chain(REST.concat()).chain([root.file_system()]).map(str::to_owned);
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for name in first.chain(asked).chain(rest) {
        modules.visit(&name, &mut seen, &mut order)?;
    }
    modules.load(&order)
}

impl<'a> Modules<'a> {
    fn of(root: &'a Root, directory: &'a str) -> Result<Self, Error> {
        let list = |name: &str| -> Result<Option<String>, Error> {
            let file = root.read(&format!("{directory}/{name}"), LIST_MAX_BYTES)?;
            Ok(file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let Some(dep) = list("modules.dep")? else {
            return Err(root
                .error(directory, "no modules.dep in it")
                .hint("run depmod in the image: it makes the list"));
        };
        let builtin = list("modules.builtin")?.unwrap_or_default();
        let names = |text: &str| text.split_whitespace().filter_map(decompress::name_of).collect();
        let mut files = HashMap::new();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            if let Some(name) = decompress::name_of(file) {
                files.insert(name, (file.trim().to_owned(), names(needs)));
            }
        }
        Ok(Self { root, directory, files, builtin: names(&builtin).into_iter().collect() })
    }

    fn has(&self, name: &str) -> bool {
        self.builtin.contains(name) || self.files.contains_key(name)
    }

    /// Checks that the kernel has all required and requested modules.
    fn check(&self, version: &str, more: &[String]) -> Result<(), Error> {
        let own = [self.root.file_system()];
        let over: &[&[&str]] = if READ_ONLY.contains(&own[0]) { &[&OVERLAY] } else { &[] };
        for group in REQUIRED.iter().chain(over).copied().chain([&own[..]]) {
            if !group.iter().any(|name| self.has(name)) {
                let names = group.join(" nor ");
                let why = format!("kernel {version} has no {names}, neither built in nor as a module");
                return Err(self.root.error_whole(why).hint("use another kernel of the distribution"));
            }
        }
        match more.iter().find(|name| !self.has(&decompress::normal(name))) {
            Some(missing) => Err(Error::usage(format!("kernel {version} has no module {missing}"))),
            None => Ok(()),
        }
    }

    /// Adds a module after its dependencies; a module that is built in or missing adds nothing.
    fn visit(&self, name: &str, seen: &mut HashSet<String>, order: &mut Vec<String>) -> Result<(), Error> {
        // Each module is deferred once, until its dependencies are done, so cyclic lists end, too.
        let mut todo = vec![(name.to_owned(), false)];
        while let Some((name, done)) = todo.pop() {
            if done {
                order.push(name);
                if order.len() > MODULES_MAX {
                    let why = format!("more than {MODULES_MAX} modules would be needed");
                    return Err(self.root.error(self.directory, why));
                }
                continue;
            }
            if self.builtin.contains(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let Some((_, needs)) = self.files.get(&name) else { continue };
            todo.push((name, true));
            todo.extend(needs.iter().rev().map(|need| (need.clone(), false)));
        }
        Ok(())
    }

    fn load(&self, order: &[String]) -> Result<Vec<Module>, Error> {
        let mut all_bytes = 0;
        let mut modules = Vec::new();
        for name in order {
            let Some((file, _)) = self.files.get(name) else { continue };
            let path = if file.starts_with('/') { file.clone() } else { format!("{}/{file}", self.directory) };
            let Some(packed) = self.root.read(&path, MODULE_MAX_BYTES)? else {
                return Err(self
                    .root
                    .error(&path, "missing, though modules.dep names it")
                    .hint("run depmod in the image again"));
            };
            let bytes = decompress::unpack(packed).map_err(|e| self.root.error(&path, e))?;
            all_bytes += bytes.len() as u64;
            if all_bytes > ALL_MAX_BYTES {
                return Err(self
                    .root
                    .error(self.directory, format_args!("its modules are larger than {ALL_MAX_BYTES} bytes")));
            }
            modules.push(Module { name: name.clone(), bytes });
        }
        Ok(modules)
    }
}
