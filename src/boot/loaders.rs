//! Boot loader files: iPXE, kboot, petitboot, PXELINUX and GRUB, rendered from templates.
//!
//! Formats: iPXE's scripting reference; kboot.conf and petitboot.conf as petitboot's parsers read them; the manuals of
//! PXELINUX and GRUB. All but iPXE's need a mirror's URL; without one, they contain paths below the root of the web
//! server that served them.

use std::path::Path;

use minijinja::context;

use crate::boot::template;
use crate::error::Error;
use crate::format::name::{Label, Name, Version};
use crate::format::url::BaseUrl;

/// Maximum mirrors on a kernel's command line, whose length is limited; the head names all of them.
const MIRRORS_SHOWN: usize = 4;
/// Maximum command line in bytes: the lowest limit among the kernels of PCs and of the PlayStation 3.
pub const ARGUMENTS_MAX_BYTES: usize = 2047;

/// The files, relative to the image's boot directory, and their templates.
const FILES: [(&str, &str); 5] = [
    ("boot.ipxe", "boot/boot.ipxe"),
    ("kboot.conf", "boot/kboot.conf"),
    ("petitboot.conf", "boot/petitboot.conf"),
    ("pxelinux.cfg/default", "boot/pxelinux.default"),
    ("grub.cfg", "boot/grub.cfg"),
];

/// A bootable version.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Version number.
    pub version: Version,
    /// Label by the publisher.
    pub label: Option<Label>,
    /// Kernel file name in the version's directory.
    pub kernel: String,
    /// Miniroot file name.
    pub miniroot: String,
    /// Publisher's addition to the kernel's command line.
    pub append: String,
}

/// Contents of the boot menus.
#[derive(Debug, Clone)]
pub struct Menu {
    /// Image name.
    pub image: Name,
    /// Mirrors of the image.
    pub mirrors: Vec<BaseUrl>,
    /// Versions, the default first; at least one.
    pub entries: Vec<Entry>,
}

/// Renders the files, with their paths below the image's boot directory.
///
/// # Errors
/// A template that cannot be read or rendered; a command line that is too long for a kernel.
pub fn render(templates: Option<&Path>, menu: &Menu) -> Result<Vec<(&'static str, String)>, Error> {
    let mut entries = Vec::new();
    for entry in &menu.entries {
        let arguments = menu.arguments(entry.version, &entry.append)?;
        let place = format!("boot/{}/{}/", menu.image, entry.version);
        entries.push(context! {
            version => entry.version.number(), label => entry.label.as_ref().map(|l| plain(l.as_str())),
            append => entry.append, arguments, kernel => entry.kernel, miniroot => entry.miniroot,
            base => menu.mirrors.first().map_or_else(|| format!("/{place}"), |m| format!("{}{place}", m.as_str())),
            grub => menu.mirrors.first().map_or_else(|| format!("/{place}"), |m| grub(m, &place)),
        });
    }
    let context = context! {
        image => menu.image.as_str(), entries,
        mirrors => menu.mirrors.iter().map(BaseUrl::as_str).collect::<Vec<_>>(),
    };
    FILES.iter().map(|(file, name)| Ok((*file, template::render(templates, name, &context)?))).collect()
}

impl Menu {
    /// The kernel's command line for one version, with as many mirrors as fit.
    ///
    /// # Errors
    /// A command line that is too long for a kernel.
    pub fn arguments(&self, version: Version, append: &str) -> Result<String, Error> {
        let shown = self.mirrors.len().min(MIRRORS_SHOWN);
        let fewer = (1..shown).rev().map(|mirrors| self.words(version, append, mirrors));
        let all = self.words(version, append, shown);
        let bytes = all.len();
        let fits = |words: &String| words.len() <= ARGUMENTS_MAX_BYTES;
        std::iter::once(all).chain(fewer).find(fits).ok_or_else(|| {
            Error::usage(format!(
                "version {version}: a kernel command line of {bytes} bytes, at most {ARGUMENTS_MAX_BYTES} are read"
            ))
        })
    }

    fn words(&self, version: Version, append: &str, mirrors: usize) -> String {
        let mut words: Vec<String> =
            self.mirrors[..mirrors].iter().map(|mirror| format!("hfl.url={}", mirror.as_str())).collect();
        words.push(format!("hfl.name={}", self.image));
        words.push(format!("hfl.version={version}"));
        words.extend(Some(append.to_owned()).filter(|append| !append.is_empty()));
        words.join(" ")
    }
}

/// A URL in GRUB's device syntax: `(http,HOST)/PATH`.
fn grub(mirror: &BaseUrl, place: &str) -> String {
    let (scheme, rest) = mirror.as_str().split_once("://").unwrap_or(("http", mirror.as_str()));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    format!("({scheme},{host})/{path}{place}")
}

/// A label without characters that are special to a boot loader.
fn plain(label: &str) -> String {
    label.chars().filter(|c| c.is_alphanumeric() || " .,_-+:/".contains(*c)).collect()
}
