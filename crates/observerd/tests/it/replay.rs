//! `observerd replay`.
use observerd::cli::outcome::Outcome;
use observerd::cli::replay::{ReplayArgs, run};

use crate::commands::{args, ended};
use crate::runs::{app, nodes, write};

async fn replay(words: &[&str]) -> (String, Result<Outcome, String>) {
    let mut out = Vec::new();
    let result = run(&args::<ReplayArgs>(words), &mut out).await;
    ended(out, result)
}

#[test]
fn look() {
    let (app, nodes) = (app(), nodes());
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        write(directory.path(), "app", &app).await;
        write(directory.path(), "nodes", &nodes).await;
        let d = directory.path().to_str().unwrap();
        for words in [
            vec![d],
            vec![d, "--run", "app"],
            vec![d, "--run", "nodes"],
            vec![d, "--run", "app", "--json", "--last", "2"],
            vec![
                d,
                "--run",
                "app",
                "--expect",
                "eventually",
                "--at",
                "/polls",
                "--at-least",
                "3",
                "--within",
                "10s",
            ],
            vec![
                d,
                "--run",
                "app",
                "--expect",
                "eventually",
                "--at",
                "/polls",
                "--at-least",
                "30",
                "--within",
                "3s",
            ],
            vec![
                d,
                "--run",
                "app",
                "--expect",
                "eventually",
                "--at",
                "/polls",
                "--at-least",
                "30",
                "--within",
                "10s",
            ],
        ] {
            let (text, result) = replay(&words).await;
            println!("{:?}\n{text}\n{result:?}\n", &words[1..]);
        }
    });
}
