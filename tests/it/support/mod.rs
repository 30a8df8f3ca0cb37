//! Shared by the tests: images, servers, mounts, bad networks. Contains no tests.

pub mod boot_fixture;
pub mod boot_local;
pub mod boot_published;
pub mod browser;
pub mod conformance;
pub mod cross;
pub mod evil;
pub mod fixture;
pub mod format_fixtures;
pub mod hanging;
pub mod kinds;
pub mod lab;
pub mod library;
pub mod loop_device;
pub mod machine;
pub mod mounting;
pub mod nbd;
#[allow(dead_code, reason = "each test uses some of it")]
pub mod proxy;
pub mod relay;
pub mod schema;
#[allow(dead_code, reason = "each driver's tests use some of it")]
pub mod servers;
pub mod system_image;
pub mod through;
