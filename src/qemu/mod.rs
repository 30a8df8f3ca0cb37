//! Boots a published version in QEMU on this machine, to see it come up before the world does.
//!
//! The machine has one mirror, and that is this program: what it asks for is fetched from the repository's own mirrors,
//! counted, and made slow if that is wanted. From the order in which it asks comes a boot profile. Nothing is written
//! to any mirror, and nothing of the machine outlives it. It is no virtual machine to work in.

mod console;
mod machine;
mod progress;
mod relay;
mod report;
mod version;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::error::Error;
use crate::format::profile::Profile;
use crate::store::Fetch;

pub use machine::{Accelerator, POWER_MACHINE, X86_PROCESSOR};
pub use relay::{Relay, Wire};
pub use report::{Fetched, Report};
pub use version::Bootable;

use machine::{Machine, Model};
use progress::{Ended, Watch};

/// How the machine sees the one that it runs on, in QEMU's own network.
const HOST: &str = "10.0.2.2";
/// What the miniroot is told besides: to ask nobody but us.
const OWN_WORDS: &str = "hfl.only";
/// What it is told where a profile is recorded: to fetch nothing before it is read.
const RECORD_WORDS: &str = "hfl.profile=off hfl.readahead=off";
/// A boot is over when nothing was asked for so long after the marker,
const SETTLED: Duration = Duration::from_secs(3);
/// or at the latest so long after it.
const SETTLED_AT_LAST: Duration = Duration::from_secs(30);
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be tried, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the console shows when the machine has come up.
    pub marker: String,
    /// How long that may take.
    pub timeout: Duration,
    /// What runs the machine's code; where `None`, KVM if it works, else emulation.
    pub accelerator: Option<Accelerator>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// Further words for the kernel's command line.
    pub append: String,
    /// Further options of QEMU.
    pub qemu: Vec<OsString>,
    /// How slow the mirror is.
    pub wire: Wire,
    /// Whether it is noted which blocks are read.
    pub record: bool,
}

/// Hears what happens.
pub trait Observer: Send + Sync {
    /// The console showed this.
    fn console(&self, text: &str);
    /// This is being done.
    fn step(&self, text: &str);
}

/// Boots the version until the marker is seen, or something else ends it; the profile where it was recorded.
///
/// # Errors
/// No QEMU for its machine; Ctrl-C. A machine that does not come up is no error: the report says so.
pub async fn boot(
    version: &Bootable,
    stores: &[Arc<dyn Fetch>],
    options: &Options,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<(Report, Option<Profile>), Error> {
    let model = Model::of(&version.kernel)?;
    let relay = Relay::start(stores, &version.opened, options.wire).await?;
    let words = words(version, &relay, options, model)?;
    let trial = Trial { version, options, model, words, observer, cancel };
    let boot = trial.run().await?;
    let fetched = relay.fetched();
    if options.record && boot.ended == Ended::Reached {
        observer.step("waiting until nothing more is fetched");
        settle(&relay, cancel).await?;
    }
    let profile = options.record.then(|| relay.profile()).transpose()?;
    let why = match boot.ended {
        Ended::Reached => None,
        Ended::Failed(why) => Some(why),
    };
    let report = Report {
        image: version.image().to_string(),
        version: version.number().number(),
        machine: model.machine,
        accelerator: boot.accelerator,
        reached: why.is_none(),
        marker: options.marker.clone(),
        why,
        seconds: boot.took.as_secs_f64(),
        root_seconds: boot.root.map(|root| root.as_secs_f64()),
        fetched,
        kernel_bytes: version.kernel.len() as u64,
        miniroot_bytes: version.miniroot.len() as u64,
        profile_blocks: profile.as_ref().map(|profile| profile.reads().len() as u64),
        console: boot.machine.last_lines(),
    };
    Ok((report, profile))
}

/// A version, and how it is tried.
struct Trial<'a> {
    version: &'a Bootable,
    options: &'a Options,
    model: &'static Model,
    words: String,
    observer: &'a dyn Observer,
    cancel: &'a AtomicBool,
}

/// A machine that has come up, or has not.
struct Boot {
    /// It runs on until this is dropped.
    machine: Machine,
    accelerator: Accelerator,
    ended: Ended,
    took: Duration,
    root: Option<Duration>,
}

impl Trial<'_> {
    /// Runs a machine; another one, with an emulated processor, where KVM is there and does not work.
    async fn run(&self) -> Result<Boot, Error> {
        let mut accelerator = self.options.accelerator.unwrap_or_else(|| self.model.best_accelerator());
        let mut machine = self.start(accelerator)?;
        let mut watch = Watch::new(self.options);
        loop {
            sleep(PAUSE).await;
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            let (text, exited) = machine.news();
            if !text.is_empty() {
                self.observer.console(&text);
            }
            let may_change = self.options.accelerator.is_none() && accelerator == Accelerator::Kvm;
            if may_change && watch.is_stuck(&machine, exited) {
                self.observer.step("KVM does not work here; emulating the processor");
                accelerator = Accelerator::Tcg;
                machine = self.start(accelerator)?;
                watch = Watch::new(self.options);
            } else if let Some(ended) = watch.look(&machine, exited) {
                return Ok(Boot { machine, accelerator, ended, took: watch.elapsed(), root: watch.root() });
            }
        }
    }

    fn start(&self, accelerator: Accelerator) -> Result<Machine, Error> {
        let Self { version, options, model, words, .. } = self;
        self.observer.step(&format!("starting {} version {} ({accelerator})", version.image(), version.number()));
        Machine::start(model, accelerator, version, options, words)
    }
}

/// The kernel's command line: what menus have, and what is different here.
fn words(version: &Bootable, relay: &Relay, options: &Options, model: &Model) -> Result<String, Error> {
    let url = format!("http://{HOST}:{}/", relay.port());
    let mut words = vec![version.arguments(&url)?, OWN_WORDS.to_owned()];
    if options.record {
        words.push(RECORD_WORDS.to_owned());
    }
    // The last console is the one that programs write to.
    words.push(format!("console={}", model.console));
    words.extend(Some(options.append.clone()).filter(|append| !append.is_empty()));
    Ok(words.join(" "))
}

/// Waits until the machine has read what it reads after the marker.
async fn settle(relay: &Relay, cancel: &AtomicBool) -> Result<(), Error> {
    let settled = async {
        while relay.idle() < SETTLED && !cancel.load(Ordering::Relaxed) {
            sleep(PAUSE).await;
        }
    };
    // What still reads then does not read for the boot.
    let _ = tokio::time::timeout(SETTLED_AT_LAST, settled).await;
    if cancel.load(Ordering::Relaxed) { Err(Error::interrupted()) } else { Ok(()) }
}
