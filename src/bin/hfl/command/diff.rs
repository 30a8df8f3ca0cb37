//! `hfl diff`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::format::difference::{Cell, Difference};
use hfl::format::head::Head;
use hfl::format::index::{FILE_MAX_BYTES, Index, MAGIC};
use hfl::format::update::{self, Update};
use hfl::store::Fetch;
use hfl::store::http::HttpClient;
use hfl::store::retry::Retry;
use hfl::system::host::ThisHost;
use hfl::{Error, ErrorKind, repo};

use super::diff_report::{Blocks, DiffReport, Side, WithDeltas};
use super::image::Image;
use crate::exit;
use crate::show::{bytes, count};
use crate::terminal;

/// Time limit for a text diff to find the shortest result.
const UNIFIED_DEADLINE: Duration = Duration::from_secs(5);
/// Cells of the map if the terminal width is unknown.
const MAP_CELLS: usize = 64;

const OLD: &str = "Old version: NAME[@VERSION] with --to, http(s)://HOST/PATH/NAME[@VERSION], \
                   DIRECTORY/NAME[@VERSION]; or an index as a file or a URL that ends with .idx";

/// Compare two versions: changed blocks, and the cost of the update.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl diff old.idx new.idx
  hfl diff debian-ps3@41 debian-ps3@42 --to mirrors.toml
  hfl diff https://mirror.example/hfl/debian-ps3@41 https://mirror.example/hfl/debian-ps3 --key RWQ...
  hfl diff debian-ps3 --to mirrors.toml --markdown >> \"$GITHUB_STEP_SUMMARY\"   # the newest two versions
  hfl diff https://mirror.example/hfl/index/debian-ps3/41-1f3a9c2b7d10.idx new.idx --json")]
pub struct Args {
    #[arg(help = OLD)]
    old: String,
    /// New version, likewise [default: OLD is the name of an image, and its newest version is compared with the one
    /// before]
    new: Option<String>,
    /// File that describes the mirrors of NAME; or a directory or URL, which is the only mirror then
    #[arg(long, value_name = "mirrors.toml")]
    to: Option<PathBuf>,
    #[command(flatten)]
    trust: super::TrustArgs,
    #[command(flatten)]
    pub output: super::OutputArgs,
    /// Print the report as Markdown, for the summary of a job or release notes
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print a text diff of the two indexes
    #[arg(long, conflicts_with_all = ["json", "markdown"])]
    unified: bool,
}

