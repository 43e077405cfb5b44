//! Which addresses may be connected to.

use std::net::IpAddr;

use watchkeeper::report::one_line;

use super::class::AddressClass;
use super::error::OutgoingError;
use super::network::Network;

/// The public addresses, and those that are listed.
///
/// # Examples
///
/// ```
/// use observerd::outgoing::{AddressClass, OutgoingFilter};
///
/// # fn main() -> Result<(), observerd::outgoing::OutgoingError> {
/// let filter = OutgoingFilter::new(&["10.2.0.0/16".to_owned()])?;
/// assert_eq!(filter.check("10.2.3.4".parse().unwrap()), Ok(()));
/// assert_eq!(filter.check("10.3.0.1".parse().unwrap()), Err(AddressClass::Private));
/// assert!(OutgoingFilter::new(&["10.2.0.0/99".to_owned()]).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct OutgoingFilter {
    allowed: Vec<Network>,
}

impl OutgoingFilter {
    /// A filter that allows the addresses and networks of `allow` too. Host names are not listed: what a name resolves to is
    /// decided elsewhere.
    ///
    /// # Errors
    ///
    /// [`OutgoingError::Allow`] names the entry that is neither.
    pub fn new(allow: &[String]) -> Result<Self, OutgoingError> {
        let parsed = allow.iter().map(|entry| {
            Network::parse(entry).map_err(|fault| OutgoingError::Allow { entry: one_line(entry, 100), fault })
        });
        Ok(Self { allowed: parsed.collect::<Result<_, _>>()? })
    }

    /// Checks an address that a name resolves to.
    ///
    /// # Errors
    ///
    /// The class for which it is refused.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressClass> {
        match AddressClass::of(address) {
            Some(class) if !self.lists(address, class) => Err(class),
            _ => Ok(()),
        }
    }

    /// Checks an address that a URL has in place of a name: it must be listed, even if it is public.
    ///
    /// # Errors
    ///
    /// The class for which it is refused.
    pub fn check_literal(&self, address: IpAddr) -> Result<(), AddressClass> {
        let class = AddressClass::of(address).unwrap_or(AddressClass::Literal);
        if self.lists(address, class) { Ok(()) } else { Err(class) }
    }

    /// Checks a connection whose peer has the address of this end: it leads to this machine, though the address may be public.
    ///
    /// # Errors
    ///
    /// [`AddressClass::Own`] if the address is not listed.
    pub(crate) fn check_own(&self, local: IpAddr, peer: IpAddr) -> Result<(), AddressClass> {
        let is_own = local.to_canonical() == peer.to_canonical();
        if is_own && !self.lists(peer, AddressClass::Own) { Err(AddressClass::Own) } else { Ok(()) }
    }

    fn lists(&self, address: IpAddr, class: AddressClass) -> bool {
        // `::ffff:10.0.0.1` leads to 10.0.0.1: that address counts, with its class.
        let canonical = address.to_canonical();
        let class = if canonical == address {
            class
        } else {
            AddressClass::of(canonical).unwrap_or(AddressClass::Ipv4Mapped)
        };
        self.allowed.iter().any(|network| match class {
            AddressClass::Metadata => network.is(canonical),
            _ => network.contains(canonical),
        })
    }
}
