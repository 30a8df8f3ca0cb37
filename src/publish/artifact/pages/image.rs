//! The page of one image.

use minijinja::{Value, context};

use super::{Site, changes, clients, words};
use crate::format::head::{FileRow, Head};
use crate::format::index::Index;
use crate::format::layout::BootFile;
use crate::format::signature::PublicKey;

/// Maximum number of versions, and of files, on a page.
const VERSIONS_SHOWN: usize = 100;
const FILES_SHOWN: usize = 100;
/// Maximum number of mirrors on a page.
pub const MIRRORS_SHOWN: usize = 50;
/// The boot menus and what reads them.
const MENUS: [(&str, &str); 5] = [
    ("boot.ipxe", "iPXE"),
    ("grub.cfg", "GRUB with its module http, and petitboot"),
    ("pxelinux.cfg/default", "PXELINUX with HTTP (lpxelinux.0), and petitboot over the network"),
    ("petitboot.conf", "petitboot"),
    ("kboot.conf", "kboot and petitboot, as /etc/kboot.conf of a medium"),
];
/// Versions in the boot menus: the newest and the previous one that can boot.
const MENU_VERSIONS: usize = 2;

/// An image, and the indexes of its newest version and of the one before.
pub struct Shown<'a> {
    /// The head of the image.
    pub head: &'a Head,
    /// The key that signs it.
    pub key: Option<&'a PublicKey>,
    /// The index of the newest version.
    pub newest: &'a Index,
    /// The index of the version before, if there is one that can be read.
    pub previous: Option<&'a Index>,
}

/// What the template of the page is given.
pub fn page(shown: &Shown<'_>, site: &Site<'_>) -> Value {
    let (head, newest) = (shown.head, shown.head.newest());
    context! {
        root => "../", site => site.title(), hfl => env!("CARGO_PKG_VERSION"), image => head.image.as_str(),
        feed => format!("{}.atom", head.image), version => newest.version.number(), label => label(newest.label.as_ref()),
        created => words::time(newest.created), size_of => words::size(newest.size),
        stored => words::size(shown.newest.zlib_bytes()), blocks => words::count(shown.newest.blocks().len() as u64),
        holes => words::size(shown.newest.hole_bytes()), version_count => words::count(head.versions.len() as u64),
        key => shown.key.map(ToString::to_string), place => head.mirrors.first().map(|m| m.as_str()),
        changes => shown.previous.map(|old| changes::between(head, old, shown.newest)),
        has_sums => !head.image_digests().is_empty(),
        versions => versions(head), more_versions => more(head.versions.len(), VERSIONS_SHOWN),
        boot => boot(head), clients => clients::of(head),
        files => files(head), more_files => more(head.files.len(), FILES_SHOWN),
        mirrors => head.mirrors.iter().take(MIRRORS_SHOWN).map(|m| m.as_str()).collect::<Vec<_>>(),
        more_mirrors => more(head.mirrors.len(), MIRRORS_SHOWN),
    }
}

fn versions(head: &Head) -> Vec<Value> {
    let row = |row: &crate::format::head::VersionRow| {
        context! {
            version => row.version.number(), created => words::time(row.created), size => words::size(row.size),
            new => words::size(row.new_bytes), label => label(row.label.as_ref()),
        }
    };
    head.versions.iter().take(VERSIONS_SHOWN).map(row).collect()
}

fn files(head: &Head) -> Vec<Value> {
    let row = |row: &FileRow| {
        context! { path => row.path.as_str(), size => words::size(row.bytes), sha256 => row.sha256.to_string() }
    };
    head.files.iter().take(FILES_SHOWN).map(row).collect()
}

/// The boot menus, if some version can boot.
fn boot(head: &Head) -> Option<Value> {
    let can_boot =
        |version| [BootFile::Kernel, BootFile::Miniroot].iter().all(|&f| head.boot_file(version, f).is_some());
    let versions = head.versions.iter().map(|row| row.version).filter(|&version| can_boot(version));
    let versions: Vec<u32> = versions.take(MENU_VERSIONS).map(|version| version.number()).collect();
    let newest = *versions.first()?;
    let menus =
        MENUS.iter().map(|(file, reader)| context! { file, reader, path => format!("boot/{}/{file}", head.image) });
    Some(context! {
        newest, previous => versions.get(1), is_newest => newest == head.newest().version.number(),
        menus => menus.collect::<Vec<_>>(),
    })
}

/// The text of a label.
pub fn label(label: Option<&crate::format::name::Label>) -> Option<&str> {
    label.map(|label| label.as_str())
}

/// How many of `all` are not shown.
pub fn more(all: usize, shown: usize) -> Option<String> {
    let more = all.saturating_sub(shown);
    (more > 0).then(|| words::count(more as u64))
}
