//! Manual pages and completions, made from the definitions of the command lines.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

pub use clap_complete::Shell;

/// Writes the pages of `command` and of its subcommands into `directory`, which is made if necessary: `hfl.1`,
/// `hfl-publish.1`, and so on. Names in `elsewhere` are pages of other programs. Returns the paths of the pages.
///
/// # Errors
/// A page that cannot be written.
pub fn write_pages(command: &Command, directory: &Path, elsewhere: &[&str]) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    write_page(&command, command.get_name(), directory, elsewhere, &mut written)?;
    Ok(written)
}

fn write_page(
    command: &Command,
    name: &str,
    directory: &Path,
    elsewhere: &[&str],
    written: &mut Vec<PathBuf>,
) -> io::Result<()> {
    if elsewhere.contains(&name) {
        return Ok(());
    }
    let path = directory.join(format!("{name}.1"));
    fs::write(&path, page(command, name)?)?;
    written.push(path);
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_page(below, &format!("{name}-{}", below.get_name()), directory, elsewhere, written)?;
    }
    Ok(())
}

/// One page, with the sections that manual pages have.
fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    // The name of a static command is static text.
    let name: &'static str = String::leak(name.to_owned());
    let shown = command.clone().name(name);
    let man =
        Man::new(shown).title(name.to_uppercase()).manual("hfl").source(concat!("hfl ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    after.split("\n\n").try_for_each(|part| section(part, &mut page))?;
    Ok(page)
}

/// A paragraph of the text after the options: examples and tables keep their lines.
fn section(text: &str, page: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    match text.split_once('\n') {
        Some((title, lines)) if title.ends_with(':') => {
            let title = match title.trim_end_matches(':') {
                "Example" | "Examples" => "EXAMPLES",
                "Exit codes" => "EXIT STATUS",
                other => other,
            };
            roff.control("SH", [title]).control("nf", []);
            for line in lines.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        }
        _ if !text.trim().is_empty() => {
            roff.control("PP", []).text([roman(text.replace('\n', " "))]);
        }
        _ => {}
    }
    roff.to_writer(page)
}

/// Writes the completions of `command` for `shell`.
pub fn write_completion(command: &Command, shell: Shell, out: &mut dyn Write) {
    let mut command = command.clone();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, out);
}
