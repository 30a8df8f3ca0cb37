//! The SHA-256 of a whole image, in the order of its bytes.

use sha2::Digest as _;

use crate::disk::input::Input;
use crate::error::Error;
use crate::format::digest::Sha256;

/// Size of the pieces in which zeros and skipped parts are hashed.
const PIECE_BYTES: usize = 64 << 10;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// A digest under way.
#[derive(Default)]
pub struct WholeDigest(sha2::Sha256);

impl WholeDigest {
    /// Adds bytes.
    pub fn data(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds zeros.
    pub fn zeros(&mut self, bytes: u64) {
        pieces(bytes).for_each(|(_, piece)| self.0.update(&ZEROS[..piece]));
    }

    /// Adds a part of the image that was read out of its order, by reading it again.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, image: &Input, offset: u64, bytes: u64) -> Result<(), Error> {
        let mut buffer = vec![0; PIECE_BYTES];
        for (at, piece) in pieces(bytes) {
            image.read_exact_at(offset + at, &mut buffer[..piece])?;
            self.0.update(&buffer[..piece]);
        }
        Ok(())
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// The pieces of so many bytes: where each begins, and its size.
fn pieces(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..bytes).step_by(PIECE_BYTES).map(move |at| (at, (bytes - at).min(PIECE_BYTES as u64) as usize))
}
