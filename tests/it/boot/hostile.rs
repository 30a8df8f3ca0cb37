//! Damaged and malicious images: each is refused with one message, within limits of time and memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use hfl::Error;
use hfl::boot::{Disk, Ingredients, Options};

use crate::support::boot_fixture::{
    KERNEL, PACKED, know_packed, make_disk, make_image, make_packed, make_programs, make_system, refused,
};
use crate::support::lab::{Lab, Random, full, skipped};

fn system() -> Lab {
    let lab = Lab::new();
    make_system(&lab);
    make_programs(&lab);
    lab
}

/// Asserts that the image of the lab's tree is refused with a message that contains `words`.
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
    assert!(refused(&lab, 1, "noise.img", &[]).contains("no ext2, ext3, ext4, squashfs or erofs file system, and"));
    make_disk(&lab.path("noise.img"), &lab.path("disk.img"), 8 << 20);
    assert!(refused(&lab, 1, "disk.img", &[]).contains("none of its 1 partitions is a root file system"));
    make_image(&lab, "ext4", "os.img", "16M");
    assert!(refused(&lab, 1, "tree", &[]).contains("a directory, not an image"));
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
    crate::support::boot_fixture::build(&lab, "os.img", &[]);
    let kernel = lab.path(&format!("tree/boot/vmlinuz-{KERNEL}"));
    fs::File::options().write(true).open(&kernel).unwrap().set_len(3 << 30).unwrap();
    refuse(&lab, "16M", "3221225472 bytes, at most");
    fs::write(&kernel, crate::support::boot_fixture::bzimage(KERNEL, 10_000)).unwrap();
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
    // Superblock fields: number of blocks, block size, blocks per group.
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
                // Metadata lies near the start.
                let place = used[random.below(used.len() as u64 / 4) as usize] + random.below(256) as usize;
                image[place] = random.next() as u8;
            }
            let path = lab.path("damaged.img");
            fs::write(&path, image).unwrap();
            let (clients, busybox) = (vec![lab.path("client")], Some(lab.path("busybox")));
            let options = Options { clients, busybox, ..Options::default() };
            let began = Instant::now();
            refused += u32::from(gather(&path, &options).is_err());
            assert!(began.elapsed() < Duration::from_secs(20), "{kind}, round {round}: {:?}", began.elapsed());
        }
        println!("{kind}: {refused} of {rounds} damaged images refused, {:.1} s", started.elapsed().as_secs_f64());
        assert!(refused > 0 && refused < rounds);
    }
}

/// Two read-only images of the lab's system, with their contents.
fn packed(lab: &Lab) -> Vec<(&'static str, Vec<u8>)> {
    know_packed(lab);
    let mut images = Vec::new();
    for how in [("mksquashfs", &["-comp", "zstd"][..]), ("mkfs.erofs", &["-zlz4"][..])] {
        match make_packed(lab, how, "os.img") {
            Some(image) => images.push((how.0, fs::read(image).unwrap())),
            None => skipped(&format!("no {}", how.0)),
        }
    }
    images
}

#[test]
fn what_is_packed_and_cut_short_is_refused() {
    let lab = system();
    for (program, whole) in packed(&lab) {
        for bytes in [0, 95, 1024, 1100, 2048, 4096, 100_000, whole.len() / 2] {
            fs::write(lab.path("cut.img"), &whole[..bytes]).unwrap();
            let text = refused(&lab, 1, "cut.img", &[]);
            assert!(bytes < 2048 || text.contains("cut short"), "{program}, {bytes}: {text}");
        }
    }
}

