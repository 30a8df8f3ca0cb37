//! `hfl publish --boot`: kernel and miniroot beside each version, and the menus of boot loaders.

use std::fs;

use crate::boot_fixture::{KERNEL, make_image, make_programs, make_system, read_miniroot};
use crate::lab::{Lab, check_mirror};

const TOML: &str = "[publish]\nclient = [\"client\"]\n\
    [[mirror]]\nname = \"a\"\nwrite = \"./a\"\nread = \"http://a.example/hfl/\"\nread-back = false\n\
    [[mirror]]\nname = \"b\"\nwrite = \"./b\"\nread = \"http://b.example:8080/\"\nread-back = false\n";

fn system() -> Lab {
    let lab = Lab::new();
    make_system(&lab);
    make_programs(&lab);
    lab.write("mirrors.toml", TOML);
    make_image(&lab, "ext4", "os.img", "16M");
    lab
}

fn publish(lab: &Lab, more: &[&str]) -> serde_json::Value {
    lab.publish(&[&["os.img", "--boot", "--busybox", "busybox"], more].concat())
}

fn boot_file(lab: &Lab, file: &str) -> String {
    fs::read_to_string(lab.path(&format!("a/boot/os/{file}"))).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Files and bytes that each mirror is sent, besides blocks.
fn sent(report: &serde_json::Value) -> Vec<(u64, u64)> {
    let mirrors = report["mirrors"].as_array().expect("mirrors").iter();
    mirrors.map(|m| (m["files"].as_u64().expect("files"), m["file_bytes"].as_u64().expect("bytes"))).collect()
}

#[test]
fn a_version_is_published_with_what_it_is_booted_with() {
    let lab = system();
    let report = publish(&lab, &["--boot-append", "console=ttyS0 panic=10"]);
    assert_eq!(report["boot"]["ipxe"], "http://a.example/hfl/boot/os/boot.ipxe");
    let kernel = fs::read(lab.path(&format!("tree/boot/vmlinuz-{KERNEL}"))).unwrap();
    assert!(kernel == fs::read(lab.path("b/boot/os/1/vmlinuz")).unwrap());
    let found = read_miniroot(&lab.path("a/boot/os/1/initrd.img"));
    assert_eq!(found["hfl/config"].text(), "HFL_NAME=os\nHFL_MIN_VERSION=1\n");
    let pinned = fs::read_to_string(lab.path("home/.config/hfl/keys/os.pub")).unwrap();
    assert_eq!(found["hfl/key"].text(), format!("{}\n", pinned.lines().nth(1).unwrap()));
    let head = fs::read_to_string(lab.path("a/os.head")).unwrap();
    assert!(
        ["vmlinuz", "initrd.img", "cmdline"].iter().all(|f| head.contains(&format!("file boot/os/1/{f} "))),
        "{head}"
    );
    let words =
        "hfl.url=http://a.example/hfl/ hfl.url=http://b.example:8080/ hfl.name=os hfl.version=1 console=ttyS0 panic=10";
    assert!(boot_file(&lab, "boot.ipxe").contains(&format!("kernel 1/vmlinuz initrd=initrd.img {words}")));
    let base = "http://a.example/hfl/boot/os/1/";
    let kboot = format!("os-1='{base}vmlinuz initrd={base}initrd.img {words}'\n");
    assert!(boot_file(&lab, "kboot.conf").contains(&kboot) && boot_file(&lab, "kboot.conf").contains("default=os-1\n"));
    let petitboot = format!("image {base}vmlinuz\ninitrd {base}initrd.img\nargs {words}\n");
    assert!(boot_file(&lab, "petitboot.conf").contains(&petitboot));
    let pxelinux = format!("label os-1\nkernel {base}vmlinuz\ninitrd {base}initrd.img\nappend {words}\n");
    assert!(boot_file(&lab, "pxelinux.cfg/default").contains(&pxelinux));
    assert!(boot_file(&lab, "grub.cfg").contains(&format!("linux (http,a.example)/hfl/boot/os/1/vmlinuz {words}\n")));
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "-q"]);
}

#[test]
fn a_dry_run_is_exact_and_the_same_again_changes_nothing() {
    let lab = system();
    publish(&lab, &["--boot-append", "console=ttyS0"]);
    let again = publish(&lab, &["--boot-append", "console=ttyS0"]);
    assert_eq!((&again["outcome"], &again["version"]), (&"no-change".into(), &1.into()));
    assert_eq!(sent(&again), [(0, 0), (0, 0)]);
    let without = lab.publish(&["os.img"]);
    assert_eq!(without["outcome"], "no-change", "who does not ask for it leaves it as it is");
    let before = lab.files("a");
    let dry = publish(&lab, &["--boot-append", "console=ttyS1", "--dry-run"]);
    assert_eq!(lab.files("a"), before);
    let real = publish(&lab, &["--boot-append", "console=ttyS1"]);
    println!("version 2 of the same image: {:?}", sent(&real));
    assert_eq!((&real["outcome"], &real["version"]), (&"published".into(), &2.into()));
    assert_eq!(sent(&dry), sent(&real));
    let ipxe = boot_file(&lab, "boot.ipxe");
    let (newest, previous) = (ipxe.find("hfl.version=2 console=ttyS1"), ipxe.find("hfl.version=1 console=ttyS0"));
    assert!(newest.unwrap() < previous.unwrap() && ipxe.contains("choose --default v2"), "{ipxe}");
    let menu = boot_file(&lab, "kboot.conf");
    assert!(menu.contains("default=os-2\n") && menu.contains("\nos-1='"), "{menu}");
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "-q"]);
}

