//! The web pages and feeds of a repository, rendered from templates: `index.html` lists the images, `page/NAME.html` is
//! that of an image, and each has an Atom feed.
//!
//! They say what verified heads and indexes say, and nothing else, so the same heads give the same bytes.

mod changes;
mod clients;
mod feed;
mod image;
mod repository;
pub mod words;

use std::path::Path;

use minijinja::Value;

use crate::boot::template;
use crate::error::Error;
use crate::format::head::Head;
use crate::format::layout::RepoPath;
use crate::format::url::BaseUrl;
use crate::publish::object::Object;

use feed::Feed;
pub use image::Shown;

/// The repository that the pages are of.
pub struct Site<'a> {
    /// The user's templates, which override the built-in ones.
    pub templates: Option<&'a Path>,
    /// The public URLs of the mirrors, each once.
    pub mirrors: Vec<&'a BaseUrl>,
    /// The newest verified head of each image, sorted by name.
    pub heads: Vec<&'a Head>,
}

impl Site<'_> {
    /// The title of all pages.
    fn title(&self) -> String {
        let host = self.mirrors.first().and_then(|url| url.as_str().split('/').nth(2));
        host.map_or_else(|| "Disk images".into(), |host| format!("Disk images at {host}"))
    }

    fn object(&self, path: &str, template: &str, context: &Value) -> Result<Object, Error> {
        let text = template::render(self.templates, template, context)?;
        let path: RepoPath = path.parse().map_err(|e| Error::local(format!("{path}: {e}")))?;
        Ok(Object::new(path, text))
    }
}

/// Renders the pages of an image and of the repository.
///
/// # Errors
/// A template that cannot be read or rendered, with the line number.
pub fn render(site: &Site<'_>, shown: &Shown<'_>) -> Result<Vec<Object>, Error> {
    let (head, title) = (shown.head, site.title());
    let (page, atom) = (format!("page/{}.html", head.image), format!("page/{}.atom", head.image));
    let of_image = Feed {
        title: format!("{} - {title}", head.image),
        subject: format!("{} {}", shown.key.map(ToString::to_string).unwrap_or_default(), head.image),
        path: &atom,
        page: &page,
        place: head.mirrors.first(),
    };
    let place = site.mirrors.first().copied();
    let subject = place.map_or_else(String::new, ToString::to_string);
    let of_all = Feed { title, subject, path: "feed.atom", page: "index.html", place };
    let repository = repository::page(site, shown);
    Ok(vec![
        site.object(&page, "image.html", &image::page(shown, site))?,
        site.object(&atom, "feed.atom", &feed::of(&of_image, &[head]))?,
        site.object("index.html", "index.html", &repository)?,
        site.object("feed.atom", "feed.atom", &feed::of(&of_all, &site.heads))?,
        site.object("hfl.css", "hfl.css", &repository)?,
    ])
}
