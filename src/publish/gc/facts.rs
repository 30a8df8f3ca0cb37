//! The facts that a collection is based on: live objects, retired versions, and mirrors in doubt. All facts come from
//! verified heads, signed records and the indexes that these name. A listing only says where to look.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Display;

use futures_util::future::join_all;

use super::GcOptions;
use super::choice::Choice;
use super::deltas::{self, DeadDeltas};
use crate::error::{Error, ErrorKind};
use crate::format::digest::{BlockId, Sha256};
use crate::format::head::{Head, VersionRow};
use crate::format::index::Index;
use crate::format::layout::{Kind, RepoPath};
use crate::format::name::{Name, Version};
use crate::format::retirement::Retirement;
use crate::format::time::Timestamp;
use crate::publish::base::{indexes, listing};
use crate::publish::repository::OpenRepository;
use crate::publish::repository::mirror::{self, Failure, OpenMirror};
use crate::repo::survey::records::{self, RecordState};
use crate::repo::survey::{HeadState, MirrorView};

/// The longest plausible time without a new head, in days. Beyond it, this machine's clock is doubted.
const IDLE_DAYS_MAX: u32 = 366;

/// The input of [`Plan::compute`](super::Plan::compute).
#[derive(Debug)]
pub(super) struct Facts {
    pub now: Timestamp,
    /// The latest creation time of any verified head.
    pub newest_signed: Timestamp,
    pub grace_days: u32,
    /// Retired versions with a verified record, by the path of the record.
    pub retirements: BTreeMap<RepoPath, Retirement>,
    /// Those whose grace period is over, by the path of the record; the value is whether a mirror still has the index.
    pub due: BTreeMap<RepoPath, bool>,
    /// Versions past their grace period with a currently unreadable index, and why.
    pub unreadable: Vec<String>,
    /// The blocks of all due versions, with their compressed size in bytes.
    pub blocks: HashMap<BlockId, u32>,
    /// Those of these blocks that are live: named by a verified head that no other mirror has superseded, or by a
    /// version still in its grace period.
    pub living_blocks: HashSet<BlockId>,
    /// Deltas that nothing names any more.
    pub deltas: DeadDeltas,
    /// Indexes and files that such a head or version names.
    pub living_paths: HashSet<RepoPath>,
    /// Versions that such a head names, by index digest.
    pub living_versions: HashSet<Sha256>,
    pub mirrors: Vec<MirrorFacts>,
}

/// The facts about one mirror.
#[derive(Debug)]
pub(super) struct MirrorFacts {
    pub name: String,
    /// Why nothing may be removed there, if so.
    pub doubt: Option<Failure>,
    /// Listed files, by the version they were published for.
    pub files: HashMap<(Name, Version), Vec<RepoPath>>,
    /// Objects at the path of a record that are not valid records, and why.
    pub refused: Vec<(RepoPath, String)>,
}

/// Gathers the facts. Indexes are read only if a version may be due.
pub(super) async fn gather(
    options: &GcOptions,
    repository: &OpenRepository,
    retired: &[Choice],
) -> Result<Facts, Error> {
    let new = if repository.config.dry_run { Vec::new() } else { records_of(retired) };
    let found = read_records(repository, &new).await;
    let latest = records::latest(found.iter());
    let mirrors = repository.mirrors.iter().zip(&repository.views).zip(&found);
    let mut facts = Facts {
        now: repository.config.host.now(),
        newest_signed: Timestamp::from_unix(0),
        grace_days: options.grace_days,
        retirements: latest.into_iter().map(|(path, found)| (path, found.retirement)).collect(),
        due: BTreeMap::new(),
        unreadable: Vec::new(),
        blocks: HashMap::new(),
        living_blocks: HashSet::new(),
        deltas: DeadDeltas::default(),
        living_paths: HashSet::new(),
        living_versions: HashSet::new(),
        mirrors: mirrors.map(|((mirror, view), found)| mirror_facts(mirror, view, found, repository)).collect(),
    };
    facts.take_heads(repository);
    facts.take_retired(retired);
    facts.take_pending();
    facts.read_due(repository).await;
    if !facts.blocks.is_empty() {
        facts.find_living(repository).await;
    }
    let is_due = |path: &RepoPath| facts.due.contains_key(path);
    let due = facts.retirements.iter().filter(|(path, _)| is_due(path)).map(|(_, retirement)| retirement);
    let pending = facts.retirements.iter().filter(|(path, _)| !is_due(path)).map(|(_, retirement)| retirement);
    facts.deltas = deltas::find(repository, due, pending).await;
    Ok(facts)
}

