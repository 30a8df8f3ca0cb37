//! Brings deltas to a mirror: those of this run, and those that older updates list.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::planned::Planned;
use crate::error::Error;
use crate::format::digest::Sha256;
use crate::format::head::FileRow;
use crate::format::layout::RepoPath;
use crate::format::update::{DeltaRow, FILE_MAX_BYTES, Update};
use crate::progress::Event;
use crate::publish::deltas::Deltas;
use crate::publish::object::{Files, Object};
use crate::publish::repository::mirror::{self, OpenMirror};
use crate::store::Fetch;
use crate::system::bridge;

impl Planned<'_> {
    /// Uploads the deltas of this run, and copies those of older updates that the mirror's own head does not name, as
    /// far as other mirrors have them.
    ///
    /// # Errors
    /// The mirror cannot be written.
    pub async fn put_deltas(&self, made: Option<&Arc<Deltas>>, mirror: usize) -> Result<Files, Error> {
        let mut files = match made {
            Some(made) => self.put_made(made, mirror).await?,
            None => Files::default(),
        };
        for row in self.older_updates(mirror) {
            files.merge(self.copy_deltas(row, mirror).await?);
        }
        Ok(files)
    }

    async fn put_made(&self, made: &Arc<Deltas>, mirror: usize) -> Result<Files, Error> {
        let (target, progress) = (&self.session.mirrors()[mirror], &self.session.repository.watch.progress);
        let name = target.name();
        progress.event(Event::ToSend { mirror: name, bytes: made.count().bytes });
        let puts = made.sizes().map(|(sha256, _)| async move {
            let deltas = Arc::clone(made);
            let object = bridge::blocking(move || deltas.object(&sha256)).await?;
            let bytes = object.bytes.len() as u64;
            let is_written = object.write(&*target.store).await?;
            progress.event(Event::Sent { mirror: name, bytes });
            Ok::<_, Error>(is_written.then_some(bytes))
        });
        sum(stream::iter(puts).buffer_unordered(target.jobs())).await
    }

    /// The deltas of this run that the mirror does not have.
    ///
    /// # Errors
    /// The mirror cannot be asked.
    pub async fn expected_deltas(&self, made: Option<&Arc<Deltas>>, mirror: usize) -> Result<Files, Error> {
        let target = &self.session.mirrors()[mirror];
        let asks = made.into_iter().flat_map(|made| made.sizes()).map(|(sha256, bytes)| async move {
            let found = target.store.size(&RepoPath::delta(&sha256)).await?;
            Ok::<_, Error>((found != Some(bytes)).then_some(bytes))
        });
        sum(stream::iter(asks).buffer_unordered(target.jobs())).await
    }

    /// The updates of the plan's head that the mirror's own head does not name, and this run did not make. If the mirror
    /// is damaged, all that this run did not make.
    fn older_updates(&self, mirror: usize) -> impl Iterator<Item = &FileRow> {
        let own = self.session.mirrors()[mirror].head.as_ref().map(|own| &own.head);
        let is_damaged = self.session.base.damaged.contains(mirror);
        let names = move |row: &FileRow| own.is_some_and(|own| own.files.contains(row)) && !is_damaged;
        let was_named = |row: &&FileRow| self.session.base.head.as_ref().is_some_and(|old| old.files.contains(row));
        let updates = self.plan.head.files.iter().filter(|row| row.path.update_of(&self.session.name).is_some());
        updates.filter(was_named).filter(move |row| !names(row))
    }

    async fn copy_deltas(&self, row: &FileRow, mirror: usize) -> Result<Files, Error> {
        let (target, warn) = (&self.session.mirrors()[mirror], |why: String| {
            let text = format!("mirror {}: {why}", self.session.mirrors()[mirror].name());
            self.session.repository.watch.progress.event(Event::Warning(&text));
        });
        let file = mirror::file(self.session.mirrors(), row, FILE_MAX_BYTES).await;
        let update = match file.map_err(|e| e.to_string()).and_then(|f| Update::parse(&f).map_err(|e| e.to_string())) {
            Ok(update) => update,
            Err(why) => {
                warn(format!("the deltas of {} are not copied: {why}", row.path));
                return Ok(Files::default());
            }
        };
        let others = self.session.mirrors().iter().enumerate().filter(|(i, m)| *i != mirror && m.is_up());
        let sources: Vec<&OpenMirror> = others.map(|(_, m)| m).collect();
        let copies = update.deltas().iter().map(|delta| copy_delta(target, &sources, delta));
        let (mut files, mut missing) = (Files::default(), 0);
        let mut copies = stream::iter(copies).buffer_unordered(target.jobs());
        while let Some(copied) = copies.next().await {
            match copied? {
                Copied::New(bytes) => files.add(bytes),
                Copied::There => {}
                Copied::Nowhere => missing += 1,
            }
        }
        if missing > 0 {
            warn(format!("{missing} deltas of {} are on no other mirror; clients fetch whole blocks", row.path));
        }
        Ok(files)
    }
}

enum Copied {
    New(u64),
    There,
    Nowhere,
}

async fn copy_delta(target: &OpenMirror, sources: &[&OpenMirror], delta: &DeltaRow) -> Result<Copied, Error> {
    let (path, bytes) = (RepoPath::delta(&delta.sha256), u64::from(delta.bytes));
    // A damaged one is no harm: readers fetch the block.
    if target.store.size(&path).await? == Some(bytes) {
        return Ok(Copied::There);
    }
    for source in sources {
        if let Some(file) = right(&*source.store, &path, delta).await {
            Object::new(path, file).write(&*target.store).await?;
            return Ok(Copied::New(bytes));
        }
    }
    Ok(Copied::Nowhere)
}

async fn right(source: &dyn Fetch, path: &RepoPath, delta: &DeltaRow) -> Option<Bytes> {
    let file = source.get(path, delta.bytes.into()).await.ok()?;
    (Sha256::of(&file) == delta.sha256).then_some(file)
}

async fn sum(puts: impl futures_util::Stream<Item = Result<Option<u64>, Error>>) -> Result<Files, Error> {
    let files = puts.try_fold(Files::default(), |mut files, put| async move {
        put.into_iter().for_each(|bytes| files.add(bytes));
        Ok(files)
    });
    files.await
}
