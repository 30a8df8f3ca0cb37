//! A mirror in memory as a machine reaches it: slow, unreliable, or hostile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hfl::Error;
use hfl::format::layout::{Kind, RepoPath};
use hfl::publish::Connect;
use hfl::store::{Entry, Exclusive, Fetch, Freshness, Put, Store, StoreError, StoreErrorKind, Swap};

use crate::hostile;
use crate::world::{Machine, Mirror, World};

/// How long a hanging call takes to fail.
const HANG: Duration = Duration::from_secs(180);
/// Maximum delay of a request that arrives after its caller has given up.
const LATE_MAX_MS: u64 = 8000;

/// One mirror, as seen by one process of one machine.
#[derive(Debug)]
pub struct Reached {
    mirror: Arc<Mirror>,
    machine: Arc<Machine>,
    process: u64,
    location: String,
    /// Whether it is read at its public URL.
    is_public: bool,
}

/// The outcome of a call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// It fails without effect.
    Fails,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It fails, and takes effect some seconds later.
    Late,
}

#[derive(Debug)]
pub struct Network(pub Arc<Machine>);

#[async_trait]
impl Connect for Network {
    async fn store(&self, config: &hfl::config::Mirror, _: &Path) -> Result<Arc<dyn Store>, Error> {
        Ok(Arc::new(self.reach(config, false)))
    }

    fn public(&self, config: &hfl::config::Mirror) -> Result<Option<Arc<dyn Fetch>>, Error> {
        let reached = self.reach(config, true);
        Ok(reached.mirror.is_public.then(|| Arc::new(reached) as Arc<dyn Fetch>))
    }
}

impl Network {
    fn reach(&self, config: &hfl::config::Mirror, is_public: bool) -> Reached {
        let place: usize = config.name.as_str()[1..].parse().expect("mN");
        let machine = Arc::clone(&self.0);
        let mirror = Arc::clone(&machine.world.mirrors[place]);
        let (process, location) = (machine.process.load(Relaxed), format!("sim://{place}"));
        Reached { mirror, machine, process, location, is_public }
    }
}

impl Reached {
    fn world(&self) -> &World {
        &self.machine.world
    }

    fn error(&self, path: &RepoPath, kind: StoreErrorKind, why: &str) -> StoreError {
        StoreError::at(&self.location, path, kind, why)
    }

    fn unreachable(&self, what: &str) -> StoreError {
        self.machine.was_blind.store(true, Relaxed);
        StoreError::whole(&self.location, StoreErrorKind::Unreachable, what)
    }

    /// Returns once the call may proceed; never for a process that has ended.
    async fn arrive(&self, what: &str) -> Result<(), StoreError> {
        self.live().await;
        let world = self.world();
        world.calls.fetch_add(1, Relaxed);
        let weather = world.weather();
        if world.chance.once_in(weather.crash) {
            world.fault(format_args!("m{} crashes before {what}", self.machine.number));
            self.machine.process.fetch_add(1, Relaxed);
            self.machine.crashed.notify_one();
        } else if world.chance.once_in(weather.sleep) {
            self.machine.fall_asleep();
        }
        self.live().await;
        tokio::time::sleep(Duration::from_millis(1 + world.chance.below(120))).await;
        self.live().await;
        if self.mirror.is_away.load(Relaxed) {
            return Err(self.unreachable("away"));
        }
        if world.chance.once_in(weather.hangs) {
            world.fault(format_args!("m{} hangs in {what}", self.machine.number));
            let error = self.unreachable("timed out");
            tokio::time::sleep(HANG).await;
            self.live().await;
            return Err(error);
        }
        Ok(())
    }

