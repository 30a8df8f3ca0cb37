//! Machines that boot a published image over HTTP.

use std::fs;
use std::time::Duration;

use crate::support::boot_published::{
    BOOT_WAIT, CARD, END_WAIT, KERNEL_WORDS, Published, as_drive, end, keeping_disk, use_it,
};
use crate::support::lab::full;
use crate::support::machine::{HOST, Machine};
use crate::support::proxy::Proxy;
use crate::support::servers::{local, program};

#[test]
fn it_boots_and_one_mirror_ends_in_the_middle() {
    let Some(mut published) = Published::new() else { return };
    let mut machine = published.machine("", &[]);
    let root = machine.wait_for("over to /sbin/init", BOOT_WAIT);
    // The system has begun to read its programs.
    let begun = published.hosts[0].blocks().0;
    while published.hosts[0].blocks().0 < begun + 20 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = published.hosts[1].blocks().0;
    published.hosts[0].stop();
    let login = machine.wait_for("login:", BOOT_WAIT);
    println!("root after {:.1} s, login after {:.1} s; {}", root.as_secs_f64(), login.as_secs_f64(), published.read());
    assert!(published.hosts[1].blocks().0 > before);
    use_it(&mut machine, &published.bash);
    end(machine, "poweroff");
}

/// Starts in the network card's own iPXE: DHCP names a URL on the web server, and the menu there does
/// the rest.
#[test]
fn it_boots_from_the_network_cards_own_ipxe() {
    let Some(published) = Published::new() else { return };
    let url = format!("http://{HOST}:{}/boot/small/boot.ipxe", published.hosts[0].port());
    let network = format!("user,id=n,bootfile={url}");
    let mut machine = Machine::start(1024, &["-netdev", &network, "-device", CARD, "-boot", "n"]);
    published.wait_for_login(&mut machine);
    use_it(&mut machine, &published.bash);
    end(machine, "reboot");
}

/// A disk keeps fetched blocks and written data. The next boot finds both.
#[test]
fn a_disk_keeps_blocks_and_writes() {
    let Some(published) = Published::new() else { return };
    let keep = keeping_disk(&published.lab);
    let swap = published.lab.path("swap");
    fs::File::create(&swap).unwrap().set_len(64 << 20).unwrap();
    assert!(std::process::Command::new(program("mkswap").unwrap()).arg(&swap).status().unwrap().success());
    let drives = ["-drive", &keep, "-drive", &as_drive(&swap)];
    let words = "hfl.cache=LABEL=keep hfl.cow=LABEL=keep hfl.swap=auto";
    let boot = || published.machine(words, &drives);
    let mut machine = boot();
    let first = machine.wait_for("login:", BOOT_WAIT);
    println!("login after {:.1} s; {}", first.as_secs_f64(), published.read());
    machine.log_in();
    machine.run("echo kept >/root/kept");
    assert_eq!(machine.run("swapon --noheadings --raw --show=NAME,SIZE"), "/dev/vdb 64M");
    end(machine, "poweroff");
    let before = published.hosts.iter().map(|host| host.blocks().0).sum::<u64>();
    let mut machine = boot();
    let second = machine.wait_for("login:", BOOT_WAIT);
    let again = published.hosts.iter().map(|host| host.blocks().0).sum::<u64>() - before;
    println!("login after {:.1} s; {again} blocks were fetched again of {before}", second.as_secs_f64());
    use_it(&mut machine, &published.bash);
    assert_eq!(machine.run("cat /root/kept"), "kept");
    end(machine, "poweroff");
    assert!(again * 20 < before, "{again} of {before}");
}

/// An empty disk is used as a whole. An invalid number does not prevent the boot.
#[test]
fn an_empty_disk_keeps_writes() {
    let Some(published) = Published::new() else { return };
    let disk = published.lab.path("empty");
    fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let drive = as_drive(&disk);
    let boot = || published.machine("hfl.cow=/dev/vda hfl.timeout=5m", &["-drive", &drive]);
    let mut machine = boot();
    machine.wait_for("warning: hfl.timeout=5m: not a number", BOOT_WAIT);
    machine.wait_for("login:", BOOT_WAIT);
    machine.log_in();
    machine.run("echo kept >/root/kept");
    end(machine, "poweroff");
    assert!(fs::read(&disk).unwrap().starts_with(b"HFL-COW 1 small 1 "));
    let mut machine = boot();
    machine.wait_for("login:", BOOT_WAIT);
    use_it(&mut machine, &published.bash);
    assert_eq!(machine.run("cat /root/kept"), "kept");
    end(machine, "poweroff");
}

