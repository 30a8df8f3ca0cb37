//! A machine in QEMU: which program emulates which machine, how it is started, and what its console shows.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Options;
use super::console::Console;
use super::version::Bootable;
use crate::boot;
use crate::error::Error;
use crate::system::child;

/// Bytes of QEMU's own words that are kept.
const ERROR_MAX_BYTES: usize = 2048;

/// What runs a machine's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// This machine's processor.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulated processor",
        })
    }
}

/// A kind of machine, and how QEMU emulates it.
#[derive(Debug)]
pub struct Model {
    /// As `uname -m` calls it.
    pub machine: &'static str,
    program: &'static str,
    package: &'static str,
    options: &'static [&'static str],
    /// The processor, where it is emulated.
    processor: &'static str,
    /// The console of its serial line.
    pub console: &'static str,
}

/// The emulated x86 processor: all that QEMU can but one thing. Long copies in one instruction it takes a byte at a time, ten
/// times as slowly as the copies that kernels and libraries fall back to.
pub const X86_PROCESSOR: &str = "max,erms=off,fsrm=off";
/// The emulated POWER machine: its processors cannot offer the mitigations that this type asks for.
pub const POWER_MACHINE: &str = "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off";
const PSERIES: &[&str] = &["-machine", POWER_MACHINE];
const MODELS: [Model; 6] = [
    model("x86_64", "qemu-system-x86_64", "qemu-system-x86", &[], X86_PROCESSOR, "ttyS0"),
    model("i686", "qemu-system-x86_64", "qemu-system-x86", &[], X86_PROCESSOR, "ttyS0"),
    model("aarch64", "qemu-system-aarch64", "qemu-system-arm", &["-machine", "virt"], "max", "ttyAMA0"),
    model("ppc64le", "qemu-system-ppc64", "qemu-system-ppc", PSERIES, "POWER9", "hvc0"),
    model("ppc64", "qemu-system-ppc64", "qemu-system-ppc", PSERIES, "POWER9", "hvc0"),
    model("riscv64", "qemu-system-riscv64", "qemu-system-misc", &["-machine", "virt"], "rv64", "ttyS0"),
];

const fn model(
    machine: &'static str,
    program: &'static str,
    package: &'static str,
    options: &'static [&'static str],
    processor: &'static str,
    console: &'static str,
) -> Model {
    Model { machine, program, package, options, processor, console }
}

impl Model {
    /// The one that this kernel is for.
    ///
    /// # Errors
    /// A kernel for a machine that is not emulated here.
    pub fn of(kernel: &[u8]) -> Result<&'static Self, Error> {
        let machine = boot::machine(kernel).unwrap_or("an unknown machine");
        MODELS
            .iter()
            .find(|model| model.machine == machine)
            .ok_or_else(|| Error::local(format!("its kernel is for {machine}, which hfl does not know how to emulate")))
    }

    /// KVM where it can be opened and the machine is of this one's kind. That it then works is another thing.
    pub fn best_accelerator(&self) -> Accelerator {
        let is_own = self.machine == std::env::consts::ARCH;
        let opens = || File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if is_own && opens() { Accelerator::Kvm } else { Accelerator::Tcg }
    }
}

/// A machine that runs until this is dropped.
pub struct Machine {
    child: Child,
    console: Arc<Mutex<Console>>,
    error: Arc<Mutex<Console>>,
    // Kernel and miniroot, as QEMU loads them.
    _files: tempfile::TempDir,
}

impl Machine {
    /// Starts one that boots this version with these words for its kernel.
    ///
    /// # Errors
    /// No QEMU; no room for temporary files.
    pub fn start(
        model: &Model,
        accelerator: Accelerator,
        version: &Bootable,
        options: &Options,
        words: &str,
    ) -> Result<Self, Error> {
        let files = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), &e))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = files.path().join(name);
            std::fs::write(&path, bytes).map_err(|e| Error::io(&path, &e)).map(|()| path)
        };
        let (kernel, miniroot) = (write("kernel", &version.kernel)?, write("miniroot", &version.miniroot)?);
        let mut qemu = child::command(model.program);
        qemu.args(match accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", model.processor],
        });
        qemu.args(model.options).args(["-smp", &options.processors.to_string()]);
        qemu.args(["-m", &options.memory_mib.to_string()]);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(miniroot).args(["-append", words]);
        qemu.args(["-netdev", "user,id=hfl", "-device", "virtio-net-pci,netdev=hfl,romfile="]).args(&options.qemu);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = qemu.spawn().map_err(|e| {
            let error = Error::io(Path::new(model.program), &e);
            error.hint(format_args!("QEMU runs the machine: apt install {}", model.package))
        })?;
        let (console, error) = (Arc::default(), Arc::default());
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            listen(out, &console);
            listen(err, &error);
        }
        Ok(Self { child, console, error, _files: files })
    }

    fn console(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the console showed since this was asked last, and whether the machine has ended.
    pub fn news(&mut self) -> (String, Option<ExitStatus>) {
        // In this order: what an ended machine has shown is all there is.
        let exited = self.child.try_wait().ok().flatten();
        let news = self.console().news();
        (news, exited)
    }

    /// Whether it has shown nothing yet.
    pub fn is_silent(&self) -> bool {
        self.console().is_empty()
    }

    /// Whether it has shown this.
    pub fn has_shown(&self, text: &str) -> bool {
        self.console().has(text)
    }

    /// What it has shown behind `text`, in the same line.
    pub fn said_after(&self, text: &str) -> Option<String> {
        self.console().after(text)
    }

    /// The last lines of its console.
    pub fn last_lines(&self) -> Vec<String> {
        self.console().last_lines()
    }

    /// What QEMU said itself.
    pub fn error(&self) -> String {
        let lines = self.error.lock().unwrap_or_else(PoisonError::into_inner).last_lines();
        lines.join("; ").chars().take(ERROR_MAX_BYTES).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes all that comes, until its end.
fn listen(mut from: impl std::io::Read + Send + 'static, to: &Arc<Mutex<Console>>) {
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(&bytes[..count]);
        }
    });
}