    /// Waits while the machine is suspended, and forever if this process has ended.
    async fn live(&self) {
        self.machine.awake().await;
        if self.machine.process.load(Relaxed) != self.process {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a read returns an older state of a mutable object. Locks are always current; otherwise
    /// they would not exclude anyone.
    fn is_old(&self, path: &RepoPath) -> bool {
        let (world, weather) = (self.world(), self.world().weather());
        let often = if self.is_public { weather.old_public } else { weather.old_answer };
        let is_old = !path.is_immutable() && path.kind() != Kind::Lock && world.chance.once_in(often);
        if is_old {
            self.machine.was_blind.store(true, Relaxed);
            world.fault(format_args!("m{} sees an older {path}", self.machine.number));
        }
        is_old
    }

    fn fate(&self, what: &str) -> Fate {
        let (world, weather) = (self.world(), self.world().weather());
        let fate = if world.chance.once_in(weather.fails) {
            Fate::Fails
        } else if world.chance.once_in(weather.answer_lost) {
            Fate::AnswerLost
        } else if world.chance.once_in(weather.late) {
            Fate::Late
        } else {
            return Fate::Works;
        };
        world.fault(format_args!("m{} {fate:?} {what}", self.machine.number));
        fate
    }

    /// Changes the mirror according to the drawn outcome.
    async fn change<T: Send + 'static>(
        &self,
        what: String,
        change: impl FnOnce(&World, &Machine, &Mirror) -> T + Send + 'static,
        is_late_possible: bool,
    ) -> Result<T, StoreError> {
        self.arrive(&what).await?;
        let (world, machine, mirror) =
            (Arc::clone(&self.machine.world), Arc::clone(&self.machine), Arc::clone(&self.mirror));
        match self.fate(&what) {
            Fate::Works => {
                world.note(format_args!("m{} {what} at {}", machine.number, mirror.place));
                let done = change(&world, &machine, &mirror);
                tokio::time::sleep(Duration::from_millis(1 + world.chance.below(60))).await;
                self.live().await;
                Ok(done)
            }
            Fate::AnswerLost => {
                change(&world, &machine, &mirror);
                Err(self.unreachable("connection reset"))
            }
            Fate::Late if is_late_possible => {
                let wait = Duration::from_millis(world.chance.below(LATE_MAX_MS));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    world.note(format_args!("m{} late {what} at {}", machine.number, mirror.place));
                    change(&world, &machine, &mirror);
                });
                Err(self.unreachable("timed out"))
            }
            Fate::Fails | Fate::Late => Err(self.unreachable("connection reset")),
        }
    }

    /// The bytes that arrive. If the upload is cut, the driver's check must detect it.
    fn arrived(&self, path: &RepoPath, bytes: &Bytes) -> Result<Bytes, StoreError> {
        let world = self.world();
        let is_cut = world.chance.once_in(world.weather().half_written) && bytes.len() > 1;
        if !is_cut {
            return Ok(bytes.clone());
        }
        world.fault(format_args!("m{} half of {path}", self.machine.number));
        let half = bytes.slice(..bytes.len() / 2);
        let all = hfl::store::arrival::all_arrived(half.len() as u64, bytes.len() as u64);
        all.map_err(|why| self.error(path, StoreErrorKind::Unreachable, &why))?;
        Ok(half)
    }
}

#[async_trait]
impl Fetch for Reached {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        self.arrive(&format!("get {path}")).await?;
        if self.fate("get") != Fate::Works {
            return Err(self.unreachable("connection reset"));
        }
        let found = match self.mirror.is_hostile {
            true => hostile::get(self.world(), &self.mirror, path),
            false if self.is_old(path) => hostile::older(self.world(), &self.mirror, path),
            false => self.mirror.get(path).map(|object| object.bytes),
        };
        match found {
            None => Err(self.error(path, StoreErrorKind::NotFound, "not there")),
            Some(bytes) if bytes.len() as u64 > max_bytes => Err(self.error(path, StoreErrorKind::TooLong, "too long")),
            Some(bytes) => Ok(bytes),
        }
    }

    fn location(&self) -> &str {
        &self.location
    }
}

