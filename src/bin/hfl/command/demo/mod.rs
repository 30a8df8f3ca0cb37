//! `hfl demo`: runs the tool end to end, on an image made from directories of this machine.

mod mounted;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use hfl::Error;
use hfl::client::{self, ClientOptions};
use hfl::config::Mirrors;
use hfl::format::block::Codec;
use hfl::format::difference::Difference;
use hfl::format::head::Trust;
use hfl::format::name::{Name, Version};
use hfl::progress::{Event, Phase, Watch};
use hfl::publish::{self, DeltaOptions, Keyring, PublishOptions, Report, Repository, RestoreOptions};
use hfl::repo::source::Source;
use hfl::repo::{self, OpenOptions};

use crate::exit;
use crate::progress::Reporter;
use crate::show::{bytes, count};

/// Marker file of a demo directory, which may be replaced.
const MARK: &str = ".hfl-demo";
const MIRRORS: &str = "[[mirror]]\nname = \"local\"\nwrite = \"./public\"\n";

/// Demonstrate hfl: make an image, then publish, diff, serve, mount and restore it.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl demo

Requires mke2fs (e2fsprogs). Mounts only if /dev/fuse is usable. Writes nothing outside its directory.")]
pub struct Args {
    /// Directory for all files; one of an earlier demo is replaced
    #[arg(default_value = "hfl-demo")]
    directory: PathBuf,
    #[command(flatten)]
    pub says: super::LongArgs,
}

