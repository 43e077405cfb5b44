//! Error messages for invalid flags.

use std::error::Error as _;

use clap::Error;
use clap::error::{ContextKind, ErrorKind};

/// What is wrong with the flags, in one line; `None` if nothing is, as for `--help`.
///
/// Unlike the parser's text, it contains no value: a value may be an address with a secret.
pub(crate) fn mistake(error: &Error) -> Option<String> {
    let of = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    let flag = of(ContextKind::InvalidArg);
    let what = match (error.kind(), flag) {
        (
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            _,
        ) => return None,
        (ErrorKind::InvalidSubcommand, _) => "there is no such command".to_owned(),
        (ErrorKind::UnknownArgument, Some(flag)) if is_a_flag(&flag) => format!("there is no flag {flag}"),
        (ErrorKind::UnknownArgument, _) => "there is a value that belongs to no flag".to_owned(),
        (ErrorKind::MissingRequiredArgument, Some(flag)) => format!("{flag} is missing"),
        (ErrorKind::InvalidValue, Some(flag)) if of(ContextKind::InvalidValue).is_none() => {
            format!("{flag} has no value")
        }
        (kind, flag) => {
            let reason = error.source().map(ToString::to_string);
            let reason = reason.or_else(|| kind.as_str().map(str::to_owned)).unwrap_or_default();
            flag.map_or_else(|| reason.clone(), |flag| format!("{flag}: {reason}"))
        }
    };
    Some(format!("{what}; --help says more"))
}

/// False for a value that happens to begin with hyphens.
fn is_a_flag(text: &str) -> bool {
    let name = text.strip_prefix("--").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|letter| letter == b'-' || letter.is_ascii_lowercase())
}
