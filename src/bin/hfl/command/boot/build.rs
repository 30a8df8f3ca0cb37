//! `hfl boot build`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hfl::Error;
use hfl::boot::{Built, Disk, Ingredients, Options, Settings, Summary};
use hfl::config::Mirrors;
use hfl::format::layout::BootFile;
use hfl::format::name::{Name, Version};
use hfl::format::signature::PublicKey;
use hfl::system::atomic_file;
use serde::Serialize;

use super::super as command;
use crate::show::bytes;

/// Extract the kernel of an image, and build a miniroot to boot it over the network.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl boot build debian.img
  hfl boot build debian.img --to mirrors.toml --key RWQ... --out /srv/tftp/debian
  hfl boot build ps3.img --client hfl-mount-ppc64 --busybox ppc64/bin/busybox --modules ps3vram

Nothing is mounted, and root is not required. The image, or one of its partitions, must be ext2, ext3, ext4, squashfs \
or erofs, and contain a kernel and its modules. The output is reproducible. hfl publish --boot builds the same files \
and publishes them.")]
pub struct Args {
    /// Image, block device, or `-` for standard input; an image compressed with gzip, xz, zstd, bzip2 or lz4, and that
    /// from standard input, is unpacked to a temporary file
    image: PathBuf,
    /// Static hfl-mount for the image's machine; can be repeated [default: `client` of mirrors.toml, else a static
    /// one next to hfl or in ../lib/hfl]
    #[arg(long, value_name = "FILE")]
    client: Vec<PathBuf>,
    /// Static busybox for the image's machine [default: the one of this system]
    #[arg(long, value_name = "FILE")]
    busybox: Option<PathBuf>,
    /// Refuse an image whose kernel is for another machine (as printed by uname -m)
    #[arg(long, value_name = "MACHINE")]
    arch: Option<String>,
    /// Additional kernel modules for the miniroot
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    modules: Vec<String>,
    /// Output directory [default: ./boot-NAME]
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Name of the image [default: file name without extension]
    #[arg(long)]
    name: Option<Name>,
    /// File that describes the mirrors whose public URLs the miniroot contains; without it, the kernel command line
    /// must contain hfl.url=
    #[arg(long, value_name = "mirrors.toml")]
    to: Option<PathBuf>,
    /// Public key to pin in the miniroot: its base64 line, or a file that contains it [default: the key saved when
    /// publishing]
    #[arg(long, value_name = "PUBKEY")]
    key: Option<String>,
    /// Oldest version that the miniroot accepts
    #[arg(long, value_name = "VERSION")]
    min_version: Option<Version>,
    /// Directory of templates that override the built-in ones, such as boot/init [default: `templates` of mirrors.toml]
    #[arg(long, value_name = "DIRECTORY")]
    templates: Option<PathBuf>,
    #[command(flatten)]
    pub output: command::OutputArgs,
}

#[derive(Serialize)]
struct Report {
    image: String,
    name: String,
    kernel_file: PathBuf,
    miniroot_file: PathBuf,
    public_key: Option<String>,
    #[serde(flatten)]
    summary: Summary,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mirrors = args.to.as_deref().map(command::to::mirrors).transpose()?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => command::publish::default_name(&args.image)?,
    };
    let key = command::kept_key(args.key.as_deref(), &name)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("boot-{name}")));
    args.output.step(format_args!("reading {}", args.image.display()));
    let built = make(&args, mirrors.as_ref(), &name, key.clone())?;
    let (kernel_file, miniroot_file) = write(&out, &built)?;
    let report = Report {
        image: args.image.display().to_string(),
        name: name.to_string(),
        kernel_file,
        miniroot_file,
        public_key: key.map(|key| key.to_string()),
        summary: built.summary,
    };
    args.output.print(&report, |report, text| write_report(report, mirrors.is_some(), text))?;
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args, mirrors: Option<&Mirrors>, name: &Name, key: Option<PublicKey>) -> Result<Built, Error> {
    let beside = |file: &String| args.to.as_deref().map(command::to::base).unwrap_or_default().join(file);
    let publish = mirrors.map(|mirrors| &mirrors.publish);
    let clients = match args.client.is_empty() {
        true => publish.into_iter().flat_map(|publish| &publish.client).map(beside).collect(),
        false => args.client.clone(),
    };
    let templates = args.templates.clone().or_else(|| publish?.templates.as_ref().map(beside));
    let options = Options {
        clients,
        busybox: args.busybox.clone(),
        machine: args.arch.clone(),
        modules: args.modules.clone(),
        templates,
    };
    let settings = Settings {
        name: Some(name.clone()),
        mirrors: mirrors.iter().flat_map(|mirrors| &mirrors.mirrors).filter_map(|m| m.read.clone()).collect(),
        key,
        min_version: args.min_version,
    };
    let image = Disk::open(&args.image)?;
    Ingredients::gather(&image, &options)?.build(&settings)
}

/// Writes kernel and miniroot, and returns their paths.
fn write(out: &Path, built: &Built) -> Result<(PathBuf, PathBuf), Error> {
    std::fs::create_dir_all(out).map_err(|e| Error::io(out, &e))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        let written = atomic_file::check_output(&path).and_then(|()| atomic_file::replace(&path, bytes));
        written.map_err(|e| Error::io(&path, &e)).map(|()| path)
    };
    Ok((write(BootFile::Kernel.name(), &built.kernel)?, write(BootFile::Miniroot.name(), &built.miniroot)?))
}

fn write_report(r: &Report, knows_mirrors: bool, out: &mut String) -> std::fmt::Result {
    let s = &r.summary;
    writeln!(out, "{}: Linux {} for {}, root file system {}", r.name, s.kernel, s.machine, s.file_system)?;
    writeln!(out, "  kernel    {} ({})", r.kernel_file.display(), bytes(s.kernel_bytes))?;
    writeln!(out, "  miniroot  {} ({})", r.miniroot_file.display(), bytes(s.miniroot_bytes))?;
    writeln!(out, "  modules   {}", s.modules.join(" "))?;
    if r.public_key.is_none() {
        writeln!(out, "  no key is known for {}: this miniroot pins no key; give one with --key RWQ...", r.name)?;
    }
    let url = if knows_mirrors { "" } else { " hfl.url=http://MIRROR/PATH/" };
    writeln!(out, "  boot it   with the kernel command line: console=tty0{url}")
}
