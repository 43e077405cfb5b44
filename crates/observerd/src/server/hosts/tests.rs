use super::*;

fn hosts(bind: &str) -> Hosts {
    let configured =
        ["Witness.example.org", "other.example.org:8443", "[2001:db8::1]:3219", "gateway.example."];
    Hosts::new(bind.parse().unwrap(), &configured.map(str::to_owned)).unwrap()
}

fn status(hosts: &Hosts, request: http::request::Builder) -> u16 {
    hosts.check(&request.body(()).unwrap()).err().map_or(200, |problem| problem.status)
}

fn of_host(bind: &str, host: &str) -> u16 {
    status(&hosts(bind), Request::get("/").header("host", host))
}

#[test]
fn hosts_that_are_asked_for() {
    let cases = [
        // Loopback, as a name and as an address.
        ("localhost", 200),
        ("localhost:3219", 200),
        ("LocalHost:1", 200),
        ("localhost.", 200),
        ("localhost.:3219", 200),
        ("localhost:", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:3219", 200),
        ("127.8.9.1", 200),
        ("127.0.0.1.", 200),
        ("[::1]", 200),
        ("[::1]:3219", 200),
        ("[0:0:0:0:0:0:0:1]", 200),
        ("[::ffff:127.0.0.1]:3219", 200),
        // The bound address.
        ("192.0.2.7:3219", 200),
        ("[::ffff:192.0.2.7]", 200),
        // Configured names, with and without a port.
        ("witness.example.org", 200),
        ("WITNESS.example.org.:99", 200),
        ("other.example.org:8443", 200),
        ("gateway.example", 200),
        ("[2001:db8::1]:3219", 200),
        // Others.
        ("other.example.org", 421),
        ("other.example.org:8444", 421),
        ("[2001:db8::1]", 421),
        ("[2001:db8::2]:3219", 421),
        ("localhost.evil.com", 421),
        ("evil-localhost", 421),
        ("xlocalhost", 421),
        ("127.0.0.1.nip.io", 421),
        ("witness.example.org.evil.com", 421),
        ("example.org", 421),
        ("0.0.0.0", 421),
        ("0.0.0.0:3219", 421),
        ("[::]", 421),
        ("192.0.2.8", 421),
        ("169.254.169.254", 421),
        ("[::ffff:10.0.0.1]", 421),
        // Other spellings of 127.0.0.1 are names, and unknown ones.
        ("127.1", 421),
        ("2130706433", 421),
        ("0x7f.0.0.1", 421),
        ("0177.0.0.1", 421),
        // No host at all.
        ("", 400),
        (".", 400),
        (":3219", 400),
        ("localhost..", 400),
        (".localhost", 400),
        ("localhost:80:80", 400),
        ("localhost:65536", 400),
        ("localhost:+80", 400),
        ("localhost:80a", 400),
        ("localhost@evil.com", 400),
        ("evil.com@localhost", 400),
        ("user:secret@localhost", 400),
        ("evil.com#localhost", 400),
        ("localhost/evil.com", 400),
        ("local host", 400),
        ("localhost,evil.com", 400),
        ("http://localhost", 400),
        ("[::1", 400),
        ("::1", 400),
        ("[::1]x", 400),
        ("[::1]:x", 400),
        ("[fe80::1%25lo]", 400),
        ("[127.0.0.1]", 400),
    ];
    for (host, expected) in cases {
        assert_eq!(of_host("192.0.2.7:3219", host), expected, "{host:?}");
    }
}

#[test]
fn a_service_on_each_address_has_configured_names_and_loopback_alone() {
    for bind in ["0.0.0.0:3219", "[::]:3219"] {
        for (host, expected) in
            [("localhost", 200), ("127.0.0.1", 200), ("witness.example.org", 200), ("0.0.0.0", 421)]
        {
            assert_eq!(of_host(bind, host), expected, "{bind} {host}");
        }
        assert_eq!(of_host(bind, "[::]"), 421);
        assert_eq!(of_host(bind, "192.0.2.7"), 421);
    }
}

#[test]
fn a_host_is_needed_once_and_agrees_with_the_request_line() {
    let hosts = hosts("127.0.0.1:3219");
    assert_eq!(status(&hosts, Request::get("/")), 400);
    let twice = Request::get("/").header("host", "localhost").header("host", "localhost");
    assert_eq!(status(&hosts, twice), 400);
    let bytes = HeaderValue::from_bytes(b"localhost\xff").unwrap();
    assert_eq!(status(&hosts, Request::get("/").header("host", bytes)), 400);
    let cases = [
        ("http://localhost:3219/", "localhost:3219", 200),
        ("http://LOCALHOST/", "localhost:80", 200),
        ("https://localhost/", "localhost:443", 200),
        ("http://localhost/", "127.0.0.1", 400),
        ("http://localhost:1/", "localhost:2", 400),
        ("http://evil.com/", "localhost", 400),
        ("http://localhost/", "evil.com", 400),
        ("http://evil.com/", "evil.com", 421),
        ("http://user@localhost/", "localhost", 400),
        ("ftp://localhost/", "localhost", 400),
    ];
    for (uri, host, expected) in cases {
        assert_eq!(status(&hosts, Request::get(uri).header("host", host)), expected, "{uri} {host}");
    }
    let absolute = Request::get("http://localhost/");
    assert_eq!(status(&hosts, absolute), 400, "an absolute address alone");
}

#[test]
fn origins_of_pages() {
    let hosts = hosts("127.0.0.1:3219");
    let cases = [
        ("http://localhost:3219", 200),
        ("http://LOCALHOST:3219", 200),
        ("http://127.0.0.1:3219", 200),
        ("http://[::1]:3219", 200),
        // Another port is another program, perhaps of another person.
        ("http://localhost:9999", 403),
        ("http://localhost", 403),
        ("https://127.0.0.1", 403),
        ("http://[::1]:3220", 403),
        // Configured ones: the port of the scheme, the one that is listed, and the bound one.
        ("https://witness.example.org", 200),
        ("http://witness.example.org", 200),
        ("http://witness.example.org:3219", 200),
        ("https://witness.example.org:8443", 403),
        ("https://other.example.org:8443", 200),
        ("https://other.example.org", 403),
        ("null", 403),
        ("", 403),
        ("http://evil.com", 403),
        ("http://evil.com:3219", 403),
        ("http://localhost.evil.com", 403),
        ("http://user@localhost:3219", 403),
        ("http://localhost:3219/", 403),
        ("file://localhost", 403),
        ("localhost", 403),
        ("http://localhost:3219 http://evil.com", 403),
    ];
    let asked = |method: &Method| Request::builder().method(method).header("host", "localhost");
    for (origin, expected) in cases {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let request = asked(&method).header("origin", origin);
            assert_eq!(status(&hosts, request), expected, "{method} {origin:?}");
        }
        assert_eq!(status(&hosts, asked(&Method::OPTIONS).header("origin", origin)), 200, "{origin:?}");
    }
    let port_80 = Hosts::new("127.0.0.1:80".parse().unwrap(), &[]).unwrap();
    assert_eq!(status(&port_80, asked(&Method::POST).header("origin", "http://localhost")), 200);
    let twice = asked(&Method::POST)
        .header("origin", "http://localhost:3219")
        .header("origin", "http://localhost:3219");
    assert_eq!(status(&hosts, twice), 403);
}

