//! Invariants of every honest mirror, checked after each event on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hfl::format::block::Block;
use hfl::format::digest::Sha256;
use hfl::format::head::{FileRow, Head, SignedHead, Trust};
use hfl::format::index::Index;
use hfl::format::layout::{Kind, RepoPath};
use hfl::format::name::{Name, Version};
use hfl::format::retirement::Retirement;
use hfl::format::update::{DeltaRow, Update};
use tokio::time::Instant;

use crate::world::{Machine, Mirror, Object, World};

#[derive(Debug)]
pub struct Checker {
    trust: Trust,
    /// Parsed indexes and updates, heads with their verification results, and correct objects by their unique
    /// numbers. They save checking the same bytes again.
    indexes: HashMap<Sha256, Arc<Index>>,
    updates: HashMap<Sha256, Arc<Update>>,
    right: HashSet<(RepoPath, u64)>,
    heads: HashMap<Sha256, Option<Arc<Head>>>,
    /// Objects damaged or lost without hfl's doing, by mirror.
    pub excused: BTreeSet<(usize, RepoPath)>,
    /// The newest version that each mirror ever had of an image, and its digest.
    newest: BTreeMap<(usize, Name), (Version, Sha256)>,
    /// The digest of each version number.
    numbers: BTreeMap<(Name, Version), Sha256>,
    /// The version numbers that each machine with recorded state brought to a mirror; below, all
    /// versions brought to any mirror.
    remembered: BTreeSet<(usize, Name, Version)>,
    made: HashSet<Sha256>,
    /// Versions retired by gc.
    retired: BTreeSet<Sha256>,
    /// When a version was dropped from a mirror's head.
    dropped: BTreeMap<(usize, Sha256), Instant>,
    /// Whether all clocks are right.
    pub clocks_are_right: bool,
    pub violations: Vec<String>,
    pub checks: u64,
}

