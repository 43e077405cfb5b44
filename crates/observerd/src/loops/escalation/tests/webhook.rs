//! What an answer of the webhook means.

use std::time::Duration;

use crate::loops::escalation::poster::{Next, PostFailure, judged};
use crate::outgoing::{Answer, Connector, OutgoingError, OutgoingFilter, OutgoingUrl, UrlFault};

fn url() -> OutgoingUrl {
    OutgoingUrl::parse("https://hooks.example/SECRET").unwrap()
}

#[test]
fn statuses_mean_what_the_docs_say() {
    let minute = Duration::from_mins(1);
    let soon = Next::Retry { after: Duration::ZERO };
    let later = Next::Retry { after: minute };
    let cases = [
        (101, Some(Next::GiveUp)),
        (200, None),
        (202, None),
        (204, None),
        (299, None),
        (400, Some(Next::GiveUp)),
        (401, Some(Next::GiveUp)),
        (404, Some(Next::GiveUp)),
        (408, Some(soon)),
        (410, Some(Next::GiveUp)),
        (413, Some(Next::GiveUp)),
        (429, Some(later)),
        (500, Some(soon)),
        (502, Some(soon)),
        (503, Some(later)),
        (599, Some(soon)),
        (999, Some(Next::GiveUp)),
    ];
    for (status, expected) in cases {
        let found = judged(&url(), Ok(Answer { status, retry_after: Some(minute) }));
        let message = format!("https://hooks.example:443: answered {status}");
        let expected = expected.map_or(Ok(()), |next| Err(PostFailure { next, message }));
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn errors_mean_what_the_docs_say() {
    let origin = url().origin().clone();
    let redirect = OutgoingError::Redirect { origin: origin.clone(), status: 302 };
    let fault = OutgoingError::Url { fault: UrlFault::Host };
    let http = OutgoingError::Http { origin, message: "x".repeat(10_000) };
    let refused = Connector::new(OutgoingFilter::default())
        .check(&OutgoingUrl::parse("http://127.1/SECRET").unwrap())
        .unwrap_err();
    let soon = Next::Retry { after: Duration::ZERO };
    for (error, expected) in
        [(redirect, Next::GiveUp), (fault, Next::Refused), (refused, Next::Refused), (http, soon)]
    {
        let PostFailure { next, message } = judged(&url(), Err(error)).unwrap_err();
        assert_eq!(next, expected, "{message}");
        assert!(message.len() < 600 && !message.contains("SECRET"), "{message}");
    }
}
