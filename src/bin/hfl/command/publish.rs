//! `hfl publish`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hfl::Error;
use hfl::format::block::Codec;
use hfl::format::head::Trust;
use hfl::format::name::{Label, Name, NameError};
use hfl::format::profile::Profile;
use hfl::format::units;
use hfl::progress::Watch;
use hfl::publish::{
    self, BootOptions, DeltaOptions, ImagesReport, MirrorReport, Outcome, PublishOptions, Report, Repository, TreeFs,
};
use hfl::qemu::{self, Bootable};
use hfl::repo::{self, OpenOptions};
use hfl::split::Choice;
use hfl::system::directories;

use super::Output;
use crate::exit;
use crate::show::{bytes, count};

/// Maximum bytes of new blocks that wait on disk for slow mirrors.
const SPOOL_MAX_BYTES: u64 = 8 << 30;

/// Publish an image: split it, upload new blocks, and switch all mirrors.
#[derive(clap::Args)]
#[command(after_help = format!("Examples:
  hfl publish debian-ps3.img --to mirrors.toml
  hfl publish /dev/vg/root --name root --to mirrors.toml --label nightly
  hfl publish debian-ps3.img --to mirrors.toml --profile boot.profile
  hfl publish debian.img --to mirrors.toml --boot --boot-append 'console=ttyS0'
  hfl publish debian.img --to mirrors.toml --boot --profile auto
  hfl publish out/*.img.xz --to public/ --name 'board-{{stem}}'
  hfl publish debian.qcow2 --to mirrors.toml
  hfl publish rootfs/ --fs erofs --to mirrors.toml
  curl -s https://example.org/image.zst | hfl publish - --name image --to mirrors.toml

{CODES}
  6  some mirrors left behind (run the command again)", CODES = exit::CODES))]
pub struct Args {
    /// Image, block device, or `-` for standard input; raw, or compressed with gzip, xz, zstd, bzip2 or lz4; or a file
    /// in qcow2, VMDK, VHD, VHDX, VDI or as a sparse image of Android. Several are published one after the other
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Name of the image; `{stem}` in it stands for the file name without extension [default: {stem}]
    #[arg(long, value_name = "NAME")]
    name: Option<NamePattern>,
    /// Split rule: content, fixed[:SIZE], pages[:SIZE] or bytes [default: that of the version before; for a first
    /// version `split` of mirrors.toml, else content]
    #[arg(long, value_name = "RULE")]
    split: Option<Choice>,
    /// Codec of new blocks: zlib[:LEVEL], 0 (stored) to 12 (smallest), or zstd[:LEVEL], 1 to 22, which is smaller, and
    /// which every client must know [default: `codec` or `level` of mirrors.toml, else zlib:5]
    #[arg(long, value_name = "CODEC")]
    codec: Option<Codec>,
    /// Short for --codec zlib:LEVEL
    #[arg(long, conflicts_with = "codec", value_parser = clap::value_parser!(u8).range(0..=12))]
    level: Option<u8>,
    /// Make deltas from the newest version, or from the newest N, for clients that have it: they download about a third
    /// [default: `deltas` of mirrors.toml, else 0]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = clap::value_parser!(u8).range(0..=16))]
    deltas: Option<u8>,
    /// A copy of the newest version's image, to make deltas without reading its blocks from the mirrors; repeat it for
    /// the versions before
    #[arg(long, value_name = "OLD.img")]
    base: Vec<PathBuf>,
    /// Boot profile to ship with the version, as recorded by hfl-mount --record. With `auto`, test-boot the published
    /// version in QEMU, like hfl boot try --record, and ship the profile of that boot [default: profile of the previous
    /// version]
    #[arg(long, value_name = "FILE|auto")]
    profile: Option<PathBuf>,
    /// Label of the new version, at most 64 characters
    #[arg(long)]
    label: Option<Label>,
    #[command(flatten)]
    key: super::KeyArgs,
    /// Make a key for a new image in a CI job too (where CI is set); it is lost with the job unless it is kept
    #[arg(long, conflicts_with_all = ["key", "unsigned"])]
    new_key: bool,
    /// Time until clients that have never read this image refuse the version: days, or a time such as 90d [default:
    /// `expires-days` of mirrors.toml, else never]
    #[arg(long, value_name = "TIME", value_parser = some_days)]
    expires: Option<u32>,
    #[command(flatten)]
    boot: BootArgs,
    /// Number of worker threads [default: number of CPU cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Publish a new version even if nothing has changed, the device is in use, or the image seems truncated
    #[arg(long)]
    force: bool,
    /// Publish a directory as an image with this file system: erofs, ext4 or squashfs, made by the system's tools
    #[arg(long, value_name = "TYPE")]
    fs: Option<TreeFs>,
    /// Read blocks that a clean, unmounted ext4 calls free as zeros, so that deleted files are not published
    #[arg(long)]
    zero_free: bool,
    /// Sign the SHA-256 of the whole image, too; log shows it, and sums/NAME/SHA256SUMS on the mirrors has it
    #[arg(long)]
    whole_sha256: bool,
    #[command(flatten)]
    first: super::FirstArgs,
    #[command(flatten)]
    pub change: super::ChangeArgs,
}

/// What it is booted with.
#[derive(clap::Args)]
struct BootArgs {
    /// Also publish kernel, miniroot and boot menus (iPXE, kboot, petitboot, PXELINUX, GRUB): built from the image, or
    /// taken from DIRECTORY as written by hfl boot build
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    boot: Option<String>,
    /// Words to append to the kernel command line in the menus, such as 'console=ttyS0'
    #[arg(
        long,
        value_name = "WORDS",
        requires = "boot",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    boot_append: String,
    /// Additional kernel modules for the miniroot
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "boot")]
    boot_modules: Vec<String>,
    /// Static busybox for the image's machine [default: the one of this system]
    #[arg(long, value_name = "FILE", requires = "boot")]
    busybox: Option<PathBuf>,
}

impl BootArgs {
    fn options(self) -> Option<BootOptions> {
        let directory = self.boot?;
        Some(BootOptions {
            directory: Some(directory).filter(|directory| !directory.is_empty()).map(PathBuf::from),
            append: self.boot_append.split_whitespace().collect::<Vec<_>>().join(" "),
            busybox: self.busybox,
            modules: self.boot_modules,
        })
    }
}

/// Value of `--profile` that records a boot; a file of that name is `./auto`.
const AUTO: &str = "auto";

pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let output = Output::of(&args.change.says);
    let records = args.profile.take_if(|profile| profile.as_os_str() == AUTO).is_some();
    if records && (args.boot.boot.is_none() || args.images.iter().any(|image| image == Path::new("-"))) {
        return Err(super::usage(
            "--profile auto boots what is published: it needs --boot, and an image in a file".into(),
        ));
    }
    let (repository, mut options) = options(args)?;
    let (cancel, runtime) = (super::cancel_on_signal()?, super::runtime()?);
    match &mut options[..] {
        [options] if records => runtime.block_on(publish_and_record(&repository, options, &output, &cancel)),
        [options] => {
            let report = runtime.block_on(bring(&repository, options, &output, &cancel))?;
            finish(&report, output.json, output.is_quiet())
        }
        _ if records => Err(super::usage("--profile auto boots one image at a time".into())),
        images => {
            let watch = Watch { progress: output.progress.start(output.verbosity)?, cancel };
            let report = runtime.block_on(publish::publish_all(&repository, images, &watch));
            drop(watch);
            finish_all(&report?, &output, write_report)
        }
    }
}

/// Publishes an image, boots it, and ships the profile of that boot.
async fn publish_and_record(
    repository: &Repository,
    options: &PublishOptions,
    output: &Output,
    cancel: &Arc<AtomicBool>,
) -> anyhow::Result<ExitCode> {
    let (json, is_quiet) = (output.json, output.is_quiet());
    let report = bring(repository, options, output, cancel).await?;
    if repository.dry_run {
        return finish(&report, json, is_quiet);
    }
    // Text output reports the publication at once: the boot takes time.
    let published = if json { ExitCode::SUCCESS } else { finish(&report, false, is_quiet)? };
    let recorded = record(repository, options.clone(), &report, output, cancel).await?;
    let Some((trial, shipped)) = recorded else {
        return if json { finish(&report, true, is_quiet) } else { Ok(published) };
    };
    let behind = report.behind().count() + shipped.behind().count();
    if json {
        let mut all = serde_json::to_value(&report)?;
        all["profile_blocks"] = shipped.profile_blocks.into();
        all["trial"] = serde_json::to_value(&trial)?;
        exit::print_json(&all)?;
    } else if !is_quiet {
        let blocks = count(shipped.profile_blocks.unwrap_or_default());
        let (marker, machine) = (&trial.marker, trial.accelerator);
        exit::print(&format!(
            "  boots   `{marker}` after {:.1} s ({machine}); its profile has {blocks} blocks\n",
            trial.seconds
        ))?;
    }
    Ok(if behind > 0 { ExitCode::from(exit::BEHIND) } else { published })
}

/// Publishes, with progress output.
async fn bring(
    repository: &Repository,
    options: &PublishOptions,
    output: &Output,
    cancel: &Arc<AtomicBool>,
) -> Result<Report, Error> {
    let watch = Watch { progress: output.progress.start(output.verbosity)?, cancel: Arc::clone(cancel) };
    publish::publish(repository, options, &watch).await
}

/// Boots the published version, and publishes the profile of that boot; `None` if nothing was new and a profile exists.
async fn record(
    repository: &Repository,
    mut options: PublishOptions,
    report: &Report,
    output: &Output,
    cancel: &Arc<AtomicBool>,
) -> anyhow::Result<Option<(qemu::Report, Report)>> {
    let trust = match &report.public_key {
        Some(key) => Trust::Key(key.parse().map_err(|e| Error::local(format!("{key}: {e}")))?),
        None => Trust::Anyone,
    };
    let stores = publish::readers(repository).await?;
    let opened = repo::open(&stores, &OpenOptions::new(options.name.clone(), trust)).await?;
    let version = Bootable::load(&stores, opened).await?;
    let has_profile = Profile::row_in(&version.opened.head, version.number()).is_some();
    if report.outcome == Outcome::NoChange && has_profile {
        return Ok(None);
    }
    let (trial, profile) = super::boot::try_published(&version, &stores, output.verbosity, cancel).await?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&profile.to_bytes())?;
    options.profile = Some(file.path().to_owned());
    options.force = false;
    let shipped = bring(repository, &options, output, cancel).await?;
    Ok(Some((trial, shipped)))
}

/// Prints the reports of several images, each with `write`, and returns the exit code.
pub fn finish_all(
    report: &ImagesReport,
    output: &Output,
    write: impl Fn(&Report, &mut String) -> std::fmt::Result,
) -> anyhow::Result<ExitCode> {
    if output.json {
        exit::print_json(report)?;
    } else if !output.is_quiet() {
        exit::print_with(|out| report.images.iter().try_for_each(|image| write(image, out)))?;
    } else {
        report.images.iter().for_each(|image| tell_behind(&image.mirrors));
        report.skipped.iter().for_each(|(image, why)| exit::warn(&format!("{image} is skipped: {why}")));
    }
    let behind = !report.skipped.is_empty() || report.images.iter().any(|image| image.behind().count() > 0);
    Ok(if behind { ExitCode::from(exit::BEHIND) } else { ExitCode::SUCCESS })
}

/// Prints the report, and returns the exit code.
pub fn finish(report: &Report, json: bool, quiet: bool) -> anyhow::Result<ExitCode> {
    if json {
        exit::print_json(report)?;
    } else if !quiet {
        exit::print_with(|out| write_report(report, out))?;
    } else {
        tell_behind(&report.mirrors);
    }
    let behind = report.behind().count();
    Ok(if behind > 0 { ExitCode::from(exit::BEHIND) } else { ExitCode::SUCCESS })
}

/// The repository, and what to publish in it: one image or more, with different names.
fn options(args: Args) -> anyhow::Result<(Repository, Vec<PublishOptions>)> {
    let mirrors = super::to::mirrors(&args.change.to)?;
    check_images(&args.images, &args.change.to)?;
    let names = names(&args.images, args.name.as_ref())?;
    let one = |option: &str| super::usage(format!("{option} is for one image, and {} are given", names.len()));
    if names.len() > 1 && args.profile.is_some() {
        return Err(one("--profile FILE"));
    }
    let defaults = mirrors.publish.clone();
    let split_first = defaults.split.as_ref().map(|text| text.parse::<Choice>()).transpose();
    let split_first = split_first.map_err(|e| super::usage(format!("{}: split: {e}", args.change.to.display())))?;
    let deltas = args.deltas.or(defaults.deltas).unwrap_or(0);
    if names.len() > 1 && !args.base.is_empty() {
        return Err(one("--base"));
    }
    if args.base.len() > usize::from(deltas) {
        let bases = args.base.len();
        let images = if bases == 1 { "an old image".to_owned() } else { format!("{bases} old images") };
        let why = format!("--base names {images}, and deltas are made from {deltas} versions");
        return Err(super::usage(format!("{why}: say --deltas={bases}")));
    }
    let given = args.codec.or(args.level.map(Codec::Zlib));
    let codec = given.or(defaults.codec).or(defaults.level.map(Codec::Zlib)).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut repository = super::repository(&args.change, mirrors, args.key);
    if let Some(keyring) = &mut repository.keyring {
        keyring.refuses_new = is_ci_job() && !args.new_key;
    }
    repository.first = args.first.first;
    repository.expires_days = args.expires.or(repository.expires_days);
    let boot = args.boot.options();
    if names.len() > 1 && boot.as_ref().is_some_and(|boot| boot.directory.is_some()) {
        return Err(one("--boot=DIRECTORY"));
    }
    let options = |(image, name)| PublishOptions {
        image,
        name,
        profile: args.profile.clone(),
        split: args.split.map(|choice| choice.0),
        split_first: split_first.map(|choice| choice.0),
        codec,
        deltas: DeltaOptions { versions: deltas.into(), bases: args.base.clone() },
        label: args.label.clone(),
        jobs: args.jobs.map_or(cores, usize::from),
        force: args.force,
        as_it_is: args.force,
        zero_free: args.zero_free,
        whole_sha256: args.whole_sha256,
        tree: args.fs,
        spool_directory: directories::temporary(),
        boot: boot.clone(),
        spool_max_bytes: SPOOL_MAX_BYTES,
    };
    Ok((repository, args.images.iter().cloned().zip(names).map(options).collect()))
}

/// At least one day.
fn some_days(text: &str) -> Result<u32, String> {
    units::days(text).and_then(|days| if days == 0 { Err("at least one day".into()) } else { Ok(days) })
}

/// The value of `--name`, which may contain `{stem}`.
#[derive(Clone)]
struct NamePattern(String);

impl NamePattern {
    const STEM: &str = "{stem}";
}

impl FromStr for NamePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.replace(Self::STEM, "x").parse::<Name>().map(|_| Self(text.to_owned()))
    }
}

/// Checks that all images exist before the first of several is published, and that none is the file of the mirrors.
fn check_images(images: &[PathBuf], to: &Path) -> anyhow::Result<()> {
    let mirrors = std::fs::canonicalize(to).ok().filter(|file| file.is_file());
    let is_mirrors = |image: &&PathBuf| mirrors.is_some() && std::fs::canonicalize(image).ok() == mirrors;
    if let Some(image) = images.iter().find(is_mirrors) {
        return Err(super::usage(format!("{}: names the mirrors, and is no image", image.display())));
    }
    let is_missing = |image: &&PathBuf| image.as_os_str() != "-" && !image.exists();
    match images.iter().find(is_missing) {
        Some(missing) if images.len() > 1 => {
            let error = Error::usage(format!("{}: no such file", missing.display()));
            Err(error.hint("nothing was published; an option takes its value after `=`: --deltas=2").into())
        }
        _ => Ok(()),
    }
}

/// The name of each image.
fn names(images: &[PathBuf], pattern: Option<&NamePattern>) -> anyhow::Result<Vec<Name>> {
    let name = |image: &PathBuf| match pattern {
        Some(NamePattern(pattern)) if !pattern.contains(NamePattern::STEM) => {
            pattern.parse().map_err(|e: NameError| super::usage(e.to_string()))
        }
        Some(NamePattern(pattern)) => {
            let name = pattern.replace(NamePattern::STEM, default_name(image)?.as_str());
            name.parse().map_err(|e| super::usage(format!("`{name}` cannot be the image's name: {e}")))
        }
        None => default_name(image),
    };
    let names = images.iter().map(name).collect::<anyhow::Result<Vec<Name>>>()?;
    for (i, name) in names.iter().enumerate() {
        if let Some(other) = names[..i].iter().position(|other| other == name) {
            let (one, two) = (images[other].display(), images[i].display());
            let error = Error::usage(format!("{one} and {two} would both be published as {name}"));
            return Err(error.hint("rename one of the files, or publish them one by one, each with its --name").into());
        }
    }
    Ok(names)
}

/// Extensions of compressed images, which are no part of a name.
const COMPRESSED: [&str; 5] = [".gz", ".xz", ".zst", ".bz2", ".lz4"];

/// The image name if none is given.
pub fn default_name(image: &Path) -> anyhow::Result<Name> {
    // Of `.` and `..` it is that of the directory.
    let whole = image.file_name().is_none().then(|| std::fs::canonicalize(image).ok()).flatten();
    let file = whole.as_deref().unwrap_or(image).file_name().and_then(|s| s.to_str()).unwrap_or_default();
    let packed = COMPRESSED.iter().find_map(|extension| file.strip_suffix(extension)).unwrap_or(file);
    let stem = Path::new(packed).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    if stem == "-" {
        return Err(super::usage("an image from standard input needs a name: --name NAME".into()));
    }
    stem.parse().map_err(|e| {
        let hint = Name::suggest(stem).map_or_else(|| "--name NAME".to_owned(), |name| format!("--name {name}"));
        Error::usage(format!("`{stem}` cannot be the image's name: {e}")).hint(hint).into()
    })
}

fn write_report(r: &Report, out: &mut String) -> std::fmt::Result {
    match r.outcome {
        Outcome::Published => writeln!(out, "{} version {} is published", r.image, r.version)?,
        Outcome::NoChange => writeln!(out, "{}: no change, version {} stays", r.image, r.version)?,
        Outcome::DryRun => writeln!(out, "{} version {} would be published; nothing was written", r.image, r.version)?,
    }
    let rate = bytes(r.bytes_per_second as u64);
    writeln!(out, "  image   {} in {:.1} s, {rate}/s, split {}", bytes(r.size), r.seconds, r.split)?;
    let blocks = |c: &publish::Count| {
        format!("{} blocks, {} ({} compressed)", count(c.blocks), bytes(c.bytes), bytes(c.zlib_bytes))
    };
    writeln!(out, "  new     {}", blocks(&r.new))?;
    writeln!(out, "  reused  {}", blocks(&r.reused))?;
    writeln!(out, "  zero    {}", bytes(r.hole_bytes))?;
    if r.repeated_bytes > 0 {
        writeln!(out, "  repeats {} of the image occur more than once", bytes(r.repeated_bytes))?;
    }
    for update in &r.updates {
        let (deltas, from) = (count(update.deltas), update.from);
        let (with, without) = (bytes(update.download_bytes), bytes(update.block_bytes));
        writeln!(out, "  deltas  {deltas} from version {from}: its clients download {with} instead of {without}")?;
    }
    if let Some(sha256) = &r.image_sha256 {
        writeln!(out, "  sha256  {sha256}")?;
    }
    if let Some(blocks) = r.profile_blocks {
        writeln!(out, "  profile {} blocks, which clients fetch ahead", count(blocks))?;
    }
    let done = if r.outcome == Outcome::DryRun { "to send:" } else { "sent" };
    r.mirrors.iter().try_for_each(|m| write_mirror(m, done, out))?;
    if let Some(file) = &r.new_key_file {
        writeln!(
            out,
            "  key     new signing key: {file} (keep a copy: without it, this image cannot be published again)"
        )?;
    }
    if let Some(key) = &r.public_key {
        writeln!(out, "  pin it  hfl-mount --key {key} URL/{} MOUNTPOINT", r.image)?;
    }
    if let Some(boot) = &r.boot {
        let (kernel, miniroot) = (bytes(boot.kernel_bytes), bytes(boot.miniroot_bytes));
        writeln!(out, "  boot    {} (kernel {kernel}, miniroot {miniroot})", boot.ipxe)?;
    }
    if r.behind().count() > 0 {
        writeln!(out, "run the same command again to bring the mirrors left behind up to date")?;
    }
    Ok(())
}

/// Prints which mirrors were left behind, where no report is printed.
pub fn tell_behind(mirrors: &[MirrorReport]) {
    for (mirror, why) in mirrors.iter().filter_map(|m| Some((m, m.why.as_ref()?))) {
        exit::warn(&format!("mirror {} was left behind: {why}", mirror.name));
    }
}

/// Writes a mirror's line of a report.
pub fn write_mirror(m: &MirrorReport, done: &str, out: &mut String) -> std::fmt::Result {
    write!(out, "  mirror  {}: {done} {} blocks, {}", m.name, count(m.objects), bytes(m.bytes))?;
    write!(out, ", and {} files, {}", count(m.files), bytes(m.file_bytes))?;
    match &m.why {
        Some(why) => writeln!(out, "; LEFT BEHIND: {why}")?,
        None => writeln!(out)?,
    }
    if let Some(hint) = &m.hint {
        writeln!(out, "          hint: {hint}")?;
    }
    if m.found > 0 {
        writeln!(out, "          {} blocks were there already", count(m.found))?;
    }
    if m.repaired > 0 {
        writeln!(out, "          {} damaged blocks were replaced", count(m.repaired))?;
    }
    Ok(())
}

/// Whether this runs in a CI job: all common services set this variable.
fn is_ci_job() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}
