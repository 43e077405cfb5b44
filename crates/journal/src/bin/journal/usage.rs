//! Errors of the command line as one line.

use std::error::Error as _;

use clap::Error;
use clap::error::{ContextKind, ErrorKind};
use watchkeeper::report::one_line;

/// What is wrong with the flags, in one escaped line; `None` if nothing is, as for `--help`.
pub(crate) fn mistake(error: &Error) -> Option<String> {
    let of = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    let argument = of(ContextKind::InvalidArg);
    let what = match (error.kind(), argument) {
        (
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            _,
        ) => return None,
        (ErrorKind::InvalidSubcommand, _) => "there is no such command".to_owned(),
        (ErrorKind::UnknownArgument, Some(argument)) => format!("there is no argument {argument}"),
        (ErrorKind::MissingRequiredArgument, Some(argument)) => format!("{argument} is missing"),
        (ErrorKind::ArgumentConflict, Some(argument)) => {
            let other = of(ContextKind::PriorArg).unwrap_or_else(|| "another one".to_owned());
            format!("{argument} cannot be given with {other}")
        }
        (ErrorKind::InvalidValue, Some(argument)) => match of(ContextKind::InvalidValue) {
            None => format!("{argument} has no value"),
            Some(value) => {
                let valid = of(ContextKind::ValidValue);
                let valid = valid.map(|valid| format!(": give one of {valid}")).unwrap_or_default();
                format!("{argument} cannot be {value}{valid}")
            }
        },
        (kind, argument) => {
            let reason = error.source().map(ToString::to_string);
            let reason = reason.or_else(|| kind.as_str().map(str::to_owned)).unwrap_or_default();
            argument.map_or_else(|| reason.clone(), |argument| format!("{argument}: {reason}"))
        }
    };
    Some(format!("{}; see `journal --help`", one_line(&what, 300)))
}
