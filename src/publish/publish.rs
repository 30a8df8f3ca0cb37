//! `publish`: the steps, in an order that keeps every mirror usable at every instant.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::artifact::boot_files::BootFiles;
use super::artifact::profile::Given;
use super::base::block_holders::{BlockHolders, MirrorSet};
use super::base::split_rule;
use super::deltas::{self, Deltas, Ingredients};
use super::pipeline::congestion::Congestion;
use super::pipeline::cut::{self, CutImage};
use super::pipeline::deliver::{self, Sending};
use super::pipeline::image::{self, Reading};
use super::pipeline::remake::Remake;
use super::pipeline::spool::{Spool, Spooled};
use super::pipeline::upload::{Job, Uploader, Uploads};
use super::repository::keyring::FoundKey;
use super::repository::options::{PublishOptions, Repository};
use super::repository::signer::Signer;
use super::repository::{Keyring, OpenRepository, Selection};
use super::version::carry_out::carry_on;
use super::version::plan::Extras;
use super::version::planned::Previewed;
use super::version::report::{ImagesReport, Report};
use super::version::session::Session;
use crate::disk::input::{self, Input};
use crate::disk::tree::TreeImage;
use crate::error::{Error, ErrorKind};
use crate::format::index::Index;
use crate::progress::{Event, Phase, Watch};
use crate::repo::survey::TrustPolicy;
use crate::split::Rule;
use crate::system::bridge;

/// Publishes an image.
///
/// # Errors
/// See [`ErrorKind`]. A failed mirror is only noted in the report, as long as one mirror is left.
pub async fn publish(repository: &Repository, options: &PublishOptions, watch: &Watch) -> Result<Report, Error> {
    // Before anything is locked: an image that cannot be published must not keep others waiting.
    let gathered = Gathered::new(repository, options, watch).await?;
    let keyring = repository.keyring.as_ref();
    let signer = Signer::for_version(repository, &options.name)?;
    let (policy, look) = (signer.policy(keyring, &options.name), Selection::at(&options.name));
    OpenRepository::during(repository.clone(), policy, look, watch.clone(), async |open| {
        steps(open, signer, options, gathered, &mut Previewed::new()).await
    })
    .await
}

/// Publishes several images, one after the other, while the mirrors are locked and surveyed once. Images share blocks
/// with those before them. One that fails does not stop the others.
///
/// # Errors
/// Those of [`publish()`], if no image could be published; interrupted by the user.
pub async fn publish_all(
    repository: &Repository,
    images: &[PublishOptions],
    watch: &Watch,
) -> Result<ImagesReport, Error> {
    let keyring = repository.keyring.as_ref();
    let mut policy = TrustPolicy::Known(keyring.map(Keyring::known_keys).unwrap_or_default());
    let mut signers: Vec<(&PublishOptions, Signer)> = Vec::new();
    for options in images {
        let signer = Signer::for_version(repository, &options.name)?;
        let is_new = signer.key.as_ref().is_some_and(FoundKey::is_new);
        let shared = signers.iter().filter(|_| is_new).find_map(|(_, earlier)| earlier.shared());
        let signer = shared.unwrap_or(signer);
        policy = policy.with(&options.name, &signer.trust);
        signers.push((options, signer));
    }
    let look = Selection::at_each(images.iter().map(|options| options.name.clone()));
    OpenRepository::during(repository.clone(), policy, look, watch.clone(), async |open| {
        let (mut report, mut first) = (ImagesReport::default(), None);
        let mut previewed = Previewed::new();
        for (options, signer) in signers {
            open.forgive();
            let published = match Gathered::new(repository, options, watch).await {
                Ok(gathered) => steps(open, signer, options, gathered, &mut previewed).await,
                Err(e) => Err(e),
            };
            match published {
                Ok(done) => report.images.push(done),
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => {
                    watch.progress.event(Event::Warning(&format!("{} is skipped: {e}", options.name)));
                    report.skipped.insert(options.name.to_string(), e.to_string());
                    first.get_or_insert(e);
                }
            }
        }
        first.filter(|_| report.images.is_empty()).map_or(Ok(report), Err)
    })
    .await
}

/// What is read of an image and beside it before the pass.
struct Gathered {
    image: Arc<Input>,
    bases: Vec<Arc<Input>>,
    profile: Option<Given>,
    boot: Option<BootFiles>,
}

