//! An entry of the list of allowed addresses.

use std::net::IpAddr;

/// An address, or a network in the notation `10.2.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why an entry is neither an address nor a network.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkFault {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is no address: a name, or an address with a typo.
    #[error("it is no IP address; names are not listed, since what a name resolves to may change")]
    NoAddress,
    /// What follows the slash is no length of a prefix.
    #[error("the length after `/` must be a number from 0 to {most}")]
    Prefix {
        /// The longest prefix.
        most: u8,
    },
    /// The address has bits that the prefix does not cover.
    #[error("the address is not the first one of its network: write {network}")]
    HostBits {
        /// The network that the entry is in.
        network: String,
    },
    /// An IPv4 address is written as an IPv6 address.
    #[error("write the IPv4 address {address} itself")]
    Ipv4Mapped {
        /// That address.
        address: IpAddr,
    },
}

impl Network {
    pub(super) fn parse(entry: &str) -> Result<Self, NetworkFault> {
        if entry.is_empty() {
            return Err(NetworkFault::Empty);
        }
        let (address, prefix) =
            entry.split_once('/').map_or((entry, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NetworkFault::NoAddress)?;
        if address.to_canonical() != address {
            return Err(NetworkFault::Ipv4Mapped { address: address.to_canonical() });
        }
        let most = bits(address);
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(NetworkFault::Prefix { most });
            }
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|prefix| *prefix <= most)
                .ok_or(NetworkFault::Prefix { most })?,
        };
        let first = masked(address, prefix);
        if first != address {
            return Err(NetworkFault::HostBits { network: format!("{first}/{prefix}") });
        }
        Ok(Self { first, prefix })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }

    /// Whether it is this one address.
    pub(super) fn is(&self, address: IpAddr) -> bool {
        self.first == address && self.prefix == bits(address)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

watchkeeper::report::debug_as_text!(NetworkFault);