/// A disk with any other contents is not modified; the machine reports it and does not boot.
#[test]
fn a_disk_with_something_on_it_is_not_touched() {
    let Some(published) = Published::new() else { return };
    let Some(mkfs) = program("mkfs.btrfs") else { return crate::support::lab::skipped("no mkfs.btrfs") };
    let disk = published.lab.path("btrfs");
    fs::File::create(&disk).unwrap().set_len(128 << 20).unwrap();
    assert!(std::process::Command::new(mkfs).args(["-q", "-L", "keep"]).arg(&disk).status().unwrap().success());
    let before = fs::read(&disk).unwrap();
    let mut machine = published.machine("hfl.cow=LABEL=keep panic=1", &["-drive", &as_drive(&disk)]);
    machine
        .wait_for("cannot boot: hfl.cow=LABEL=keep: on /dev/vda is btrfs, which this miniroot cannot mount", BOOT_WAIT);
    machine.wait_for("what to do: make a file system there", Duration::from_secs(10));
    machine.ended(END_WAIT);
    assert!(fs::read(&disk).unwrap() == before);
}

/// A system that fills its write store gets write errors, can still be read, and shuts down.
#[test]
fn a_full_store_does_not_keep_it_from_ending() {
    let Some(published) = Published::new() else { return };
    // The long form uses the default size in memory, the short form a small store that fills sooner.
    let (room, megabytes) = if full() { ("", 900) } else { ("hfl.cow=64M", 150) };
    for (mode, root) in [("snapshot", "ext4"), ("overlay", "overlay")] {
        let mut machine = published.machine(&format!("hfl.mode={mode} {room}"), &[]);
        machine.wait_for("login:", BOOT_WAIT);
        machine.log_in();
        assert_eq!(machine.run("findmnt -no FSTYPE /"), root);
        let write = format!("dd if=/dev/zero of=/root/large bs=1M count={megabytes} conv=fsync");
        let said = machine.run(&format!("timeout -s KILL 120 {write} 2>&1; true"));
        println!("{mode}: {said}");
        let digest = machine.run("sha256sum /bin/bash");
        assert!(digest.starts_with(&published.bash), "{digest}");
        end(machine, "poweroff");
    }
}

/// A boot failure prints its reason and the remedy. With `panic=` the machine tries again.
#[test]
fn a_failure_says_what_to_do() {
    let Some(published) = Published::new() else { return };
    let cases = [
        ("hfl.url=http://10.0.2.2:9/ hfl.timeout=8", "no mirror of small answers", "what to do: check hfl.url"),
        ("hfl.name=none", "cannot boot: ", "what to do: "),
        ("hfl.mode=none", "cannot boot: hfl.mode=none", "what to do: it is snapshot or overlay"),
    ];
    for (words, why, what) in cases {
        let mut machine = published.machine(&format!("{words} panic=1"), &[]);
        machine.wait_for(why, BOOT_WAIT);
        machine.wait_for(what, Duration::from_secs(10));
        machine.wait_for("reboot in 1 seconds", Duration::from_secs(10));
        machine.ended(END_WAIT);
    }
    let mut machine = published.machine("hfl.mode=none", &[]);
    machine.wait_for("this is a shell", BOOT_WAIT);
    machine.wait_for("# ", Duration::from_secs(30));
    machine.enter("cat /hfl/key");
    machine.wait_for("RW", Duration::from_secs(30));
    machine.enter("reboot -f");
    machine.ended(END_WAIT);
}

/// High latency: a round trip of 100 ms.
#[test]
fn it_boots_over_a_long_wire() {
    let Some(published) = Published::new() else { return };
    let proxies = published.hosts.each_ref().map(|host| Proxy::start(local(host.port())));
    for proxy in &proxies {
        proxy.faults().delay(Duration::from_millis(50), Duration::from_millis(50));
    }
    let urls = proxies.each_ref().map(|proxy| format!("http://{HOST}:{}/", proxy.address().port())).join(",");
    let mut machine = published.machine(&format!("hfl.only hfl.url={urls}"), &[]);
    published.wait_for_login(&mut machine);
    use_it(&mut machine, &published.bash);
    end(machine, "poweroff");
    let connections: u64 = proxies.iter().map(|proxy| proxy.faults().connections()).sum();
    assert!(connections > 0, "everything went through the long wire");
}