#[async_trait]
impl Store for Reached {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        let (bytes, path) = (self.arrived(path, &bytes)?, path.clone());
        let what = format!("put_new {path}");
        let put = move |world: &World, machine: &Machine, mirror: &Mirror| {
            if mirror.is_hostile && world.chance.once_in(3) {
                return Put::Created;
            }
            let object = world.object(bytes);
            if mirror.objects.lock().unwrap().contains_key(&path) {
                return Put::Exists;
            }
            mirror.objects.lock().unwrap().insert(path.clone(), object);
            world.checker.lock().unwrap().put(world, machine, mirror, &path);
            Put::Created
        };
        self.change(what, put, true).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        let (bytes, path) = (self.arrived(path, &bytes)?, path.clone());
        let what = format!("put_replace {path}");
        let put = move |world: &World, machine: &Machine, mirror: &Mirror| {
            let object = world.object(bytes);
            mirror.objects.lock().unwrap().insert(path.clone(), object);
            world.checker.lock().unwrap().put(world, machine, mirror, &path);
        };
        self.change(what, put, false).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        let (new, path, old) = (self.arrived(path, &new)?, path.clone(), old.map(<[u8]>::to_vec));
        let what = format!("swap {path}");
        let swap = move |world: &World, machine: &Machine, mirror: &Mirror| {
            if mirror.is_hostile && world.chance.once_in(3) {
                return Swap::Done;
            }
            let found = mirror.get(&path).map(|object| object.bytes.to_vec());
            if found != old {
                return Swap::Changed;
            }
            let object = world.object(new);
            mirror.past.lock().unwrap().push(mirror.objects.lock().unwrap().clone());
            mirror.objects.lock().unwrap().insert(path.clone(), object);
            world.checker.lock().unwrap().swapped(world, machine, mirror, &path, old.as_deref());
            Swap::Done
        };
        self.change(what, swap, true).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        match self.get(path, u64::MAX).await {
            Ok(bytes) => Ok(Some(bytes.len() as u64)),
            Err(e) if e.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.arrive(&format!("list {prefix}")).await?;
        if self.fate("list") != Fate::Works {
            return Err(self.unreachable("connection reset"));
        }
        let world = self.world();
        let shown = match self.mirror.is_hostile {
            true => hostile::list(world, &self.mirror),
            false => {
                self.mirror.objects.lock().unwrap().iter().map(|(p, o)| (p.clone(), o.bytes.len() as u64)).collect()
            }
        };
        let is_cut = world.chance.once_in(world.weather().cut_listing);
        if is_cut {
            self.machine.was_blind.store(true, Relaxed);
            self.machine.cut_listings.lock().unwrap().insert(self.mirror.place);
            world.fault(format_args!("m{} a cut listing", self.machine.number));
        }
        let is_below = |path: &RepoPath| {
            prefix.is_empty() || path.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let entries = shown.into_iter().filter(|(path, _)| is_below(path));
        let entries = entries.filter(|_| !is_cut || world.chance.once_in(2));
        Ok(entries.map(|(path, bytes)| Entry { path, bytes }).collect())
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        let path = path.clone();
        let what = format!("delete {path}");
        if path.kind() != Kind::Lock && self.world().chance.once_in(self.world().weather().sleep_at_removal) {
            self.machine.fall_asleep();
        }
        let delete = move |world: &World, machine: &Machine, mirror: &Mirror| {
            let gone = mirror.objects.lock().unwrap().remove(&path);
            if gone.is_some() && path.kind() != Kind::Lock {
                world.checker.lock().unwrap().deleted(world, machine, mirror, &path);
            }
        };
        self.change(what, delete, false).await
    }

    fn exclusive(&self) -> Exclusive {
        if self.mirror.place.is_multiple_of(2) { Exclusive::Always } else { Exclusive::Claimed }
    }

    fn jobs(&self) -> usize {
        2
    }
}
