//! A client in twenty lines, against a service of its own: `cargo run -p observerd --example client`.

use observerd::config::ObserverdConfig;
use observerd::server::token::Token;
use observerd::service::Service;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where the service is, and its token.
struct Client {
    base: String,
    token: String,
}

impl Client {
    /// Records an operation. Sent again with the same key, it is recorded once.
    fn record(&self, key: &str, operation: &Value) -> Result<Value, Failure> {
        let request = ureq::post(format!("{}/event", self.base)).header("idempotency-key", key);
        let request = request.header("authorization", format!("Bearer {}", self.token));
        Ok(request.send_json(operation)?.body_mut().read_json()?)
    }

    fn stats(&self) -> Result<Value, Failure> {
        let request = ureq::get(format!("{}/stats", self.base));
        Ok(request
            .header("authorization", format!("Bearer {}", self.token))
            .call()?
            .body_mut()
            .read_json()?)
    }
}

fn use_it(client: &Client) -> Result<(), Failure> {
    let operation = json!({"endpoint": "/put", "success": true, "duration_ms": 12.5, "source": "scenario"});
    let recorded = client.record("run-7/put", &operation)?;
    let again = client.record("run-7/put", &operation)?;
    assert_eq!((&recorded["sequence"], &again["sequence"]), (&json!(0), &json!(0)));
    assert_eq!((&recorded["repeated"], &again["repeated"]), (&json!(false), &json!(true)));
    assert_eq!(client.stats()?["total"], 1);
    println!("recorded as {} ({})", recorded["sequence"], recorded["durability"]);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let token = "a-token-for-this-example";
    let config = ObserverdConfig { bind: ([127, 0, 0, 1], 0).into(), ..ObserverdConfig::default() };
    let service = Service::start(config, Some(Token::new(token)?)).await?;
    let base = format!("http://{}/v1/observer", service.address());
    let client = Client { base, token: token.to_owned() };
    tokio::task::spawn_blocking(move || use_it(&client)).await??;
    service.stop().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_client_records_once() -> Result<(), super::Failure> {
        super::main()
    }
}
