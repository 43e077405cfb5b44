//! What a URL says, in every spelling, and what is shown of it.

use std::net::IpAddr;

use crate::outgoing::{AddressClass, Connector, OutgoingError, OutgoingFilter, OutgoingUrl, UrlFault};

#[test]
fn every_spelling_of_an_address_is_that_address() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        ("127.0.0.1", &["127.0.0.1", "127.1", "127.0.1", "0x7f000001", "0X7F000001", "2130706433", "017700000001",
            "0177.0.0.1", "0x7f.0x0.0x0.0x1", "0x7f.1", "127.0.0.1.", "127.1.", "2130706433.", "0177.0.0.0x1",
            "00000177.1", "127.0x1"]),
        ("169.254.169.254", &["169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518",
            "169.16689662", "0xa9.0xfe.0xa9.0xfe", "025177524776"]),
        ("0.0.0.0", &["0.0.0.0", "0", "0x0", "0.", "0x", "00"]),
        ("10.0.0.1", &["10.1", "0xa.1", "012.0.0.1", "167772161"]),
        ("255.255.255.255", &["4294967295", "0xffffffff", "255.16777215", "037777777777"]),
        ("::1", &["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"]),
        ("::ffff:169.254.169.254", &["[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[0:0:0:0:0:FFFF:A9FE:A9FE]"]),
    ];
    let connector = Connector::new(OutgoingFilter::default());
    for (address, spellings) in cases {
        let expected: IpAddr = address.parse().unwrap();
        for spelling in *spellings {
            for text in [format!("http://{spelling}/"), format!("https://{spelling}:8443/x")] {
                let url = OutgoingUrl::parse(&text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
                match connector.check(&url) {
                    Err(OutgoingError::Refused { address, class, .. }) => {
                        assert_eq!(address, expected, "{text}");
                        assert_eq!(Some(class), AddressClass::of(expected), "{text}");
                    }
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn what_is_no_url_is_refused() {
    let cases = [
        ("", UrlFault::Malformed),
        ("hooks.example", UrlFault::Malformed),
        ("/path", UrlFault::Malformed),
        ("//hooks.example/", UrlFault::Malformed),
        ("http://", UrlFault::Malformed),
        ("http:///path", UrlFault::Malformed),
        ("http://a b/", UrlFault::Malformed),
        ("http://hooks.example\\@10.0.0.1/", UrlFault::Malformed),
        ("http://höoks.example/", UrlFault::Malformed),
        ("http://１２７.0.0.1/", UrlFault::Malformed),
        ("http://hooks.example/\r\nX: y", UrlFault::Malformed),
        ("ftp://hooks.example/", UrlFault::Scheme),
        ("unix://run/socket", UrlFault::Scheme),
        ("gopher://127.0.0.1/", UrlFault::Scheme),
        ("http://user@hooks.example/", UrlFault::Credentials),
        ("http://user:secret@hooks.example/", UrlFault::Credentials),
        ("http://hooks.example@10.0.0.1/", UrlFault::Credentials),
        ("http://hooks.example:0/", UrlFault::Port),
        ("http://hooks.example:65536/", UrlFault::Port),
        ("http://1.2.3.4.5/", UrlFault::Host),
        ("http://256.0.0.1/", UrlFault::Host),
        ("http://127.0.0.08/", UrlFault::Host),
        ("http://127.0.0.0x100/", UrlFault::Host),
        ("http://4294967296/", UrlFault::Host),
        ("http://1.16777216/", UrlFault::Host),
        ("http://hooks.1/", UrlFault::Host),
        ("http://hooks.0x7f/", UrlFault::Host),
        ("http://hooks..example/", UrlFault::Host),
        ("http://.example/", UrlFault::Host),
        ("http://hooks.example../", UrlFault::Host),
    ];
    for (text, fault) in cases {
        assert_eq!(OutgoingUrl::parse(text), Err(fault), "{text}");
    }
    // Whatever the parser makes of these, they are no URLs.
    for text in [
        "http://%31%32%37.0.0.1/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://[::1]x/",
        "http://a:b/",
        "http://a:80:80/",
    ] {
        assert!(OutgoingUrl::parse(text).is_err(), "{text}");
    }
    let long = format!("http://{}.example/", "a".repeat(64));
    assert_eq!(OutgoingUrl::parse(&long), Err(UrlFault::Host));
    assert_eq!(OutgoingUrl::parse(&format!("http://a/{}", "a".repeat(9_000))), Err(UrlFault::TooLong));
}

#[test]
fn a_url_is_shown_without_its_path() {
    let cases = [
        ("https://hooks.example/services/T0/SECRET?key=SECRET#SECRET", "https://hooks.example:443"),
        ("HTTP://Hooks.Example:8080/SECRET", "http://hooks.example:8080"),
        ("http://hooks.example.?SECRET", "http://hooks.example:80"),
        ("http://hooks.example:/", "http://hooks.example:80"),
        ("https://[2606:4700::1]:444/SECRET", "https://[2606:4700::1]:444"),
        ("http://a_container:9/", "http://a_container:9"),
    ];
    for (text, shown) in cases {
        let url = OutgoingUrl::parse(text).unwrap();
        assert_eq!([url.to_string(), format!("{url:?}"), url.origin().to_string()], [shown; 3]);
    }
    for text in ["http://u:SECRET@a/", "http://a:SECRET/", "SECRET", "http://SECRET\n/", "x://SECRET/SECRET"]
    {
        let fault = OutgoingUrl::parse(text).unwrap_err();
        let error = OutgoingError::Url { fault };
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
    }
}
