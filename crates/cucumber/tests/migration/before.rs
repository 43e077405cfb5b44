#[then(regex = r"^(\w+) leads within (\d+) seconds$")]
async fn leads(world: &mut World, wanted: String, seconds: u64) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut last_seen = None;
    let mut last_error = None;
    loop {
        let mut named = Vec::new();
        for node in &world.nodes {
            match timeout(Duration::from_secs(1), node.state()).await {
                Ok(Ok(state)) => named.extend(state.leader),
                Ok(Err(error)) => last_error = Some(format!("{}: {error}", node.name)),
                Err(_) => last_error = Some(format!("{}: no answer", node.name)),
            }
        }
        let leader = agreed(&named, world.nodes.len());
        if leader == Some(&wanted) {
            return;
        }
        last_seen = leader.cloned().or(last_seen);
        assert!(
            Instant::now() < deadline,
            "{wanted} does not lead after {seconds} s; last leader: {last_seen:?}, last error: {last_error:?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
}
