#[given("the nodes are observed")]
async fn observed(world: &mut World) -> Result<(), Box<dyn Error>> {
    let nodes: Vec<_> = world.nodes.iter().map(|node| (node.name.clone(), node.clone())).collect();
    let probe = |node: ObservedSource<Node>| async move { node.source.state().await };
    let runtime = observe(Duration::from_millis(200), nodes, probe).await?;
    world.observers.add_with_json("raft", runtime, |nodes| {
        let named: Vec<String> = nodes.answering().filter_map(|(_, state)| state.leader.clone()).collect();
        json!({ "leader": agreed(&named, nodes.len()) })
    })?;
    Ok(())
}
