//! `hfl diff`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::format::difference::{Cell, Difference, Tally};
use hfl::format::head::Head;
use hfl::format::index::{FILE_MAX_BYTES, Index};
use hfl::format::update::{self, Update};
use hfl::store::Fetch;
use hfl::store::http::HttpClient;
use hfl::store::retry::Retry;
use hfl::system::host::ThisHost;
use hfl::{Error, ErrorKind, repo};

use super::image::Image;
use crate::exit;
use crate::show::{bytes, count};

/// Time limit for a text diff to find the shortest result.
const UNIFIED_DEADLINE: Duration = Duration::from_secs(5);
/// First bytes of an index.
const MAGIC: &[u8] = b"HFL-INDEX";
/// Cells of the map if the terminal width is unknown.
const MAP_CELLS: usize = 64;

/// Compare two versions: changed blocks, and the cost of the update.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl diff old.idx new.idx
  hfl diff debian-ps3@41 debian-ps3@42 --to mirrors.toml
  hfl diff https://mirror.example/hfl/debian-ps3@41 https://mirror.example/hfl/debian-ps3 --key RWQ...
  hfl diff https://mirror.example/hfl/index/debian-ps3/41-1f3a9c2b7d10.idx new.idx --json")]
pub struct Args {
    /// Old version: NAME[@VERSION] with --to, http(s)://HOST/PATH/NAME[@VERSION], DIRECTORY/NAME[@VERSION]; or an
    /// index as a file or a URL that ends with .idx
    old: String,
    /// New version, likewise
    new: String,
    /// File that describes the mirrors of NAME; or a directory or URL, which is the only mirror then
    #[arg(long, value_name = "mirrors.toml")]
    to: Option<PathBuf>,
    #[command(flatten)]
    trust: super::TrustArgs,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Print a text diff of the two indexes
    #[arg(long, conflicts_with = "json")]
    unified: bool,
}

/// An index and the size of its file.
struct Loaded {
    index: Arc<Index>,
    file_bytes: u64,
    /// The head that names it, and where that was read.
    head: Option<(Head, Vec<Arc<dyn Fetch>>)>,
}

