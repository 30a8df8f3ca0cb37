//! A machine with a cache disk boots version 1, then version 2, then version 1 again. Each boot fetches
//! only blocks that are not on the disk. `inplace.img` is the same system after an upgrade in place,
//! `new.img` was built again from newer packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hfl::format::index::Index;

use crate::support::boot_published::{BOOT_WAIT, Published, end, keeping_disk};
use crate::support::lab::{or_skip, real_image};
use crate::support::machine::Machine;

/// Names of a version's blocks, as they are requested.
fn blocks_of(published: &Published, version: u32) -> BTreeSet<String> {
    let directory = published.lab.path("a/index/small");
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("{version}-")) && name.ends_with(".idx")
    };
    let index = Index::parse(&fs::read(files.find(|path| is_it(path)).unwrap()).unwrap()).unwrap();
    let name = |id: String| format!("{}/{id}", &id[..2]);
    index.blocks().iter().map(|row| name(row.id.to_string())).collect()
}

/// Boots until the login prompt, and prints the running version, the number of fetched blocks and the
/// time.
fn boot(published: &Published, words: &str, drive: &str, known: &BTreeSet<String>) -> (Machine, BTreeSet<String>) {
    let mut machine = published.machine(&format!("hfl.cache=LABEL=keep {words}"), &["-drive", drive]);
    let login = machine.wait_for("login:", BOOT_WAIT);
    machine.log_in();
    let version = machine.run("grep '\"version\"' /run/hfl/status.json");
    let fetched: BTreeSet<String> = published.blocks().difference(known).cloned().collect();
    println!("{}: login after {:.1} s, {} blocks fetched", version.trim(), login.as_secs_f64(), fetched.len());
    (machine, fetched)
}

/// The number of block requests so far, and the blocks requested. A running machine may still read more.
fn asked(published: &Published) -> (usize, BTreeSet<String>) {
    let requests: u64 = published.hosts.iter().map(|host| host.blocks().0).sum();
    (requests as usize, published.blocks())
}

fn update(image: &str) {
    let Some(published) = Published::new() else { return };
    let Some(next) = or_skip(real_image("small", image)) else { return };
    let drive = keeping_disk(&published.lab);
    let old = blocks_of(&published, 1);
    let (machine, first) = boot(&published, "", &drive, &BTreeSet::new());
    assert!(first.is_subset(&old) && first.len() > 100, "{}", first.len());
    end(machine, "poweroff");
    let (requests, known) = asked(&published);

    published.publish(&next, &["--boot"]);
    let new = blocks_of(&published, 2);
    let (mut machine, second) = boot(&published, "", &drive, &known);
    assert!(machine.run("cat /run/hfl/status.json").contains("\"version\": 2"));
    end(machine, "poweroff");
    // Blocks on the disk are not fetched again; `second` contains only blocks that were never fetched.
    let (more_requests, all) = asked(&published);
    let asked_again = (more_requests - requests) - (all.len() - known.len());
    let (changed, unread) = second.iter().partition::<Vec<_>, _>(|name| !old.contains(*name));
    println!(
        "{image}: {} of {} blocks are new; the boot fetched {} of them, {} that version 1 has too but did not read, \
         and {asked_again} a second time",
        new.difference(&old).count(),
        new.len(),
        changed.len(),
        unread.len()
    );
    assert!(second.is_subset(&new), "nothing of version 1 alone");
    assert!(asked_again * 20 <= first.len(), "{asked_again} of {}", first.len());
    assert!(second.len() < new.len() / 2, "{} of {}", second.len(), new.len());

    let (mut machine, third) = boot(&published, "hfl.version=1", &drive, &all);
    assert!(machine.run("cat /run/hfl/status.json").contains("\"version\": 1"));
    end(machine, "poweroff");
    assert!(third.len() * 20 <= first.len(), "back again, {} blocks were fetched", third.len());
}

#[test]
fn an_update_in_place_costs_what_changed() {
    update("inplace.img");
}

#[test]
fn an_image_that_was_built_again_costs_what_changed() {
    update("new.img");
}

/// With the old version on the disk, a boot of one that was built again makes most of its new blocks from deltas.
#[test]
fn a_boot_makes_new_blocks_from_deltas() {
    let Some(published) = Published::new() else { return };
    let Some(next) = or_skip(real_image("small", "new.img")) else { return };
    let drive = keeping_disk(&published.lab);
    let (machine, first) = boot(&published, "", &drive, &BTreeSet::new());
    end(machine, "poweroff");
    let known = published.blocks();
    published.publish(&next, &["--boot", "--deltas"]);
    let (mut machine, whole) = boot(&published, "", &drive, &known);
    assert!(machine.run("cat /run/hfl/status.json").contains("\"version\": 2"));
    end(machine, "poweroff");
    let deltas = published.hosts.iter().map(|host| host.deltas());
    let (made, bytes) = deltas.fold((0, 0), |sum, host| (sum.0 + host.0, sum.1 + host.1));
    println!("{} blocks at first; then {} whole ones and {made} deltas of {bytes} bytes", first.len(), whole.len());
    assert!(made > 20 && made as usize > 2 * whole.len(), "{made} {}", whole.len());
}
