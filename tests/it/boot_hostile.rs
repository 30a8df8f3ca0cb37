//! Images that are damaged or mean harm: each ends with a sentence, within limits of time and memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use hfl::boot::{Ingredients, Options};

use crate::boot_fixture::{KERNEL, make_disk, make_image, make_programs, make_system, refused};
use crate::lab::{Lab, Random, full};

fn system() -> Lab {
    let lab = Lab::new();
    make_system(&lab);
    make_programs(&lab);
    lab
}

/// Expects the image of the lab's tree to be refused with these words.
fn refuse(lab: &Lab, size: &str, words: &str) {
    make_image(lab, "ext4", "os.img", size);
    let started = Instant::now();
    let text = refused(lab, 1, "os.img", &[]);
    assert!(text.contains(words), "{words}: {text}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn what_an_image_lacks_is_said() {
    let lab = system();
    let modules = format!("tree/lib/modules/{KERNEL}");
    let dep = fs::read_to_string(lab.path(&format!("{modules}/modules.dep"))).unwrap();
    lab.write(&format!("{modules}/modules.dep"), dep.replace("kernel/fs/fuse/fuse.ko:\n", ""));
    refuse(&lab, "16M", "has no fuse, neither built in nor as a module");
    lab.write(&format!("{modules}/modules.dep"), dep.replace("drivers/md/dm-snapshot", "drivers/md/other"));
    refuse(&lab, "16M", "has no dm_snapshot nor overlay");
    lab.write(&format!("{modules}/modules.dep"), dep);
    fs::remove_file(lab.path(&format!("{modules}/kernel/drivers/block/loop.ko"))).unwrap();
    refuse(&lab, "16M", "loop.ko: missing, though modules.dep names it");
    fs::remove_file(lab.path(&format!("{modules}/modules.dep"))).unwrap();
    refuse(&lab, "16M", "no modules.dep in it");
    fs::rename(lab.path(&modules), lab.path("tree/lib/modules/5.0.0-other")).unwrap();
    fs::write(lab.path(&format!("tree/boot/vmlinuz-{KERNEL}")), "not a kernel").unwrap();
    refuse(&lab, "16M", "has those of 5.0.0-other alone");
    fs::remove_dir_all(lab.path("tree/boot")).unwrap();
    refuse(&lab, "16M", "no kernel is in it");
    lab.write("noise.img", Random(3).bytes(3 << 20));
    assert!(refused(&lab, 1, "noise.img", &[]).contains("no ext2, ext3 or ext4 file system, and no partition table"));
    make_disk(&lab.path("noise.img"), &lab.path("disk.img"), 8 << 20);
    assert!(refused(&lab, 1, "disk.img", &[]).contains("none of its 1 partitions is a root file system"));
    assert!(refused(&lab, 2, "-", &[]).contains("standard input"));
    make_image(&lab, "ext4", "os.img", "16M");
    assert!(refused(&lab, 1, "tree", &[]).contains("no file and no block device"));
}

#[test]
fn links_in_circles_and_giants_end() {
    let lab = system();
    symlink("vmlinuz2", lab.path("tree/vmlinuz")).unwrap();
    symlink("vmlinuz", lab.path("tree/vmlinuz2")).unwrap();
    refuse(&lab, "16M", "too many symbolic links");
    fs::remove_file(lab.path("tree/vmlinuz")).unwrap();
    symlink("../../../../boot/../..", lab.path("tree/vmlinuz")).unwrap();
    make_image(&lab, "ext4", "os.img", "16M");
    crate::boot_fixture::build(&lab, "os.img", &[]);
    let kernel = lab.path(&format!("tree/boot/vmlinuz-{KERNEL}"));
    fs::File::options().write(true).open(&kernel).unwrap().set_len(3 << 30).unwrap();
    refuse(&lab, "16M", "3221225472 bytes, at most");
    fs::write(&kernel, crate::boot_fixture::bzimage(KERNEL, 10_000)).unwrap();
    for i in 0..20_000 {
        lab.write(&format!("tree/boot/file-with-a-long-name-{i}"), "");
    }
    refuse(&lab, "400M", "more than 16384 names in one directory");
}

#[test]
fn a_module_that_unpacks_to_no_end_is_refused() {
    let lab = system();
    let file = lab.path(&format!("tree/lib/modules/{KERNEL}/kernel/fs/fuse/fuse.ko"));
    let mut packer = flate2::write::GzEncoder::new(fs::File::create(&file).unwrap(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut packer).unwrap();
    packer.finish().unwrap();
    refuse(&lab, "32M", "more than 33554432 bytes when unpacked");
}

#[test]
fn an_image_that_is_cut_short_is_refused() {
    let lab = system();
    make_image(&lab, "ext4", "os.img", "16M");
    let whole = fs::read(lab.path("os.img")).unwrap();
    for bytes in [0, 1, 1024, 2048, 4096, 100_000, 4 << 20, whole.len() - 1] {
        fs::write(lab.path("cut.img"), &whole[..bytes]).unwrap();
        let text = refused(&lab, 1, "cut.img", &[]);
        assert!(bytes < 2048 || text.contains("cut short"), "{bytes}: {text}");
    }
}

#[test]
fn sizes_that_no_file_system_has_are_refused_before_they_are_believed() {
    let lab = system();
    make_image(&lab, "ext2", "os.img", "16M");
    let whole = fs::read(lab.path("os.img")).unwrap();
    // Blocks, bytes of a block, blocks of a group: fields of the superblock.
    for (at, value) in [(4, u32::MAX), (24, 40), (24, 6), (32, 0), (32, 1)] {
        let mut image = whole.clone();
        image[1024 + at..1028 + at].copy_from_slice(&value.to_le_bytes());
        fs::write(lab.path("wrong.img"), image).unwrap();
        let text = refused(&lab, 1, "wrong.img", &[]);
        assert!(text.contains("wrong.img: "), "{text}");
        println!("{at} = {value}: {}", text.lines().next().unwrap());
    }
}

#[test]
fn damage_anywhere_ends_in_a_sentence_or_a_miniroot() {
    let lab = system();
    for kind in ["ext2", "ext4"] {
        make_image(&lab, kind, "os.img", "16M");
        let whole = fs::read(lab.path("os.img")).unwrap();
        let used: Vec<usize> = (0..whole.len()).step_by(256).filter(|&at| whole[at..at + 256] != [0; 256]).collect();
        let mut random = Random(7);
        let (mut refused, rounds) = (0, if full() { 3000 } else { 150 });
        let started = Instant::now();
        for round in 0..rounds {
            let mut image = whole.clone();
            for _ in 0..=random.below(8) {
                // Metadata lies in front.
                let place = used[random.below(used.len() as u64 / 4) as usize] + random.below(256) as usize;
                image[place] = random.next() as u8;
            }
            let path = lab.path("damaged.img");
            fs::write(&path, image).unwrap();
            let (clients, busybox) = (vec![lab.path("client")], Some(lab.path("busybox")));
            let options = Options { image: path, clients, busybox, ..Options::default() };
            let began = Instant::now();
            refused += u32::from(Ingredients::gather(&options).is_err());
            assert!(began.elapsed() < Duration::from_secs(20), "{kind}, round {round}: {:?}", began.elapsed());
        }
        println!("{kind}: {refused} of {rounds} damaged images refused, {:.1} s", started.elapsed().as_secs_f64());
        assert!(refused > 0 && refused < rounds);
    }
}
