#[given("the nodes are observed")]
async fn observed(world: &mut World) -> Result<(), Box<dyn Error>> {
    let nodes = world.nodes.iter().map(|node| ObservedSource::new(&node.name, node.clone()));
    let probe = |node: ObservedSource<Node>| async move { Ok(node.source.state().await?) };
    let observer = PerSource::new(Duration::from_millis(200), probe);
    let config = ObservationConfig { interval: Duration::from_millis(200), ..ObservationConfig::default() };
    let nodes = StaticSourceProvider::new(nodes.collect());
    let runtime = ObservationRuntime::start(nodes, observer, config).await?;
    world.observers.add_with_json("raft", runtime, |nodes| {
        let named: Vec<String> = nodes.answering().filter_map(|(_, state)| state.leader.clone()).collect();
        json!({ "leader": agreed(&named, nodes.len()) })
    })?;
    Ok(())
}
