//! `hfl boot build`: extracts kernel and modules from images and builds the miniroot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::support::boot_fixture::{
    KERNEL, PACKED, build, bzimage, elf, know_packed, make_disk, make_image, make_packed, make_programs, make_system,
    pack, read_miniroot, refused,
};
use crate::support::lab::{Lab, code, or_skip, real_image, skipped, stderr};
use crate::support::through::in_place_of;

fn system() -> Lab {
    let lab = Lab::new();
    make_system(&lab);
    make_programs(&lab);
    lab
}

fn order(report: &serde_json::Value) -> Vec<&str> {
    report["modules"].as_array().expect("modules").iter().map(|name| name.as_str().expect("a name")).collect()
}

#[test]
fn kernel_modules_and_version_come_out_of_the_image() {
    let lab = system();
    for kind in ["ext2", "ext3", "ext4"] {
        make_image(&lab, kind, "os.img", "16M");
        let (report, out) = build(&lab, "os.img", &["--arch", "x86_64"]);
        assert_eq!((&report["kernel"], &report["machine"]), (&KERNEL.into(), &"x86_64".into()));
        assert!(fs::read(out.join("vmlinuz")).unwrap() == bzimage(KERNEL, 300_000), "{kind}: the kernel to the byte");
        let found = read_miniroot(&out.join("initrd.img"));
        let list = found["hfl/modules"].text();
        let names: Vec<&str> = list.lines().map(|line| line.split_once(' ').unwrap().0).collect();
        assert_eq!(names, order(&report));
        assert!(!names.contains(&"ext4") && !names.contains(&"never_wanted"), "{names:?}");
        let module = &found["modules/dm_snapshot.ko"];
        let inside = lab.path(&format!("tree/lib/modules/{KERNEL}/kernel/drivers/md/dm-snapshot.ko"));
        assert!(module.data == fs::read(inside).unwrap() && module.mode == 0o100_644);
        println!("{kind}: {} entries, {} modules", found.len(), names.len());
    }
}

#[test]
fn squashfs_and_erofs_give_the_same_bytes_as_ext4() {
    let lab = system();
    know_packed(&lab);
    lab.write("tree/etc/empty", "");
    make_image(&lab, "ext4", "os.img", "16M");
    let (ext4, _) = build(&lab, "os.img", &["--name", "os"]);
    let mut count = 0;
    for how in PACKED {
        let shown = format!("{} {}", how.0, how.1.join(" "));
        if make_packed(&lab, how, "packed.img").is_none() {
            skipped(&format!("{shown}: no such program, or it knows no such option"));
            continue;
        }
        make_disk(&lab.path("packed.img"), &lab.path("disk.img"), 1 << 30);
        for image in ["packed.img", "disk.img"] {
            let (packed, out) = build(&lab, image, &["--name", "os"]);
            assert_eq!(packed["file_system"], if how.0 == "mksquashfs" { "squashfs" } else { "erofs" });
            assert_eq!(packed["miniroot_sha256"], ext4["miniroot_sha256"], "{shown}");
            assert!(fs::read(out.join("vmlinuz")).unwrap() == bzimage(KERNEL, 300_000), "{shown}: the kernel");
        }
        count += 1;
    }
    println!("{count} of {} ways of packing", PACKED.len());
}

#[test]
fn what_cannot_be_unpacked_or_written_over_is_refused() {
    let lab = system();
    if make_packed(&lab, ("mksquashfs", &["-comp", "gzip"]), "os.img").is_none() {
        return skipped("no mksquashfs");
    }
    assert!(refused(&lab, 1, "os.img", &[]).contains("has no overlay, neither built in nor as a module"));
    know_packed(&lab);
    if make_packed(&lab, ("mksquashfs", &["-comp", "lzo"]), "os.img").is_none() {
        return skipped("this mksquashfs has no lzo");
    }
    let text = refused(&lab, 1, "os.img", &[]);
    assert!(text.contains("os.img: its squashfs is compressed with lzo") && text.contains("-comp zstd"), "{text}");
}

