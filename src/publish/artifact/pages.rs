//! The web page about the repository, rendered from templates.

use std::path::Path;

use minijinja::context;

use crate::boot::template;
use crate::error::Error;
use crate::format::head::Head;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::signature::PublicKey;
use crate::publish::object::Object;

/// The pages; each is rendered from the template of the same name.
const PAGES: [&str; 2] = ["index.html", "hfl.css"];
/// Maximum number of versions on a page.
const VERSIONS_SHOWN: usize = 30;

/// Renders the pages; templates of the same name in `directory` override the built-in ones.
///
/// # Errors
/// A template that cannot be read or rendered, with the line number.
pub fn render(
    directory: Option<&Path>,
    head: &Head,
    key: Option<&PublicKey>,
    images: &[Name],
) -> Result<Vec<Object>, Error> {
    let versions: Vec<_> = head
        .versions
        .iter()
        .take(VERSIONS_SHOWN)
        .map(|row| {
            context! {
                version => row.version.number(), created => row.created.to_string(), size => row.size,
                new_bytes => row.new_bytes, label => row.label.as_ref().map(|l| l.as_str()),
            }
        })
        .collect();
    let files: Vec<_> = head
        .files
        .iter()
        .map(|f| context! { path => f.path.as_str(), bytes => f.bytes, sha256 => f.sha256.to_string() })
        .collect();
    let context = context! {
        image => head.image.as_str(), versions, files, key => key.map(ToString::to_string),
        mirrors => head.mirrors.iter().map(|m| m.as_str()).collect::<Vec<_>>(),
        images => images.iter().map(Name::as_str).collect::<Vec<_>>(), hfl => env!("CARGO_PKG_VERSION"),
    };
    PAGES
        .iter()
        .map(|name| {
            let page = template::render(directory, name, &context)?;
            let path: RepoPath = name.parse().map_err(|e| Error::local(format!("{name}: {e}")))?;
            Ok(Object::new(path, page))
        })
        .collect()
}
