//! The leader of three real etcd is killed, another leads, the killed one comes back, and all agree.

mod members;
use members::{EVERY, Etcd, Members, WINDOW, agree, leads, one_leader_a_term, put, status};
use watchkeeper_deploy::local::LocalDeployer;
use watchkeeper_scenario::{DynError, RunContext, Scenario, ctrl_c};

#[tokio::main]
async fn main() -> Result<(), DynError> {
    let scenario = Scenario::<Etcd>::builder("etcd fails over", 3)
        .with_observer("etcd", |_| Members::new(|at| async move { status(&at.source).await }), EVERY.into())
        .workload("the leader is killed", kill_the_leader)
        .expect_invariant("no term has two leaders", "etcd", one_leader_a_term)
        .expect_wait("all agree", |context| async move {
            let etcd = context.require_observer::<Members>("etcd")?;
            let met = etcd.eventually("all agree", agree).within(WINDOW).await?;
            met.value.answering().for_each(|(name, status)| println!("{name}: {status}"));
            Ok(())
        });
    println!("{}", scenario.build()?.run_until(&LocalDeployer::new(Etcd), ctrl_c()?).await?);
    Ok(())
}

async fn kill_the_leader(context: RunContext<Etcd>) -> Result<(), DynError> {
    let etcd = context.require_observer::<Members>("etcd")?;
    let first = leads(&etcd, "").await?;
    println!("{first} leads, and is killed");
    context.control().kill(&first).await?;
    let second = leads(&etcd, &first).await?;
    put(&context.clients().get(&second).ok_or("no leader")?, "colour", "green").await?;
    println!("{second} leads; {first} is started again");
    Ok(context.control().start(&first).await?)
}
