//! The page about the repository that a browser sees, rendered from templates.

use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment, context};

use super::error::Error;
use super::release::Object;
use crate::head::Head;
use crate::keys::PublicKey;
use crate::layout::RepoPath;
use crate::name::Name;

/// The built-in templates, by the name of the page that each becomes.
const BUILT_IN: [(&str, &str); 2] =
    [("index.html", include_str!("../../templates/index.html")), ("hfl.css", include_str!("../../templates/hfl.css"))];
/// The most versions a page shows.
const VERSIONS_SHOWN: usize = 30;

/// Renders the pages; templates of the same name in `directory` go before the built-in ones.
///
/// # Errors
/// A template that cannot be read or rendered, with its line.
pub fn render(
    directory: Option<&PathBuf>,
    head: &Head,
    key: Option<&PublicKey>,
    images: &[Name],
) -> Result<Vec<Object>, Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(
        |name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        },
    );
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
    BUILT_IN
        .iter()
        .map(|(name, built_in)| {
            let text = own_template(directory, name)?.unwrap_or_else(|| (*built_in).to_owned());
            let page = environment.render_named_str(name, &text, &context);
            let page = page.map_err(|e| Error::local(format!("template {name}: {e}")))?;
            let path: RepoPath = name.parse().map_err(|e| Error::local(format!("{name}: {e}")))?;
            Ok(Object::new(path, page))
        })
        .collect()
}

fn own_template(directory: Option<&PathBuf>, name: &str) -> Result<Option<String>, Error> {
    let Some(file) = directory.map(|d| Path::new(d).join(name)).filter(|f| f.exists()) else { return Ok(None) };
    std::fs::read_to_string(&file).map(Some).map_err(|e| Error::io(&file, &e))
}
