//! `hfl log`.

use std::fmt::Write as _;
use std::process::ExitCode;

use hfl::Error;
use hfl::format::head::{FileRow, Head, Trust};
use hfl::format::profile::Profile;
use hfl::repo;
use hfl::repo::source::Base;

use super::image::{Image, ImageArgs};
use crate::show::{bytes, count};

/// List the versions of an image, newest first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl log debian-ps3 --to mirrors.toml
  hfl log public/debian-ps3
  hfl log https://mirror.example/hfl/debian-ps3 --key RWQ...")]
pub struct Args {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    trust: super::TrustArgs,
    #[command(flatten)]
    pub output: super::OutputArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let image = args.image.image(None)?;
    args.output.step(format_args!("reading {image}"));
    let opening = args.trust.options(&image.name)?;
    let accepted = super::runtime()?.block_on(async {
        let stores = image.stores().await?;
        anyhow::Ok(repo::open_head(&stores, &opening).await?)
    })?;
    super::warn_of(&image.name, &accepted.warnings);
    let head = only(accepted.head, &image)?;
    let bases = image.bases().unwrap_or_default();
    args.output.print(&json(&head), |_, out| write_log(&head, bases.first(), &opening.trust, out))?;
    Ok(ExitCode::SUCCESS)
}

fn json(head: &Head) -> serde_json::Value {
    let versions: Vec<_> = head
        .versions
        .iter()
        .map(|row| {
            serde_json::json!({
                "version": row.version.number(), "created": row.created.to_string(), "size": row.size,
                "new_bytes": row.new_bytes, "index_bytes": row.index_bytes,
                "index_sha256": row.index_sha256.to_string(),
                "image_sha256": head.image_sha256(row.version).map(|sha256| sha256.to_string()),
                "label": row.label.as_ref().map(|l| l.as_str()),
                "profile": Profile::row_in(head, row.version).map(|file| file.path.as_str()),
            })
        })
        .collect();
    let files: Vec<_> = head
        .files
        .iter()
        .map(|f| serde_json::json!({ "path": f.path.as_str(), "bytes": f.bytes, "sha256": f.sha256.to_string() }))
        .collect();
    let mirrors: Vec<_> = head.mirrors.iter().map(|m| m.as_str()).collect();
    serde_json::json!({
        "image": head.image.as_str(), "created": head.created.to_string(),
        "expires": head.expires.map(|t| t.to_string()), "mirrors": mirrors, "files": files, "versions": versions,
    })
}

/// The head with the requested version alone, if one was requested.
fn only(mut head: Head, image: &Image) -> anyhow::Result<Head> {
    if let Some(version) = image.version {
        head.versions.retain(|row| row.version == version);
        if head.versions.is_empty() {
            let error = Error::local(format!("{} has no version {version}", image.name));
            return Err(error.hint("without @VERSION, all are listed").into());
        }
    }
    Ok(head)
}

fn write_log(head: &Head, base: Option<&Base>, trust: &Trust, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{:>7}  {:<20}  {:>12}  {:>12}  {:>9}  label", "version", "published", "size", "new", "profile")?;
    for row in &head.versions {
        let label = row.label.as_ref().map_or("", |l| l.as_str());
        write!(out, "{:>7}  {:<20}  {:>12}  ", row.version, row.created.to_string(), bytes(row.size))?;
        let profile = Profile::row_in(head, row.version).map_or_else(|| "-".into(), |file| bytes(file.bytes));
        writeln!(out, "{:>12}  {profile:>9}  {label}", bytes(row.new_bytes))?;
    }
    if let Some(expires) = head.expires {
        writeln!(out, "expires {expires}")?;
    }
    for row in &head.versions {
        if let Some(sha256) = head.image_sha256(row.version) {
            writeln!(out, "SHA-256 of version {}: {sha256}", row.version)?;
        }
    }
    // Profiles and updates are for clients.
    let for_people = |file: &&FileRow| !file.path.is_optional();
    for file in head.files.iter().filter(for_people).filter(|file| !is_signature(head, file)) {
        write_file(head, file, base, trust, out)?;
    }
    Ok(())
}

/// A file of the repository, and for a signed one the commands that download and check it.
fn write_file(head: &Head, file: &FileRow, base: Option<&Base>, trust: &Trust, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n{} ({} bytes, SHA-256 {})", file.path, count(file.bytes), file.sha256)?;
    let Some(signature) = signature_end(head, file) else { return Ok(()) };
    let name = file.path.as_str().rsplit('/').next().unwrap_or_default();
    let place = match base {
        Some(Base::Url(url)) => {
            let url = url.join(&file.path);
            writeln!(out, "  curl -fO {url} && curl -fO {url}{signature}")?;
            name.to_owned()
        }
        Some(Base::Directory(path)) => path.join(file.path.as_str()).display().to_string(),
        None => name.to_owned(),
    };
    match trust {
        Trust::Key(key) => writeln!(out, "  minisign -Vm {place} -x {place}{signature} -P {key}"),
        _ => Ok(()),
    }
}

/// Whether this is the signature of a client that the head also names.
fn is_signature(head: &Head, file: &FileRow) -> bool {
    head.files.iter().any(|client| client.path.is_client_signature(&file.path))
}

/// The suffix that turns a file's path into that of its signature; `None` for a file without one.
fn signature_end<'a>(head: &'a Head, file: &FileRow) -> Option<&'a str> {
    let signature = head.files.iter().find(|other| file.path.is_client_signature(&other.path));
    signature.and_then(|other| other.path.as_str().strip_prefix(file.path.as_str()))
}
