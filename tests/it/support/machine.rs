//! A machine in QEMU, controlled over its serial line.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hfl::qemu::{POWER_MACHINE, X86_PROCESSOR};

use crate::support::servers::program;

const QEMU: &str = "qemu-system-x86_64";
/// Address of the host, as seen by the machine.
pub const HOST: &str = "10.0.2.2";
/// Maximum time for one command in the machine.
const COMMAND_WAIT: Duration = Duration::from_secs(180);

/// A virtual machine. It has no disk unless the options add one.
pub struct Machine {
    child: Child,
    keyboard: ChildStdin,
    console: Arc<Mutex<String>>,
    started: Instant,
    /// How much of the console has been searched.
    seen: usize,
    commands: u32,
}

/// Whether QEMU is installed.
pub fn is_there() -> bool {
    program(QEMU).is_some()
}

/// The QEMU command for POWER, if installed.
pub fn power() -> Option<Command> {
    let mut command = Command::new(program("qemu-system-ppc64")?);
    command.args(["-machine", POWER_MACHINE, "-cpu", "POWER9"]);
    Some(command)
}

impl Machine {
    /// Starts a machine with a network card and further options.
    pub fn start<S: AsRef<std::ffi::OsStr>>(memory_mb: u32, options: &[S]) -> Self {
        let mut command = Command::new(program(QEMU).expect("QEMU"));
        command.args(["-cpu", X86_PROCESSOR]);
        Self::of(command, memory_mb, options)
    }

    /// Like [`Machine::start`], with a QEMU command that already selects the machine type.
    pub fn of<S: AsRef<std::ffi::OsStr>>(mut command: Command, memory_mb: u32, options: &[S]) -> Self {
        // Emulation works on every host, and its speed varies little.
        command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", &memory_mb.to_string()]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]).args(options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("QEMU starts");
        let console = Arc::new(Mutex::new(String::new()));
        let (keyboard, mut line) = (child.stdin.take().expect("a keyboard"), child.stdout.take().expect("a console"));
        let its = Arc::clone(&console);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = line.read(&mut bytes) {
                its.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keyboard, console, started: Instant::now(), seen: 0, commands: 0 }
    }

    /// All console output.
    pub fn console(&self) -> MutexGuard<'_, String> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str) -> ! {
        panic!("{what}; its console:\n{}", *self.console());
    }

    /// Waits until the console shows `text`, after everything waited for before. Returns how long the
    /// machine has run.
    pub fn wait_for(&mut self, text: &str, longest: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let found = self.console()[self.seen..].find(text);
            if let Some(at) = found {
                self.seen += at + text.len();
                return self.started.elapsed();
            }
            if self.child.try_wait().expect("a child").is_some() {
                self.tell(&format!("the machine ended before `{text}`"));
            }
            if begun.elapsed() > longest {
                self.tell(&format!("no `{text}` in {longest:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types a line.
    pub fn enter(&mut self, line: &str) {
        // Slowly, because the buffer of a serial line is small.
        for piece in format!("{line}\r").as_bytes().chunks(8) {
            self.keyboard.write_all(piece).and_then(|()| self.keyboard.flush()).expect("a keyboard");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Logs in as root, who has no password.
    pub fn log_in(&mut self) {
        self.enter("root");
        self.wait_for("# ", COMMAND_WAIT);
        self.run("stty -echo; PS1=; dmesg -n 1; bind 'set enable-bracketed-paste off'");
    }

    /// Runs a command in the shell, which must succeed, and returns its output.
    pub fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let (begin, end) = (format!("[begin {}]", self.commands), format!("[end {}]", self.commands));
        // The marker is split in two, so that the echo of the command line does not match it.
        let (number, open) = (self.commands, '[');
        self.enter(&format!("echo '{open}'begin {number}]; {command}; echo $? '{open}'end {number}]"));
        self.wait_for(&begin, COMMAND_WAIT);
        let from = self.seen;
        self.wait_for(&end, COMMAND_WAIT);
        let shown = self.console()[from..self.seen - end.len()].replace('\r', "");
        let (text, code) = shown.trim().rsplit_once('\n').unwrap_or(("", shown.trim()));
        if code.trim() != "0" {
            self.tell(&format!("`{command}` ended with {code}"));
        }
        text.trim().to_owned()
    }

    /// Waits until the machine has powered off. Returns the time taken.
    pub fn ended(mut self, longest: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) if status.success() => return begun.elapsed(),
                Some(status) => self.tell(&format!("QEMU ended with {status}")),
                None if begun.elapsed() > longest => self.tell(&format!("it still runs after {longest:?}")),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
