//! What the command line sets.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;

/// What the command line sets. It wins over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`: [`bind`](super::ObserverdConfig::bind).
    pub listen: Option<SocketAddr>,
    /// `--data-dir`: [`persist_path`](super::ObserverdConfig::persist_path).
    pub data_dir: Option<PathBuf>,
    /// `--token-file`: [`token_file`](super::ObserverdConfig::token_file).
    pub token_file: Option<PathBuf>,
}

impl Flags {
    pub(super) fn apply(&self, config: &mut Config) {
        let settings = &mut config.observerd;
        if let Some(listen) = self.listen {
            settings.bind = listen;
        }
        if let Some(directory) = &self.data_dir {
            settings.persist_path.clone_from(directory);
        }
        if let Some(file) = &self.token_file {
            settings.token_file.clone_from(file);
        }
    }

    /// The flag that has set a key.
    pub(super) fn of(&self, key: &str) -> Option<&'static str> {
        match key {
            "observerd.bind" if self.listen.is_some() => Some("--listen"),
            "observerd.persist_path" if self.data_dir.is_some() => Some("--data-dir"),
            "observerd.token_file" if self.token_file.is_some() => Some("--token-file"),
            _ => None,
        }
    }
}
