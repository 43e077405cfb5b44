//! Wallets on real blocks.

use watchkeeper_chain::projection::Projected;
use watchkeeper_chain::projection::wallet::{
    Amount, Balance, NewWallet, Utxo, UtxoWallet, Wallets, WalletsView,
};
use watchkeeper_chain::{ChainObserver, Header, Start};
use watchkeeper_chain_bitcoin::{BitcoinClient, BitcoinTransaction, Key};

use crate::common::{MiningNode, Watched, coins, reorg};

type Ledger = Utxo<BitcoinTransaction>;
type Chain = Watched<Projected<ChainObserver<BitcoinClient>, Wallets<Ledger>>>;

const NAMES: [&str; 3] = ["miner", "alice", "bob"];
const COIN: Amount = 100_000_000;

/// A balance of amounts in whole coins.
fn balance(immature: Amount, pending: Amount, confirmed: Amount) -> Balance {
    let [immature, pending, confirmed] = [immature, pending, confirmed].map(|coins| coins * COIN);
    let total = immature + pending + confirmed;
    Balance { immature, pending, confirmed, spendable: confirmed, total }
}

impl Chain {
    /// Follows the wallets of all owners, and runs until `tip`.
    async fn of_all(miner: &MiningNode, tip: &Header) -> Self {
        let wallets = Wallets::new(Utxo::new(3));
        let requests = wallets.requests();
        for name in NAMES {
            let addresses = vec![Key::named(name).script()];
            let wallet = NewWallet { name: name.into(), addresses, from: 1, opening: UtxoWallet::default() };
            requests.add(wallet).unwrap();
        }
        let observer = Projected::new(crate::common::observer(Start::Genesis), wallets);
        let mut watched = Watched::with(observer, &[("n1", miner)]).await;
        watched.events_until(tip).await;
        watched
    }

    fn wallets(&self) -> WalletsView<Ledger> {
        self.runtime.handle().latest_snapshot().unwrap().value.view.clone()
    }

    /// The balances of the three owners, who together own every coin.
    fn balances(&self, tip: &Header) -> [Balance; 3] {
        let wallets = self.wallets();
        assert_eq!(wallets.tip().unwrap().hash, tip.hash);
        let balances = NAMES.map(|name| wallets.balance(name).unwrap());
        let total: Amount = balances.iter().map(|balance| balance.total).sum();
        assert_eq!(total, Amount::from(tip.height) * 50 * COIN);
        balances
    }
}

/// ```text
/// .. - 100 - o101{10 to alice} - o102
///         \
///          n101 - n102{20 to bob} - n103 - n104{10 to alice}
/// ```
#[tokio::test]
async fn balances_follow_a_reorg_and_no_value_is_lost() {
    let mut miner = MiningNode::of("miner").await;
    let [alice, bob] = ["alice", "bob"].map(Key::named);
    let mined = miner.extend(&miner.head().await, 100).await;
    let ancestor = mined[99].header;
    let mut watched = Chain::of_all(&miner, &ancestor).await;
    let handle = watched.runtime.handle();
    let conserved = handle.invariant("value is conserved", |seen| seen.view.conserved().is_ok());
    assert_eq!(watched.balances(&ancestor), [balance(99 * 50, 0, 50), balance(0, 0, 0), balance(0, 0, 0)]);

    let [first, second] = [0, 1].map(|nth: usize| [mined[nth].reward.clone()]);
    let to_alice = [alice.paid(coins(10)), miner.key.paid(coins(39))];
    let to_alice = [miner.key.spend(&first, &to_alice).unwrap()];
    let o101 = miner.mine(&ancestor, &to_alice).await;
    let o102 = miner.mine(&o101.header, &[]).await;
    watched.events_until(&o102.header).await;
    let before = [balance(99 * 50 + 1, 39, 100), balance(0, 10, 0), balance(0, 0, 0)];
    assert_eq!(watched.balances(&o102.header), before);

    let to_bob = [bob.paid(coins(20)), miner.key.paid(coins(29))];
    let to_bob = [miner.key.spend(&second, &to_bob).unwrap()];
    let n101 = miner.mine(&ancestor, &[]).await;
    let n102 = miner.mine(&n101.header, &to_bob).await;
    let n103 = miner.mine(&n102.header, &[]).await;
    let events = watched.events_until(&n103.header).await;
    let new = [&n101, &n102, &n103].map(|mined| mined.header);
    assert_eq!(reorg(&events), (vec![o102.header, o101.header], new.to_vec(), ancestor));
    let after = [balance(99 * 50 + 1, 29, 150), balance(0, 0, 0), balance(0, 20, 0)];
    assert_eq!(watched.balances(&n103.header), after);

    // Balances on the old branch are still known, and its payment is unconfirmed again.
    let lost = o102.header.hash;
    assert_eq!(NAMES.map(|name| watched.wallets().balance_at(name, lost).unwrap()), before);
    let on_its_way = &[BitcoinTransaction::from(&to_alice[0])];
    let of_miner = watched.wallets().balance_with("miner", on_its_way).unwrap();
    assert_eq!(of_miner, Balance { pending: (29 + 39) * COIN, spendable: 100 * COIN, ..after[0] });
    let paid = watched.wallets().balance_with("alice", on_its_way).unwrap();
    assert_eq!(paid, Balance { pending: 10 * COIN, ..after[1] });

    let n104 = miner.mine(&n103.header, &to_alice).await;
    watched.events_until(&n104.header).await;
    let settled = [balance(99 * 50 + 2, 39, 150 + 29), balance(0, 10, 0), balance(0, 0, 20)];
    assert_eq!(watched.balances(&n104.header), settled);
    conserved.finish().await.unwrap();
}
