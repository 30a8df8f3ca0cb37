//! Options for profiles: the reads of a boot, recorded and prefetched the next time.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hfl::Error;
use hfl::client::boot_profile::ProfileOptions;
use hfl::client::source::JOBS;
use hfl::format::profile::{FILE_MAX_BYTES, Profile};

use hfl::format::units::rate;

/// The options for profiles.
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    /// Record the blocks that are read, in order and with times, to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Prefetch the blocks of this profile instead of the one shipped with the image
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Do not prefetch the blocks of a profile
    #[arg(long, conflicts_with = "profile")]
    no_profile: bool,
    /// Maximum number of profile blocks fetched at the same time
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,
    /// Maximum prefetch rate per second: bytes, or with K, M, G, T
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    rate: Option<u64>,
}

impl ProfileArgs {
    /// What to record and prefetch.
    ///
    /// # Errors
    /// A file that is not a profile.
    pub fn options(&self) -> Result<ProfileOptions, Error> {
        Ok(ProfileOptions {
            record: self.record.clone(),
            given: self.profile.as_deref().map(given_profile).transpose()?,
            fetch: !self.no_profile,
            jobs: self.jobs,
            rate: self.rate,
        })
    }
}

/// Reads the profile in a user's file.
fn given_profile(path: &Path) -> Result<Profile, Error> {
    let failed = |e| Error::io(path, &e).about(&"--profile");
    let mut file = Vec::new();
    let opened = std::fs::File::open(path).map_err(failed)?;
    opened.take(FILE_MAX_BYTES + 1).read_to_end(&mut file).map_err(failed)?;
    Profile::parse(&file).map_err(|e| Error::usage(format!("--profile {}: {e}", path.display())))
}
