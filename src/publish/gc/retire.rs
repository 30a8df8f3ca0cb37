//! Retires versions: the head stops naming them.

use std::collections::HashSet;

use super::choice::{Choice, Retired};
use super::{GcOptions, facts};
use crate::error::{Error, ErrorKind};
use crate::format::head::{Head, VersionRow};
use crate::format::name::{Name, Version};
use crate::format::time::Timestamp;
use crate::publish::repository::OpenRepository;
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::signer::Signer;
use crate::publish::version::carry_out::carry_out;
use crate::publish::version::plan::Extras;
use crate::publish::version::planned::Previewed;
use crate::publish::version::report::MirrorReport;
use crate::publish::version::session::Session;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Retires the versions that are neither among the newest nor young, of all selected images whose key is available.
pub(super) async fn retire(options: &GcOptions, repository: &mut OpenRepository) -> Result<Vec<Choice>, Error> {
    let mut choices = Vec::new();
    for image in wanted(options, repository) {
        choices.push(choose(options, repository, &image)?);
    }
    if !options.more_than_half {
        refuse_too_much(&choices, repository).await?;
    }
    for choice in choices.iter_mut().filter(|choice| choice.report.skipped.is_none()) {
        choice.report.mirrors = retire_on_mirrors(choice, repository).await?;
    }
    Ok(choices)
}

fn wanted(options: &GcOptions, repository: &OpenRepository) -> Vec<Name> {
    match options.images.is_empty() {
        true => repository.verified_images().into_iter().collect(),
        false => options.images.clone(),
    }
}

fn choose(options: &GcOptions, repository: &OpenRepository, image: &Name) -> Result<Choice, Error> {
    let Some(newest) = repository.newest_head(image) else {
        let message = format!("{image}: no mirror has a head of it that verifies");
        return Err(Error::new(ErrorKind::Unverified, message));
    };
    let (rows, mut skipped) = (old(&newest.head, options, repository.config.host.now())?, None);
    if let Err(e) = Signer::for_change(repository.config.keyring.as_ref(), image) {
        // Another publisher's image: its versions are not ours to retire, and its blocks stay live.
        if e.kind() != ErrorKind::Usage || !options.images.is_empty() {
            return Err(e);
        }
        skipped = Some(e.to_string());
    }
    let rows = if skipped.is_some() { Vec::new() } else { rows };
    let gone: Vec<u32> = rows.iter().map(|row| row.version.number()).collect();
    let all = newest.head.versions.iter().map(|row| row.version.number());
    let kept = if skipped.is_some() { Vec::new() } else { all.filter(|v| !gone.contains(v)).collect() };
    let report = Retired { image: image.to_string(), kept, retired: gone, skipped, mirrors: Vec::new() };
    Ok(Choice { image: image.clone(), rows, report })
}

/// The versions beyond the newest `keep` that are at least `keep_days` old, and those named explicitly.
fn old(head: &Head, options: &GcOptions, now: Timestamp) -> Result<Vec<VersionRow>, Error> {
    for version in &options.retire {
        let why = match head.version(*version) {
            Some(row) if row.version == head.newest().version => "is the newest one and stays",
            Some(_) => continue,
            None => "is not there",
        };
        return Err(Error::usage(format!("version {version} of {} {why}", head.image)));
    }
    let is_young =
        |row: &VersionRow| now.unix().saturating_sub(row.created.unix()) < u64::from(options.keep_days) * DAY_SECONDS;
    let is_old = |i: usize, row: &VersionRow| i >= options.keep.max(1) && !is_young(row);
    let rows = head.versions.iter().enumerate();
    let rows = rows.filter(|(i, row)| is_old(*i, row) || options.retire.contains(&row.version));
    Ok(rows.map(|(_, row)| row.clone()).collect())
}

/// Refuses to retire versions if that removes more than half of all objects that the heads name.
async fn refuse_too_much(choices: &[Choice], repository: &OpenRepository) -> Result<(), Error> {
    let retiring: HashSet<(Name, Version)> =
        choices.iter().flat_map(|c| c.rows.iter().map(|row| (c.image.clone(), row.version))).collect();
    if retiring.is_empty() {
        return Ok(());
    }
    let (all, living) = facts::count_objects(repository, &retiring).await?;
    if (all - living) * 2 <= all {
        return Ok(());
    }
    let message = format!("{} of {all} objects would be removed: more than half", all - living);
    Err(Error::usage(message).hint("nothing was retired or removed; use --more-than-half to allow it"))
}

async fn retire_on_mirrors(choice: &Choice, repository: &mut OpenRepository) -> Result<Vec<MirrorReport>, Error> {
    if choice.rows.is_empty() && repository.agrees_on(&choice.image) {
        return Ok(Vec::new());
    }
    repository.forgive();
    let signer = Signer::for_change(repository.config.keyring.as_ref(), &choice.image)?;
    let session = Session::begin_standing(repository, choice.image.clone(), signer).await?;
    if let Some(conflict) = &session.base.conflict {
        return Err(Error::new(ErrorKind::Conflict, conflict).hint("run hfl sync first, which resolves this"));
    }
    let extras = Extras::default();
    let plan = match (choice.rows.is_empty(), is_uneven(&session)) {
        (true, false) => return Ok(Vec::new()),
        // A publisher retired them but died before all mirrors had the head.
        (true, true) => session.planner(None, false, &extras).plan_standing()?,
        (false, _) => session.planner(None, false, &extras).plan_retirement(&choice.rows)?,
    };
    Ok(carry_out(session, plan, &mut Previewed::new()).await?.mirrors)
}

/// Whether some mirror's head, or its pages, may be older than another's.
fn is_uneven(session: &Session<'_>) -> bool {
    let is_older =
        |m: &OpenMirror| m.head.as_ref().is_some_and(|found| Some(&found.head) != session.base.head.as_ref());
    session.mirrors().iter().any(|m| m.is_up() && (m.is_unfinished() || is_older(m)))
}
