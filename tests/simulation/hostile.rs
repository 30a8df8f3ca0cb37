//! A mirror whose owner returns arbitrary data: older states, other heads, forged records, very long
//! lists, a lock that is never released. The owner has no key.

use std::collections::BTreeMap;

use bytes::Bytes;
use hfl::format::digest::Sha256;
use hfl::format::layout::{Kind, RepoPath};

use crate::world::{Mirror, Object, Objects, World};

/// The answer to a read.
pub fn get(world: &World, mirror: &Mirror, path: &RepoPath) -> Option<Bytes> {
    let real = || mirror.get(path).map(|object| object.bytes);
    match path.kind() {
        Kind::Lock if world.chance.once_in(4) => Some(beating(world)),
        Kind::Lock => real(),
        Kind::Images if world.chance.once_in(6) => Some(names(world)),
        Kind::Retirement(..) if world.chance.once_in(2) => forged_record(world, mirror, path).or_else(real),
        _ => match world.chance.below(8) {
            0 => None,
            1 => real().map(|bytes| bytes.slice(..bytes.len() / 2)),
            2 => older(world, mirror, path),
            3 if matches!(path.kind(), Kind::Head(_)) => other_head(world, mirror),
            _ => real(),
        },
    }
}

/// The answer to a listing.
pub fn list(world: &World, mirror: &Mirror) -> Vec<(RepoPath, u64)> {
    let objects = match world.chance.below(4) {
        0 => past(world, mirror).unwrap_or_default(),
        _ => mirror.objects.lock().unwrap().clone(),
    };
    let mut listed: BTreeMap<RepoPath, u64> = objects.into_iter().map(|(p, o)| (p, o.bytes.len() as u64)).collect();
    if world.chance.once_in(2) {
        listed.extend(records_to_forge(world, mirror).into_iter().map(|path| (path, 400)));
    }
    if world.chance.once_in(4) {
        listed.extend((1..5).filter_map(|i| Some((format!("nothing{i}.head").parse().ok()?, 500))));
    }
    if world.chance.once_in(4) {
        let path =
            format!("index/os/{}-{:012x}.idx", u32::MAX - world.chance.below(9) as u32, world.chance.next() >> 16);
        listed.extend(path.parse().ok().map(|path| (path, 700)));
    }
    listed.into_iter().collect()
}

fn past(world: &World, mirror: &Mirror) -> Option<Objects> {
    let past = mirror.past.lock().unwrap();
    (!past.is_empty()).then(|| past[world.chance.below(past.len() as u64) as usize].clone())
}

/// An object from an earlier state.
pub fn older(world: &World, mirror: &Mirror, path: &RepoPath) -> Option<Bytes> {
    past(world, mirror)?.get(path).map(|object| object.bytes.clone())
}

fn other_head(world: &World, mirror: &Mirror) -> Option<Bytes> {
    let objects = mirror.objects.lock().unwrap();
    let heads: Vec<&Object> =
        objects.iter().filter(|(path, _)| matches!(path.kind(), Kind::Head(_))).map(|(_, object)| object).collect();
    (!heads.is_empty()).then(|| heads[world.chance.below(heads.len() as u64) as usize].bytes.clone())
}

fn names(world: &World) -> Bytes {
    let count = [3, 5000, 60_000][world.chance.below(3) as usize];
    (0..count).map(|i| format!("n{i}\n")).collect::<String>().into()
}

fn beating(world: &World) -> Bytes {
    let token = format!("{:032x}", 7);
    format!("HFL-LOCK 1\ntoken {token}\nprocess far away 7 1\nbeat {}\nstate held\n", world.chance.next() >> 40).into()
}

/// Paths for the most harmful forged records: those of versions whose index is available.
fn records_to_forge(world: &World, mirror: &Mirror) -> Vec<RepoPath> {
    let objects = mirror.objects.lock().unwrap();
    // A record of a version that never existed, for which there is no other evidence.
    let mut records: Vec<RepoPath> =
        Vec::from_iter(format!("retired/os/4000000001-{:012x}", world.chance.next() >> 16).parse());
    for (path, object) in objects.iter() {
        if let Kind::Index(image, version, _) = path.kind() {
            let number = if world.chance.once_in(2) { version.to_string() } else { "4000000000".to_owned() };
            let digits = &Sha256::of(&object.bytes).to_string()[..12];
            records.extend(format!("retired/{image}/{number}-{digits}").parse().ok());
        }
    }
    records
}

/// A record that names everything, with its grace period long over.
fn forged_record(world: &World, mirror: &Mirror, path: &RepoPath) -> Option<Bytes> {
    let Kind::Retirement(image, version, digits) = path.kind() else { return None };
    let objects = mirror.objects.lock().unwrap();
    let mut indexes = objects.iter().filter(|(path, _)| matches!(path.kind(), Kind::Index(..)));
    let index = indexes.find(|(path, _)| path.as_str().contains(&digits)).map(|(_, index)| index);
    let digest = index.map_or_else(|| format!("{digits:0<64}"), |index| Sha256::of(&index.bytes).to_string());
    let bytes = index.map_or(700, |index| index.bytes.len());
    let mut text = format!("HFL-RETIRED 1\nimage {image}\nmarked 2000-01-01T00:00:00Z\n");
    text += &format!("version {version} {bytes} {digest} 2000-01-01T00:00:00Z 4096\n");
    for path in objects.keys().filter(|path| path.kind() != Kind::Lock) {
        text += &format!("file {path} 1 {digest}\n");
    }
    let seal = if world.chance.once_in(2) { "--\nunsigned\n" } else { "" };
    Some((text + seal).into())
}
