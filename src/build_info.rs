//! What this program was built from: for `--version`, and for whoever has to find out what is installed somewhere.

use std::sync::OnceLock;

/// The features of this crate, each with whether it is compiled in.
const FEATURES: [(&str, bool); 8] = [
    ("publish", cfg!(feature = "publish")),
    ("mount", cfg!(feature = "mount")),
    ("s3", cfg!(feature = "s3")),
    ("webdav", cfg!(feature = "webdav")),
    ("sftp", cfg!(feature = "sftp")),
    ("ftp", cfg!(feature = "ftp")),
    ("rsync", cfg!(feature = "rsync")),
    ("manual", cfg!(feature = "manual")),
];

/// Version, commit (where the build was told, by the variable HFL_COMMIT), features and target, one per line.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let features: Vec<&str> = FEATURES.iter().filter(|(_, is_in)| *is_in).map(|(name, _)| *name).collect();
        format!(
            "{}\ncommit   {}\nfeatures {}\ntarget   {}",
            env!("CARGO_PKG_VERSION"),
            option_env!("HFL_COMMIT").unwrap_or("not recorded"),
            features.join(" "),
            target(),
        )
    })
}

fn target() -> String {
    let library = match () {
        () if cfg!(target_env = "gnu") => "-gnu",
        () if cfg!(target_env = "musl") => "-musl",
        () => "",
    };
    let linked = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    format!("{}-{}{library}, {linked}", std::env::consts::ARCH, std::env::consts::OS)
}