/// An index and the size of its file.
struct Loaded {
    index: Arc<Index>,
    file_bytes: u64,
    /// The head that names it, and where that was read.
    head: Option<(Head, Vec<Arc<dyn Fetch>>)>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (old, new) = match &args.new {
        Some(new) => {
            let (old, new) = both(&args, new)?;
            (Some(old), new)
        }
        None => newest_two(&args)?,
    };
    if let (true, Some(old)) = (args.unified, &old) {
        exit::print(&unified(&args, &old.index, &new.index))?;
        return Ok(ExitCode::SUCCESS);
    }
    let side = |loaded: &Loaded| Side::of(&loaded.index, loaded.file_bytes, loaded.head.as_ref().map(|(head, _)| head));
    let difference = old.as_ref().map(|old| Difference::between(&old.index, &new.index));
    let report = match (&old, &difference) {
        (Some(old), Some(difference)) => DiffReport {
            with_deltas: with_deltas(old, &new, difference)?,
            ..DiffReport::between(side(old), side(&new), difference)
        },
        _ => DiffReport::first(side(&new), &new.index),
    };
    if args.markdown {
        exit::print_with(|out| report.write_markdown(out))?;
    } else {
        let map = difference.filter(|_| std::io::stdout().is_terminal()).map(|difference| map(&new, &difference));
        args.output.print(&report, |report, out| write_answer(report, map.as_deref(), out))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the two indexes that are named, at the same time.
fn both(args: &Args, new: &str) -> anyhow::Result<(Loaded, Loaded)> {
    let (old, new) = std::thread::scope(|scope| {
        let old = scope.spawn(|| load(&args.old, args));
        let new = load(new, args);
        (old.join(), new)
    });
    Ok((old.map_err(|_| Error::local(format!("{}: cannot be read", args.old)))??, new?))
}

/// Loads the newest version of an image, and the one before, if there is one.
fn newest_two(args: &Args) -> anyhow::Result<(Option<Loaded>, Loaded)> {
    let image = Image::new(&args.old, args.to.as_deref())?;
    if image.version.is_some() {
        let error = Error::usage("compare what with what? the new version is not given");
        return Err(error.hint("name two versions, or an image alone: its newest two are compared").into());
    }
    let new = load_version(&image, args)?;
    let number = new.index.header().version;
    let before = new.head.iter().flat_map(|(head, _)| &head.versions).map(|row| row.version).filter(|v| *v < number);
    let old = before.max().map(|before| load_version(&image.at(before), args)).transpose()?;
    Ok((old, new))
}

fn load(what: &str, args: &Args) -> anyhow::Result<Loaded> {
    let is_url = what.contains("://");
    if is_url && what.ends_with(".idx") {
        args.output.step(format_args!("reading {what}"));
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
    if file != MAGIC.as_bytes() {
        let error = Error::new(ErrorKind::Unverified, format!("{what}: not an index (line 1: expected {MAGIC})"));
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
    args.output.step(format_args!("reading {image}"));
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
    // New blocks, the new index and the list of deltas.
    let whole_bytes = difference.added.zlib_bytes + new.file_bytes + row.bytes;
    let download_bytes = whole_bytes.saturating_sub(update.saved_bytes(new.index.blocks()));
    Ok(Some(WithDeltas { deltas: update.deltas().len() as u64, delta_bytes: update.delta_bytes(), download_bytes }))
}

fn write_answer(report: &DiffReport, map: Option<&str>, out: &mut String) -> std::fmt::Result {
    let new = &report.new;
    match &report.old {
        Some(old) => writeln!(out, "{} version {} -> {} version {}", old.image, old.version, new.image, new.version)?,
        None => writeln!(out, "{} version {}, which has none before it", new.image, new.version)?,
    }
    match report.old.as_ref().filter(|old| old.size != new.size) {
        Some(old) => writeln!(out, "  size     {} -> {}", bytes(old.size), bytes(new.size))?,
        None => writeln!(out, "  size     {}", bytes(new.size))?,
    }
    if let Some(old) = report.old.as_ref().filter(|_| report.is_cut_anew()) {
        writeln!(out, "  split    {} -> {}: differently cut images share few blocks", old.split, new.split)?;
    }
    let blocks = |b: &Blocks| format!("{:>9} blocks  {:>12}", count(b.blocks), bytes(b.bytes));
    writeln!(out, "  kept    {}", blocks(&report.kept))?;
    writeln!(out, "  added   {}  {} compressed", blocks(&report.added), bytes(report.added.zlib_bytes))?;
    writeln!(out, "  removed {}", blocks(&report.removed))?;
    writeln!(out, "  upload   {} (new blocks and the index)", bytes(report.upload_bytes))?;
    let whose = if report.old.is_some() { "with the old version that" } else { "that" };
    writeln!(out, "  download {} for a client {whose} reads everything", bytes(report.download_bytes))?;
    if let Some(with) = &report.with_deltas {
        writeln!(out, "           {} with {} deltas", bytes(with.download_bytes), count(with.deltas))?;
    }
    if let Some(map) = map {
        writeln!(out, "  changes  [{map}]")?;
        writeln!(out, "           {}", legend())?;
    }
    Ok(())
}

/// The new image in one line: how much of each part changed; a space is a hole, a dot is unchanged.
fn map(new: &Loaded, difference: &Difference) -> String {
    difference.map(&new.index, MAP_CELLS).iter().map(shade).collect()
}

/// The characters of the map: unchanged, and how much of a part changed, in quarters.
fn shades() -> [char; 5] {
    if terminal::is_utf8() { ['·', '░', '▒', '▓', '█'] } else { ['.', '-', '+', '*', '#'] }
}

fn shade(cell: &Cell) -> char {
    let all = cell.changed_bytes + cell.kept_bytes;
    match (cell.changed_bytes * 4).checked_div(all) {
        None => ' ',
        Some(_) if cell.changed_bytes == 0 => shades()[0],
        Some(quarters) => shades()[1 + quarters.min(3) as usize],
    }
}

/// What the characters of the map mean.
fn legend() -> String {
    let [same, a, b, c, d] = shades();
    format!("{same} unchanged, changed up to {a} 25 % {b} 50 % {c} 75 % {d} 100 %, blank: zeros")
}

fn unified(args: &Args, old: &Index, new: &Index) -> String {
    // Indexes are ASCII, so nothing is replaced here.
    let (old, new) = (old.to_bytes(), new.to_bytes());
    let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
    let diff = similar::TextDiff::configure()
        .algorithm(similar::Algorithm::Patience)
        .deadline(Instant::now() + UNIFIED_DEADLINE)
        .diff_lines(&*old, &*new);
    diff.unified_diff().header(&args.old, args.new.as_deref().unwrap_or(&args.old)).to_string()
}
