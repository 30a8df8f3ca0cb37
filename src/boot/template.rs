//! Templates: the built-in ones, and those in a user directory, which take precedence.

use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::error::{Error, ErrorKind, sentence};

/// Built-in templates, by their names in the template directory.
const BUILT_IN: [(&str, &str); 9] = [
    ("index.html", include_str!("../../templates/index.html")),
    ("hfl.css", include_str!("../../templates/hfl.css")),
    ("boot/init", include_str!("../../templates/boot/init")),
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

/// Renders the template `name`; one of this name in `directory` takes precedence over the built-in one.
///
/// # Errors
/// A template that does not exist, or cannot be read or rendered.
pub fn render(directory: Option<&Path>, name: &str, context: &Value) -> Result<String, TemplateError> {
    let own = directory.map(|directory| directory.join(name)).filter(|file| file.exists());
    let text = match &own {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|e| TemplateError(format!("{}: {}", file.display(), sentence(&e))))?
        }
        None => {
            let built_in = BUILT_IN.iter().find(|(other, _)| *other == name);
            built_in
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| TemplateError(format!("no template is {name}")))?
        }
    };
    let mut environment = Environment::new();
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment
        .set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    let rendered = environment.render_named_str(name, &text, context);
    rendered.map_err(|e| {
        let shown = own.map_or_else(|| name.to_owned(), |file| file.display().to_string());
        TemplateError(format!("template {shown}: {e}"))
    })
}
