//! The SHA-256 of a whole image, in the order of its bytes.

use sha2::Digest as _;

use crate::disk::input::Input;
use crate::error::Error;
use crate::format::digest::Sha256;

/// Size of the pieces in which zeros and skipped parts are hashed.
const PIECE_BYTES: usize = 256 << 10;

/// A digest under way.
pub struct WholeDigest {
    hasher: sha2::Sha256,
    piece: Vec<u8>,
}

impl Default for WholeDigest {
    fn default() -> Self {
        Self { hasher: sha2::Sha256::new(), piece: vec![0; PIECE_BYTES] }
    }
}

impl WholeDigest {
    /// Adds bytes.
    pub fn data(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Adds zeros.
    pub fn zeros(&mut self, bytes: u64) {
        self.piece.fill(0);
        let mut left = bytes;
        while left > 0 {
            let now = left.min(PIECE_BYTES as u64);
            self.hasher.update(&self.piece[..now as usize]);
            left -= now;
        }
    }

    /// Adds a part of the image that was read out of its order, by reading it again.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, image: &Input, offset: u64, bytes: u64) -> Result<(), Error> {
        let mut passed = 0;
        while passed < bytes {
            let piece = &mut self.piece[..(bytes - passed).min(PIECE_BYTES as u64) as usize];
            image.read_exact_at(offset + passed, piece)?;
            self.hasher.update(&*piece);
            passed += piece.len() as u64;
        }
        Ok(())
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.hasher.finalize().into())
    }
}
