//! A machine in QEMU, spoken to over its serial line.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hfl::qemu::{POWER_MACHINE, X86_PROCESSOR};

use crate::support::servers::program;

const QEMU: &str = "qemu-system-x86_64";
/// How the machine sees the one that it runs on.
pub const HOST: &str = "10.0.2.2";
/// How long one command in it may take.
const COMMAND_WAIT: Duration = Duration::from_secs(180);

/// A machine without a disk of its own, unless it is given one.
pub struct Machine {
    child: Child,
    keyboard: ChildStdin,
    console: Arc<Mutex<String>>,
    started: Instant,
    /// How much of the console has been looked at.
    seen: usize,
    commands: u32,
}

/// QEMU is there.
pub fn is_there() -> bool {
    program(QEMU).is_some()
}

/// The one for POWER, where it is there.
pub fn power() -> Option<Command> {
    let mut command = Command::new(program("qemu-system-ppc64")?);
    command.args(["-machine", POWER_MACHINE, "-cpu", "POWER9"]);
    Some(command)
}

impl Machine {
    /// Starts one with a network card and these further options.
    pub fn start<S: AsRef<std::ffi::OsStr>>(memory_mb: u32, options: &[S]) -> Self {
        let mut command = Command::new(program(QEMU).expect("QEMU"));
        command.args(["-cpu", X86_PROCESSOR]);
        Self::of(command, memory_mb, options)
    }

    /// The same with a QEMU that knows already which machine it is.
    pub fn of<S: AsRef<std::ffi::OsStr>>(mut command: Command, memory_mb: u32, options: &[S]) -> Self {
        // What emulates the processor works everywhere, and takes the same time everywhere.
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

    /// All that its console showed.
    pub fn console(&self) -> MutexGuard<'_, String> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str) -> ! {
        panic!("{what}; its console:\n{}", *self.console());
    }

    /// Waits until the console shows `text`, after all that was waited for before. Says how long the machine runs.
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
        // Slowly enough for the small buffer of a serial line.
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

    /// Runs a command in the shell, and hands out what it printed; it has to succeed.
    pub fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let (begin, end) = (format!("[begin {}]", self.commands), format!("[end {}]", self.commands));
        // In two words, so that an echo of the line is not taken for what it prints.
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

    /// Waits until it has switched itself off, and says how long that took.
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