/// What a client with the old version downloads where it uses deltas.
struct WithDeltas {
    deltas: u64,
    delta_bytes: u64,
    download_bytes: u64,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (old, new) = std::thread::scope(|scope| {
        let old = scope.spawn(|| load(&args.old, &args));
        let new = load(&args.new, &args);
        (old.join(), new)
    });
    let old = old.map_err(|_| Error::local(format!("{}: cannot be read", args.old)))??;
    let new = new?;
    if args.unified {
        exit::print(&unified(&args, &old.index, &new.index))?;
        return Ok(ExitCode::SUCCESS);
    }
    let difference = Difference::between(&old.index, &new.index);
    let with = with_deltas(&old, &new, &difference)?;
    if args.json {
        exit::print_json(&json(&old, &new, &difference, with.as_ref()))?;
    } else {
        exit::print_with(|out| write_answer(&old, &new, &difference, with.as_ref(), out))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn load(what: &str, args: &Args) -> anyhow::Result<Loaded> {
    let is_url = what.contains("://");
    if is_url && what.ends_with(".idx") {
        let (mirror, path) = HttpClient::new()?.object(what)?;
        let mirror = Retry::new(Arc::new(mirror), Arc::new(ThisHost));
        let file = super::runtime()?.block_on(mirror.get(&path, FILE_MAX_BYTES))?;
        return parse(what, &file);
    }
    // With `--to`, this names a version even if a file of that name exists; the path of the file is `./NAME@VERSION`.
    let path = Path::new(what);
    let names_version = args.to.is_some() && what.contains('@') && !what.contains('/');
    if is_url || names_version || !path.is_file() {
        return load_version(&Image::new(what, args.to.as_deref())?, args);
    }
    let mut file = vec![];
    let mut opened = std::fs::File::open(path).map_err(|e| Error::io(path, &e))?;
    opened.by_ref().take(MAGIC.len() as u64).read_to_end(&mut file).map_err(|e| Error::io(path, &e))?;
    if file != MAGIC {
        let error = Error::new(ErrorKind::Unverified, format!("{what}: not an index (line 1: expected HFL-INDEX)"));
        return Err(error.hint("images are compared once they are published: NAME@VERSION with --to").into());
    }
    opened.take(FILE_MAX_BYTES).read_to_end(&mut file).map_err(|e| Error::io(path, &e))?;
    parse(what, &file)
}

fn parse(what: &str, file: &[u8]) -> anyhow::Result<Loaded> {
    let index = Index::parse(file).map_err(|e| Error::new(ErrorKind::Unverified, format!("{what}: {e}")))?;
    Ok(Loaded { index: Arc::new(index), file_bytes: file.len() as u64, head: None })
}

fn load_version(image: &Image, args: &Args) -> anyhow::Result<Loaded> {
    let opening = args.trust.options(&image.name)?.version(image.version);
    let (opened, stores) = super::runtime()?.block_on(async {
        let stores = image.stores().await?;
        anyhow::Ok((repo::open(&stores, &opening).await?, stores))
    })?;
    super::warn_of(&image.name, &opened.warnings);
    Ok(Loaded { file_bytes: opened.row.index_bytes, index: opened.index, head: Some((opened.head, stores)) })
}

/// What the deltas from the old version to the new one change, if the head of the new one names them.
fn with_deltas(old: &Loaded, new: &Loaded, difference: &Difference) -> anyhow::Result<Option<WithDeltas>> {
    let Some((head, stores)) = &new.head else { return Ok(None) };
    let from = old.index.header();
    let row = Update::row_between(head, from.version, new.index.header().version).filter(|_| from.image == head.image);
    let Some(row) = row else { return Ok(None) };
    let file = super::runtime()?.block_on(repo::file_from(stores, row, update::FILE_MAX_BYTES));
    let update = file.map_err(Error::from).and_then(|file| {
        Update::parse(&file).map_err(|e| Error::new(ErrorKind::Unverified, format!("{}: {e}", row.path)))
    });
    let update = match update {
        Ok(update) => update,
        Err(e) => {
            exit::warn(&format!("the download with deltas is not known: {e}"));
            return Ok(None);
        }
    };
    let download_bytes =
        (download_bytes(new, difference) + row.bytes).saturating_sub(update.saved_bytes(new.index.blocks()));
    Ok(Some(WithDeltas { deltas: update.deltas().len() as u64, delta_bytes: update.delta_bytes(), download_bytes }))
}

/// Bytes that a client with the old version downloads: new blocks and the new index.
fn download_bytes(new: &Loaded, difference: &Difference) -> u64 {
    difference.added.zlib_bytes + new.file_bytes
}

fn json(old: &Loaded, new: &Loaded, difference: &Difference, with: Option<&WithDeltas>) -> serde_json::Value {
    let tally = |t: &Tally| serde_json::json!({ "blocks": t.blocks, "bytes": t.bytes, "zlib_bytes": t.zlib_bytes });
    let side = |l: &Loaded| {
        let h = l.index.header();
        serde_json::json!({
            "image": h.image.as_str(), "version": h.version.number(), "created": h.created.to_string(), "size": h.size,
            "split": h.split.to_string(), "blocks": l.index.blocks().len(), "index_bytes": l.file_bytes,
        })
    };
    serde_json::json!({
        "old": side(old), "new": side(new), "kept": tally(&difference.kept), "added": tally(&difference.added),
        "removed": tally(&difference.removed), "upload_bytes": download_bytes(new, difference),
        "download_bytes": download_bytes(new, difference),
        "with_deltas": with.map(|with| serde_json::json!({
            "deltas": with.deltas, "delta_bytes": with.delta_bytes, "download_bytes": with.download_bytes,
        })),
    })
}

fn write_answer(
    old: &Loaded,
    new: &Loaded,
    difference: &Difference,
    with: Option<&WithDeltas>,
    out: &mut String,
) -> std::fmt::Result {
    let (a, b) = (old.index.header(), new.index.header());
    writeln!(out, "{} version {} -> {} version {}", a.image, a.version, b.image, b.version)?;
    if a.size == b.size {
        writeln!(out, "  size     {}", bytes(b.size))?;
    } else {
        writeln!(out, "  size     {} -> {}", bytes(a.size), bytes(b.size))?;
    }
    if a.split != b.split {
        writeln!(out, "  split    {} -> {}: differently cut images share few blocks", a.split, b.split)?;
    }
    let tally = |t: &Tally| format!("{:>9} blocks  {:>12}", count(t.blocks), bytes(t.bytes));
    writeln!(out, "  kept    {}", tally(&difference.kept))?;
    writeln!(out, "  added   {}  {} compressed", tally(&difference.added), bytes(difference.added.zlib_bytes))?;
    writeln!(out, "  removed {}", tally(&difference.removed))?;
    let cost = download_bytes(new, difference);
    writeln!(out, "  upload   {} (new blocks and the index)", bytes(cost))?;
    writeln!(out, "  download {} for a client with the old version that reads everything", bytes(cost))?;
    if let Some(with) = with {
        writeln!(out, "           {} with {} deltas", bytes(with.download_bytes), count(with.deltas))?;
    }
    if std::io::stdout().is_terminal() {
        writeln!(out, "  changes  [{}]", map(new, difference))?;
    }
    Ok(())
}

/// The new image in one line: how much of each part changed; a space is a hole, a dot is unchanged.
fn map(new: &Loaded, difference: &Difference) -> String {
    difference.map(&new.index, MAP_CELLS).iter().map(shade).collect()
}

fn shade(cell: &Cell) -> char {
    let all = cell.changed_bytes + cell.kept_bytes;
    match (all, cell.changed_bytes) {
        (0, _) => ' ',
        (_, 0) => '·',
        (all, changed) => match changed * 4 / all {
            0 => '░',
            1 => '▒',
            2 => '▓',
            _ => '█',
        },
    }
}

fn unified(args: &Args, old: &Index, new: &Index) -> String {
    // Indexes are ASCII, so nothing is replaced here.
    let (old, new) = (old.to_bytes(), new.to_bytes());
    let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
    let diff = similar::TextDiff::configure()
        .algorithm(similar::Algorithm::Patience)
        .deadline(Instant::now() + UNIFIED_DEADLINE)
        .diff_lines(&*old, &*new);
    diff.unified_diff().header(&args.old, &args.new).to_string()
}
