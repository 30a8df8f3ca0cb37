//! What `hfl diff` finds out: two versions, and what the update from one to the other costs.

use std::fmt::Write as _;

use hfl::format::difference::{Difference, Tally};
use hfl::format::head::Head;
use hfl::format::index::Index;
use serde::Serialize;

use crate::markdown::code;
use crate::show::{bytes, count};

/// The report, as it is printed with `--json`.
#[derive(Debug, Serialize)]
pub struct DiffReport {
    /// The old version; `None` if there is none before the new one.
    pub old: Option<Side>,
    pub new: Side,
    pub kept: Blocks,
    pub added: Blocks,
    pub removed: Blocks,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub with_deltas: Option<WithDeltas>,
}

/// One of the two versions.
#[derive(Debug, Serialize)]
pub struct Side {
    pub image: String,
    pub version: u32,
    pub created: String,
    /// Its label, where the head is known.
    pub label: Option<String>,
    pub size: u64,
    pub split: String,
    pub blocks: usize,
    pub index_bytes: u64,
}

/// A number of blocks, and their sizes.
#[derive(Debug, Serialize)]
pub struct Blocks {
    pub blocks: u64,
    pub bytes: u64,
    pub zlib_bytes: u64,
}

/// What a client with the old version downloads where it uses deltas.
#[derive(Debug, Serialize)]
pub struct WithDeltas {
    pub deltas: u64,
    pub delta_bytes: u64,
    pub download_bytes: u64,
}

impl Side {
    /// The version with this index, whose file has so many bytes, and whose label is in this head.
    pub fn of(index: &Index, index_bytes: u64, head: Option<&Head>) -> Self {
        let header = index.header();
        let row = head.and_then(|head| head.versions.iter().find(|row| row.version == header.version));
        Self {
            image: header.image.to_string(),
            version: header.version.number(),
            created: header.created.to_string(),
            label: row.and_then(|row| row.label.as_ref()).map(ToString::to_string),
            size: header.size,
            split: header.split.to_string(),
            blocks: index.blocks().len(),
            index_bytes,
        }
    }
}

impl From<&Tally> for Blocks {
    fn from(tally: &Tally) -> Self {
        Self { blocks: tally.blocks, bytes: tally.bytes, zlib_bytes: tally.zlib_bytes }
    }
}

impl DiffReport {
    /// The update from `old` to `new`, whose blocks differ like this.
    pub fn between(old: Side, new: Side, difference: &Difference) -> Self {
        let upload_bytes = difference.added.zlib_bytes + new.index_bytes;
        Self {
            old: Some(old),
            new,
            kept: (&difference.kept).into(),
            added: (&difference.added).into(),
            removed: (&difference.removed).into(),
            upload_bytes,
            download_bytes: upload_bytes,
            with_deltas: None,
        }
    }

    /// A version that has none before it: everything is added.
    pub fn first(new: Side, index: &Index) -> Self {
        let mut all = Tally::default();
        index.blocks().iter().for_each(|row| all.add(row));
        let upload_bytes = all.zlib_bytes + new.index_bytes;
        let none = || Blocks::from(&Tally::default());
        let (kept, added, removed) = (none(), (&all).into(), none());
        Self { old: None, new, kept, added, removed, upload_bytes, download_bytes: upload_bytes, with_deltas: None }
    }

    /// Writes it as Markdown, for the summary of a job or release notes.
    pub fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let (image, version) = (code(&self.new.image), self.new.version);
        match &self.old {
            Some(old) => writeln!(out, "### {image} version {} → {version}\n", old.version)?,
            None => writeln!(out, "### {image} version {version}\n")?,
        }
        self.write_versions(out)?;
        writeln!(out, "\n| blocks | number | size | compressed |\n|---|--:|--:|--:|")?;
        for (name, blocks) in [("kept", &self.kept), ("added", &self.added), ("removed", &self.removed)] {
            let (size, compressed) = (bytes(blocks.bytes), bytes(blocks.zlib_bytes));
            writeln!(out, "| {name} | {} | {size} | {compressed} |", count(blocks.blocks))?;
        }
        self.write_cost(out)
    }

    fn write_versions(&self, out: &mut String) -> std::fmt::Result {
        let row = |out: &mut String, name: &str, of: &dyn Fn(&Side) -> String| match &self.old {
            Some(old) => writeln!(out, "| {name} | {} | {} |", of(old), of(&self.new)),
            None => writeln!(out, "| {name} | {} |", of(&self.new)),
        };
        match &self.old {
            Some(_) => writeln!(out, "| | old | new |\n|---|--:|--:|")?,
            None => writeln!(out, "| | new |\n|---|--:|")?,
        }
        if self.old.as_ref().is_some_and(|old| old.image != self.new.image) {
            row(out, "image", &|side| code(&side.image))?;
        }
        row(out, "version", &|side| side.version.to_string())?;
        row(out, "published", &|side| side.created.replace('T', " ").replace('Z', " UTC"))?;
        if self.sides().any(|side| side.label.is_some()) {
            row(out, "label", &|side| side.label.as_deref().map(code).unwrap_or_default())?;
        }
        row(out, "size", &|side| bytes(side.size))?;
        row(out, "blocks", &|side| count(side.blocks as u64))?;
        if self.is_cut_anew() {
            row(out, "split", &|side| code(&side.split))?;
            writeln!(out, "\nDifferently cut images share few blocks.")?;
        }
        Ok(())
    }

    fn write_cost(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n| cost | |\n|---|--:|")?;
        writeln!(out, "| upload to each mirror | {} |", bytes(self.upload_bytes))?;
        let whose = if self.old.is_some() { " of a client with the old version" } else { "" };
        writeln!(out, "| download{whose} | {} |", bytes(self.download_bytes))?;
        if let Some(with) = &self.with_deltas {
            let (deltas, size) = (count(with.deltas), bytes(with.delta_bytes));
            writeln!(out, "| the same with deltas ({deltas}, {size}) | {} |", bytes(with.download_bytes))?;
        }
        Ok(())
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        self.old.iter().chain([&self.new])
    }

    /// Whether the two versions were cut by different rules.
    pub fn is_cut_anew(&self) -> bool {
        self.old.as_ref().is_some_and(|old| old.split != self.new.split)
    }
}
