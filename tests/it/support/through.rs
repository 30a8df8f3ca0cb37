//! hfl and hfl-mount, started by another program: a shell, a tracer, a program that changes the namespace or the user.

use std::process::Command;

/// Makes `by` start `plain`: its program and its arguments are the last arguments of `by`, and its environment and its
/// directory are those of `by`.
pub fn through<'a>(by: &'a mut Command, plain: &Command) -> &'a mut Command {
    in_place_of(by.arg(plain.get_program()).args(plain.get_args()), plain)
}

/// Gives `by` the environment and the directory of `plain`, the variables that `plain` removes among them.
pub fn in_place_of<'a>(by: &'a mut Command, plain: &Command) -> &'a mut Command {
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => by.env(name, value),
            None => by.env_remove(name),
        };
    }
    if let Some(directory) = plain.get_current_dir() {
        by.current_dir(directory);
    }
    by
}
