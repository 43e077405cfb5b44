//! Who may call.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use watchkeeper::report::debug_as_text;

use super::problem::Problem;
use super::token::Token;

/// What a client is asked for.
const CHALLENGE: &str = "Bearer realm=\"observerd\"";

/// Who may call: [`require_token`] asks it.
#[derive(Clone, Debug)]
pub struct Access {
    /// `None`: each process of this machine.
    token: Option<Token>,
}

impl Access {
    /// Access for callers with a token.
    #[must_use]
    pub fn token(token: Token) -> Self {
        Self { token: Some(token) }
    }

    /// Access without a token, for a service that listens on a loopback address.
    ///
    /// # Errors
    ///
    /// [`AuthError::NotLoopback`] for another address, such as `0.0.0.0`.
    pub fn loopback_open(bind: SocketAddr) -> Result<Self, AuthError> {
        if bind.ip().to_canonical().is_loopback() {
            Ok(Self { token: None })
        } else {
            Err(AuthError::NotLoopback { bind })
        }
    }

    /// Whether no token is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Checks the token of a request.
    ///
    /// # Errors
    ///
    /// A 401.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = given.next() else {
            return Err(refused("the token is missing: send it as \"Authorization: Bearer TOKEN\""));
        };
        if given.next().is_some() {
            return Err(refused("Authorization is repeated: send it once"));
        }
        let Some(presented) = bearer(first.as_bytes()) else {
            return Err(refused("Authorization has another form: send \"Authorization: Bearer TOKEN\""));
        };
        if token.is(presented) {
            Ok(())
        } else {
            Err(refused("the token is wrong: it is not the one of this service"))
        }
    }
}

/// A middleware that answers 401 to callers without the token. It goes on the routes that need one:
/// `axum::middleware::from_fn_with_state(access, require_token)`. What is behind it does not see the token.
pub async fn require_token(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    match access.check(request.headers()) {
        Ok(()) => {
            request.headers_mut().remove(header::AUTHORIZATION);
            next.run(request).await
        }
        Err(problem) => {
            let mut response = problem.into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
            response
        }
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = value.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}

fn refused(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", "A token is needed", detail)
}

/// The service may not be left open.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It listens to other machines.
    #[error(
        "auth = \"loopback-open\" lets each caller in, and {bind} is not a loopback address: bind to 127.0.0.1, or set auth = \"token\""
    )]
    NotLoopback {
        /// Where it listens.
        bind: SocketAddr,
    },
}

debug_as_text!(AuthError);

#[cfg(test)]
mod tests;
