//! This process as the holder of a lock, and whether another holder on this machine is gone.

use std::fs;

use rustix::process::{Pid, test_kill_process};

use crate::format::lock::{Holder, State};
use crate::system::host::Host;

/// This process, with a new token.
pub(super) fn holder(host: &dyn Host, state: State) -> Holder {
    let token = format!("{:016x}{:016x}", host.random(), host.random());
    Holder { token, process: process(), beat: 0, state }
}

/// True where the holder was a process of this machine, or of its clone, and no longer exists here.
pub(super) fn is_gone_here(holder: &Holder) -> bool {
    let (mine, theirs) = (process(), holder.process.as_str());
    let place = |text: &str| text.rsplitn(3, ' ').nth(2).map(str::to_owned);
    let mut words = theirs.rsplit(' ');
    let (start, pid) = (words.next(), words.next().and_then(|pid| pid.parse::<u32>().ok()));
    match (place(&mine), place(theirs), pid, start) {
        (Some(here), Some(there), Some(pid), Some(start)) if here == there => is_gone(pid, start),
        _ => false,
    }
}

/// Whether the process `pid` started at `start` is gone. One that is hidden, as by the mount option hidepid of /proc,
/// counts as alive as long as the kernel knows its PID.
fn is_gone(pid: u32, start: &str) -> bool {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process);
    match known {
        Some(Err(rustix::io::Errno::SRCH)) => true,
        Some(_) => is_visible(pid) && started(pid).as_deref() != Some(start),
        None => false,
    }
}

fn is_visible(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/stat")).is_ok()
}

fn process() -> String {
    let word = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().replace(' ', "_");
    let machine = word("/proc/sys/kernel/hostname");
    let boot = word("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid").map(|n| n.display().to_string()).unwrap_or_default();
    let pid = std::process::id();
    format!("{machine} {boot} {namespace} {pid} {}", started(pid).unwrap_or_default())
}

/// Start time of a local process in ticks since boot; `None` where there is no such process, or only a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command name in parentheses, which may contain any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::host::ThisHost;

    #[test]
    fn a_dead_process_is_known_on_its_own_machine_alone() {
        let me = holder(&ThisHost, State::Held);
        assert!(!is_gone_here(&me));
        let mut child = std::process::Command::new("true").spawn().expect("true runs");
        let (pid, mine) = (child.id(), std::process::id().to_string());
        let ended = Holder { process: process().replace(&format!(" {mine} "), &format!(" {pid} ")), ..me };
        child.wait().expect("it ends");
        assert!(is_gone_here(&ended));
        let elsewhere = Holder { process: format!("x{}", ended.process), ..ended };
        assert!(!is_gone_here(&elsewhere));
    }
}
