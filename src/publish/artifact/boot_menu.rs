//! Boot loader files at `boot/NAME/`: rendered from the head, and replaced after it like the pages.

use std::path::Path;

use super::boot_files;
use crate::boot::{self, CMDLINE_MAX_BYTES, Entry, Menu};
use crate::error::Error;
use crate::format::head::{FileRow, Head, VersionRow};
use crate::format::layout::BootFile;
use crate::progress::{Event, Progress};
use crate::publish::object::Object;
use crate::publish::repository::mirror::{self, OpenMirror};

/// Versions in the menu: the newest and the previous one.
const ENTRIES: usize = 2;

/// Renders the boot loader files; empty if no version has a kernel. `new` are objects that no mirror has yet.
///
/// # Errors
/// A template that cannot be rendered, a command line that is too long.
pub async fn render(
    templates: Option<&Path>,
    head: &Head,
    new: &[Object],
    mirrors: &[OpenMirror],
    progress: &dyn Progress,
) -> Result<Vec<Object>, Error> {
    let mut entries = Vec::new();
    let can_boot = head.versions.iter().filter_map(|version| Some((version, named(head, version)?)));
    for (version, (kernel, miniroot)) in can_boot.take(ENTRIES) {
        let append = match append(head, version, new, mirrors).await {
            Ok(append) => append,
            Err(e) => {
                progress.event(Event::Warning(&format!("{e}; its entry in the boot menus is without it")));
                String::new()
            }
        };
        entries.push(Entry {
            version: version.version,
            label: version.label.clone(),
            kernel: file_name(kernel),
            miniroot: file_name(miniroot),
            append,
        });
    }
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let menu = Menu { image: head.image.clone(), mirrors: head.mirrors.clone(), entries };
    let files = boot::render_loaders(templates, &menu)?.into_iter().map(|(file, text)| {
        let path = format!("boot/{}/{file}", head.image);
        let path = path.parse().map_err(|e| Error::local(format!("{path}: {e}")))?;
        Ok(Object::new(path, text))
    });
    files.collect()
}

/// Kernel and miniroot rows of a version in the head.
pub fn named<'a>(head: &'a Head, version: &VersionRow) -> Option<(&'a FileRow, &'a FileRow)> {
    let row = |file| head.boot_file(version.version, file);
    Some((row(BootFile::Kernel)?, row(BootFile::Miniroot)?))
}

/// The path after its last `/`.
fn file_name(row: &FileRow) -> String {
    row.path.as_str().rsplit('/').next().unwrap_or_default().to_owned()
}

/// The publisher's additions to the kernel command line of a version.
async fn append(head: &Head, version: &VersionRow, new: &[Object], mirrors: &[OpenMirror]) -> Result<String, Error> {
    let Some(row) = head.boot_file(version.version, BootFile::Cmdline) else { return Ok(String::new()) };
    let path = &row.path;
    let file = match new.iter().find(|object| object.path == *path) {
        Some(object) => object.bytes.clone(),
        None => mirror::file(mirrors, row, CMDLINE_MAX_BYTES).await?,
    };
    let text = String::from_utf8_lossy(&file).trim_end().to_owned();
    boot_files::check_append(&text).map_err(|why| Error::local(format!("{path}: {why}")))?;
    Ok(text)
}
