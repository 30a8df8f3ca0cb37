//! Tests from the outside: the real programs on real images, then the library against plain models.

mod lab;
mod publish_basics;
mod publish_damage;
mod publish_inputs;
mod publish_kill;
mod split;
