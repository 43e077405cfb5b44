//! What kind of address it is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not connected to unless it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressClass {
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918, `fc00::/7`.
    Private,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Where clouds give credentials to their machines and containers, also inside of an IPv6 address. It must be listed by itself: a network
    /// does not allow it.
    Metadata,
    /// Carrier-grade NAT: `100.64.0.0/10`.
    SharedNat,
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `255.255.255.255`.
    Broadcast,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `192.0.2.0/24`, `198.51.100.0/24`, `203.0.113.0/24`, `2001:db8::/32`, `3fff::/20`.
    Documentation,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmarking,
    /// `192.0.0.0/24`, `192.88.99.0/24`, `240.0.0.0/4`, `2001::/23`, and what is outside of `2000::/3`.
    Reserved,
    /// `::ffff:0:0/96`: the address inside must be listed.
    Ipv4Mapped,
    /// `::/96`, `::ffff:0:0:0/96`: another IPv4 address inside.
    Ipv4Embedded,
    /// NAT64 of an address that is refused (`64:ff9b::/96`), and all of `64:ff9b:1::/48`.
    Nat64,
    /// `2002::/16`, `2001::/32` and ISATAP: they lead to an IPv4 address inside.
    Tunnel,
    /// `fec0::/10`.
    SiteLocal,
    /// A public address that the URL names in place of a host.
    Literal,
    /// A public address of this machine itself.
    Own,
}

impl AddressClass {
    /// The class of an address; `None` if it is public.
    #[must_use]
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata address of a cloud",
            Self::SharedNat => "an address of carrier-grade NAT",
            Self::Unspecified => "the unspecified address or one of its network",
            Self::Broadcast => "the broadcast address",
            Self::Multicast => "a multicast address",
            Self::Documentation => "an address for documentation",
            Self::Benchmarking => "an address for benchmarks",
            Self::Reserved => "a reserved address",
            Self::Ipv4Mapped => "an IPv4-mapped address",
            Self::Ipv4Embedded => "an IPv6 address with an IPv4 address inside",
            Self::Nat64 => "a NAT64 address of an address that is not public",
            Self::Tunnel => "an address of a tunnel to an IPv4 address",
            Self::SiteLocal => "a site-local address",
            Self::Literal => "an address in place of a host name",
            Self::Own => "an address of this machine",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn of_v4(address: Ipv4Addr) -> Option<AddressClass> {
    use AddressClass as Class;
    let class = match address.octets() {
        // The metadata of most clouds; ECS; EKS; Alibaba; Oracle; Azure, whose address is public.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Class::Metadata,
        [0, ..] => Class::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::SharedNat,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        [198, 18 | 19, ..] => Class::Benchmarking,
        [224..=239, ..] => Class::Multicast,
        [255, 255, 255, 255] => Class::Broadcast,
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => Class::Reserved,
        _ => return None,
    };
    Some(class)
}

fn of_v6(address: Ipv6Addr) -> Option<AddressClass> {
    let class = outer(address)?;
    // Of a mapped address the one inside is judged by itself.
    let leads_to_metadata = class != AddressClass::Ipv4Mapped
        && inside(address).any(|inner| of_v4(inner) == Some(AddressClass::Metadata));
    Some(if leads_to_metadata { AddressClass::Metadata } else { class })
}

/// The IPv4 addresses that may be inside of an address that is not public: at the places of NAT64 with each length of its prefix (RFC 6052),
/// of 6to4, and of Teredo's server and client. The last place is that of ISATAP and the other forms too.
fn inside(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    const PLACES: [[usize; 4]; 7] = [
        [2, 3, 4, 5],
        [4, 5, 6, 7],
        [5, 6, 7, 9],
        [6, 7, 9, 10],
        [7, 9, 10, 11],
        [9, 10, 11, 12],
        [12, 13, 14, 15],
    ];
    let octets = address.octets();
    let plain = PLACES.map(|places| Ipv4Addr::from(places.map(|place| octets[place])));
    // Teredo inverts its client.
    let client = Ipv4Addr::from([12, 13, 14, 15].map(|place: usize| !octets[place]));
    plain.into_iter().chain([client])
}

fn outer(address: Ipv6Addr) -> Option<AddressClass> {
    use AddressClass as Class;
    let class = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0, 0, 0, 0, 0, 0xffff, ..] => Class::Ipv4Mapped,
        [0, 0, 0, 0, 0 | 0xffff, 0, ..] => Class::Ipv4Embedded,
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => return of_v4(v4(high, low)).map(|_| Class::Nat64),
        [0x64, 0xff9b, 1, ..] => Class::Nat64,
        // Amazon's (machines, EKS), and Google's; OpenStack's is link-local.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => Class::Metadata,
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfec0..=0xfeff, ..] => Class::SiteLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Documentation,
        [0x2001, 2, 0, ..] => Class::Benchmarking,
        // Teredo, 6to4, ISATAP.
        [0x2001, 0, ..] | [0x2002, ..] | [_, _, _, _, 0 | 0x100 | 0x200 | 0x300, 0x5efe, ..] => Class::Tunnel,
        [0x2001, 1..=0x1ff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Class::Reserved,
    };
    Some(class)
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}