#[test]
fn each_module_comes_after_those_that_it_needs_even_where_the_list_goes_in_circles() {
    let lab = system();
    let dep = format!("tree/lib/modules/{KERNEL}/modules.dep");
    let list = fs::read_to_string(lab.path(&dep)).unwrap();
    let circle = list.replace("virtio.ko:", "virtio.ko: kernel/drivers/virtio/virtio_pci.ko");
    for (list, is_circle) in [(list, false), (circle, true)] {
        lab.write(&dep, &list);
        make_image(&lab, "ext4", "os.img", "16M");
        let (report, _) = build(&lab, "os.img", &["--modules", "never-wanted"]);
        let order = order(&report);
        let place = |name: &str| order.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{name}"));
        assert!(place("dm_mod") < place("dm_bufio") && place("dm_bufio") < place("dm_snapshot"), "{order:?}");
        assert!(place("failover") < place("net_failover") && place("net_failover") < place("virtio_net"), "{order:?}");
        assert!(is_circle || place("virtio_ring") < place("virtio_pci"), "{order:?}");
        assert_eq!(order.len(), 12, "each once, with the one that was asked for: {order:?}");
    }
}

#[test]
fn packed_modules_are_unpacked() {
    let lab = system();
    let base = format!("lib/modules/{KERNEL}/kernel");
    let mut list = fs::read_to_string(lab.path(&format!("tree/lib/modules/{KERNEL}/modules.dep"))).unwrap();
    let mut packed = Vec::new();
    for (program, end, module) in
        [("xz", "xz", "fs/fuse/fuse"), ("zstd", "zst", "drivers/block/loop"), ("gzip", "gz", "drivers/md/dm-mod")]
    {
        let file = lab.path(&format!("tree/{base}/{module}.ko"));
        let plain = fs::read(&file).unwrap();
        if !pack(program, &file) {
            skipped(&format!("{program} cannot be run"));
            fs::write(file, plain).unwrap();
            continue;
        }
        list = list.replace(&format!("kernel/{module}.ko"), &format!("kernel/{module}.ko.{end}"));
        packed.push((module.rsplit('/').next().unwrap().replace('-', "_"), plain));
    }
    lab.write(&format!("tree/lib/modules/{KERNEL}/modules.dep"), list);
    make_image(&lab, "ext4", "os.img", "16M");
    let (_, out) = build(&lab, "os.img", &[]);
    let found = read_miniroot(&out.join("initrd.img"));
    for (name, plain) in &packed {
        assert!(found[&format!("modules/{name}.ko")].data == *plain, "{name}");
    }
    println!("{} ways of packing", packed.len());
}