#[test]
fn sync_gc_and_rollback_know_the_files() {
    let lab = system();
    publish(&lab, &["--boot-append", "one"]);
    lab.write("tree/etc/motd", "two");
    make_image(&lab, "ext4", "os.img", "16M");
    publish(&lab, &["--boot-append", "two"]);
    lab.write("mirrors.toml", format!("{TOML}[[mirror]]\nname = \"c\"\nwrite = \"./c\"\n"));
    lab.ok(&["sync", "--to", "mirrors.toml", "-q"]);
    assert_eq!(lab.files("c/boot"), lab.files("a/boot"));
    lab.ok(&["rollback", "os", "1", "--to", "mirrors.toml", "-q"]);
    assert_eq!(check_mirror(&lab.path("c"), "os", &lab.trust("os")), [3, 2, 1]);
    let same = |file: &str| {
        let bytes = |version: u32| fs::read(lab.path(&format!("c/boot/os/{version}/{file}"))).unwrap();
        bytes(3) == bytes(1)
    };
    assert!(same("vmlinuz") && same("initrd.img") && same("cmdline"));
    assert!(boot_file(&lab, "boot.ipxe").contains("hfl.version=3 one"));
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "-q"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0", "--more-than-half", "-q"]);
    let left = lab.files("c/boot/os");
    assert!(left.iter().all(|file| !file.starts_with("1/") && !file.starts_with("2/")), "{left:?}");
    assert!(left.contains(&"3/vmlinuz".to_owned()) && left.contains(&"3/vmlinuz.minisig".to_owned()), "{left:?}");
    assert!(!boot_file(&lab, "boot.ipxe").contains("hfl.version=2"));
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "-q"]);
}

#[test]
fn a_prepared_directory_and_own_templates_are_taken() {
    let lab = system();
    lab.write("given/vmlinuz", "a kernel");
    lab.write("given/initrd.img", "a miniroot");
    let missing = lab.fails(1, &["publish", "os.img", "--to", "mirrors.toml", "--boot=nowhere"]);
    assert!(missing.contains("nowhere/vmlinuz") && missing.contains("hfl boot build"), "{missing}");
    lab.write("mirrors.toml", TOML.replace("[publish]\n", "[publish]\ntemplates = \"own\"\n"));
    lab.write("own/boot/grub.cfg", "# {{ image }} {{ entries[0].version }} {{ entries[0].append }} {{ mirrors[1] }}\n");
    lab.publish(&["os.img", "--boot=given", "--boot-append", "a=b  c"]);
    assert_eq!(boot_file(&lab, "1/initrd.img"), "a miniroot");
    assert_eq!(boot_file(&lab, "grub.cfg"), "# os 1 a=b c http://b.example:8080/\n");
    lab.write("own/boot/grub.cfg", "{% for %}");
    let broken = lab.fails(1, &["publish", "os.img", "--to", "mirrors.toml", "--boot=given", "--force"]);
    assert!(broken.contains("own/boot/grub.cfg: "), "{broken}");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [1]);
}

#[test]
fn what_has_no_place_on_a_command_line_is_refused() {
    let lab = system();
    for bad in ["a'b", "a;b", "${x}", "a\"b", "a\\b", "a\u{e9}"] {
        let text = lab.fails(2, &["publish", "os.img", "--to", "mirrors.toml", "--boot=.", "--boot-append", bad]);
        assert!(text.contains("means something to some boot loader"), "{bad}: {text}");
    }
    let long = format!("x={}", "y".repeat(1100));
    lab.fails(2, &["publish", "os.img", "--to", "mirrors.toml", "--boot", "--boot-append", &long]);
    lab.fails(2, &["publish", "os.img", "--to", "mirrors.toml", "--boot-append", "x"]);
    lab.fails(2, &["publish", "os.img", "--to", "mirrors.toml", "--busybox", "busybox", "--boot", "--unsigned"]);
    let stdin = lab.fails(2, &["publish", "-", "--name", "os", "--to", "mirrors.toml", "--boot"]);
    assert!(stdin.contains("standard input"), "{stdin}");
    assert!(lab.files("a").iter().all(|file| !file.ends_with(".head")), "nothing was switched");
}
