//! The input image, cut into blocks.

use crate::disk::input::{Input, Part};
use crate::error::Error;
use crate::split::{Cut, Rule, Splitter};

/// Reads `image` once and cuts it by `rule`; returns its size in bytes. `passed` receives the bytes of each part read.
///
/// # Errors
/// A failed read; a file that changed meanwhile;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) once `stop` returns true.
pub fn split(
    image: &Input,
    rule: Rule,
    stop: &dyn Fn() -> bool,
    passed: &dyn Fn(u64),
    out: &mut dyn FnMut(Cut),
) -> Result<u64, Error> {
    let mut splitter = Splitter::new(rule);
    let size = image.read(&mut |part| {
        if stop() {
            return Err(Error::interrupted());
        }
        match part {
            Part::Data(bytes) => splitter.data(bytes, out),
            Part::Hole(bytes) => splitter.hole(bytes, out),
        }
        passed(part.bytes());
        Ok(())
    })?;
    splitter.finish(out);
    Ok(size)
}