impl Checker {
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            indexes: HashMap::new(),
            updates: HashMap::new(),
            right: HashSet::new(),
            heads: HashMap::new(),
            excused: BTreeSet::new(),
            newest: BTreeMap::new(),
            numbers: BTreeMap::new(),
            remembered: BTreeSet::new(),
            made: HashSet::new(),
            retired: BTreeSet::new(),
            dropped: BTreeMap::new(),
            clocks_are_right: true,
            violations: Vec::new(),
            checks: 0,
        }
    }

    fn violated(&mut self, world: &World, what: String) {
        world.note(format_args!("VIOLATED {what}"));
        self.violations.push(what);
    }

    /// Called after an object was created or replaced.
    pub fn put(&mut self, world: &World, machine: &Machine, mirror: &Mirror, path: &RepoPath) {
        if path.kind() == Kind::Lock {
            machine.locked.lock().unwrap().insert(mirror.place);
        }
        if mirror.is_hostile {
            return;
        }
        self.excused.remove(&(mirror.place, path.clone()));
        if matches!(path.kind(), Kind::Block(_) | Kind::Index(..) | Kind::Head(_) | Kind::Delta(_)) || path.is_update()
        {
            self.promises(world, mirror);
        }
    }

    /// Called after a head, the list of images or a lock was replaced.
    pub fn swapped(&mut self, world: &World, machine: &Machine, mirror: &Mirror, path: &RepoPath, old: Option<&[u8]>) {
        self.excused.remove(&(mirror.place, path.clone()));
        if path.kind() == Kind::Lock {
            machine.locked.lock().unwrap().insert(mirror.place);
        }
        let Kind::Head(image) = path.kind() else { return };
        let Some(new) = mirror.get(path).and_then(|object| self.head(&object.bytes)) else { return };
        if machine.grace_days.lock().unwrap().is_some() {
            self.retire(&new);
        }
        if mirror.is_hostile {
            return;
        }
        self.promises(world, mirror);
        self.numbers(world, machine, mirror, &image, &new);
        if let Some(old) = old.and_then(|old| self.head(old)) {
            self.history(world, mirror, &old, &new);
        }
    }

    /// Called after an object was removed.
    pub fn deleted(&mut self, world: &World, machine: &Machine, mirror: &Mirror, path: &RepoPath) {
        if mirror.is_hostile {
            return;
        }
        if matches!(path.kind(), Kind::Head(_) | Kind::Images) {
            self.violated(world, format!("{path} was removed from m{}", mirror.place));
        }
        self.promises(world, mirror);
        let grace = *machine.grace_days.lock().unwrap();
        if let (Kind::Block(_), Some(days), true) = (path.kind(), grace, self.clocks_are_right) {
            self.grace(world, mirror, path, Duration::from_secs(u64::from(days) * 86_400));
        }
    }

    /// The versions in the newest head of any honest mirror: others may still name what was retired.
    pub fn named(&mut self, world: &World, image: &Name) -> BTreeSet<Version> {
        let honest = world.mirrors.iter().filter(|mirror| !mirror.is_hostile);
        let files = honest.filter_map(|mirror| mirror.get(&RepoPath::head(image)));
        let newest = files.filter_map(|file| self.head(&file.bytes)).max_by_key(|head| head.newest().version);
        newest.iter().flat_map(|head| head.versions.iter().map(|row| row.version)).collect()
    }

    fn head(&mut self, file: &[u8]) -> Option<Arc<Head>> {
        let trust = &self.trust;
        let verified = || SignedHead::parse(file).ok()?.verify(trust).ok().map(Arc::new);
        self.heads.entry(Sha256::of(file)).or_insert_with(verified).clone()
    }

    /// The head is absent or verifies, and everything that it names is present and correct.
    pub fn promises(&mut self, world: &World, mirror: &Mirror) {
        self.checks += 1;
        let objects = mirror.objects.lock().unwrap().clone();
        let heads: Vec<(Name, &Object, &RepoPath)> = objects
            .iter()
            .filter_map(|(path, object)| match path.kind() {
                Kind::Head(name) => Some((name, object, path)),
                _ => None,
            })
            .collect();
        for (name, object, path) in heads {
            if self.excused.contains(&(mirror.place, path.clone())) {
                continue;
            }
            let Some(head) = self.head(&object.bytes) else {
                return self.violated(world, format!("the head of {name} on m{} does not verify", mirror.place));
            };
            if let Some(what) = self.first_broken(mirror.place, &head, &objects) {
                return self.violated(world, format!("m{}, {name} {}: {what}", mirror.place, head.newest().version));
            }
        }
    }

    fn first_broken(&mut self, place: usize, head: &Head, objects: &BTreeMap<RepoPath, Object>) -> Option<String> {
        for row in &head.versions {
            let path = row.index_path(&head.image);
            let index = match self.indexes.get(&row.index_sha256) {
                Some(index) => Arc::clone(index),
                None => {
                    let file: Bytes = match objects.get(&path) {
                        Some(object) if Sha256::of(&object.bytes) == row.index_sha256 => object.bytes.clone(),
                        _ if self.excused.contains(&(place, path.clone())) => continue,
                        _ => return Some(format!("{path} is missing or wrong")),
                    };
                    let index = Arc::new(Index::parse(&file).expect("an index"));
                    self.indexes.insert(row.index_sha256, Arc::clone(&index));
                    index
                }
            };
            if !self.is_right(place, objects, &path, |bytes| Sha256::of(bytes) == row.index_sha256) {
                return Some(format!("{path} is missing or wrong"));
            }
            for block in index.blocks() {
                let path = RepoPath::block(&block.id);
                if !self.is_right(place, objects, &path, |bytes| Block::open(block, bytes).is_ok()) {
                    return Some(format!("{path} of version {} is missing or wrong", row.version));
                }
            }
        }
        head.files.iter().find_map(|row| self.broken_file(place, row, objects))
    }

    /// What is missing or wrong of a file: itself, or a delta of an update.
    fn broken_file(&mut self, place: usize, row: &FileRow, objects: &BTreeMap<RepoPath, Object>) -> Option<String> {
        if !self.is_right(place, objects, &row.path, |bytes| Sha256::of(bytes) == row.sha256) {
            return Some(format!("{} is missing or wrong", row.path));
        }
        if !self.updates.contains_key(&row.sha256) && row.path.is_update() {
            // A file that is excused is not read.
            let file = objects.get(&row.path).filter(|object| Sha256::of(&object.bytes) == row.sha256)?;
            self.updates.insert(row.sha256, Arc::new(Update::parse(&file.bytes).expect("an update")));
        }
        let update = self.updates.get(&row.sha256).cloned()?;
        let is_wrong = |delta: &&DeltaRow| {
            let path = RepoPath::delta(&delta.sha256);
            // A damaged delta is not copied; readers then fetch the block.
            let is_excused = self.excused.iter().any(|(_, rotten)| *rotten == path);
            !is_excused && !self.is_right(place, objects, &path, |bytes| Sha256::of(bytes) == delta.sha256)
        };
        let wrong = update.deltas().iter().find(is_wrong)?;
        Some(format!("{} of {} is missing or wrong", RepoPath::delta(&wrong.sha256), row.path))
    }

    fn is_right(
        &mut self,
        place: usize,
        objects: &BTreeMap<RepoPath, Object>,
        path: &RepoPath,
        right: impl Fn(&[u8]) -> bool,
    ) -> bool {
        if self.excused.contains(&(place, path.clone())) {
            return true;
        }
        let Some(object) = objects.get(path) else { return false };
        let key = (path.clone(), object.number);
        if self.right.contains(&key) {
            return true;
        }
        let is_right = right(&object.bytes);
        if is_right {
            self.right.insert(key);
        }
        is_right
    }

    /// Version numbers are never reused and never go back.
    fn numbers(&mut self, world: &World, machine: &Machine, mirror: &Mirror, image: &Name, new: &Head) {
        let row = new.newest();
        let now = (row.version, row.index_sha256);
        let before = self.newest.insert((mirror.place, image.clone()), now);
        // If the index that proved a lost head is damaged, or missing from a listing, nothing shows that
        // there was a head.
        let is_hidden = machine.cut_listings.lock().unwrap().contains(&mirror.place);
        let is_proven = |before: &(Version, Sha256)| {
            !is_hidden && !self.excused.contains(&(mirror.place, RepoPath::index(image, before.0, &before.1)))
        };
        let before = before.filter(is_proven);
        if let Some(before) = before.filter(|before| before.0 > now.0 || (before.0 == now.0 && before.1 != now.1)) {
            self.violated(world, format!("{image} on m{} went from {} to {}", mirror.place, before.0, now.0));
        }
        let known = *self.numbers.entry((image.clone(), row.version)).or_insert(row.index_sha256);
        let is_new = self.made.insert(row.index_sha256);
        if machine.has_state && !self.remembered.insert((machine.number, image.clone(), row.version)) && is_new {
            self.violated(
                world,
                format!("{image} {} was used twice by m{}, who remembers", row.version, machine.number),
            );
        }
        if known != row.index_sha256 && machine.saw_everything() {
            let what = format!("{image} {} was used twice by m{}, who saw everything", row.version, machine.number);
            self.violated(world, what);
        }
    }

    /// A gc writes a head with the same newest version, from which the retired versions are missing.
    fn retire(&mut self, new: &Head) {
        let heads = self.heads.values().flatten().filter(|head| head.newest() == new.newest());
        let dropped = heads.flat_map(|head| &head.versions).map(|row| row.index_sha256);
        self.retired.extend(dropped.filter(|digest| !names(new, digest)));
    }

    /// A version leaves the history only by gc, or because another version has its number. It then has a
    /// record.
    fn history(&mut self, world: &World, mirror: &Mirror, old: &Head, new: &Head) {
        // The new head comes from a publisher who could not see the old one: two heads have the same
        // number, or one was lost.
        let is_fork = !names(new, &old.newest().index_sha256);
        for (version, digest) in old.versions.iter().map(|row| (row.version, row.index_sha256)) {
            if names(new, &digest) {
                continue;
            }
            if !is_fork && !self.retired.contains(&digest) {
                let what = format!("{} {version} left the history of m{} by no collection", old.image, mirror.place);
                self.violated(world, what);
            }
            self.dropped.entry((mirror.place, digest)).or_insert_with(Instant::now);
            let path = RepoPath::retirement(&old.image, version, &digest);
            let record = mirror.get(&path).map(|object| Retirement::read(&object.bytes, &path, &self.trust));
            if !matches!(record, Some(Ok(_))) {
                let what = format!("{} {version} left the history of m{} without a record", old.image, mirror.place);
                self.violated(world, what);
            }
        }
    }

    /// No block is removed before the grace period of every version that named it is over.
    fn grace(&mut self, world: &World, mirror: &Mirror, path: &RepoPath, grace: Duration) {
        let Kind::Block(id) = path.kind() else { return };
        for ((place, digest), at) in self.dropped.clone() {
            let named = self.indexes.get(&digest).is_some_and(|index| index.blocks().iter().any(|row| row.id == id));
            if place == mirror.place && named && at.elapsed() + Duration::from_secs(60) < grace {
                self.violated(world, format!("{path} went from m{place} {:?} after it was retired", at.elapsed()));
            }
        }
    }
}

fn names(head: &Head, digest: &Sha256) -> bool {
    head.versions.iter().any(|row| row.index_sha256 == *digest)
}