/// The chosen versions, each with its image.
fn rows_of(choices: &[Choice]) -> impl Iterator<Item = (&Name, &VersionRow)> {
    choices.iter().flat_map(|choice| choice.rows.iter().map(move |row| (&choice.image, row)))
}

/// The records written by this run, which no listing contains yet.
fn records_of(retired: &[Choice]) -> Vec<RepoPath> {
    rows_of(retired).map(|(image, row)| RepoPath::retirement(image, row.version, &row.index_sha256)).collect()
}

/// Reads the records on each mirror: those it lists, those of this run, and those verified on any other mirror. A mirror
/// that this run brought up to date received records after it was listed.
async fn read_records(repository: &OpenRepository, new: &[RepoPath]) -> Vec<BTreeMap<RepoPath, RecordState>> {
    let listed = |i: usize| repository.views[i].inventory.retirements.iter().filter(|path| !new.contains(path));
    let mut found = read_each(repository, true, |i| new.iter().chain(listed(i)).cloned().collect()).await;
    let is_verified = |state: &RecordState| matches!(state, RecordState::Verified(_));
    let verified = found.iter().flatten().filter(|(_, state)| is_verified(state)).map(|(path, _)| path.clone());
    let verified: BTreeSet<RepoPath> = verified.collect();
    let unlisted = |i: usize| verified.iter().filter(|path| !found[i].contains_key(*path)).cloned().collect();
    let more = read_each(repository, false, unlisted).await;
    for (found, more) in found.iter_mut().zip(more) {
        found.extend(more);
    }
    found
}

async fn read_each(
    repository: &OpenRepository,
    are_listed: bool,
    paths: impl Fn(usize) -> Vec<RepoPath>,
) -> Vec<BTreeMap<RepoPath, RecordState>> {
    let reads = repository.mirrors.iter().enumerate().map(|(i, mirror)| {
        let paths = if mirror.is_up() { paths(i) } else { Vec::new() };
        async move {
            match are_listed {
                true => records::read_listed(&*mirror.store, &paths, &repository.policy).await,
                false => records::read(&*mirror.store, &paths, &repository.policy).await,
            }
        }
    });
    join_all(reads).await
}

fn mirror_facts(
    mirror: &OpenMirror,
    view: &MirrorView,
    found: &BTreeMap<RepoPath, RecordState>,
    repository: &OpenRepository,
) -> MirrorFacts {
    let mut files: HashMap<(Name, Version), Vec<RepoPath>> = HashMap::new();
    for entry in &view.inventory.files {
        if let Some(owner) = entry.path.owner() {
            files.entry(owner).or_default().push(entry.path.clone());
        }
    }
    let refused = found.iter().filter_map(|(path, state)| match state {
        RecordState::Refused(why) => Some((path.clone(), why.clone())),
        RecordState::Verified(_) | RecordState::Unreadable(_) => None,
    });
    let doubt = doubt(mirror, view).or_else(|| lag(view, repository)).or_else(|| unread(found));
    MirrorFacts { name: mirror.name().to_owned(), doubt, files, refused: refused.collect() }
}