/// The report: what the second version costs beside the first.
#[derive(serde::Serialize)]
struct DemoReport {
    directory: PathBuf,
    first: Report,
    second: Report,
    seconds: f64,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let reporter = args.says.start()?;
    let watch = Watch { progress: Arc::clone(&reporter) as _, cancel: super::cancel_on_signal()? };
    let tells = !args.says.output.quiet && !args.says.output.json;
    let demo = Demo::prepare(&args.directory, watch, tells.then(|| Arc::clone(&reporter)))?;
    let runtime = super::runtime()?;
    demo.make_images()?;
    let first = demo.publish(&runtime, "one.img", "1")?;
    let second = demo.publish(&runtime, "two.img", "2")?;
    demo.tell_cost(&runtime, &first, &second)?;
    runtime.block_on(demo.read_back())?;
    reporter.end();
    if tells {
        demo.tell_next(&second, started)?;
    }
    if args.says.output.json {
        let (directory, seconds) = (demo.directory, started.elapsed().as_secs_f64());
        exit::print_json(&DemoReport { directory, first, second, seconds })?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Demo {
    directory: PathBuf,
    name: Name,
    watch: Watch,
    /// Prints results, unless that is not wanted.
    out: Option<Arc<Reporter>>,
}

impl Demo {
    fn prepare(directory: &Path, watch: Watch, out: Option<Arc<Reporter>>) -> anyhow::Result<Self> {
        if directory.exists() {
            if !directory.join(MARK).exists() {
                let error = Error::local(format!("{}: exists and is not a demo directory", directory.display()));
                return Err(error.hint("name another directory: hfl demo DIRECTORY").into());
            }
            fs::remove_dir_all(directory).map_err(|e| Error::io(directory, &e))?;
        }
        fs::create_dir_all(directory).map_err(|e| Error::io(directory, &e))?;
        let directory = directory.canonicalize().map_err(|e| Error::io(directory, &e))?;
        for (file, text) in [(MARK, ""), ("mirrors.toml", MIRRORS)] {
            let path = directory.join(file);
            fs::write(&path, text).map_err(|e| Error::io(&path, &e))?;
        }
        Ok(Self { directory, name: "demo".parse()?, watch, out })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Makes an image of some of this machine's files, and a second one after a few of them have changed.
    fn make_images(&self) -> anyhow::Result<()> {
        let tree = self.path("tree");
        self.watch.progress.event(Event::Phase(Phase::Build));
        self.watch.progress.event(Event::Start { image_bytes: None });
        let copied = tree::copy_some(&tree, &|bytes| self.watch.progress.event(Event::Read { bytes }))?;
        self.say(&format!("copied {} files of this machine, {}", count(copied.files), bytes(copied.bytes)))?;
        let size = bytes(tree::make_ext4(&tree, &copied, &self.path("one.img"))?);
        let changed = tree::change_some(&tree)?;
        tree::make_ext4(&tree, &copied, &self.path("two.img"))?;
        fs::remove_dir_all(&tree).map_err(|e| Error::io(&tree, &e))?;
        self.say(&format!(
            "made one.img and, after changing {changed} files, two.img: ext4, {size}, each built from scratch"
        ))
    }

    fn publish(&self, runtime: &tokio::runtime::Runtime, image: &str, label: &str) -> anyhow::Result<Report> {
        let keyring = Keyring { directory: Some(self.path("keys")), ..Keyring::default() };
        let repository = Repository::new(Mirrors::parse(MIRRORS)?, self.directory.clone(), Some(keyring));
        let options = PublishOptions {
            image: self.path(image),
            name: self.name.clone(),
            profile: None,
            split: None,
            split_first: None,
            codec: Codec::default(),
            deltas: DeltaOptions::default(),
            label: Some(label.parse()?),
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            force: false,
            as_it_is: false,
            zero_free: false,
            whole_sha256: false,
            tree: None,
            spool_directory: self.directory.clone(),
            boot: None,
            spool_max_bytes: 1 << 30,
        };
        let report = runtime.block_on(publish::publish(&repository, &options, &self.watch))?;
        let (new, seconds) = (&report.new, report.seconds);
        self.say(&format!(
            "published {image} as version {} in {seconds:.1} s: {} new blocks, {} compressed; {} known, {} zeros",
            report.version,
            count(new.blocks),
            bytes(new.zlib_bytes),
            count(report.reused.blocks),
            bytes(report.hole_bytes),
        ))?;
        Ok(report)
    }

    fn source(&self) -> anyhow::Result<Source> {
        Ok(self.path("public/demo").display().to_string().parse()?)
    }

    fn trust(&self) -> anyhow::Result<Trust> {
        Ok(Trust::Key(fs::read_to_string(self.path("keys/demo.pub"))?.parse()?))
    }

    fn tell_cost(&self, runtime: &tokio::runtime::Runtime, first: &Report, second: &Report) -> anyhow::Result<()> {
        let (stores, opening) = ([self.source()?.base.fetch()?], OpenOptions::new(self.name.clone(), self.trust()?));
        let open = |version| {
            let opening = opening.clone().version(Version::new(version));
            runtime.block_on(async { repo::open(&stores, &opening).await })
        };
        let (old, new) = (open(u64::from(first.version))?, open(u64::from(second.version))?);
        let difference = Difference::between(&old.index, &new.index);
        let (added, all) = (difference.added.zlib_bytes, first.new.zlib_bytes.max(1));
        self.say(&format!(
            "diff: {} blocks kept, {} added; the update costs {}, {:.1} % of the image",
            count(difference.kept.blocks),
            count(difference.added.blocks),
            bytes(added),
            added as f64 * 100.0 / all as f64,
        ))
    }

    /// Serves the repository over loopback, mounts, restores and compares it.
    async fn read_back(&self) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/demo", listener.local_addr()?);
        let served = tokio::spawn(super::serve::Site::of(self.path("public")).serve(listener));
        self.say(&format!("serving at {url}"))?;
        let image = self.path("two.img");
        let mounted = mounted::compare(&url, &self.path("keys/demo.pub"), &self.path("mnt"), &image).await?;
        self.say(&mounted)?;
        self.restore(&url, &image).await?;
        served.abort();
        Ok(())
    }

    async fn restore(&self, url: &str, image: &Path) -> anyhow::Result<()> {
        let source: Source = url.parse()?;
        let accept = OpenOptions::new(self.name.clone(), self.trust()?);
        // A demo records nothing, and need not be warned of it.
        let observer = Arc::new(client::notice::Silent);
        let client = client::open(ClientOptions::once(vec![source.base], accept), observer).await?;
        let seeds = vec![self.path("one.img")];
        let options = RestoreOptions { seeds, force: true, ..RestoreOptions::new(self.path("restored.img")) };
        let restored = options.out.clone();
        let report = publish::restore(&client.opened, client.source, &options, &self.watch).await?;
        if !mounted::same(&restored, image)? {
            return Err(Error::local("the restored image differs from two.img").into());
        }
        fs::remove_file(&restored).map_err(|e| Error::io(&restored, &e))?;
        self.say(&format!(
            "restored version 2 in {:.1} s with one.img as seed: {} downloaded, every byte equal",
            report.seconds,
            bytes(report.fetched_zlib_bytes),
        ))
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        self.out.as_ref().map_or(Ok(()), |out| out.print(&format!("- {text}\n")))
    }

    fn tell_next(&self, report: &Report, started: Instant) -> anyhow::Result<()> {
        let directory = self.directory.display();
        let key = report.public_key.as_deref().unwrap_or_default();
        exit::print(&format!(
            "\nFinished in {:.1} s. All files are in {directory} (rm -r removes it). Next, try:

  hfl serve {directory}/public &
  mkdir -p /tmp/hfl-mnt
  hfl mount --key {key} http://127.0.0.1:8080/demo /tmp/hfl-mnt
  mount -o loop,ro /tmp/hfl-mnt/demo /mnt           (as root)

and publish an image of your own:

  hfl publish IMAGE.img --to {directory}/mirrors.toml
",
            started.elapsed().as_secs_f64()
        ))
    }
}
