//! Wallets on real blocks.

use watchkeeper_chain::projection::Projected;
use watchkeeper_chain::projection::wallet::{
    Amount, Balance, NewWallet, Utxo, UtxoWallet, Wallets, WalletsView,
};
use watchkeeper_chain::{ChainObserver, Header, Start};
use watchkeeper_chain_bitcoin::{BitcoinClient, BitcoinTransaction, Key};

use crate::common::{BranchPosition, Watched, coins, reorg};

type Ledger = Utxo<BitcoinTransaction>;
type Chain = Watched<Projected<ChainObserver<BitcoinClient>, Wallets<Ledger>>>;

const NAMES: [&str; 3] = ["miner", "alice", "bob"];
const COIN: Amount = 100_000_000;

/// In coins.
fn balance(immature: Amount, pending: Amount, confirmed: Amount) -> Balance {
    let [immature, pending, confirmed] = [immature, pending, confirmed].map(|coins| coins * COIN);
    let total = immature + pending + confirmed;
    Balance { immature, pending, confirmed, spendable: confirmed, total }
}

impl Chain {
    /// Follows all there are, until `tip`.
    async fn of_all(place: &BranchPosition, tip: &Header) -> Self {
        let wallets = Wallets::new(Utxo::new(3));
        let requests = wallets.requests();
        for name in NAMES {
            let addresses = vec![Key::named(name).script()];
            let wallet = NewWallet { name: name.into(), addresses, from: 1, opening: UtxoWallet::default() };
            requests.add(wallet).unwrap();
        }
        let observer = Projected::new(crate::common::observer(Start::Genesis), wallets);
        let mut watched = Watched::with(observer, &[("n1", place)]).await;
        watched.told_up_to(tip).await;
        watched
    }

    fn wallets(&self) -> WalletsView<Ledger> {
        self.runtime.handle().latest_snapshot().unwrap().value.view.clone()
    }

    /// What the three have, who are all there are: together every coin there is.
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
    let mut place = BranchPosition::of("miner").await;
    let [alice, bob] = ["alice", "bob"].map(Key::named);
    let mined = place.extend(&place.head().await, 100).await;
    let ancestor = mined[99].header;
    let mut watched = Chain::of_all(&place, &ancestor).await;
    let handle = watched.runtime.handle();
    let conserved = handle.invariant("value is conserved", |seen| seen.view.conserved().is_ok());
    assert_eq!(watched.balances(&ancestor), [balance(99 * 50, 0, 50), balance(0, 0, 0), balance(0, 0, 0)]);

    let [first, second] = [0, 1].map(|nth: usize| [mined[nth].reward.clone()]);
    let to_alice = [alice.paid(coins(10)), place.key.paid(coins(39))];
    let to_alice = [place.key.spend(&first, &to_alice).unwrap()];
    let o101 = place.mine(&ancestor, &to_alice).await;
    let o102 = place.mine(&o101.header, &[]).await;
    watched.told_up_to(&o102.header).await;
    let before = [balance(99 * 50 + 1, 39, 100), balance(0, 10, 0), balance(0, 0, 0)];
    assert_eq!(watched.balances(&o102.header), before);

    let to_bob = [bob.paid(coins(20)), place.key.paid(coins(29))];
    let to_bob = [place.key.spend(&second, &to_bob).unwrap()];
    let n101 = place.mine(&ancestor, &[]).await;
    let n102 = place.mine(&n101.header, &to_bob).await;
    let n103 = place.mine(&n102.header, &[]).await;
    let told = watched.told_up_to(&n103.header).await;
    let new = [&n101, &n102, &n103].map(|mined| mined.header);
    assert_eq!(reorg(&told), (vec![o102.header, o101.header], new.to_vec(), ancestor));
    let after = [balance(99 * 50 + 1, 29, 150), balance(0, 0, 0), balance(0, 20, 0)];
    assert_eq!(watched.balances(&n103.header), after);

    // The lost branch is still there to ask, and its payment is on its way again.
    let lost = o102.header.hash;
    assert_eq!(NAMES.map(|name| watched.wallets().balance_at(name, lost).unwrap()), before);
    let on_its_way = &[BitcoinTransaction::from(&to_alice[0])];
    let miner = watched.wallets().balance_with("miner", on_its_way).unwrap();
    assert_eq!(miner, Balance { pending: (29 + 39) * COIN, spendable: 100 * COIN, ..after[0] });
    let paid = watched.wallets().balance_with("alice", on_its_way).unwrap();
    assert_eq!(paid, Balance { pending: 10 * COIN, ..after[1] });

    let n104 = place.mine(&n103.header, &to_alice).await;
    watched.told_up_to(&n104.header).await;
    let settled = [balance(99 * 50 + 2, 39, 150 + 29), balance(0, 10, 0), balance(0, 0, 20)];
    assert_eq!(watched.balances(&n104.header), settled);
    conserved.finish().await.unwrap();
}