/// Why nothing may be removed from a mirror: it failed, or it is uncertain what one of its heads names.
fn doubt(mirror: &OpenMirror, view: &MirrorView) -> Option<Failure> {
    if let Some(failure) = &mirror.failed {
        let why = format!("{}, so nothing can be removed", failure.why);
        return Some(Failure { why, ..failure.clone() });
    }
    if let Some(e) = &view.unlisted {
        return Some(uncertain(format!("it cannot be listed: {e}"), "let the publisher list it"));
    }
    if let Some(flaw) = &view.list.flaw {
        return Some(uncertain(format!("its list of images: {}", flaw.what), "correct the list by hand"));
    }
    if view.inventory.lacks_heads && view.list.is_absent() {
        let why = "it has no list of images, and which heads there are cannot be listed";
        return Some(uncertain(why, "let the publisher list the base of the mirror"));
    }
    let names: BTreeSet<&Name> = view.list.names.iter().chain(&view.inventory.heads).collect();
    names.into_iter().find_map(|name| match view.heads.get(name) {
        Some(HeadState::Verified(found)) => found.head.binding_note().map(|note| {
            let why = format!("{name}.head has the note `{note}`, which this hfl does not know");
            Failure { kind: ErrorKind::Local, ..uncertain(why, "update hfl: a newer one publishes this image") }
        }),
        None | Some(HeadState::Absent) => {
            Some(uncertain(format!("the head of {name} is missing"), "bring it up to date with hfl sync"))
        }
        Some(HeadState::Damaged(flaw, _)) => {
            Some(uncertain(format!("{name}.head: {}", flaw.what), "repair it with hfl verify --repair"))
        }
        Some(HeadState::Foreign(_, flaw, _)) => {
            let advice =
                format!("put the public key of {name} as {name}.pub beside the other keys, or repair its head");
            Some(uncertain(format!("{name}.head: {}", flaw.what), advice))
        }
        Some(HeadState::Unreadable(e)) => Some(uncertain(format!("{name}.head: {e}"), "wait for it, or repair it")),
    })
}

fn uncertain(why: impl Display, advice: impl Into<String>) -> Failure {
    Failure {
        kind: ErrorKind::Unverified,
        why: format!("{why}, so nothing can be removed"),
        advice: Some(advice.into()),
    }
}

/// A mirror with an older head than another mirror is left alone: what that head names is live on this mirror only. A
/// dry run skips this check, because it has not brought the mirrors up to date as a real run would.
fn lag(view: &MirrorView, repository: &OpenRepository) -> Option<Failure> {
    if repository.config.dry_run {
        return None;
    }
    let heads = view.heads.iter().filter_map(|(name, state)| Some((name, state.verified()?)));
    let (name, _) = heads.into_iter().find(|(name, found)| repository.is_superseded(name, &found.head))?;
    Some(uncertain(format!("{name}.head is older than on other mirrors"), "bring it up to date with hfl sync"))
}

/// An unreadable record puts the mirror in doubt: it may carry a later retirement time than the copies on other
/// mirrors.
fn unread(found: &BTreeMap<RepoPath, RecordState>) -> Option<Failure> {
    found.iter().find_map(|(path, state)| match state {
        RecordState::Unreadable(e) => Some(uncertain(format!("{path}: {e}"), "wait for it, or remove it by hand")),
        RecordState::Verified(_) | RecordState::Refused(_) => None,
    })
}

impl Facts {
    fn take_heads(&mut self, repository: &OpenRepository) {
        for (_, _, head) in repository.current_heads() {
            self.newest_signed = self.newest_signed.max(head.created);
            self.living_versions.extend(head.versions.iter().map(|row| row.index_sha256));
            self.living_paths.extend(paths_of(head));
        }
    }

    /// The grace period of what this run retired begins now, whatever the mirrors show: one may still return the state
    /// before. In a dry run, where nothing was retired, these versions are still living.
    fn take_retired(&mut self, choices: &[Choice]) {
        for (image, row) in rows_of(choices) {
            let now = Retirement { image: image.clone(), marked: self.now, row: row.clone(), files: Vec::new() };
            let known = self.retirements.entry(now.path()).or_insert(now);
            known.marked = known.marked.max(self.now);
        }
    }

