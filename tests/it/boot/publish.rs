//! `hfl publish --boot`: kernel and miniroot next to each version, and the menus of boot loaders.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use hfl::format::layout::RepoPath;
use hfl::format::name::Version;

use crate::support::boot_fixture::{KERNEL, booted_with, make_image, make_programs, make_system, read_miniroot};
use crate::support::lab::{Lab, check_mirror, stderr};

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

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Files sent to each mirror apart from blocks: their number and bytes.
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
    assert!(kernel == fs::read(booted_with(&lab.path("b/boot/os/1"), "vmlinuz")).unwrap());
    let found = read_miniroot(&booted_with(&lab.path("a/boot/os/1"), "initrd.img"));
    assert_eq!(found["hfl/config"].text(), "HFL_NAME=os\nHFL_MIN_VERSION=1\n");
    let pinned = fs::read_to_string(lab.path("home/.config/hfl/keys/os.pub")).unwrap();
    assert_eq!(found["hfl/key"].text(), format!("{}\n", pinned.lines().nth(1).unwrap()));
    let head = fs::read_to_string(lab.path("a/os.head")).unwrap();
    let named = |file: &str| file_name(&booted_with(&lab.path("a/boot/os/1"), file));
    let all = ["vmlinuz", "initrd.img", "cmdline"].map(named);
    assert!(all.iter().all(|name| head.contains(&format!("file boot/os/1/{name} "))), "{head}");
    let [kernel, miniroot, _] = all;
    let words =
        "hfl.url=http://a.example/hfl/ hfl.url=http://b.example:8080/ hfl.name=os hfl.version=1 console=ttyS0 panic=10";
    assert!(boot_file(&lab, "boot.ipxe").contains(&format!("kernel 1/{kernel} initrd={miniroot} {words}")));
    assert!(boot_file(&lab, "boot.ipxe").contains(&format!("\ninitrd 1/{miniroot}\n")));
    let base = "http://a.example/hfl/boot/os/1/";
    let kboot = format!("os-1='{base}{kernel} initrd={base}{miniroot} {words}'\n");
    assert!(boot_file(&lab, "kboot.conf").contains(&kboot) && boot_file(&lab, "kboot.conf").contains("default=os-1\n"));
    let petitboot = format!("image {base}{kernel}\ninitrd {base}{miniroot}\nargs {words}\n");
    assert!(boot_file(&lab, "petitboot.conf").contains(&petitboot));
    let pxelinux = format!("label os-1\nkernel {base}{kernel}\ninitrd {base}{miniroot}\nappend {words}\n");
    assert!(boot_file(&lab, "pxelinux.cfg/default").contains(&pxelinux));
    assert!(boot_file(&lab, "grub.cfg").contains(&format!("linux (http,a.example)/hfl/boot/os/1/{kernel} {words}\n")));
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
        let name = |version: u32| file_name(&booted_with(&lab.path(&format!("c/boot/os/{version}")), file));
        name(3) == name(1)
    };
    assert!(same("vmlinuz") && same("initrd.img") && same("cmdline"));
    assert!(boot_file(&lab, "boot.ipxe").contains("hfl.version=3 one"));
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "-q"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0", "--more-than-half", "-q"]);
    let left = lab.files("c/boot/os");
    assert!(left.iter().all(|file| !file.starts_with("1/") && !file.starts_with("2/")), "{left:?}");
    let kernel = file_name(&booted_with(&lab.path("c/boot/os/3"), "vmlinuz"));
    assert!(left.contains(&format!("3/{kernel}")) && left.contains(&format!("3/{kernel}.minisig")), "{left:?}");
    assert!(!boot_file(&lab, "boot.ipxe").contains("hfl.version=2"));
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep", "-q"]);
}

#[test]
fn menus_that_stay_at_an_older_version_are_told() {
    let lab = system();
    publish(&lab, &[]);
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--force"]);
    let said = stderr(&output);
    assert!(
        said.contains("the boot menus of os stay at version 1: version 2 has no kernel; publish with --boot"),
        "{said}"
    );
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--force", "--boot", "--busybox", "busybox"]);
    assert!(!stderr(&output).contains("the boot menus"), "{}", stderr(&output));
}

/// Two publishers with the same key make version 1 with different kernels without seeing each other's
/// work, as can happen if one is suspended past the end of its lock. Whichever writes last, no immutable
/// file of the other is lost.
#[test]
fn no_publisher_overwrites_what_another_ones_version_is_booted_with() {
    let mut lab = system();
    let written = ["one", "two"].map(|kernel| {
        // The second publisher runs on another machine and shares only the key.
        if lab.path("home").exists() {
            lab.write("two/.config/hfl/keys/os.key", fs::read(lab.path("home/.config/hfl/keys/os.key")).unwrap());
            lab.set("HOME", "two");
            lab.forget();
        }
        lab.write(&format!("boot-{kernel}/vmlinuz"), format!("kernel {kernel}"));
        lab.write(&format!("boot-{kernel}/initrd.img"), format!("miniroot {kernel}"));
        lab.publish(&["os.img", &format!("--boot=boot-{kernel}"), "--boot-append", kernel]);
        let files: Vec<_> =
            lab.files("a").into_iter().map(|f| (fs::read(lab.path("a").join(&f)).unwrap(), f)).collect();
        for mirror in ["a", "b"] {
            fs::remove_dir_all(lab.path(mirror)).unwrap();
        }
        files
    });
    let mut both = 0;
    // Of two signatures of the same bytes the first one is kept, see the next test.
    for (bytes, file) in written[0].iter().filter(|(_, file)| !file.ends_with(".minisig")) {
        let path: RepoPath = file.parse().unwrap();
        let Some((others, _)) = written[1].iter().find(|(_, other)| other == file) else { continue };
        both += 1;
        assert!(bytes == others || !path.is_immutable(), "{file} has other bytes");
        assert!(bytes == others || !path.belongs_to(&"os".parse().unwrap(), Version::FIRST), "{file} has other bytes");
    }
    assert!(both > 10, "the blocks and the menus are in both");
    let kernels = |files: &[(Vec<u8>, String)]| files.iter().filter(|(_, f)| f.contains("vmlinuz-")).count();
    assert_eq!(written.each_ref().map(|files| kernels(files)), [2, 2], "a kernel and its signature");
}

