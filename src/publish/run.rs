//! `publish`: the steps, in the order that keeps every mirror usable at every instant.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::boot_files::BootFiles;
use super::congestion::Congestion;
use super::cut::{self, CutImage};
use super::deliver;
use super::error::Error;
use super::image::Image;
use super::input_check;
use super::options::Options;
use super::profile::Given;
use super::progress::{Event, Progress};
use super::report::Report;
use super::session::{Intent, Session, Uploads, Watch};
use super::spool::{Spool, Spooled};
use super::sync::Planned;
use super::upload::{Job, Uploader};
use crate::block::LEVEL_DEFAULT;
use crate::split::{Choice, Rule};

/// Publishes an image.
///
/// # Errors
/// See [`ErrorKind`](super::ErrorKind); a mirror that fails is not an error but a line of the report, as long as one is
/// left.
pub async fn publish(options: Options, progress: Arc<dyn Progress>, cancel: Arc<AtomicBool>) -> Result<Report, Error> {
    let image = Image::open(&options.image)?;
    let image = if options.as_it_is { image } else { image.complete()? };
    let profile = options.profile.as_deref().map(|path| Given::read(path, &options.name)).transpose()?;
    let boot = gather(&options).await?;
    let watch = Watch { progress, cancel };
    let mut session = Session::open(options.work.clone(), options.name.clone(), Intent::Publish, watch).await?;
    session.choose_profile(profile, &[]).await;
    let report = steps(&mut session, &options, image, boot).await;
    session.close().await;
    report
}

/// What the image is to be booted with, before anything is locked or sent.
async fn gather(options: &Options) -> Result<Option<BootFiles>, Error> {
    let Some(boot) = options.boot.clone() else { return Ok(None) };
    let (image, clients, templates) = (options.image.clone(), options.work.clients(), options.work.templates());
    let gathered = tokio::task::spawn_blocking(move || BootFiles::gather(&boot, &image, clients, templates));
    gathered.await.unwrap_or_else(|e| Err(Error::local(format!("taking the kernel out failed: {e}")))).map(Some)
}

async fn steps(
    session: &mut Session,
    options: &Options,
    image: Image,
    boot: Option<BootFiles>,
) -> Result<Report, Error> {
    let rule = match options.split {
        Choice::Content => image.choose_rule(),
        Choice::Rule(rule) => rule,
    };
    let boot_changed = match boot {
        Some(boot) => session.choose_boot(boot).await?,
        None => false,
    };
    let (cut, uploads) = pass(session, options, image, rule).await?;
    let plan = session.planner(options.label.as_ref(), options.force || boot_changed).plan(cut, rule.into())?;
    if options.work.dry_run {
        return session.preview(&plan, &mut Planned::new()).await;
    }
    session.carry_out(&plan, uploads).await
}

/// The one pass over the image; new blocks are on their way to the mirrors while it goes on.
async fn pass(
    session: &mut Session,
    options: &Options,
    image: Image,
    rule: Rule,
) -> Result<(CutImage, Uploads), Error> {
    session.watch.progress.event(Event::Step("reading the image"));
    session.watch.progress.event(Event::Start { image_bytes: image.size() });
    let name = image.name().to_owned();
    let uploads = Arc::new(if options.work.dry_run { Vec::new() } else { session.start_uploads() });
    let known = Arc::new(std::mem::take(&mut session.base.known));
    let spool = Spool::new(options.spool_directory.clone(), options.spool_max_bytes);
    let loads = uploads.iter().flatten().map(Uploader::load).collect();
    let congestion = Congestion::new(loads, options.work.min_mirrors, options.work.patience);
    let watch = session.watch.clone();
    let (level, jobs) = (options.level.unwrap_or(LEVEL_DEFAULT), options.jobs);
    let shared = (Arc::clone(&known), Arc::clone(&uploads));
    let pass = tokio::task::spawn_blocking(move || {
        let (known, uploads) = shared;
        let deliver = |spooled: Spooled| {
            let spooled = Arc::new(spooled);
            uploads.iter().flatten().for_each(|u| u.send(Job::New(Arc::clone(&spooled))));
        };
        let (cancel, progress) = (&*watch.cancel, &*watch.progress);
        let full = || congestion.notice();
        let options = cut::Options { rule, level, jobs, known: &known, spool: &spool, full: &full, cancel, progress };
        cut::cut(&image, &options, &deliver)
    });
    let cut = pass.await.unwrap_or_else(|e| Err(Error::local(format!("the pass over the image failed: {e}"))));
    session.base.known = Arc::try_unwrap(known).unwrap_or_default();
    let uploads = Arc::try_unwrap(uploads).map_err(|_| Error::local("the uploads are still shared"))?;
    match cut {
        Ok(cut) => {
            let warning = input_check::odd_end(&name, cut.size);
            warning.iter().for_each(|text| session.watch.progress.event(Event::Warning(text)));
            Ok((cut, uploads))
        }
        Err(e) => {
            deliver::stop_all(uploads).await;
            Err(e)
        }
    }
}