#[test]
fn requests_of_pages_without_an_origin() {
    let hosts = hosts("127.0.0.1:3219");
    let asked = |method: &Method| Request::builder().method(method).header("host", "localhost");
    for method in [Method::GET, Method::POST] {
        assert_eq!(status(&hosts, asked(&method)), 200, "a client that is no browser");
        for (site, expected) in [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)]
        {
            let request = asked(&method).header("sec-fetch-site", site);
            assert_eq!(status(&hosts, request), expected, "{method} {site}");
        }
    }
    let listed = asked(&Method::GET)
        .header("sec-fetch-site", "cross-site")
        .header("origin", "https://witness.example.org");
    assert_eq!(status(&hosts, listed), 200, "a page that is listed");
    for (method, mode, dest, expected) in [
        (Method::GET, "navigate", "document", 200),
        (Method::GET, "navigate", "iframe", 403),
        (Method::GET, "no-cors", "image", 403),
        (Method::GET, "cors", "empty", 403),
        (Method::POST, "navigate", "document", 403),
    ] {
        let request = asked(&method).header("sec-fetch-site", "cross-site");
        let request = request.header("sec-fetch-mode", mode).header("sec-fetch-dest", dest);
        assert_eq!(status(&hosts, request), expected, "{method} {mode} {dest}: a link that a person follows");
    }
    let preflight = asked(&Method::OPTIONS).header("sec-fetch-site", "cross-site");
    assert_eq!(status(&hosts, preflight), 200);
}

#[test]
fn a_configured_name_is_checked() {
    let bind = "127.0.0.1:3219".parse().unwrap();
    for name in
        ["", "http://example.org", "*.example.org", "user@example.org", "exa mple", "a:b", "a/b", "é.org"]
    {
        let error = Hosts::new(bind, &[name.to_owned()]).unwrap_err();
        assert!(error.to_string().contains("is not a name: write"), "{error}");
    }
    let long = Hosts::new(bind, &["a".repeat(100_000)]).unwrap_err();
    assert!(long.to_string().len() < 300);
}
