//! The image and how it is reached: arguments that all commands share.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hfl::Error;
use hfl::client::ClientOptions;
use hfl::client::cache::{CacheOptions, Need};
use hfl::client::mirrors::SILENCE_MAX;
use hfl::client::source::mirror_list;
use hfl::client::source::mirrors::Mode;
use hfl::format::head::Trust;
use hfl::format::name::Version;
use hfl::format::units::{self, bytes};
use hfl::format::url::BaseUrl;
use hfl::repo::source::{Base, Source, absolute};
use hfl::repo::{OpenOptions, StateDirectory, given_key};
use hfl::store::http::HttpOptions;
use hfl::system::directories;

use crate::log::Level;

const SOURCES: &str = "Image: http(s)://HOST/PATH/NAME[@VERSION] or DIRECTORY/NAME[@VERSION]; of several, the fastest \
                       working one is used; or NAME, if `source` of its configuration says where it is";

/// An image, its mirrors, and its cache.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    #[arg(required = true, num_args = 1.., value_name = "SOURCE", help = SOURCES)]
    pub sources: Vec<Source>,
    /// Public key of the publisher: its base64 line, or a file that contains it
    #[arg(long, value_name = "PUBKEY")]
    pub key: Option<String>,
    /// Accept unsigned images
    #[arg(long, conflicts_with = "key")]
    pub unsigned: bool,
    /// Accept a version older than the newest seen before, and record it as the newest
    #[arg(long)]
    pub allow_rollback: bool,
    /// Use this version: an older spelling of NAME@VERSION
    #[arg(long = "version", value_name = "N", id = "image-version", hide = true)]
    version: Option<Version>,
    /// Cache directory, or `none` [default: $XDG_CACHE_HOME/hfl, for root /var/cache/hfl]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Maximum size of the cache: bytes, or with K, M, G, T
    #[arg(long, value_name = "BYTES", default_value = "4G", value_parser = bytes)]
    pub cache_size: u64,
    /// File of additional mirrors, one base URL per line; SOURCE may then be just the name of the image
    #[arg(long, value_name = "FILE")]
    pub mirrors: Option<PathBuf>,
    /// Use only the given mirrors, not those that the head names
    #[arg(long)]
    pub only: bool,
    /// Proxy: `http(s)://[USER:PASSWORD@]HOST:PORT` [default: http_proxy, https_proxy and no_proxy]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// File (PEM) of certificate authorities to trust in addition to the public ones
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Handling of a read that no mirror answers, and of opening the image: `soft` fails after --timeout, `hard` waits
    #[arg(long = "mode", value_name = "soft|hard", default_value = "soft", hide_possible_values = true)]
    mode: ModeName,
    /// Time until such a read fails in soft mode
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::time)]
    timeout: Duration,
    /// Verbose output
    #[arg(long, short)]
    pub verbose: bool,
    /// Print errors only
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print errors as JSON; with fetch, also the report
    #[arg(long)]
    pub json: bool,
}

/// The names of the modes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeName {
    Hard,
    Soft,
}

impl ImageArgs {
    /// Handling of reads that no mirror answers.
    pub fn mode(&self) -> Mode {
        match self.mode {
            ModeName::Hard => Mode::Hard,
            ModeName::Soft => Mode::Soft(self.timeout),
        }
    }

    /// The version to use; `None` for the newest.
    pub fn version(&self) -> Option<Version> {
        self.version.or(self.sources[0].version)
    }

    /// Makes reads wait for mirrors indefinitely.
    pub fn wait(&mut self) {
        self.mode = ModeName::Hard;
    }

    /// Options of the client, without cache and readahead.
    ///
    /// # Errors
    /// A key or a file of mirrors that cannot be used.
    pub fn client_options(&self) -> Result<ClientOptions, Error> {
        Ok(ClientOptions {
            alone: self.only,
            http: HttpOptions { proxy: self.proxy.clone(), ca_file: self.ca_file.clone(), silence_max: SILENCE_MAX },
            mode: self.mode(),
            ..ClientOptions::once(self.bases()?, self.accept()?)
        })
    }

    /// The image to open, and what is accepted.
    fn accept(&self) -> Result<OpenOptions, Error> {
        let trust = match &self.key {
            None => Trust::Anyone,
            Some(given) => Trust::Key(given_key(given).map_err(|e| Error::usage(format!("--key: {e}")))?),
        };
        let options = OpenOptions::new(self.sources[0].image.clone(), trust).version(self.version());
        let options = options.state(StateDirectory::of_user()).allow_rollback(self.allow_rollback);
        Ok(OpenOptions { follow_mirrors: !self.only, ..options })
    }

    /// All bases that the command line names; directories as absolute paths.
    fn bases(&self) -> Result<Vec<Base>, Error> {
        let listed = self.mirrors.as_deref().map_or(Ok(Vec::new()), mirrors)?;
        let named = self.sources.iter().filter(|source| !self.names_alone(source)).map(|source| match &source.base {
            Base::Directory(path) => Base::Directory(absolute(path)),
            Base::Url(url) => Base::Url(url.clone()),
        });
        Ok(named.chain(listed.into_iter().map(Base::Url)).collect())
    }

    /// Cache options; `None` if no cache is wanted or there is no directory for it.
    pub fn cache_options(&self, need: Need) -> Option<CacheOptions> {
        let directory = self.cache.clone().or_else(directories::cache).filter(|_| !self.caches_nothing())?;
        Some(CacheOptions { directory, max_bytes: self.cache_size, need })
    }

    /// Level of messages.
    pub fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        }
    }

    /// Whether the disk cache is off; a directory of that name is `./none`.
    pub fn caches_nothing(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.as_os_str() == "none")
    }

    /// Whether a source contains only the image's name, and the list of mirrors says where it is.
    fn names_alone(&self, source: &Source) -> bool {
        self.mirrors.is_some() && source.is_name_alone()
    }

    /// Checks what clap cannot: that all sources are of one image and version, and that it is said what is trusted.
    pub fn check(&self) -> Result<(), clap::Error> {
        let wrong = |why: String| Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{why}\n")));
        let first = &self.sources[0];
        if let Some(other) = self.sources.iter().find(|source| source.image != first.image) {
            return wrong(format!("the sources name different images, `{}` and `{}`", first.image, other.image));
        }
        if self.sources.iter().any(|source| source.version != first.version) {
            return wrong(format!("the sources name different versions of {}", first.image));
        }
        if self.version.is_some() && first.version.is_some() {
            return wrong(format!("{first}: --version names a version as well"));
        }
        if self.key.is_none() && !self.unsigned {
            return wrong(format!(
                "whose {} is it? Give the publisher's public key, which hfl publish and the page of the repository \
                 show: --key RW...; or accept an image that anybody may have changed: --unsigned",
                first.image
            ));
        }
        Ok(())
    }
}

/// Reads the base URLs in a file.
fn mirrors(path: &Path) -> Result<Vec<BaseUrl>, Error> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, &e))?;
    file.take(mirror_list::FILE_MAX_BYTES + 1).read_to_end(&mut text).map_err(|e| Error::io(path, &e))?;
    mirror_list::parse(&text).map_err(|e| Error::usage(format!("{}: {e}", path.display())))
}
