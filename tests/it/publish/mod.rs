//! Publishing, and all other operations that change mirrors.

mod access;
mod basics;
mod client;
mod costs;
mod damage;
mod everywhere;
mod faults;
mod full_head;
mod gc;
mod hostile;
mod inputs;
mod keys;
mod kill;
mod kill_kinds;
mod leases;
mod listings;
mod locks;
mod mirrors;
mod profile;
mod restore_outputs;
mod spool;
mod stale;
mod sync;
mod trust;
mod verify;
mod verify_kinds;
