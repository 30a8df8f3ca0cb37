//! Which image a command is about, and where it is read: one way to say it for all commands.
//!
//! `NAME[@VERSION]` with `--to`, or with its place: `http(s)://HOST/PATH/NAME[@VERSION]`, `DIRECTORY/NAME[@VERSION]`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfl::Error;
use hfl::config::{Mirrors, WritePlace};
use hfl::format::image_list;
use hfl::format::layout::RepoPath;
use hfl::format::name::{Name, Version};
use hfl::publish;
use hfl::repo::source::{Base, Source, absolute, versioned};
use hfl::store::Fetch;
use hfl::store::retry::Retry;
use hfl::system::host::ThisHost;

use super::to;

const HELP: &str =
    "Image: NAME[@VERSION] with --to, else http(s)://HOST/PATH/NAME[@VERSION] or DIRECTORY/NAME[@VERSION]";

/// The image of a command.
#[derive(clap::Args)]
pub struct ImageArgs {
    #[arg(value_name = "IMAGE", help = HELP)]
    image: String,
    /// File that describes the mirrors of NAME; or a directory or URL, which is the only mirror then
    #[arg(long, value_name = "mirrors.toml")]
    to: Option<PathBuf>,
}

/// An image of a command, and where it is.
pub struct Image {
    pub name: Name,
    /// `None` for the newest.
    pub version: Option<Version>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    /// The mirrors of `--to`, and that value itself.
    Mirrors(Mirrors, PathBuf),
    /// The repository itself.
    Base(Base),
}

impl ImageArgs {
    /// The image; `version` is what an option named, if any.
    pub fn image(&self, version: Option<Version>) -> anyhow::Result<Image> {
        let image = Image::new(&self.image, self.to.as_deref())?;
        match (image.version, version) {
            (Some(_), Some(_)) => Err(super::usage(format!("{}: --version names another one", self.image))),
            (version, option) => Ok(Image { version: version.or(option), ..image }),
        }
    }
}

impl Image {
    /// The image that `text` names, with the value of `--to`, if any.
    pub fn new(text: &str, to: Option<&Path>) -> anyhow::Result<Self> {
        match to {
            Some(_) if text.contains('/') => {
                let error = Error::usage(format!("{text} says where it is, and --to as well"));
                Err(error.hint("with --to, name the image alone: NAME or NAME@VERSION").into())
            }
            Some(to) => {
                let (name, version) = versioned(text).map_err(|e| super::usage(format!("`{text}`: {e}")))?;
                Ok(Self { name, version, place: Place::Mirrors(to::mirrors(to)?, to.to_owned()) })
            }
            None => Self::at_its_place(text),
        }
    }

    fn at_its_place(text: &str) -> anyhow::Result<Self> {
        let source: Source =
            text.parse().map_err(|e| repository(text).unwrap_or_else(|| super::usage(format!("{e}"))))?;
        if let Base::Directory(directory) = &source.base {
            let is_there = directory.join(RepoPath::head(&source.image).as_str()).exists();
            if let Some(error) = repository(text).filter(|_| !is_there) {
                return Err(error);
            }
            if !text.contains('/') && !is_there {
                let error = Error::usage(format!("no mirror given for {text}"));
                return Err(error
                    .hint("add --to mirrors.toml, or give DIRECTORY/NAME or http(s)://HOST/PATH/NAME")
                    .into());
            }
        }
        Ok(Self { name: source.image, version: source.version, place: Place::Base(source.base) })
    }

    /// Another version of it.
    pub fn at(&self, version: Version) -> Self {
        Self { name: self.name.clone(), version: Some(version), place: self.place.clone() }
    }

    /// Where it is read: each mirror that is described, or the one place. Failed requests are sent again.
    pub async fn stores(&self) -> anyhow::Result<Vec<Arc<dyn Fetch>>> {
        match &self.place {
            Place::Mirrors(mirrors, to) => Ok(publish::readers(&super::reading(mirrors.clone(), to)).await?),
            Place::Base(base) => Ok(vec![Arc::new(Retry::new(base.fetch()?, Arc::new(ThisHost)))]),
        }
    }

    /// Where a client reads it: public URLs and directories.
    pub fn bases(&self) -> anyhow::Result<Vec<Base>> {
        let (mirrors, to) = match &self.place {
            Place::Base(base) => return Ok(vec![base.clone()]),
            Place::Mirrors(mirrors, to) => (mirrors, to),
        };
        let beside = to::base(to);
        let bases: Vec<Base> = mirrors
            .mirrors
            .iter()
            .filter_map(|mirror| match (&mirror.read, &mirror.write) {
                (Some(url), _) => Some(Base::Url(url.clone())),
                (None, WritePlace::Directory(path)) => Some(Base::Directory(absolute(&beside.join(path)))),
                (None, WritePlace::Remote(_)) => None,
            })
            .collect();
        if bases.is_empty() {
            let error = Error::usage(format!("{}: no mirror has a public URL", to.display()));
            return Err(error.hint("say it in the mirror's table: read = \"https://...\"").into());
        }
        Ok(bases)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "the newest version of {}", self.name),
        }
    }
}

/// The error for a repository that is named without its image.
fn repository(text: &str) -> Option<anyhow::Error> {
    let list = Path::new(text).join(RepoPath::images().as_str());
    let names = std::fs::read(list).ok().and_then(|file| image_list::parse(&file).ok())?;
    let error = Error::usage(format!("{text} is a repository: which image?"));
    let place = Path::new(text).join(names.first()?.as_str());
    let all: Vec<&str> = names.iter().take(8).map(Name::as_str).collect();
    Some(error.hint(format!("it lists {}: name {}", all.join(", "), place.display())).into())
}
