//! .xz files of several blocks, which are decoded side by side: the same versions as from any other file, and the same
//! errors.

use std::fs;

use crate::support::lab::{Lab, Random, code, stderr, tool};

/// Sizes in a record of the index: compressed without padding, and uncompressed.
type Record = (u64, u64);
/// Changes the records of an index.
type Lie = fn(&mut Vec<Record>);

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
/// Small enough for several blocks, large enough for threads.
const BLOCKS: &[&str] = &["-0", "-T2", "--block-size=1MiB"];

/// An image of 6.5 MB, published as `os`, whose parts compress differently; its .xz file if there is the program xz.
fn published() -> Option<(Lab, Vec<u8>)> {
    let lab = Lab::with_mirrors(&["public"]);
    let mut random = Random(5);
    let parts = (0..13).flat_map(|i| if i % 4 == 2 { vec![i; 500_000] } else { random.bytes(500_000) });
    lab.write("os.img", parts.collect::<Vec<u8>>());
    lab.publish(&["os.img"]);
    let xz = compressed(&lab, BLOCKS)?;
    Some((lab, xz))
}

fn compressed(lab: &Lab, arguments: &[&str]) -> Option<Vec<u8>> {
    tool(lab, "xz", &[arguments, &["-k", "-f", "os.img"]].concat(), "")?;
    Some(fs::read(lab.path("os.img.xz")).unwrap())
}

/// Publishes these bytes. `None` if they gave the version that is there; else the error, which names the file, and no
/// version was made.
fn publish(lab: &Lab, xz: &[u8]) -> Option<String> {
    lab.write("bytes.xz", xz);
    let head = fs::read(lab.path("public/os.head")).unwrap();
    let output = lab.run(&["publish", "bytes.xz", "--name", "os", "--to", "mirrors.toml", "--json"]);
    assert!(fs::read(lab.path("public/os.head")).unwrap() == head, "{}", stderr(&output));
    if code(&output) == 0 {
        assert!(String::from_utf8_lossy(&output.stdout).contains("no-change"));
        return None;
    }
    assert!(code(&output) == 1 && stderr(&output).contains("bytes.xz: damaged or cut off xz data: "), "{output:?}");
    Some(stderr(&output))
}

#[test]
fn the_same_version_however_it_was_compressed() {
    let Some((lab, xz)) = published() else { return };
    assert!(records(&xz).len() == 7 && publish(&lab, &xz).is_none());
    for more in [
        &["-T1"][..],
        &["-T2", "--block-size=4MiB"],
        &["-T2", "--block-size=64KiB"],
        &["-T1", "--block-list=1MiB,3MiB,300KiB"],
        &["-T2", "--block-size=1MiB", "--check=none"],
        &["-T2", "--block-size=1MiB", "--check=crc32"],
        &["-T2", "--block-size=1MiB", "--check=sha256"],
        &["-T2", "--block-size=1MiB", "--delta=dist=4", "--x86", "--lzma2=preset=0"],
        &["-T2", "--block-size=1MiB", "--lzma2=preset=0,dict=96MiB"],
    ] {
        let Some(xz) = compressed(&lab, &[&["-0"], more].concat()) else { return };
        assert_eq!(publish(&lab, &xz), None, "{more:?}");
        let pipe = lab.command(&["publish", "-", "--name", "os", "--to", "mirrors.toml", "--json"]);
        let output = { pipe }.stdin(fs::File::open(lab.path("os.img.xz")).unwrap()).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("no-change"), "{more:?}: {}", stderr(&output));
    }
    let image = fs::read(lab.path("os.img")).unwrap();
    lab.write("twice.xz", [&xz[..], &[0; 8], &xz].concat());
    lab.publish(&["twice.xz", "--name", "twice"]);
    lab.ok(&["restore", "public/twice", "back.img", "-q"]);
    assert!(fs::read(lab.path("back.img")).unwrap() == [&image[..], &image].concat());
    assert_eq!(publish(&lab, &[&xz[..], &[0; 8]].concat()), None, "padding");
}

/// Whatever part is damaged or missing, nothing is published.
#[test]
fn what_is_damaged_is_not_published() {
    let Some((lab, xz)) = published() else { return };
    let index = index_at(&xz);
    let third = 12 + records(&xz)[..2].iter().map(|record| record.0.next_multiple_of(4) as usize).sum::<usize>();
    for at in [7, 13, 5_000, third, third + 3, third + 200_000, index - 1, index, index + 1, index + 9, xz.len() - 5] {
        let mut damaged = xz.clone();
        damaged[at] ^= 0x10;
        assert!(publish(&lab, &damaged).is_some(), "byte {at} of {}", xz.len());
    }
    for end in [20, third, third + 300_000, index, index + 7, xz.len() - 12, xz.len() - 1] {
        assert!(publish(&lab, &xz[..end]).is_some(), "cut off at byte {end} of {}", xz.len());
    }
    for more in [&b"\0\0\0"[..], b"more"] {
        assert!(publish(&lab, &[&xz[..], more].concat()).is_some(), "{more:?} behind it");
    }
}

/// An index that states wrong sizes, with right checksums. One processor reads it last, and does not compare the sizes.
#[test]
fn an_index_that_lies() {
    let Some((lab, xz)) = published() else { return };
    assert!(with_index(&xz, |_| ()) == xz);
    let is_parallel = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    let lies: [(bool, Lie); 6] = [
        (is_parallel, |records| records[0].1 += 1),
        (is_parallel, |records| records[6].1 -= 1),
        (is_parallel, |records| (records[0].1, records[1].1) = (1 << 19, 3 << 19)),
        (false, |records| records[3].1 = 1 << 62),
        (false, |records| (records[0].0, records[1].0) = (records[0].0 - 8, records[1].0 + 8)),
        (true, |records| {
            let (unpadded, bytes) = records.remove(0);
            records[0] = (records[0].0 + unpadded.next_multiple_of(4), records[0].1 + bytes);
        }),
    ];
    for (i, (is_error, lie)) in lies.into_iter().enumerate() {
        let error = publish(&lab, &with_index(&xz, lie));
        assert_eq!(error.is_some(), is_error, "lie {i}: {error:?}");
    }
}

fn index_at(xz: &[u8]) -> usize {
    let footer = xz.len() - 12;
    footer - (u32::from_le_bytes(xz[footer + 4..][..4].try_into().unwrap()) as usize + 1) * 4
}

fn records(xz: &[u8]) -> Vec<Record> {
    let mut bytes = xz[index_at(xz) + 1..].iter();
    let mut number = || {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = u64::from(*bytes.next().unwrap());
            number |= (byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    };
    (0..number()).map(|_| (number(), number())).collect()
}

/// The same file with other records in its index.
fn with_index(xz: &[u8], change: Lie) -> Vec<u8> {
    let mut records = records(xz);
    change(&mut records);
    let mut index = vec![0];
    for mut number in [records.len() as u64].into_iter().chain(records.into_iter().flat_map(|(a, b)| [a, b])) {
        while number >= 0x80 {
            index.push(number as u8 | 0x80);
            number >>= 7;
        }
        index.push(number as u8);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    index.extend(CRC.checksum(&index).to_le_bytes());
    let sizes = [&(index.len() as u32 / 4 - 1).to_le_bytes(), &xz[6..8]].concat();
    [&xz[..index_at(xz)], &index, &CRC.checksum(&sizes).to_le_bytes(), &sizes, b"YZ"].concat()
}
