//! Templates: the built-in ones, and those in a user directory, which take precedence.

use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::error::{Error, ErrorKind, sentence};

/// What the templates of pages extend and import.
const PARTS: [&str; 2] = ["layout.html", "macros.html"];
/// Built-in templates, by their names in the template directory.
const BUILT_IN: [(&str, &str); 16] = [
    ("index.html", include_str!("../../templates/index.html")),
    ("image.html", include_str!("../../templates/image.html")),
    ("mirrors.html", include_str!("../../templates/mirrors.html")),
    ("layout.html", include_str!("../../templates/layout.html")),
    ("macros.html", include_str!("../../templates/macros.html")),
    ("feed.atom", include_str!("../../templates/feed.atom")),
    ("hfl.css", include_str!("../../templates/hfl.css")),
    ("boot/init", include_str!("../../templates/boot/init")),
    ("boot/options.sh", include_str!("../../templates/boot/options.sh")),
    ("boot/root.sh", include_str!("../../templates/boot/root.sh")),
    ("boot/udhcpc", include_str!("../../templates/boot/udhcpc")),
    ("boot/boot.ipxe", include_str!("../../templates/boot/boot.ipxe")),
    ("boot/kboot.conf", include_str!("../../templates/boot/kboot.conf")),
    ("boot/petitboot.conf", include_str!("../../templates/boot/petitboot.conf")),
    ("boot/pxelinux.default", include_str!("../../templates/boot/pxelinux.default")),
    ("boot/grub.cfg", include_str!("../../templates/boot/grub.cfg")),
];

/// A template that cannot be read or rendered: a message with the line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl From<TemplateError> for Error {
    fn from(error: TemplateError) -> Self {
        Self::caused(ErrorKind::Local, error)
    }
}

/// The text of a template, and its file if it is not built in.
struct Text {
    text: String,
    file: Option<PathBuf>,
}

impl Text {
    fn find(directory: Option<&Path>, name: &str) -> Result<Self, TemplateError> {
        let file = directory.map(|directory| directory.join(name)).filter(|file| file.exists());
        let text = match &file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|e| TemplateError(format!("{}: {}", file.display(), sentence(&e))))?,
            None => {
                let built_in = BUILT_IN.iter().find(|(other, _)| *other == name);
                built_in
                    .map(|(_, text)| (*text).to_owned())
                    .ok_or_else(|| TemplateError(format!("no template is {name}")))?
            }
        };
        Ok(Self { text, file })
    }

    /// What is wrong with it, or with the template that it extends.
    fn error(&self, name: &str, error: &minijinja::Error) -> TemplateError {
        let shown = self.file.as_ref().map_or_else(|| name.to_owned(), |file| file.display().to_string());
        TemplateError(format!("template {shown}: {error}"))
    }
}

/// Renders the template `name`; one of this name in `directory` takes precedence over the built-in one.
///
/// # Errors
/// A template that does not exist, or cannot be read or rendered.
pub fn render(directory: Option<&Path>, name: &str, context: &Value) -> Result<String, TemplateError> {
    let text = Text::find(directory, name)?;
    let parts = PARTS.iter().filter(|_| name.ends_with(".html"));
    let parts: Vec<(&str, Text)> =
        parts.map(|part| Ok((*part, Text::find(directory, part)?))).collect::<Result<_, TemplateError>>()?;
    let mut environment = Environment::new();
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|name| match name.rsplit_once('.') {
        Some((_, "html" | "atom")) => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    for (part, text) in &parts {
        environment.add_template(part, &text.text).map_err(|e| text.error(part, &e))?;
    }
    environment.render_named_str(name, &text.text, context).map_err(|e| text.error(name, &e))
}