#[test]
fn the_miniroot_has_what_its_init_needs() {
    let lab = system();
    make_image(&lab, "ext4", "os.img", "16M");
    let key = "RWRWtAZadSIxLlvVgyX6sDvxcxYyiTvJVP/yQ7Bd+PNRbD2S9Basex19";
    let toml = "[[mirror]]\nname = \"a\"\nwrite = \"./a\"\nread = \"http://a.example/hfl/\"\n\
                [[mirror]]\nname = \"b\"\nwrite = \"./b\"\nread = \"https://b.example/\"\n";
    lab.write("mirrors.toml", toml);
    let (report, out) =
        build(&lab, "os.img", &["--key", key, "--to", "mirrors.toml", "--name", "debian", "--min-version", "42"]);
    assert_eq!(report["public_key"], key);
    let found = read_miniroot(&out.join("initrd.img"));
    assert_eq!(found["hfl/key"].text(), format!("{key}\n"));
    let config = "HFL_NAME=debian\nHFL_URL=http://a.example/hfl/ https://b.example/\nHFL_MIN_VERSION=42\n";
    assert_eq!(found["hfl/config"].text(), config);
    assert!(found["init"].mode == 0o100_755 && found["init"].text().starts_with("#!/bin/busybox sh\n"));
    assert!(found["hfl/udhcpc.script"].mode == 0o100_755);
    assert!(found["bin/hfl-mount"].data == fs::read(lab.path("client")).unwrap());
    assert!(found["bin/busybox"].data == fs::read(lab.path("busybox")).unwrap());
    assert_eq!((found["bin/sh"].mode, found["bin/sh"].text()), (0o120_777, "busybox"));
    assert_eq!((found["dev/console"].mode, found["dev/console"].device), (0o020_600, (5, 1)));
    assert!(["proc", "sys", "run", "tmp", "etc", "mnt"].iter().all(|path| found[*path].mode == 0o040_755));
    lab.write(
        "own/boot/init",
        "#!/bin/sh\n# {{ name }} {{ kernel }} {{ key }} {{ urls|length }} {{ min_version or 'any' }}\n",
    );
    let (_, out) = build(&lab, "os.img", &["--key", key, "--templates", "own", "--name", "debian"]);
    let own = format!("#!/bin/sh\n# debian {KERNEL} {key} 0 any\n");
    assert_eq!(read_miniroot(&out.join("initrd.img"))["init"].text(), own);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let lab = system();
    make_image(&lab, "ext4", "os.img", "16M");
    let (first, out) = build(&lab, "os.img", &[]);
    let bytes = fs::read(out.join("initrd.img")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    fs::copy(lab.path("os.img"), lab.path("copy.img")).unwrap();
    fs::write(lab.path("client"), fs::read(lab.path("client")).unwrap()).unwrap();
    let (second, out) = build(&lab, "copy.img", &["--name", "os"]);
    assert!(bytes == fs::read(out.join("initrd.img")).unwrap());
    assert_eq!(first["miniroot_sha256"], second["miniroot_sha256"]);
    let packed = std::process::Command::new("gzip").args(["-1", "-k"]).arg(lab.path("os.img")).status();
    assert!(packed.unwrap().success());
    let (third, _) = build(&lab, "os.img.gz", &[]);
    assert_eq!((&third["name"], &third["miniroot_sha256"]), (&first["name"], &first["miniroot_sha256"]), "compressed");
}

#[test]
fn the_link_of_the_distribution_decides_and_else_the_newest_kernel() {
    let lab = system();
    for version in ["6.1.0-10-test", "6.1.0-11-other"] {
        lab.write(&format!("tree/boot/vmlinuz-{version}"), bzimage(version, 10_000));
    }
    let copied = |from: &str, to: &str| {
        fs::create_dir_all(lab.path(to)).unwrap();
        let status = std::process::Command::new("cp").arg("-a").arg(lab.path(from)).arg(lab.path(to)).status();
        assert!(status.unwrap().success());
    };
    copied(&format!("tree/lib/modules/{KERNEL}/."), "tree/lib/modules/6.1.0-10-test");
    let kernel = |image: &str| {
        make_image(&lab, "ext4", image, "16M");
        build(&lab, image, &[]).0["kernel"].as_str().unwrap().to_owned()
    };
    assert_eq!(kernel("newest.img"), "6.1.0-10-test", "11 has no modules, and 10 is newer than 9");
    symlink(format!("boot/vmlinuz-{KERNEL}"), lab.path("tree/vmlinuz")).unwrap();
    assert_eq!(kernel("link.img"), KERNEL);
    fs::rename(lab.path("tree/lib"), lab.path("tree/usr")).unwrap();
    fs::create_dir(lab.path("tree/lib2")).unwrap();
    fs::rename(lab.path("tree/usr"), lab.path("tree/lib2/lib")).unwrap();
    fs::rename(lab.path("tree/lib2"), lab.path("tree/usr")).unwrap();
    symlink("/usr/lib", lab.path("tree/lib")).unwrap();
    assert_eq!(kernel("merged.img"), KERNEL, "/lib is a link to /usr/lib");
    fs::rename(lab.path(&format!("tree/boot/vmlinuz-{KERNEL}")), lab.path("tree/boot/vmlinuz-lts")).unwrap();
    fs::remove_file(lab.path("tree/vmlinuz")).unwrap();
    fs::remove_dir_all(lab.path("tree/usr/lib/modules/6.1.0-10-test")).unwrap();
    assert_eq!(kernel("lts.img"), KERNEL, "a name without version: the kernel says it itself");
}

#[test]
fn a_disk_with_a_partition_table_is_read_by_seeking() {
    let lab = system();
    make_image(&lab, "ext4", "os.img", "16M");
    let (plain, _) = build(&lab, "os.img", &[]);
    for bytes in [1 << 30, 1 << 40] {
        make_disk(&lab.path("os.img"), &lab.path("disk.img"), bytes);
        let started = Instant::now();
        let (disk, _) = build(&lab, "disk.img", &["--name", "os"]);
        println!("a disk of {} GiB: {:.2} s", bytes >> 30, started.elapsed().as_secs_f64());
        assert_eq!(disk["miniroot_sha256"], plain["miniroot_sha256"]);
    }
}

#[test]
fn programs_for_another_machine_are_refused() {
    let lab = system();
    make_image(&lab, "ext4", "os.img", "16M");
    let refuse = |arguments: &[&str], words: &str| {
        let text = lab.fails(1, &[&["boot", "build", "os.img", "--out", "refused"], arguments].concat());
        assert!(text.contains(words), "{words}: {text}");
    };
    lab.write("arm", elf(183, b"hfl-mount"));
    refuse(&["--client", "arm", "--busybox", "busybox"], "arm is for aarch64");
    refuse(&["--client", "client", "--busybox", "arm"], "arm: for aarch64, and the image's kernel is for x86_64");
    lab.write("script", "#!/bin/sh\n");
    refuse(&["--client", "client", "--busybox", "script"], "script: not a Linux program");
    let text = refused(&lab, 2, "os.img", &["--arch", "ppc64"]);
    assert!(text.contains("is for x86_64, not ppc64"), "{text}");
    lab.write(&format!("tree/lib/modules/{KERNEL}/kernel/fs/fuse/fuse.ko"), elf(183, b"a module"));
    make_image(&lab, "ext4", "os.img", "16M");
    refuse(&["--client", "client", "--busybox", "busybox"], "module fuse is for aarch64");
}

/// Installed by its package, hfl is in bin, and a static client in lib/hfl.
#[test]
fn a_static_client_is_found_where_packages_install_it() {
    let lab = system();
    make_image(&lab, "ext4", "os.img", "16M");
    let hfl = lab.path("usr/bin/hfl");
    fs::create_dir_all(lab.path("usr/bin")).unwrap();
    // By another process: a child that starts meanwhile has no file open for writing that is then executed.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_hfl")).arg(&hfl).status().unwrap().success());
    let run = || {
        let plain = lab.command(&["boot", "build", "os.img", "--busybox", "busybox", "--json", "--out", "out"]);
        in_place_of(&mut Command::new(&hfl), &plain).args(plain.get_args()).output().unwrap()
    };
    let none = run();
    assert_eq!(code(&none), 1);
    assert!(stderr(&none).contains("there is no static hfl-mount for x86_64"), "{}", stderr(&none));
    // One that needs libraries is passed over, and named where it is the only one.
    fs::copy("/bin/sh", lab.path("usr/bin/hfl-mount")).unwrap();
    let dynamic = stderr(&run());
    assert!(dynamic.contains("usr/bin/hfl-mount: needs shared libraries"), "{dynamic}");
    assert!(dynamic.contains("--no-default-features --features mount --bin hfl-mount"), "how to get one: {dynamic}");
    lab.write("usr/lib/hfl/hfl-mount", fs::read(lab.path("client")).unwrap());
    let found = run();
    assert_eq!(code(&found), 0, "{}", stderr(&found));
}

#[test]
fn a_real_image_gives_a_miniroot_of_at_most_8_mib() {
    let Some(image) = or_skip(real_image("small", "old.img")) else { return };
    let client = std::env::var("HFL_STATIC_CLIENT").unwrap_or_default();
    if !PathBuf::from(&client).is_file() {
        return skipped("HFL_STATIC_CLIENT names no static client (tests/all.sh builds one)");
    }
    let lab = Lab::new();
    let image = image.to_str().expect("UTF-8");
    let started = Instant::now();
    let make = |out: &str| {
        let report = lab.ok(&["boot", "build", image, "--client", &client, "--name", "real", "--json", "--out", out]);
        let report = serde_json::from_str::<serde_json::Value>(&report).expect("JSON");
        crate::support::schema::assert_is("boot-build", &report);
        report
    };
    let (first, second) = (make("one"), make("two"));
    let bytes = first["miniroot_bytes"].as_u64().expect("bytes");
    let modules = order(&first);
    let seconds = started.elapsed().as_secs_f64() / 2.0;
    println!("Linux {}: miniroot {bytes} bytes, {} modules, {seconds:.1} s", first["kernel"], modules.len());
    assert!(bytes <= 8 << 20, "{bytes} bytes");
    assert_eq!(first["miniroot_sha256"], second["miniroot_sha256"]);
    let found = read_miniroot(&lab.path("one/initrd.img"));
    assert!(modules.iter().all(|name| found[&format!("modules/{name}.ko")].data.starts_with(b"\x7fELF")));
}
