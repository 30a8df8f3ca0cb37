//! Switches the heads of the mirrors to a delivered version, then reads them back the way clients do.

use std::sync::Arc;
use std::time::Duration;

use super::planned::Planned;
use super::report::{MirrorReport, Report};
use crate::error::{Error, ErrorKind};
use crate::format::layout::RepoPath;
use crate::progress::{Event, Phase};
use crate::publish::object::Files;
use crate::publish::pipeline::deliver::{Delivered, Sums};
use crate::publish::repository::mirror::{self, OpenMirror};
use crate::repo::survey::{HeadState, VerifiedHead, head};
use crate::system::bridge;

/// How long a mirror may take to switch its head once another has: a page for each image is uploaded with it.
const SWITCH_PATIENCE: Duration = Duration::from_secs(120);
/// First wait for the public URL to return a new head; it doubles up to the maximum, then waiting ends.
const PUBLIC_WAIT: Duration = Duration::from_millis(250);
const PUBLIC_WAIT_MAX: Duration = Duration::from_secs(4);

/// Switches the heads of all mirrors that are up; returns the report of the whole operation.
///
/// # Errors
/// No mirror could be switched.
pub async fn switch(delivered: Delivered<'_>) -> Result<Report, Error> {
    let Delivered { mut planned, mut sent } = delivered;
    let mut report = planned.session.report(&planned.plan);
    planned.switch_all(&mut sent).await?;
    let reports = planned.session.mirrors().iter().zip(sent);
    report.mirrors = reports.map(|(mirror, (sent, files))| MirrorReport::of(mirror, sent, files)).collect();
    planned.session.finish(report)
}

impl Planned<'_> {
    async fn switch_all(&mut self, sent: &mut [Sums]) -> Result<(), Error> {
        self.session.repository.watch.progress.event(Event::Phase(Phase::Switch));
        self.intend()?;
        // A publisher that crashed earlier may have replaced a head but not its pages.
        let mirrors = self.session.mirrors().iter().enumerate();
        let to_switch = mirrors.filter(|(i, m)| m.is_up() && (self.is_behind(*i) || m.is_unfinished()));
        let behind: Vec<usize> = to_switch.map(|(i, _)| i).collect();
        let patience = self.session.repository.patience(SWITCH_PATIENCE);
        let switches = behind.iter().map(|&i| self.switch(i));
        let switched = bridge::in_time(switches, patience, Result::is_ok).await;
        let mut shown = Vec::new();
        for (i, files) in mirror::settle(&mut self.session.repository.mirrors, behind, switched, patience) {
            if self.is_behind(i) {
                shown.push(i);
            }
            sent[i].1.merge(files);
            self.show(i);
        }
        // Caches in front of the mirrors refresh at their own pace, so the user's --patience does not apply.
        let looks = shown.iter().map(|&i| self.look_at_public(&self.session.mirrors()[i]));
        let looked = bridge::in_time(looks, SWITCH_PATIENCE, Result::is_ok).await;
        mirror::settle(&mut self.session.repository.mirrors, shown, looked, SWITCH_PATIENCE);
        self.session.settle();
        self.remember();
        Ok(())
    }

    /// Records on disk that the head of a new version may reach a mirror from now on.
    fn intend(&self) -> Result<(), Error> {
        let row = self.plan.head.newest();
        let config = &self.session.repository.config;
        config
            .memory
            .intend(&self.session.name, &self.session.signer.trust, (row.version, row.index_sha256))
            .or_else(|e| self.forget(&e))
    }

    /// Records on disk what the mirrors hold now.
    fn remember(&self) {
        let (row, config) = (self.plan.head.newest(), &self.session.repository.config);
        let current = self.session.mirrors().iter().filter(|m| m.is_current);
        let places: Vec<String> = current.map(|m| m.place(&config.relative_to)).collect();
        if !places.is_empty() {
            let numbered = (row.version, row.index_sha256);
            let _ = config
                .memory
                .publish(&self.session.name, &self.session.signer.trust, numbered, &places)
                .or_else(|e| self.forget(&e));
        }
    }

    /// Only warns: with a full or read-only disk publishing still works, and the next run asks the mirrors again.
    fn forget(&self, error: &Error) -> Result<(), Error> {
        let warning = format!("cannot remember what is published: {error}");
        self.session.repository.watch.progress.event(Event::Warning(&warning));
        Ok(())
    }

    /// Updates the view of a mirror with its new head.
    fn show(&mut self, mirror: usize) {
        let key = self.session.signer.trust.key().cloned();
        let (head, file) = (self.plan.head.clone(), self.plan.release.head.clone());
        let head = Arc::new(VerifiedHead { head, file, signed: self.session.signer.is_signed(), key });
        let view = &mut self.session.repository.views[mirror];
        view.heads.insert(self.session.name.clone(), HeadState::Verified(Arc::clone(&head)));
        view.list.names.insert(self.session.name.clone());
    }

    async fn switch(&self, i: usize) -> Result<Files, Error> {
        let (is_behind, mirror) = (self.is_behind(i), &self.session.mirrors()[i]);
        mirror.confirm().await?;
        let mut files = match is_behind {
            true => self.plan.release.switch(mirror).await?,
            false => Files::default(),
        };
        for page in &self.pages {
            if !page.is_held_by(&*mirror.store).await {
                mirror.store.put_replace(&page.path, page.bytes.clone()).await?;
                files.add(page.bytes.len() as u64);
            }
        }
        if mirror.is_unfinished() {
            mirror.store.sweep().await?;
        }
        Ok(files)
    }

    /// Reads the new head the way clients do: a cache may still return the previous head, but nothing else.
    async fn look_at_public(&self, mirror: &OpenMirror) -> Result<(), Error> {
        let Some(public) = &mirror.public else { return Ok(()) };
        let (path, mut wait) = (RepoPath::head(&self.session.name), PUBLIC_WAIT);
        loop {
            let state =
                head::read(&**public, &self.session.name, &self.session.repository.policy.of(&self.session.name)).await;
            let shown = match &state {
                HeadState::Verified(shown) if shown.file == self.plan.release.head => return Ok(()),
                HeadState::Verified(shown) => format!("version {}", shown.head.newest().version),
                HeadState::Absent => "nothing".to_owned(),
                HeadState::Damaged(flaw, _) | HeadState::Foreign(_, flaw, _) => flaw.what.clone(),
                HeadState::Unreadable(e) => e.to_string(),
            };
            if wait < PUBLIC_WAIT_MAX {
                tokio::time::sleep(wait).await;
                wait *= 2;
                continue;
            }
            let message = format!("{}{path}: clients are not shown the new head, but {shown}", public.location());
            let is_older = matches!(state, HeadState::Verified(_));
            if is_older {
                let warning = format!("mirror {}: {message}: a cache before the mirror?", mirror.name());
                self.session.repository.watch.progress.event(Event::Warning(&warning));
                return Ok(());
            }
            return Err(Error::new(ErrorKind::Unverified, message)
                .hint("the web server must serve every file of the repository, also *.head; `read` must be its URL"));
        }
    }
}
