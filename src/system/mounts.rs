//! The list of mounts of this process. Source: proc_pid_mounts(5), fstab(5).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: a device, or what its file system calls it.
    pub source: OsString,
    /// Type of the file system.
    pub kind: OsString,
}

/// The topmost mount on `point`, an absolute path without symbolic links.
pub fn on(point: &Path) -> Option<Mount> {
    find(&fs::read("/proc/self/mounts").ok()?, point)
}

fn find(list: &[u8], point: &Path) -> Option<Mount> {
    list.split(|&b| b == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|&b| b == b' ').map(unescaped);
        let (source, on, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (on == point.as_os_str().as_bytes())
            .then(|| Mount { source: OsString::from_vec(source), kind: OsString::from_vec(kind) })
    })
}

/// A field, in which some characters are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = if first == b'\\' { after.get(..3) } else { None };
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_have_spaces() {
        assert_eq!(unescaped(b"/mnt/a\\040b\\134c"), b"/mnt/a b\\c");
        assert_eq!(unescaped(b"/x\\0"), b"/x\\0");
    }

    #[test]
    fn the_last_mount_is_on_top() {
        let list = b"/dev/sda1 / ext4 rw 0 0\n/dev/loop0 /a\\040b ext4 ro 0 0\nhost/os /a\\040b fuse.hfl ro 0 0\n";
        let on = |point: &str| find(list, Path::new(point)).map(|mount| (mount.source, mount.kind));
        assert_eq!(on("/a b"), Some(("host/os".into(), "fuse.hfl".into())));
        assert_eq!((on("/"), on("/a")), (Some(("/dev/sda1".into(), "ext4".into())), None));
    }
}
