//! The tools that steps need beside cargo: how each is found, and how it is installed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::shell;

/// A tool. A new one is an added row here and a mention in the steps that need it.
#[derive(Debug)]
pub(crate) struct Need {
    /// What a person calls it.
    pub(crate) name: &'static str,
    /// A command that succeeds where the tool is present.
    pub(crate) probe: &'static str,
    /// The commands that install it, from apt, npm, cargo or rustup. `apt-get` is run as root.
    pub(crate) install: &'static [&'static str],
}

pub(crate) static RUSTFMT: Need =
    Need { name: "rustfmt", probe: "cargo fmt --version", install: &["rustup component add rustfmt"] };

pub(crate) static CLIPPY: Need =
    Need { name: "clippy", probe: "cargo clippy --version", install: &["rustup component add clippy"] };

// Built without optimisation and debug information: on two cores cargo-deny then takes 40 s in place of 140,
// cargo-nextest 95 s in place of 280, and neither spends a measurable time on this workspace.

pub(crate) static CARGO_DENY: Need = Need {
    name: "cargo-deny",
    probe: "cargo deny --version",
    install: &["cargo install --locked --debug --config profile.dev.debug=false cargo-deny"],
};

/// Without its self-update, which brings an HTTP client and TLS.
pub(crate) static CARGO_NEXTEST: Need = Need {
    name: "cargo-nextest",
    probe: "cargo nextest --version",
    install: &[concat!(
        "cargo install --locked --debug --config profile.dev.debug=false ",
        "--no-default-features --features default-no-update cargo-nextest"
    )],
};

pub(crate) static CARGO_MUTANTS: Need = Need {
    name: "cargo-mutants",
    probe: "cargo mutants --version",
    install: &["cargo install --locked --debug --config profile.dev.debug=false cargo-mutants"],
};

/// libFuzzer needs flags of the compiler that only nightly Rust has.
pub(crate) static NIGHTLY: Need = Need {
    name: "nightly Rust",
    probe: "rustup run nightly rustc --version",
    install: &["rustup toolchain install nightly"],
};

pub(crate) static CARGO_FUZZ: Need =
    Need { name: "cargo-fuzz", probe: "cargo fuzz --version", install: &["cargo install cargo-fuzz"] };

pub(crate) static DOCKER: Need = Need {
    name: "docker.io",
    probe: "dockerd --version",
    install: &["apt-get update", "apt-get install -y docker.io"],
};

pub(crate) static DOCKER_COMPOSE: Need = Need {
    name: "docker-compose",
    probe: "docker-compose version",
    install: &["apt-get update", "apt-get install -y docker-compose"],
};

pub(crate) static IPTABLES: Need = Need {
    name: "iptables",
    probe: "iptables --version",
    install: &["apt-get update", "apt-get install -y iptables"],
};

pub(crate) static CATATONIT: Need = Need {
    name: "catatonit",
    probe: "catatonit --version",
    install: &["apt-get update", "apt-get install -y catatonit"],
};

pub(crate) static IPROUTE: Need = Need {
    name: "iproute2",
    probe: "ip -Version",
    install: &["apt-get update", "apt-get install -y iproute2"],
};

pub(crate) static PODMAN: Need = Need {
    name: "podman",
    probe: "podman --version",
    install: &["apt-get update", "apt-get install -y podman"],
};

pub(crate) static RUNC: Need =
    Need { name: "runc", probe: "runc --version", install: &["apt-get update", "apt-get install -y runc"] };

pub(crate) static NPM: Need = Need {
    name: "npm",
    probe: "npm --version",
    install: &["apt-get update", "apt-get install -y --no-install-recommends npm"],
};

/// A real Ethereum node: its package brings the program for this machine. npm comes before it in a step.
pub(crate) static ANVIL: Need = Need {
    name: "anvil",
    probe: "node_modules/.bin/anvil --version",
    install: &["npm install --no-save --no-package-lock --no-audit --no-fund @foundry-rs/anvil@1.7.1"],
};

