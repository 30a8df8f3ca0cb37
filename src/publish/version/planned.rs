//! A plan for one image, together with the mirrors it is for and the pages that go with its head.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::plan::Plan;
use super::report::{MirrorReport, Report};
use super::session::Session;
use crate::error::Error;
use crate::format::block::BlockRow;
use crate::format::digest::BlockId;
use crate::format::head::Head;
use crate::format::index::Index;
use crate::format::layout::RepoPath;
use crate::format::url::BaseUrl;
use crate::progress::Event;
use crate::publish::artifact::boot_menu;
use crate::publish::artifact::pages::{self, Shown, Site};
use crate::publish::artifact::sums;
use crate::publish::base;
use crate::publish::deltas::Deltas;
use crate::publish::object::{Files, Object};
use crate::publish::pipeline::upload::Sent;
use crate::publish::repository::mirror::OpenMirror;
use crate::repo::survey::VerifiedHead;

/// Approximate size of a signature in bytes.
const SIGNATURE_BYTES: u64 = 350;

/// What is already reported as to be sent, with the mirror's index in mirrors.toml: images share blocks and pages, and
/// each is sent once.
#[derive(Default)]
pub struct Previewed {
    blocks: HashSet<(usize, BlockId)>,
    pages: HashSet<(usize, RepoPath, Bytes)>,
}

impl Previewed {
    pub fn new() -> Self {
        Self::default()
    }

    fn is_new(&mut self, mirror: usize, row: &BlockRow) -> bool {
        self.blocks.insert((mirror, row.id))
    }

    fn new_pages(&mut self, mirror: usize, pages: &[Object]) -> Vec<Object> {
        let is_new = |page: &&Object| self.pages.insert((mirror, page.path.clone(), page.bytes.clone()));
        pages.iter().filter(is_new).cloned().collect()
    }
}

/// An image whose next state is decided, and of which nothing is switched yet.
pub struct Planned<'a> {
    pub session: Session<'a>,
    pub plan: Plan,
    /// The pages that show the new head.
    pub pages: Vec<Object>,
}

impl<'a> Planned<'a> {
    /// Reports the plan's warnings and renders its pages.
    ///
    /// # Errors
    /// A template cannot be rendered.
    pub async fn new(session: Session<'a>, plan: Plan) -> Result<Self, Error> {
        plan.warnings.iter().for_each(|warning| session.repository.watch.progress.event(Event::Warning(warning)));
        let pages = render_pages(&session, &plan).await?;
        Ok(Self { session, plan, pages })
    }

    /// Reports what the plan would do, except for blocks in `previewed`; the deltas were `made` for it.
    ///
    /// # Errors
    /// A mirror cannot be queried; no mirror is left.
    pub async fn preview(self, previewed: &mut Previewed, made: Option<&Arc<Deltas>>) -> Result<Report, Error> {
        let (plan, mut report) = (&self.plan, self.session.report(&self.plan));
        for (i, mirror) in self.session.mirrors().iter().enumerate() {
            let mut sent = Sent { objects: plan.cut.new.blocks, bytes: plan.cut.new.zlib_bytes, ..Sent::default() };
            let mut files = Files::default();
            if mirror.is_up() {
                self.remade(i).filter(|row| previewed.is_new(i, row)).for_each(|row| sent.expect(row));
                let missing = self.missing(i).await?;
                missing.iter().filter(|job| previewed.is_new(i, job.row())).for_each(|job| sent.expect(job.row()));
                if self.is_behind(i) {
                    let pages = previewed.new_pages(i, &self.pages);
                    files = self.expected_files(i, &pages).await?;
                    files.merge(self.expected_deltas(made, i).await?);
                }
            }
            report.mirrors.push(MirrorReport::of(mirror, sent, files));
        }
        self.session.finish(report)
    }

    /// Blocks that other mirrors hold and this one does not, and that were made again from the image.
    fn remade(&self, mirror: usize) -> impl Iterator<Item = &BlockRow> {
        let known = self.plan.cut.remade.iter().filter_map(|id| self.session.base.known.get(id));
        known.filter(move |known| !known.holders.contains(mirror)).map(|known| &known.row)
    }

    async fn expected_files(&self, i: usize, pages: &[Object]) -> Result<Files, Error> {
        let (mirror, release) = (&self.session.mirrors()[i], &self.plan.release);
        let mut files = release.files(&*mirror.store, pages).await?;
        for file in self.older_files(i) {
            files.add(file.bytes);
            if self.session.signer.is_signed() {
                files.add(SIGNATURE_BYTES);
            }
        }
        if let Some(list) = release.image_list(&self.session.repository.views[i].list) {
            files.add(list.len() as u64);
        }
        Ok(files)
    }

    /// Whether the mirror's head differs from the plan's.
    pub fn is_behind(&self, mirror: usize) -> bool {
        is_behind(&self.session.mirrors()[mirror], &self.plan)
    }
}

/// Renders what is written after the head; nothing if no mirror needs it.
async fn render_pages(session: &Session<'_>, plan: &Plan) -> Result<Vec<Object>, Error> {
    let needs = |m: &OpenMirror| m.is_up() && (is_behind(m, plan) || m.is_unfinished());
    if !session.mirrors().iter().any(needs) {
        return Ok(Vec::new());
    }
    let (repository, head) = (&session.repository, &plan.head);
    let others = repository.verified_images().into_iter().filter(|name| *name != session.name);
    let others: Vec<Arc<VerifiedHead>> = others.filter_map(|name| repository.newest_head(&name).cloned()).collect();
    let mut heads: Vec<&Head> = others.iter().map(|found| &found.head).chain([head]).collect();
    heads.sort_by(|a, b| a.image.cmp(&b.image));
    let urls = repository.config.mirrors.mirrors.iter().filter_map(|m| m.read.as_ref());
    let mut mirrors: Vec<&BaseUrl> = Vec::new();
    urls.for_each(|url| {
        if !mirrors.contains(&url) {
            mirrors.push(url)
        }
    });
    let templates = repository.config.templates();
    let site = Site { templates: templates.as_deref(), mirrors, heads };
    let previous = previous(session, head).await;
    let key = session.signer.trust.key();
    let shown = Shown { head, key, newest: &plan.release.newest, previous: previous.as_deref() };
    let mut pages = pages::render(&site, &shown)?;
    pages.extend(sums::render(head, session.base.head.as_ref(), &session.signer, session.mirrors()).await?);
    let (new, progress) = (&plan.release.objects, &*repository.watch.progress);
    pages.extend(boot_menu::render(templates.as_deref(), head, new, session.mirrors(), progress).await?);
    Ok(pages)
}

/// The index of the version before the newest; `None` if there is none, or no mirror has a good copy.
async fn previous(session: &Session<'_>, head: &Head) -> Option<Arc<Index>> {
    let row = head.versions.get(1)?;
    let mut read = session.base.indexes.iter();
    match read.find(|(known, _)| known.index_sha256 == row.index_sha256) {
        Some((_, index)) => Some(Arc::clone(index)),
        None => base::index_of(session.mirrors(), &session.name, row).await.ok().map(|(index, _)| index),
    }
}

/// Whether the mirror's head differs from the plan's.
fn is_behind(mirror: &OpenMirror, plan: &Plan) -> bool {
    mirror.head.as_ref().is_none_or(|found| found.file != plan.release.head)
}
