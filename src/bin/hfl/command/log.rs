//! `hfl log`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use hfl::format::head::{FileRow, Head, Trust};
use hfl::format::profile::Profile;
use hfl::repo;
use hfl::repo::source::Source;
use hfl::store::Fetch;
use hfl::store::retry::Retry;
use hfl::system::host::ThisHost;

use crate::show::{bytes, count};

/// List the versions of an image, newest first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl log public/debian-ps3
  hfl log https://mirror.example/hfl/debian-ps3 --key RWQ...")]
pub struct Args {
    /// Image to list: http(s)://HOST/PATH/NAME or DIRECTORY/NAME
    source: Source,
    #[command(flatten)]
    trust: super::TrustArgs,
    #[command(flatten)]
    pub output: super::OutputArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.output.step(format_args!("reading {}", args.source));
    let opening = args.trust.options(&args.source.image)?;
    let stores: [Arc<dyn Fetch>; 1] = [Arc::new(Retry::new(args.source.fetch()?, Arc::new(ThisHost)))];
    let accepted = super::runtime()?.block_on(repo::open_head(&stores, &opening))?;
    super::warn_of(&args.source.image, &accepted.warnings);
    let head = accepted.head;
    args.output.print(&json(&head), |_, out| write_log(&head, &args.source, &opening.trust, out))?;
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
                "index_sha256": row.index_sha256.to_string(), "label": row.label.as_ref().map(|l| l.as_str()),
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

fn write_log(head: &Head, source: &Source, trust: &Trust, out: &mut String) -> std::fmt::Result {
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
    // Profiles and updates are for clients.
    let for_people = |file: &&FileRow| !file.path.is_optional();
    for file in head.files.iter().filter(for_people).filter(|file| !is_signature(head, file)) {
        let url = match &source.base {
            repo::source::Base::Url(url) => url.join(&file.path),
            repo::source::Base::Directory(path) => format!("file://{}", path.join(file.path.as_str()).display()),
        };
        writeln!(out, "\n{} ({} bytes, SHA-256 {})", file.path, count(file.bytes), file.sha256)?;
        let name = file.path.as_str().rsplit('/').next().unwrap_or_default();
        let signature = signature_end(head, file);
        writeln!(out, "  curl -fO {url} && curl -fO {url}{signature}")?;
        if let Trust::Key(key) = trust {
            writeln!(out, "  minisign -Vm {name} -x {name}{signature} -P {key}")?;
        }
    }
    Ok(())
}

/// Whether this is the signature of a client that the head also names.
fn is_signature(head: &Head, file: &FileRow) -> bool {
    head.files.iter().any(|client| client.path.is_client_signature(&file.path))
}

/// The suffix that turns a file's path into that of its signature.
fn signature_end<'a>(head: &'a Head, file: &FileRow) -> &'a str {
    let signature = head.files.iter().find(|other| file.path.is_client_signature(&other.path));
    signature.and_then(|other| other.path.as_str().strip_prefix(file.path.as_str())).unwrap_or(".minisig")
}