/// A publish that died before switching the heads is run again. It does not rewrite what the first run
/// wrote.
#[test]
fn what_an_interrupted_publish_has_written_stays() {
    let lab = system();
    lab.write("given/vmlinuz", "a kernel");
    lab.write("given/initrd.img", "a miniroot");
    let publish = || lab.publish(&["os.img", "--boot=given"])["version"].clone();
    lab.publish(&["os.img"]);
    let heads = ["a", "b"].map(|mirror| fs::read(lab.path(mirror).join("os.head")).unwrap());
    assert_eq!(publish(), 2);
    let written = || {
        let files = lab.files("a/boot/os/2");
        files.iter().map(|file| fs::read(lab.path("a/boot/os/2").join(file)).unwrap()).collect::<Vec<_>>()
    };
    let before = written();
    assert_eq!(before.len(), 6);
    for (mirror, head) in ["a", "b"].iter().zip(heads) {
        fs::write(lab.path(mirror).join("os.head"), head).unwrap();
        for file in lab.files(&format!("{mirror}/index/os")).iter().filter(|file| file.starts_with("2-")) {
            fs::remove_file(lab.path(mirror).join("index/os").join(file)).unwrap();
        }
    }
    // The rerun happens on another machine, which has no recorded state.
    lab.forget();
    assert_eq!(publish(), 2);
    assert!(written() == before);
    // A file that is not a valid signature is replaced.
    let signature = booted_with(&lab.path("a/boot/os/2"), "vmlinuz").display().to_string() + ".minisig";
    fs::write(&signature, "damaged").unwrap();
    lab.ok(&["verify", "--to", "mirrors.toml", "--repair", "-q"]);
    assert!(fs::read_to_string(&signature).unwrap().starts_with("untrusted comment"));
}

/// A file with the right name and wrong bytes is damage, and is repaired.
#[test]
fn a_damaged_boot_file_is_replaced() {
    let lab = system();
    lab.write("given/vmlinuz", "a kernel");
    lab.write("given/initrd.img", "a miniroot");
    lab.publish(&["os.img", "--boot=given"]);
    let kernel = booted_with(&lab.path("a/boot/os/1"), "vmlinuz");
    fs::remove_file(lab.path("a/os.head")).unwrap();
    fs::write(&kernel, "a kerne1").unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml", "-q"]);
    assert_eq!(fs::read(&kernel).unwrap(), b"a kernel");
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
    assert_eq!(fs::read(booted_with(&lab.path("a/boot/os/1"), "initrd.img")).unwrap(), b"a miniroot");
    assert_eq!(boot_file(&lab, "grub.cfg"), "# os 1 a=b c http://b.example:8080/\n");
    lab.write("own/boot/grub.cfg", "{% for %}");
    let broken = lab.fails(1, &["publish", "os.img", "--to", "mirrors.toml", "--boot=given", "--force"]);
    assert!(broken.contains("own/boot/grub.cfg: "), "{broken}");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [1]);
}

/// A pipe can be read only once: kernel and blocks come from one temporary file.
#[test]
fn a_compressed_image_is_unpacked_once_for_kernel_and_blocks() {
    let lab = system();
    let before = publish(&lab, &[]);
    let packed = Command::new("gzip").args(["-1", "-k"]).arg(lab.path("os.img")).status();
    assert!(packed.unwrap().success());
    let lost = fs::read_dir(lab.path("a/blocks")).unwrap().next().expect("a block").unwrap().path();
    for (input, version) in [("os.img.gz", 2), ("os.img", 3)] {
        let files = |file| walkdir::WalkDir::new(&lost).into_iter().filter_map(Result::ok).find(file);
        let block = files(|entry: &walkdir::DirEntry| entry.file_type().is_file()).expect("a block").into_path();
        fs::remove_file(&block).unwrap();
        let mut command = lab.command(&["publish", "-", "--name", "os", "--to", "mirrors.toml", "--boot", "--force"]);
        command.args(["--busybox", "busybox", "--json"]).stdin(piped(&lab.path(input)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{input}: {}", stderr(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["version"], &report["split"]), (&version.into(), &before["split"]), "{input}");
        let kernel = |version: u32| fs::read(booted_with(&lab.path(&format!("a/boot/os/{version}")), "vmlinuz"));
        assert!(kernel(version).unwrap() == kernel(1).unwrap(), "{input}");
        assert!(block.exists(), "{input}: made again");
    }
    let left: Vec<_> = walkdir::WalkDir::new(lab.path("home/.cache")).into_iter().filter_map(Result::ok).collect();
    assert!(left.iter().all(|entry| entry.file_type().is_dir()), "nothing remains: {left:?}");
}

/// The read end of a pipe into which a file is written.
fn piped(file: &Path) -> Stdio {
    let cat = Command::new("cat").arg(file).stdout(Stdio::piped()).spawn();
    cat.unwrap().stdout.take().unwrap().into()
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
    assert!(lab.files("a").iter().all(|file| !file.ends_with(".head")), "nothing was switched");
}
