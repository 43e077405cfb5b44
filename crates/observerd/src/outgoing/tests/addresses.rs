//! What is refused, and what a list allows.

use std::net::IpAddr;

use crate::outgoing::AddressClass::{
    self, Benchmarking, Broadcast, Documentation, Ipv4Embedded, Ipv4Mapped, LinkLocal, Loopback, Metadata,
    Multicast, Nat64, Private, Reserved, SharedNat, SiteLocal, Tunnel, Unspecified,
};
use crate::outgoing::{OutgoingError, OutgoingFilter};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn filter(allow: &[&str]) -> OutgoingFilter {
    OutgoingFilter::new(&allow.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn addresses_that_are_not_public_are_refused() {
    #[rustfmt::skip]
    let table: &[(AddressClass, &[&str])] = &[
        (Loopback, &["127.0.0.1", "127.0.0.0", "127.255.255.255", "127.1.2.3", "::1"]),
        (Private, &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1", "192.168.255.255",
            "fc00::", "fd12:3456::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
        (LinkLocal, &["169.254.0.1", "169.254.169.253", "169.254.255.255", "fe80::1", "febf::1"]),
        (Metadata, &["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "64:ff9b::169.254.169.254",
            "64:ff9b::169.254.170.23", "64:ff9b:1::169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:1:a9:fea9:fe00:0", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:5601:5601",
            "::169.254.169.254", "::ffff:0:169.254.169.254", "2606:4700::5efe:169.254.169.254", "fd00:64::169.254.169.254",
            "100.100.100.200", "192.0.0.192", "168.63.129.16",
            "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"]),
        (SharedNat, &["100.64.0.0", "100.127.255.255", "100.100.100.100"]),
        (Unspecified, &["0.0.0.0", "0.1.2.3", "0.255.255.255", "::"]),
        (Broadcast, &["255.255.255.255"]),
        (Multicast, &["224.0.0.1", "239.255.255.255", "ff00::", "ff02::1", "ffff::1"]),
        (Documentation, &["192.0.2.1", "198.51.100.7", "203.0.113.255", "2001:db8::1", "3fff::1", "3fff:fff::1"]),
        (Benchmarking, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
        (Reserved, &["192.0.0.1", "192.88.99.1", "240.0.0.1", "255.255.255.254", "2001:1::1", "2001:10::1",
            "2001:1ff::1", "100::1", "5f00::1", "4000::1", "e000::1", "1::1"]),
        (Ipv4Mapped, &["::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::ffff:0:0"]),
        (Ipv4Embedded, &["::127.0.0.1", "::8.8.8.8", "::2", "::ffff:0:127.0.0.1"]),
        (Nat64, &["64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
            "64:ff9b:1:ffff::8.8.8.8"]),
        (Tunnel, &["2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:8.8.8.8"]),
        (SiteLocal, &["fec0::1", "feff::1"]),
    ];
    let nothing = filter(&[]);
    for (class, addresses) in table {
        for address in *addresses {
            assert_eq!(nothing.check(ip(address)), Err(*class), "{address}");
            assert_eq!(nothing.check_literal(ip(address)), Err(*class), "{address} in a URL");
        }
    }
}

#[test]
fn public_addresses_are_allowed_for_names_and_refused_as_literals() {
    let nothing = filter(&[]);
    #[rustfmt::skip]
    let public = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.1", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255",
        "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15", "2606:4700::1111",
        "2a00:1450::1", "2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1", "3ffe::1", "3fff:1000::1",
        "64:ff9b::8.8.8.8"];
    for address in public {
        assert_eq!(nothing.check(ip(address)), Ok(()), "{address}");
        assert_eq!(nothing.check_literal(ip(address)), Err(AddressClass::Literal), "{address}");
        assert_eq!(filter(&[address]).check_literal(ip(address)), Ok(()), "{address} is listed");
    }
}

#[test]
fn a_list_allows_what_it_says_and_no_more() {
    let cases: &[(&[&str], &str, Result<(), AddressClass>)] = &[
        (&["127.0.0.1"], "127.0.0.1", Ok(())),
        (&["127.0.0.1"], "127.0.0.2", Err(Loopback)),
        (&["127.0.0.1"], "::1", Err(Loopback)),
        (&["127.0.0.1"], "::ffff:127.0.0.1", Ok(())),
        (&["127.0.0.1"], "::127.0.0.1", Err(Ipv4Embedded)),
        (&["127.0.0.1"], "64:ff9b::127.0.0.1", Err(Nat64)),
        (&["127.0.0.1"], "2002:7f00:1::", Err(Tunnel)),
        (&["::1", "10.0.0.0/8"], "::1", Ok(())),
        (&["10.2.0.0/16"], "10.2.255.255", Ok(())),
        (&["10.2.0.0/16"], "10.3.0.0", Err(Private)),
        (&["10.2.0.0/31"], "10.2.0.1", Ok(())),
        (&["10.2.0.0/31"], "10.2.0.2", Err(Private)),
        (&["0.0.0.0/0"], "192.168.1.1", Ok(())),
        (&["0.0.0.0/0"], "::1", Err(Loopback)),
        (&["::/0"], "::1", Ok(())),
        (&["::/0"], "10.0.0.1", Err(Private)),
        (&["::/0"], "::ffff:10.0.0.1", Err(Ipv4Mapped)),
        (&["fd00:1::/32"], "fd00:1:ffff::1", Ok(())),
        (&["fd00:1::/32"], "fd00:2::1", Err(Private)),
        (&["8.8.8.8"], "::ffff:8.8.8.8", Ok(())),
        // Not by a network: 100.64.0.0/10 is listed for a VPN, and not for what a cloud has in it.
        (&["169.254.0.0/16"], "169.254.1.1", Ok(())),
        (&["169.254.0.0/16"], "169.254.169.254", Err(Metadata)),
        (&["100.64.0.0/10"], "100.100.100.200", Err(Metadata)),
        (&["0.0.0.0/0"], "::ffff:169.254.169.254", Err(Ipv4Mapped)),
        (&["64:ff9b::/96"], "64:ff9b::10.0.0.1", Ok(())),
        (&["64:ff9b::/96"], "64:ff9b::169.254.169.254", Err(Metadata)),
        (&["64:ff9b::a9fe:a9fe"], "64:ff9b::169.254.169.254", Ok(())),
        (&["2002::/16"], "2002:a9fe:a9fe::1", Err(Metadata)),
        (&["::/0"], "fd00:ec2::23", Err(Metadata)),
        (&["169.254.169.254"], "169.254.169.254", Ok(())),
        (&["169.254.169.254/32"], "169.254.169.254", Ok(())),
        (&["169.254.169.254"], "::ffff:169.254.169.254", Ok(())),
    ];
    for (allow, address, expected) in cases {
        assert_eq!(filter(allow).check(ip(address)), *expected, "{address} with {allow:?}");
        assert_eq!(filter(allow).check_literal(ip(address)), *expected, "{address} in a URL with {allow:?}");
    }
}

#[test]
fn an_entry_with_a_typo_is_named() {
    let cases = [
        ("", "it is empty"),
        ("10.2.0.0/33", "a number from 0 to 32"),
        ("10.2.0.0/", "a number from 0 to 32"),
        ("10.2.0.0/+8", "a number from 0 to 32"),
        ("10.2.0.0/256", "a number from 0 to 32"),
        ("10.2.0.0/8/8", "a number from 0 to 32"),
        ("::1/129", "a number from 0 to 128"),
        ("10.2.0.1/16", "write 10.2.0.0/16"),
        ("fd00::1/8", "write fd00::/8"),
        ("10.2.0", "no IP address"),
        ("10.2.0.0.0", "no IP address"),
        ("010.2.0.0", "no IP address"),
        (" 10.2.0.0", "no IP address"),
        ("0x7f.1", "no IP address"),
        ("localhost", "names are not listed"),
        ("[::1]", "no IP address"),
        ("fe80::1%eth0", "no IP address"),
        ("127.0.0.1:80", "no IP address"),
        ("::ffff:10.0.0.1", "write the IPv4 address 10.0.0.1"),
        ("*", "no IP address"),
    ];
    for (entry, expected) in cases {
        let all = ["127.0.0.1".to_owned(), entry.to_owned()];
        let error = OutgoingFilter::new(&all).unwrap_err();
        assert!(matches!(error, OutgoingError::Allow { .. }), "{entry:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("\"{entry}\"")) && text.contains(expected), "{text}");
    }
    let long = OutgoingFilter::new(&["\n".repeat(10_000)]).unwrap_err().to_string();
    assert!(long.len() < 500 && !long.contains('\n'), "{long}");
}

#[test]
fn the_public_address_of_this_machine_must_be_listed() {
    let nothing = filter(&[]);
    let own = |filter: &OutgoingFilter, local, peer| filter.check_own(ip(local), ip(peer));
    assert_eq!(own(&nothing, "8.8.4.4", "8.8.8.8"), Ok(()));
    assert_eq!(own(&nothing, "8.8.8.8", "8.8.8.8"), Err(AddressClass::Own));
    assert_eq!(own(&nothing, "::ffff:8.8.8.8", "8.8.8.8"), Err(AddressClass::Own));
    assert_eq!(own(&nothing, "2606:4700::1", "2606:4700::1"), Err(AddressClass::Own));
    assert_eq!(own(&filter(&["8.8.8.8"]), "8.8.8.8", "8.8.8.8"), Ok(()));
    assert_eq!(own(&filter(&["8.8.8.0/24"]), "8.8.8.8", "8.8.8.8"), Ok(()));
    assert_eq!(own(&filter(&["127.0.0.1"]), "127.0.0.1", "127.0.0.1"), Ok(()));
}
