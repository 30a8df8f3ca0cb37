//! `mount.hfl`: hfl-mount as mount(8) calls it, `mount.hfl SOURCE DIRECTORY [-sfnvi] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]`.
//! It mounts the file system in the image, unless the option `file` is given. Source: mount(8), "External helpers".

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::ErrorKind;

/// Exit code of a helper for a wrong command line, and for any other failure.
pub const USAGE: u8 = 1;
pub const FAILED: u8 = 32;

/// Whether the program is called by the name of a mount helper: `mount.hfl`, `mount.fuse.hfl`; with `@` after a restart
/// as the provider of a root file system.
pub fn is_called() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(OsStr::to_str);
    let name = name.map(|name| name.trim_start_matches('@'));
    name.is_some_and(|name| name.starts_with("mount.") && name.ends_with("hfl"))
}

/// The command line of hfl-mount for that of a helper.
///
/// # Errors
/// An unknown option, or one without its value.
pub fn words(words: &[OsString]) -> Result<Vec<OsString>, clap::Error> {
    let wrong = |why: String| Err(clap::Error::raw(ErrorKind::UnknownArgument, format!("{why}\n")));
    let (mut lists, mut places, mut translated) = (Vec::new(), Vec::new(), vec![OsString::from("hfl-mount")]);
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("-o") => match rest.next() {
                Some(list) => lists.push(list.to_string_lossy().into_owned()),
                None => return wrong("-o: a list of options is missing".into()),
            },
            // The type is known, and the namespace has been entered.
            Some("-t" | "-N") => drop(rest.next()),
            Some("-v") => translated.push("--verbose".into()),
            Some("--version" | "-V" | "--help" | "-h") => translated.push(word.clone()),
            // What is unknown is never ignored, the list of mounts is the kernel's, and the helper calls no other.
            Some("-s" | "-n" | "-i" | "-sn" | "-ns") => {}
            Some("-f") => return Ok(vec!["hfl-mount".into(), "--version".into()]),
            Some(text) if text.starts_with('-') && text.len() > 1 => return wrong(format!("{text}: unknown option")),
            _ => places.push(word.clone()),
        }
    }
    let mut options: Vec<String> = lists.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    let wants_file = options.iter().any(|option| option == "file");
    options.retain(|option| option != "file");
    if !wants_file {
        translated.push("--contents".into());
    }
    if !options.is_empty() {
        translated.extend(["-o".into(), options.join(",").into()]);
    }
    translated.extend(places);
    Ok(translated)
}
