//! The status of transactions on real branches.

use watchkeeper_chain::projection::Projected;
use watchkeeper_chain::projection::inclusion::{Inclusions, Status};
use watchkeeper_chain::{ChainObserver, Start, Transaction};
use watchkeeper_chain_bitcoin::{BitcoinClient, BitcoinTransaction, Key};

use crate::common::{MiningNode, Watched, coins, observer};

type Chain = Watched<Projected<ChainObserver<BitcoinClient>, Inclusions<BitcoinTransaction>>>;

/// Alice's and bob's transactions spend the same coin, carol's spends another.
///
/// ```text
/// .. - 100 - o101{alice} - o102{carol}
///         \
///          n101{bob} - n102 - n103 - n104{carol}
/// ```
#[tokio::test]
async fn a_reorg_replaces_one_transaction_and_drops_another_until_it_is_mined_again() {
    let mut miner = MiningNode::of("miner").await;
    let mined = miner.extend(&miner.head().await, 100).await;
    let ancestor = mined[99].header;
    let pay = |who: &str, nth: usize| {
        let coin = std::slice::from_ref(&mined[nth].reward);
        [miner.key.spend(coin, &[Key::named(who).paid(coins(50))]).unwrap()]
    };
    let (alice, bob, carol) = (pay("alice", 0), pay("bob", 0), pay("carol", 1));
    let all = [&alice, &bob, &carol].map(|spend| BitcoinTransaction::from(&spend[0]));
    let ids = [0, 1, 2].map(|nth: usize| all[nth].id());

    let inclusions = Inclusions::new();
    let follower = inclusions.follower();
    let observer = Projected::new(observer(Start::Genesis), inclusions);
    let mut watched = Chain::with(observer, &[("n1", &miner)]).await;
    for transaction in &all {
        follower.follow(transaction).unwrap();
    }
    watched.events_until(&ancestor).await;
    let status = |watched: &Chain| {
        let seen = watched.runtime.handle().latest_snapshot().unwrap();
        ids.map(|id| seen.value.view.status(id).unwrap())
    };
    assert!(status(&watched).iter().all(|status| matches!(status, Status::Pending { .. })));

    let o101 = miner.mine(&ancestor, &alice).await.header;
    let o102 = miner.mine(&o101, &carol).await.header;
    watched.events_until(&o102).await;
    let expected = [
        Status::Included { block: o101, depth: 2 },
        Status::Replaced { by: ids[0], block: o101 },
        Status::Included { block: o102, depth: 1 },
    ];
    assert_eq!(status(&watched), expected);

    let n101 = miner.mine(&ancestor, &bob).await.header;
    let n103 = miner.extend(&n101, 2).await[1].header;
    watched.events_until(&n103).await;
    let expected = [
        Status::Replaced { by: ids[1], block: n101 },
        Status::Included { block: n101, depth: 3 },
        Status::ReorgedOut { from: o102 },
    ];
    assert_eq!(status(&watched), expected);

    let n104 = miner.mine(&n103, &carol).await.header;
    watched.events_until(&n104).await;
    assert_eq!(status(&watched)[2], Status::Included { block: n104, depth: 1 });
}
