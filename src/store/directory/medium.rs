//! The medium of a directory: local disk or network file system, and whether it is mounted at all.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The table of configured mounts.
const FSTAB: &str = "/etc/fstab";

/// Where a directory's files are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// On this machine.
    Local,
    /// On another machine, or behind a FUSE program: `flock` may be local to this machine, and writes by other machines
    /// may become visible late.
    Network,
}

/// File system types as returned by `statfs` (linux/magic.h, statfs(2), and the sources of out-of-tree file systems).
/// FUSE covers sshfs, rclone and others; local FUSE file systems (ntfs-3g) lose nothing by it.
const NETWORK: [u64; 20] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE, virtiofs
    0x0102_1997, // 9p
    0x5346_414f, // AFS
    0x6b41_4653, // AFS (kernel)
    0x00c3_6400, // Ceph
    0x7375_7245, // Coda
    0x564c,      // NCP
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0xaad7_aaea, // PanFS
    0x786f_4256, // VirtualBox shared folders
    0xbacb_acbc, // VMware shared folders
    0x7c7c_6673, // Parallels shared folders
    0x2003_0528, // OrangeFS
    0x0187,      // autofs: the file system to be mounted is not known yet
];

impl Medium {
    /// The medium of `base`, or of its nearest existing ancestor.
    pub fn of(base: &Path) -> Self {
        let whole = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let found = whole.ancestors().find_map(|directory| rustix::fs::statfs(directory).ok());
        found.map_or(Self::Local, |found| Self::of_kind(found.f_type as u64))
    }

    /// The numbers have 32 bits; some architectures sign-extend them.
    fn of_kind(kind: u64) -> Self {
        if NETWORK.contains(&(kind & 0xffff_ffff)) { Self::Network } else { Self::Local }
    }
}

/// The mount points of `/etc/fstab` at or above a directory, apart from the root.
#[derive(Debug)]
pub struct MountPoints(Vec<PathBuf>);

impl MountPoints {
    /// The mount points of `base`.
    pub fn above(base: &Path) -> Self {
        Self::listed(&fs::read_to_string(FSTAB).unwrap_or_default(), base)
    }

    fn listed(table: &str, base: &Path) -> Self {
        let whole = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let rows = table.lines().filter(|line| !line.trim_start().starts_with('#'));
        let points = rows.filter_map(|line| line.split_whitespace().nth(1)).map(plain);
        Self(points.filter(|point| point.parent().is_some() && whole.starts_with(point)).collect())
    }

    /// The first of these mount points that is not mounted.
    pub fn unmounted(&self) -> Option<&Path> {
        self.0.iter().map(PathBuf::as_path).find(|point| !is_mounted(point))
    }
}

/// Unescapes the octal codes for spaces and the like in fstab.
fn plain(field: &str) -> PathBuf {
    [("\\040", " "), ("\\011", "\t"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |f, (from, to)| f.replace(from, to))
        .into()
}

/// Whether a file system is mounted at `point`: its device differs from its parent's.
fn is_mounted(point: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    match (device(point), point.parent().and_then(device)) {
        (Some((own, _)), Some((above, _))) => own != above,
        // If the parent is inaccessible, the later read reports why.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_servers_are_told_from_disks() {
        let ext4_btrfs_tmpfs_xfs_overlay = [0xef53, 0x9123_683e, 0x0102_1994, 0x5846_5342, 0x794c_7630];
        assert!(ext4_btrfs_tmpfs_xfs_overlay.iter().all(|&kind| Medium::of_kind(kind) == Medium::Local));
        for kind in [0x6969, 0xff53_4d42, 0xffff_ffff_ff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400] {
            assert_eq!(Medium::of_kind(kind), Medium::Network, "{kind:x}");
        }
        assert_eq!(Medium::of(Path::new("/proc/nothing/here")), Medium::Local);
    }

    #[test]
    fn what_should_be_mounted_is_known() {
        let empty = tempfile::tempdir().expect("a directory");
        let at = |name: &str| empty.path().join(name);
        fs::create_dir(at("a b")).expect("a directory");
        let field = at("a b").display().to_string().replace(' ', "\\040");
        let table = format!(
            "# /dev/sdz9 /srv ext4\n/dev/sda1 / ext4 defaults\nserver:/x {field} nfs noauto 0 0\nnone swap swap\n"
        );
        let points = MountPoints::listed(&table, &at("a b/mirror"));
        assert_eq!(points.unmounted(), Some(at("a b").as_path()));
        assert_eq!(MountPoints::listed(&table, &at("a bc")).unmounted(), None);
        assert_eq!(MountPoints::listed(&table, Path::new("/srv/x")).unmounted(), None);
        assert_eq!(MountPoints::listed("proc /proc proc\n", Path::new("/proc/x")).unmounted(), None, "it is mounted");
    }
}