impl Gathered {
    async fn new(repository: &Repository, options: &PublishOptions, watch: &Watch) -> Result<Self, Error> {
        let image = Arc::new(open_image(options, watch).await?);
        let bases = open_bases(options, watch).await?;
        let profile = options.profile.as_deref().map(|path| Given::read(path, &options.name)).transpose()?;
        let boot = gather(repository, options, &image, watch).await?;
        Ok(Self { image, bases, profile, boot })
    }
}

/// Opens the image, once for everything that reads it.
async fn open_image(options: &PublishOptions, watch: &Watch) -> Result<Input, Error> {
    let tree = make(options, watch).await?;
    let path = tree.as_ref().map_or_else(|| options.image.clone(), TreeImage::path);
    let kernel_is_wanted = options.boot.as_ref().is_some_and(|boot| boot.directory.is_none());
    let any_offset = options.zero_free || kernel_is_wanted || options.deltas.versions > 0;
    let name = options.image.display().to_string();
    let rule = options.split.unwrap_or(Rule::Content);
    let (as_it_is, watch) = (options.as_it_is, watch.clone());
    // A virtual disk may be converted.
    watch.progress.event(Event::Phase(Phase::Open));
    let opened = bridge::blocking(move || {
        let image = Input::open(&path)?.named(name);
        let image = match any_offset {
            true => image::unpacked(image, &watch)?,
            false => image::for_rule(image, rule, &watch)?,
        };
        if as_it_is { Ok(image) } else { image.complete() }
    });
    opened.await
}

/// Opens the copies of old images.
async fn open_bases(options: &PublishOptions, watch: &Watch) -> Result<Vec<Arc<Input>>, Error> {
    let (paths, watch) = (options.deltas.bases.clone(), watch.clone());
    let open = move || paths.iter().map(|path| image::unpacked(Input::open(path)?, &watch).map(Arc::new)).collect();
    bridge::blocking(open).await
}

/// Makes an image, if a directory is to be published.
async fn make(options: &PublishOptions, watch: &Watch) -> Result<Option<TreeImage>, Error> {
    let Some(kind) = options.tree else { return Ok(None) };
    let (tree, name, cancel) = (options.image.clone(), options.name.clone(), Arc::clone(&watch.cancel));
    if !tree.is_dir() {
        return Err(Error::usage(format!("{}: not a directory; --fs makes an image of one", tree.display())));
    }
    watch.progress.event(Event::Phase(Phase::Build));
    let stop = move || cancel.load(Ordering::Relaxed);
    bridge::blocking(move || TreeImage::make(&tree, kind, name.as_str(), &stop)).await.map(Some)
}

/// Gathers the boot files, before anything is locked or sent.
async fn gather(
    repository: &Repository,
    options: &PublishOptions,
    image: &Arc<Input>,
    watch: &Watch,
) -> Result<Option<BootFiles>, Error> {
    let Some(boot) = options.boot.clone() else { return Ok(None) };
    let (image, clients, templates) = (Arc::clone(image), repository.clients(), repository.templates());
    watch.progress.event(Event::Phase(Phase::Boot));
    bridge::blocking(move || BootFiles::gather(&boot, &image, clients, templates)).await.map(Some)
}

async fn steps(
    open: &mut OpenRepository,
    signer: Signer,
    options: &PublishOptions,
    gathered: Gathered,
    previewed: &mut Previewed,
) -> Result<Report, Error> {
    let Gathered { image, bases, profile, boot } = gathered;
    let mut session = Session::begin(open, options.name.clone(), signer).await?;
    let profiles = session.profiles(profile, &[]).await;
    let (rule, warning) = split_rule::of_next(&session.base, options.split, options.split_first);
    warning.iter().for_each(|text| session.repository.watch.progress.event(Event::Warning(text)));
    let (boot, boot_changed) = match boot {
        Some(boot) => session.boot_files(boot).await?,
        None => (Vec::new(), false),
    };
    let (cut, sending) = pass(&mut session, options, Arc::clone(&image), rule).await?;
    let sending = match deltas(&session, options, (&image, bases), &cut).await {
        Ok(deltas) => Sending { deltas, ..sending },
        Err(e) => {
            deliver::stop_all(sending.uploads).await;
            return Err(e);
        }
    };
    let extras = Extras { profiles, boot, deltas: sending.deltas.clone() };
    let planner = session.planner(options.label.as_ref(), options.force || boot_changed, &extras);
    let plan = planner.plan(cut, rule.into())?;
    carry_on(session, plan, sending, previewed).await
}

