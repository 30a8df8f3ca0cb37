//! Boots a published version in QEMU on this host, to test it before it is deployed.
//!
//! The machine has one mirror: this program. It relays each request to the repository's own mirrors, counts it, and
//! throttles the response if so configured. The order of the requests gives a boot profile. Nothing is written to any
//! mirror, and the machine leaves nothing behind. It is not meant as a virtual machine for everyday use.

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

/// Address of the host in QEMU's user network.
const HOST: &str = "10.0.2.2";
/// Additional option for the miniroot: use no other mirror.
const OWN_WORDS: &str = "hfl.only";
/// Options for recording a profile: no prefetch, so that only demand reads are seen.
const RECORD_WORDS: &str = "hfl.profile=off hfl.readahead=off";
/// Recording ends when no request has arrived for this long after the marker.
const SETTLED: Duration = Duration::from_secs(3);
/// Recording ends at the latest this long after the marker.
const SETTLED_AT_LAST: Duration = Duration::from_secs(30);
/// Polling interval.
const PAUSE: Duration = Duration::from_millis(50);

/// Options of a test boot.
#[derive(Debug, Clone)]
pub struct Options {
    /// Console text that marks a successful boot.
    pub marker: String,
    /// Time limit until the marker appears.
    pub timeout: Duration,
    /// Accelerator; if `None`, KVM if it works, else emulation.
    pub accelerator: Option<Accelerator>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub processors: u32,
    /// Additional kernel command line options.
    pub append: String,
    /// Additional QEMU options.
    pub qemu: Vec<OsString>,
    /// Latency and rate of the mirror.
    pub wire: Wire,
    /// Whether to record a boot profile.
    pub record: bool,
}

/// Receives progress.
pub trait Observer: Send + Sync {
    /// Called with new console output.
    fn console(&self, text: &str);
    /// Called when a step starts.
    fn step(&self, text: &str);
}

/// Boots the version until the marker appears or the boot fails; returns the profile too, if recorded.
///
/// # Errors
/// No QEMU for its architecture; Ctrl-C. A failed boot is not an error: it is stated in the report.
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

/// A version and the parameters of its test boot.
struct Trial<'a> {
    version: &'a Bootable,
    options: &'a Options,
    model: &'static Model,
    words: String,
    observer: &'a dyn Observer,
    cancel: &'a AtomicBool,
}

/// A completed boot, successful or not.
struct Boot {
    /// Still running; stopped on drop.
    machine: Machine,
    accelerator: Accelerator,
    ended: Ended,
    took: Duration,
    root: Option<Duration>,
}

impl Trial<'_> {
    /// Runs a machine; restarts it with an emulated processor if KVM is available but does not work.
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

/// The kernel command line: that of the boot menus, plus the options for the test boot.
fn words(version: &Bootable, relay: &Relay, options: &Options, model: &Model) -> Result<String, Error> {
    let url = format!("http://{HOST}:{}/", relay.port());
    let mut words = vec![version.arguments(&url)?, OWN_WORDS.to_owned()];
    if options.record {
        words.push(RECORD_WORDS.to_owned());
    }
    // Programs write to the last console given.
    words.push(format!("console={}", model.console));
    words.extend(Some(options.append.clone()).filter(|append| !append.is_empty()));
    Ok(words.join(" "))
}

/// Waits until the reads after the marker have ended.
async fn settle(relay: &Relay, cancel: &AtomicBool) -> Result<(), Error> {
    let settled = async {
        while relay.idle() < SETTLED && !cancel.load(Ordering::Relaxed) {
            sleep(PAUSE).await;
        }
    };
    // Later reads do not belong to the boot.
    let _ = tokio::time::timeout(SETTLED_AT_LAST, settled).await;
    if cancel.load(Ordering::Relaxed) { Err(Error::interrupted()) } else { Ok(()) }
}