    /// Keeps the files of versions in their grace period live: another version with the same number may be due.
    fn take_pending(&mut self) {
        let pending: Vec<RepoPath> =
            self.retirements.values().filter(|r| !self.is_due(r)).flat_map(Retirement::files_and_signatures).collect();
        self.living_paths.extend(pending);
    }

    /// Reads the indexes of the due versions one at a time, since many versions share most of their blocks.
    async fn read_due(&mut self, repository: &OpenRepository) {
        let (mut due, mut blocks, mut unreadable) = (BTreeMap::new(), HashMap::new(), Vec::new());
        for (path, retirement) in self.retirements.iter().filter(|(_, r)| self.is_due(r)) {
            match any_index(repository, &retirement.image, &retirement.row).await {
                Found::Index(index) => {
                    blocks.extend(index.blocks().iter().map(|row| (row.id, row.zlib_bytes)));
                    due.insert(path.clone(), true);
                }
                Found::Gone => drop(due.insert(path.clone(), false)),
                // The index may become readable again, so its blocks are left for a later run.
                Found::Unreadable(why) => {
                    let (image, version) = (&retirement.image, retirement.row.version);
                    unreadable.push(format!("the index of {image} {version} cannot be read ({why})"));
                }
            }
        }
        (self.due, self.blocks, self.unreadable) = (due, blocks, unreadable);
    }

    /// Whether a version is past its grace period and not named by any head.
    pub fn is_due(&self, retirement: &Retirement) -> bool {
        let is_over = retirement.marked.plus_days(self.grace_days) <= self.now && !self.clock_is_ahead();
        (is_over || self.grace_days == 0) && !self.living_versions.contains(&retirement.row.index_sha256)
    }

    /// Whether this machine's clock is more than `IDLE_DAYS_MAX` ahead of every verified head. It then cannot measure a
    /// grace period.
    pub fn clock_is_ahead(&self) -> bool {
        self.newest_signed.plus_days(IDLE_DAYS_MAX) < self.now
    }

    /// Finds which candidate blocks are still live. Indexes are read one at a time and not retained.
    async fn find_living(&mut self, repository: &OpenRepository) {
        for (row, image, mirrors) in living_rows(repository).into_iter().chain(self.pending_rows()) {
            match any_index(repository, &image, &row).await {
                Found::Index(index) => {
                    let living = index.blocks().iter().map(|row| row.id).filter(|id| self.blocks.contains_key(id));
                    self.living_blocks.extend(living);
                }
                // This includes retired versions: a client that has one open reads its blocks, which are unknown
                // without the index.
                Found::Gone => self.doubt_all(&mirrors, &image, &row, "no mirror has a good index of it"),
                Found::Unreadable(why) => self.doubt_all(&mirrors, &image, &row, &why),
            }
        }
    }

    /// Every version that is retired and not yet due. A client that has it open may still read it from any mirror.
    fn pending_rows(&self) -> Vec<LivingRow> {
        let is_living = |r: &Retirement| self.living_versions.contains(&r.row.index_sha256);
        let pending = self.retirements.values().filter(|r| !self.is_due(r) && !is_living(r));
        pending.map(|r| (r.row.clone(), r.image.clone(), (0..self.mirrors.len()).collect())).collect()
    }

    fn doubt_all(&mut self, mirrors: &[usize], image: &Name, row: &VersionRow, why: &str) {
        let is_retired = !self.living_versions.contains(&row.index_sha256);
        let or_wait = if is_retired { ", or wait until its grace period is over" } else { "" };
        for &mirror in mirrors {
            let why = format!("{image} version {}: {why}", row.version);
            let advice = format!("restore {} from a copy of the repository{or_wait}", row.index_path(image));
            self.mirrors[mirror].doubt.get_or_insert_with(|| uncertain(why, advice));
        }
    }

    /// For a dry run: treats the versions that would be retired as retired now.
    pub fn assume_retired(&mut self, choices: &[Choice], repository: &OpenRepository) {
        for (image, row) in rows_of(choices) {
            let Some(head) = repository.newest_head(image) else { continue };
            let files = head.head.files.iter().filter(|file| file.path.belongs_to(image, row.version));
            self.living_versions.remove(&row.index_sha256);
            let retirement = Retirement {
                image: image.clone(),
                marked: self.now.max(head.head.created),
                row: row.clone(),
                files: files.cloned().collect(),
            };
            self.retirements.insert(retirement.path(), retirement);
        }
    }
}