/// Unpacked, so that its service is neither installed nor started.
pub(crate) static ETCD: Need = Need {
    name: "etcd-server",
    probe: "target/etcd/usr/bin/etcd --version",
    install: &["apt-get update", "sh examples/etcd/install.sh"],
};

/// With the package that makes environments, which Debian keeps apart.
pub(crate) static PYTHON: Need = Need {
    name: "python3-venv",
    probe: "python3 -m ensurepip --version",
    install: &["apt-get update", "apt-get install -y --no-install-recommends python3-venv"],
};

/// Calls a service by its own description. Python comes before it in a step.
pub(crate) static SCHEMATHESIS: Need = Need {
    name: "schemathesis",
    probe: "target/schemathesis/bin/schemathesis --version",
    install: &[
        "python3 -m venv target/schemathesis",
        "target/schemathesis/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5",
    ],
};

pub(crate) static CXX: Need = Need {
    name: "g++",
    probe: "c++ --version",
    install: &["apt-get update", "apt-get install -y --no-install-recommends g++"],
};

pub(crate) static CMAKE: Need = Need {
    name: "cmake",
    probe: "cmake --version",
    install: &["apt-get update", "apt-get install -y --no-install-recommends cmake make"],
};

/// Only its headers. The compiler that looks for them comes before it in a step.
pub(crate) static BOOST: Need = Need {
    name: "libboost-dev",
    probe: "c++ -E -x c++ -include boost/multi_index_container.hpp /dev/null",
    install: &["apt-get update", "apt-get install -y --no-install-recommends libboost-dev"],
};

impl Need {
    pub(crate) fn is_present(&self) -> bool {
        shell::succeeds(self.probe)
    }

    /// The whole installation as one line for a person to type.
    pub(crate) fn how_to_install(&self) -> String {
        self.install_lines(is_root()).join(" && ")
    }

    /// Installs the tool and looks whether it is there now.
    pub(crate) fn install(&self) -> Result<(), String> {
        for line in self.install_lines(is_root()) {
            shell::run(&line)?;
        }
        if self.is_present() {
            Ok(())
        } else {
            Err(format!("{} was installed, yet `{}` still fails: is it in PATH?", self.name, self.probe))
        }
    }

    fn install_lines(&self, is_root: bool) -> Vec<String> {
        let line = |line: &&str| {
            if line.starts_with("apt-get ") && !is_root {
                format!("sudo -n {line}")
            } else {
                (*line).to_owned()
            }
        };
        self.install.iter().map(line).collect()
    }
}

/// A process's own folder belongs to its effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_APT: Need = Need {
        name: "curl",
        probe: "watchkeeper-no-such-program",
        install: &["apt-get update", "apt-get install -y curl"],
    };

    #[test]
    fn apt_runs_through_sudo_unless_root_and_cargo_never_does() {
        assert_eq!(FROM_APT.install_lines(true), ["apt-get update", "apt-get install -y curl"]);
        assert_eq!(
            FROM_APT.install_lines(false),
            ["sudo -n apt-get update", "sudo -n apt-get install -y curl"]
        );
        assert_eq!(CARGO_DENY.install_lines(false), CARGO_DENY.install_lines(true));
    }

    #[test]
    fn a_tool_is_present_where_its_probe_succeeds() {
        assert!(Need { name: "cargo", probe: "cargo --version", install: &[] }.is_present());
        assert!(!FROM_APT.is_present());
    }

    #[test]
    fn an_installation_that_fails_or_changes_nothing_is_an_error() {
        let fails = Need { name: "tool", probe: "false", install: &["false"] };
        assert!(fails.install().is_err_and(|error| error.contains("`false` ended with")));
        let changes_nothing = Need { name: "tool", probe: "false", install: &["true"] };
        assert!(changes_nothing.install().is_err_and(|error| error.contains("still fails")));
        let works = Need { name: "tool", probe: "true", install: &["true"] };
        assert_eq!(works.install(), Ok(()));
    }
}