#[test]
fn sizes_and_places_that_cannot_be_true_are_refused() {
    let lab = system();
    // squashfs fields: block size and its logarithm, compression, version, root, total size, tables of
    // inodes, directories and fragments. erofs fields: logarithm of the block size, features, root,
    // number of blocks, metadata.
    let squashfs: [(usize, &[u8]); 9] = [
        (12, &[0; 4]),
        (12, &[0xff; 4]),
        (22, &[40, 0]),
        (20, &[9, 0]),
        (28, &[3, 0]),
        (32, &[0xff; 8]),
        (40, &[0xff; 8]),
        (64, &[0xff; 8]),
        (72, &[0xff; 8]),
    ];
    let erofs: [(usize, &[u8]); 5] =
        [(1036, &[40]), (1104, &[0xff; 4]), (1038, &[0xff; 2]), (1060, &[0xff; 4]), (1064, &[0xff; 4])];
    for (program, whole) in packed(&lab) {
        for (at, value) in if program == "mksquashfs" { &squashfs[..] } else { &erofs[..] } {
            let mut image = whole.clone();
            image[*at..at + value.len()].copy_from_slice(value);
            fs::write(lab.path("wrong.img"), image).unwrap();
            let text = refused(&lab, 1, "wrong.img", &[]);
            assert!(text.contains("wrong.img: "), "{text}");
            println!("{program}, {at} = {value:?}: {}", text.lines().next().unwrap());
        }
    }
}

#[test]
fn giants_that_take_no_room_are_refused_before_they_are_unpacked() {
    let lab = system();
    let module = lab.path(&format!("tree/lib/modules/{KERNEL}/kernel/fs/fuse/fuse.ko"));
    fs::File::create(&module).unwrap().set_len(200 << 20).unwrap();
    for (program, whole) in packed(&lab) {
        fs::write(lab.path("giant.img"), &whole).unwrap();
        let text = refused(&lab, 1, "giant.img", &[]);
        assert!(text.contains("209715200 bytes, at most 33554432 are read"), "{program}: {text}");
        println!("{program}: refused, and has {} bytes itself", whole.len());
    }
}

#[test]
fn damage_to_what_is_packed_ends_in_a_sentence_or_a_miniroot() {
    let lab = system();
    know_packed(&lab);
    let path = lab.path("damaged.img");
    let (clients, busybox) = (vec![lab.path("client")], Some(lab.path("busybox")));
    let options = Options { clients, busybox, ..Options::default() };
    for how in PACKED {
        let Some(image) = make_packed(&lab, how, "os.img") else {
            skipped(&format!("{} {}", how.0, how.1.join(" ")));
            continue;
        };
        let whole = fs::read(image).unwrap();
        let mut random = Random(7);
        let (mut refused, mut slowest, rounds) = (0, Duration::ZERO, if full() { 1000 } else { 60 });
        for _ in 0..rounds {
            fs::write(&path, damage(&whole, &mut random)).unwrap();
            let began = Instant::now();
            refused += u32::from(gather(&path, &options).is_err());
            slowest = slowest.max(began.elapsed());
        }
        println!("{} {}: {refused} of {rounds} refused, the slowest after {slowest:?}", how.0, how.1.join(" "));
        assert!(refused > 0 && slowest < Duration::from_secs(20), "{refused}, {slowest:?}");
    }
}

/// Changes a few bytes or bits, zeroes a piece, or truncates the image; near the metadata or anywhere.
fn damage(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut image = whole.to_vec();
    let kind = random.below(4);
    for _ in 0..=random.below(8) {
        let from_end = image.len() - 1 - random.below(20_000.min(image.len() as u64)) as usize;
        let places = [random.below(2048) as usize, from_end, random.below(image.len() as u64) as usize];
        let at = places[random.below(3) as usize].min(image.len() - 1);
        match kind {
            0 => image[at] ^= 1 << random.below(8),
            1 => image[at] = random.next() as u8,
            2 => {
                let end = (at + random.below(64) as usize).min(image.len());
                image[at..end].fill(if random.below(2) == 0 { 0 } else { 0xff });
            }
            _ => {
                image.truncate(at.max(200));
                return image;
            }
        }
    }
    image
}

fn gather(image: &Path, options: &Options) -> Result<Ingredients, Error> {
    Ingredients::gather(&Disk::open(image)?, options)
}