/// Makes the deltas of the new blocks, if they are wanted and possible.
///
/// # Errors
/// Interrupted by the user.
async fn deltas(
    session: &Session<'_>,
    options: &PublishOptions,
    (image, bases): (&Arc<Input>, Vec<Arc<Input>>),
    cut: &CutImage,
) -> Result<Option<Arc<Deltas>>, Error> {
    let old: Vec<Arc<Index>> = session.base.indexes.iter().map(|(_, index)| Arc::clone(index)).collect();
    if options.deltas.versions == 0 || old.is_empty() {
        return Ok(None);
    }
    let ingredients = Ingredients {
        name: &options.name,
        version: session.base.next_version()?,
        image,
        bases,
        cut,
        old,
        stores: session.mirrors().iter().filter(|m| m.is_up()).map(|m| Arc::clone(&m.store)).collect(),
        directory: &options.spool_directory,
        jobs: options.jobs,
    };
    let watch = &session.repository.watch;
    match deltas::make(&ingredients, options.deltas.versions, watch).await {
        Ok(made) => Ok(Some(Arc::new(made))),
        Err(e) if e.kind() == ErrorKind::Interrupted => Err(e),
        Err(e) => {
            watch.progress.event(Event::Warning(&format!("{}: no deltas are made: {e}", options.name)));
            Ok(None)
        }
    }
}

/// Makes the single pass over the image; new blocks are sent to the mirrors meanwhile.
async fn pass(
    session: &mut Session<'_>,
    options: &PublishOptions,
    image: Arc<Input>,
    rule: Rule,
) -> Result<(CutImage, Sending), Error> {
    let watch = session.repository.watch.clone();
    watch.progress.event(Event::Phase(Phase::Read));
    watch.progress.event(Event::Start { image_bytes: image.size() });
    let uploads = Arc::new(session.start_uploads());
    let known = Arc::new(std::mem::take(&mut session.base.known));
    let spool = Spool::new(options.spool_directory.clone(), options.spool_max_bytes);
    let loads = uploads.iter().flatten().map(Uploader::load).collect();
    let config = &session.repository.config;
    let congestion = Congestion::new(loads, config.min_mirrors, config.patience);
    let before = session.base.newest().map(Index::size);
    let name = image.name().to_owned();
    let unclean = input::unclean(&name, &mut |at, out| image.read_at(at, out));
    let (codec, jobs) = (options.codec, options.jobs);
    let reading = Reading { rule, zero_free: options.zero_free, digest: options.whole_sha256 };
    let again = || Remake { image: Arc::clone(&image), reading, codec, jobs, spool: Arc::clone(&spool) };
    let remake = image.is_repeatable().then(again);
    let up = session.mirrors().iter().enumerate().filter(|(_, m)| m.is_up());
    let mirrors: MirrorSet = up.map(|(i, _)| i).collect();
    let shared = (Arc::clone(&known), Arc::clone(&uploads));
    let pass = bridge::blocking(move || {
        let (known, uploads) = shared;
        let deliver = |spooled: Spooled| send_to_all(Arc::new(spooled), &uploads, &known);
        let (cancel, progress) = (&*watch.cancel, &*watch.progress);
        let full = || congestion.notice();
        let options =
            cut::Options { reading, codec, jobs, known: &known, mirrors, spool: &spool, full: &full, cancel, progress };
        cut::cut(&image, &options, &deliver)
    });
    let cut = pass.await;
    session.base.known = Arc::try_unwrap(known).unwrap_or_default();
    let uploads = Arc::try_unwrap(uploads).map_err(|_| Error::local("the uploads are still shared"))?;
    match cut {
        Ok(cut) => {
            let old = input::free_space(&name, cut.free_bytes, cut.size - cut.hole_bytes);
            let (odd, small) = (input::odd_end(&name, cut.size), input::much_smaller(&name, cut.size, before));
            let warnings = [unclean, odd, small, old];
            warnings.iter().flatten().for_each(|text| session.repository.watch.progress.event(Event::Warning(text)));
            Ok((cut, Sending { uploads, remake, deltas: None }))
        }
        Err(e) => {
            deliver::stop_all(uploads).await;
            Err(e)
        }
    }
}

/// Sends a block to every mirror that does not hold it.
fn send_to_all(spooled: Arc<Spooled>, uploads: &Uploads, known: &BlockHolders) {
    let holders = known.get(&spooled.row().id).map(|known| known.holders).unwrap_or_default();
    for (i, upload) in uploads.iter().enumerate() {
        if let Some(upload) = upload.as_ref().filter(|_| !holders.contains(i)) {
            upload.send(Job::New(Arc::clone(&spooled)));
        }
    }
}