/// A miniroot accepts only the key pinned in it.
#[test]
fn it_does_not_boot_what_another_key_signed() {
    let Some(published) = Published::new() else { return };
    let other = crate::support::lab::Lab::with_mirrors(&["a"]);
    other.write("os.img", crate::support::lab::Random(1).bytes(1 << 20));
    let key = other.publish(&["os.img"])["public_key"].as_str().unwrap().to_owned();
    let image = crate::support::lab::real_image("small", "old.img").unwrap().display().to_string();
    let client = std::env::var("HFL_STATIC_CLIENT").unwrap();
    published
        .lab
        .ok(&["boot", "build", &image, "--name", "small", "--key", &key, "--client", &client, "--out", "other"]);
    let file = |name: &str| published.lab.path(&format!("other/{name}")).display().to_string();
    let words = format!("{KERNEL_WORDS} hfl.url={} panic=1", published.urls());
    let options = ["-kernel", &file("vmlinuz"), "-initrd", &file("initrd.img"), "-append", &words];
    let mut machine = Machine::start(1024, &[&options[..], &["-netdev", "user,id=n", "-device", CARD]].concat());
    machine.wait_for("cannot boot: what the mirrors say does not verify", BOOT_WAIT);
    machine.wait_for("what to do: is it the publisher's key", Duration::from_secs(10));
    machine.ended(END_WAIT);
    assert_eq!(published.blocks().len(), 0, "nothing was fetched for it");
}

/// Of several network cards the one that gets an answer is used, and the booted system cannot
/// reconfigure it.
#[test]
fn it_finds_the_card_that_works_and_keeps_it() {
    let Some(published) = Published::new() else { return };
    // The first card is connected to an empty network.
    let dead = ["-netdev", "hubport,id=h,hubid=7", "-device", "virtio-net-pci,netdev=h,addr=4"];
    let mut machine = published.machine("", &dead);
    let login = machine.wait_for("login:", BOOT_WAIT);
    println!("login after {:.1} s with a dead card beside", login.as_secs_f64());
    machine.log_in();
    let card = machine.run("ip -4 -o addr | awk '/10\\.0\\.2\\./ { print $2 }'");
    assert_eq!(card, "eth1", "the first one has nobody in it");
    let other = "eth0";
    assert_eq!(machine.run(&format!("ip -4 -o addr show dev {other}")), "");
    // systemd-networkd, configured to manage every card, leaves this one alone.
    machine.run("printf '[Match]\\nName=eth*\\n[Network]\\nDHCP=no\\nAddress=192.0.2.9/24\\n' >/etc/systemd/network/all.network");
    machine.run("systemctl start systemd-networkd; sleep 3");
    assert!(machine.run(&format!("networkctl --no-pager status {card} | cat")).contains("unmanaged"));
    assert!(machine.run(&format!("ip -4 -o addr show dev {other}")).contains("192.0.2.9"), "it does manage the other");
    machine.run("systemctl stop systemd-networkd; sleep 1");
    use_again(&mut machine, &published.bash);
    end(machine, "poweroff");
}

/// NetworkManager, which manages every card, leaves this one alone and still knows its name servers.
#[test]
fn networkmanager_leaves_its_card_alone() {
    let Some(published) = Published::of_kind("managed") else { return };
    let mut machine = published.machine("", &[]);
    machine.wait_for("login:", BOOT_WAIT);
    machine.log_in();
    machine.run("systemctl restart NetworkManager; systemctl is-active NetworkManager; sleep 3");
    assert_eq!(machine.run("nmcli -t -f DEVICE,STATE device | grep eth0"), "eth0:unmanaged");
    assert!(machine.run("ip -4 -o addr show dev eth0").contains("10.0.2."), "it has its address");
    assert!(machine.run("cat /etc/resolv.conf").contains("nameserver 10.0.2.3"), "and its name server");
    machine.run("systemctl stop NetworkManager; sleep 1");
    use_again(&mut machine, &published.bash);
    end(machine, "poweroff");
}

/// Checks that the root can still be read from the network.
fn use_again(machine: &mut Machine, bash: &str) {
    machine.run("echo 3 >/proc/sys/vm/drop_caches");
    let digest = machine.run("sha256sum /bin/bash");
    assert!(digest.starts_with(bash), "{digest}");
}
