//! A machine in QEMU: which program emulates which machine, how it is started, and its console output.

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

/// Limit of QEMU's own error output in a message; applied in characters.
const ERROR_MAX_BYTES: usize = 2048;

/// How a machine's code is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Natively, on the host processor.
    Kvm,
    /// Emulated by QEMU.
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

/// A machine type and its QEMU options.
#[derive(Debug)]
pub struct Model {
    /// Architecture, as `uname -m` reports it.
    pub machine: &'static str,
    program: &'static str,
    package: &'static str,
    options: &'static [&'static str],
    /// QEMU processor type for emulation.
    processor: &'static str,
    /// Console device of the serial port.
    pub console: &'static str,
}

/// The emulated x86 processor: all features of QEMU except `erms` and `fsrm`. QEMU runs such one-instruction copies
/// byte by byte, ten times slower than the copies that kernels and libraries fall back to.
pub const X86_PROCESSOR: &str = "max,erms=off,fsrm=off";
/// The emulated POWER machine: its processors lack the mitigations that this machine type requires by default.
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
    /// The model that this kernel is built for.
    ///
    /// # Errors
    /// A kernel for an unsupported machine.
    pub fn of(kernel: &[u8]) -> Result<&'static Self, Error> {
        let machine = boot::machine(kernel).unwrap_or("an unknown machine");
        MODELS
            .iter()
            .find(|model| model.machine == machine)
            .ok_or_else(|| Error::local(format!("its kernel is for {machine}, which hfl does not know how to emulate")))
    }

    /// KVM if it can be opened and the machine has the host architecture; whether it works is not checked here.
    pub fn best_accelerator(&self) -> Accelerator {
        let is_own = self.machine == std::env::consts::ARCH;
        let opens = || File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if is_own && opens() { Accelerator::Kvm } else { Accelerator::Tcg }
    }
}

/// A running machine; stopped on drop.
pub struct Machine {
    child: Child,
    console: Arc<Mutex<Console>>,
    error: Arc<Mutex<Console>>,
    // Kernel and miniroot files for QEMU.
    _files: tempfile::TempDir,
}

impl Machine {
    /// Starts a machine that boots this version with `words` as kernel command line.
    ///
    /// # Errors
    /// QEMU is not installed; no space for temporary files.
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

    /// The console output since the last call, and the exit status if the machine has ended.
    pub fn news(&mut self) -> (String, Option<ExitStatus>) {
        // In this order: after the exit, no further output follows.
        let exited = self.child.try_wait().ok().flatten();
        let news = self.console().news();
        (news, exited)
    }

    /// Whether there is no console output yet.
    pub fn is_silent(&self) -> bool {
        self.console().is_empty()
    }

    /// Whether the console output contains this text.
    pub fn has_shown(&self, text: &str) -> bool {
        self.console().has(text)
    }

    /// The rest of the console line after `text`.
    pub fn said_after(&self, text: &str) -> Option<String> {
        self.console().after(text)
    }

    /// The last lines of the console.
    pub fn last_lines(&self) -> Vec<String> {
        self.console().last_lines()
    }

    /// QEMU's own error output.
    pub fn error(&self) -> String {
        let lines = self.error.lock().unwrap_or_else(PoisonError::into_inner).last_lines();
        lines.join("; ").chars().take(ERROR_MAX_BYTES).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Errors are ignored: it has ended already, or is killed now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects output on its own thread until end of file.
fn listen(mut from: impl std::io::Read + Send + 'static, to: &Arc<Mutex<Console>>) {
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(&bytes[..count]);
        }
    });
}
