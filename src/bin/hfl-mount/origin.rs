//! Which image is meant and how it is reached: the arguments that all commands have in common.

use std::path::PathBuf;
use std::time::Duration;

use hfl::client::source::network::Mode;
use hfl::format::name::Version;
use hfl::repo::source::{Base, Source};

use crate::args::bytes;
use crate::log::Level;

/// An image, its mirrors, and its cache.
#[derive(Debug, clap::Args)]
pub struct Origin {
    /// Where the image is: http(s)://HOST/PATH/NAME or DIRECTORY/NAME; of several, the
    /// fastest that works is used
    #[arg(required = true, num_args = 1.., value_name = "SOURCE")]
    pub sources: Vec<Source>,
    /// The publisher's public key: its one line of base64, or a file that holds it
    #[arg(long, value_name = "PUBKEY", required_unless_present = "unsigned")]
    pub key: Option<String>,
    /// Accept whatever the mirrors say, signed or not
    #[arg(long, conflicts_with = "key")]
    pub unsigned: bool,
    /// Accept a version below the newest that was seen before, and remember it in its place
    #[arg(long)]
    pub allow_rollback: bool,
    /// Take this version instead of the newest
    #[arg(long = "version", value_name = "N", id = "image-version")]
    pub version: Option<Version>,
    /// Where blocks are cached, or `none` [default: $XDG_CACHE_HOME/hfl, for root /var/cache/hfl]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The most the cache may hold: bytes, or with K, M, G, T
    #[arg(long, value_name = "BYTES", default_value = "4G", value_parser = bytes)]
    pub cache_size: u64,
    /// Further mirrors: a file of base URLs, one a line; SOURCE may then be the image's name alone
    #[arg(long, value_name = "FILE")]
    pub mirrors: Option<PathBuf>,
    /// Ask these mirrors alone, not those that the image's head names
    #[arg(long)]
    pub only: bool,
    /// Go through this proxy: http(s)://[USER:PASSWORD@]HOST:PORT [default: http_proxy, https_proxy and no_proxy]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// Trust the certificate authorities in this file (PEM) too, beside the public ones
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// What becomes of a read that no mirror answers: `soft` lets it fail after --timeout, `hard` waits
    #[arg(long = "mode", value_name = "MODE", default_value = "soft")]
    mode: ModeName,
    /// In soft mode, the seconds after which such a read fails
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Say more
    #[arg(long, short)]
    pub verbose: bool,
    /// Say nothing but errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print an error as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// The names of the modes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeName {
    Hard,
    Soft,
}

impl Origin {
    /// What becomes of reads that no mirror answers.
    pub fn mode(&self) -> Mode {
        match self.mode {
            ModeName::Hard => Mode::Hard,
            ModeName::Soft => Mode::Soft(Duration::from_secs(self.timeout.into())),
        }
    }

    /// Has reads wait for mirrors for as long as it takes.
    pub fn wait(&mut self) {
        self.mode = ModeName::Hard;
    }

    /// How much is said.
    pub fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        }
    }

    /// Whether nothing is to be cached on disk; a directory of that name is `./none`.
    pub fn caches_nothing(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.as_os_str() == "none")
    }

    /// Whether a source only names the image, and the list of mirrors says where it is.
    pub fn names_alone(&self, source: &Source) -> bool {
        self.mirrors.is_some() && matches!(&source.base, Base::Directory(path) if path.as_os_str() == ".")
    }

    /// All sources are of one image.
    pub fn check(&self) -> Result<(), clap::Error> {
        let first = &self.sources[0].image;
        match self.sources.iter().find(|source| source.image != *first) {
            None => Ok(()),
            Some(other) => {
                let why = format!("the sources name different images, `{first}` and `{}`\n", other.image);
                Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, why))
            }
        }
    }
}