/// Indexes and files that a head names, each with its signature.
fn paths_of(head: &Head) -> impl Iterator<Item = RepoPath> {
    let indexes = head.versions.iter().map(|row| row.index_path(&head.image));
    let paths = indexes.chain(head.files.iter().map(|file| file.path.clone()));
    paths.flat_map(|path| [path.signature(), path])
}

/// A version whose blocks are live, its image, and the mirrors whose heads name it.
type LivingRow = (VersionRow, Name, Vec<usize>);

/// Every version that a verified head names, except older heads of lagging mirrors.
fn living_rows(repository: &OpenRepository) -> Vec<LivingRow> {
    let mut rows: BTreeMap<Sha256, LivingRow> = BTreeMap::new();
    for (mirror, name, head) in repository.current_heads() {
        for row in &head.versions {
            let living = rows.entry(row.index_sha256).or_insert_with(|| (row.clone(), name.clone(), Vec::new()));
            living.2.push(mirror);
        }
    }
    rows.into_values().collect()
}

/// Counts the objects that the heads name, and those they would still name without the versions in `retiring`.
///
/// # Errors
/// Currently none; unreadable indexes are not counted.
pub(super) async fn count_objects(
    repository: &OpenRepository,
    retiring: &HashSet<(Name, Version)>,
) -> Result<(usize, usize), Error> {
    let (mut all, mut living): (HashSet<u64>, HashSet<u64>) = Default::default();
    let (mut all_paths, mut living_paths) = (HashSet::new(), HashSet::new());
    for (row, image, _) in living_rows(repository) {
        let stays = !retiring.contains(&(image.clone(), row.version));
        let index = match any_index(repository, &image, &row).await {
            Found::Index(index) => index,
            // An unreadable index cannot be counted, and its blocks are not removed either.
            Found::Gone | Found::Unreadable(_) => continue,
        };
        // Eight bytes of a block name are enough for counting.
        for name in index.blocks().iter().filter_map(|row| row.id.0.first_chunk().copied().map(u64::from_be_bytes)) {
            all.insert(name);
            if stays {
                living.insert(name);
            }
        }
    }
    for (_, name, head) in repository.current_heads() {
        let goes = |path: &RepoPath| {
            let of_index = |kind| match kind {
                Kind::Index(image, version, _) => Some((image, version)),
                _ => None,
            };
            path.owner().or_else(|| of_index(path.kind())).is_some_and(|owner| retiring.contains(&owner))
        };
        for path in
            head.versions.iter().map(|row| row.index_path(name)).chain(head.files.iter().map(|f| f.path.clone()))
        {
            if !goes(&path) {
                living_paths.insert(path.clone());
            }
            all_paths.insert(path);
        }
    }
    Ok((all.len() + all_paths.len(), living.len() + living_paths.len()))
}

/// The result of looking for an index on all mirrors.
enum Found {
    Index(Box<Index>),
    /// Every mirror was asked, and none has a good copy.
    Gone,
    /// Some mirror could not be asked, and why.
    Unreadable(String),
}

/// Reads an index from any mirror that has a good copy.
async fn any_index(repository: &OpenRepository, image: &Name, row: &VersionRow) -> Found {
    let mirrors = &repository.mirrors;
    let found = indexes::find(mirrors, mirror::up(mirrors), image, row).await;
    if let Some(index) = found.index {
        return Found::Index(Box::new(index));
    }
    let away = mirrors.iter().find_map(|mirror| Some(mirror.failed.as_ref()?.why.clone()));
    let failed = || found.failed.iter().find(|(_, e)| !listing::is_damage(e)).map(|(_, e)| e.to_string());
    away.or_else(failed).map_or(Found::Gone, Found::Unreadable)
}
