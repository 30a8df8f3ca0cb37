//! A booted system that mounts images as any file system: the files of templates/client in a real Debian with systemd and
//! autofs. The image is of kind `client` of benches/images.sh.

use crate::support::boot_published::{BOOT_WAIT, Published, digest_of_bash, end, needed};
use crate::support::lab::{Lab, or_skip};
use crate::support::system_image::changed;

/// Installs the client and the files, as the package and an administrator do.
const INSTALL: &str = r#"
install -m 755 "$HFL_STATIC_CLIENT" "$ROOT/usr/bin/hfl-mount"
ln -s ../bin/hfl-mount "$ROOT/usr/sbin/mount.hfl"
mkdir "$ROOT/etc/hfl"
in_place() { sed "s|https://mirror.example/hfl/debian|$URL|; s|https.://mirror.example/hfl/debian|$ESCAPED_URL|; s|RWQ\.\.\.|$KEY|" "$TEMPLATES/client/$1"; }
. "$LAB/names"
in_place hfl-mount@.service >"$ROOT/etc/systemd/system/hfl-mount@.service"
in_place mnt-debian.mount >"$ROOT/etc/systemd/system/mnt-debian.mount"
in_place mnt-debian.automount >"$ROOT/etc/systemd/system/mnt-debian.automount"
in_place auto.hfl >"$ROOT/etc/auto.hfl"
echo '/images /etc/auto.hfl --timeout=600' >"$ROOT/etc/auto.master.d/hfl.autofs"
in_place fstab | sed -n 's|/mnt/debian|/mnt/static|p' >>"$ROOT/etc/fstab"
printf 'source = "%s"\nkey = "%s"\n' "$URL" "$KEY" >"$ROOT/etc/hfl/small.toml"
mkdir "$ROOT/mnt/static"
"#;

#[test]
fn units_fstab_and_autofs_of_a_booted_system() {
    let Some((image, client)) = or_skip(needed("client")) else { return };
    let published = Published::of(&image, &client, digest_of_bash(&image));
    let (lab, url) = (Lab::new(), format!("{}small", published.url()));
    let escaped = url.replace(':', "\\\\:");
    lab.write("names", format!("URL='{url}'\nESCAPED_URL='{escaped}'\nKEY='{}'\n", published.key()));
    let Some(system) = changed(&lab, &image, &client, INSTALL) else { return };
    published.publish(&system, &["--boot"]);
    let mut machine = published.machine("", &[]);
    machine.wait_for("login:", BOOT_WAIT);
    machine.log_in();
    let bash = |path: &str| format!("sha256sum {path}/bin/bash | cut -d' ' -f1");
    // By fstab, at boot.
    assert_eq!(machine.run(&bash("/mnt/static")), published.bash);
    assert_eq!(machine.run("findmnt -no OPTIONS /mnt/static | cut -d, -f1"), "ro");
    // By systemd, when it is used.
    machine.run("systemctl start mnt-debian.automount");
    assert_eq!(machine.run(&bash("/mnt/debian")), published.bash);
    assert_eq!(machine.run("systemctl is-active mnt-debian.mount"), "active");
    machine.run("systemctl stop mnt-debian.automount mnt-debian.mount");
    // By autofs, when it is used.
    machine.run("systemctl restart autofs");
    assert_eq!(machine.run(&bash("/images/debian")), published.bash);
    assert_eq!(machine.run("findmnt -no FSTYPE /images/debian | tail -n 1"), "ext4");
    machine.run("umount /images/debian");
    // As a file, by a service that tells when it is ready.
    machine.run("systemctl start hfl-mount@small");
    assert_eq!(machine.run("systemctl show -P StatusText hfl-mount@small | cut -d: -f1"), "/run/hfl/small/small");
    assert_eq!(machine.run("stat -c %s /run/hfl/small/small"), "2147483648");
    machine.run("systemctl stop hfl-mount@small");
    assert_eq!(machine.run("ls /run/hfl/small 2>/dev/null | wc -l"), "0");
    // What was stopped is undone; fstab's goes with the machine.
    assert_eq!(machine.run("losetup --noheadings --list -O BACK-FILE | grep -c /run/hfl-mount/ || true"), "1");
    end(machine, "poweroff");
}
