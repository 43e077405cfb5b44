//! Blocks that were not read.

use std::sync::Arc;

use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::wallet::{
    Account, Amount, BalanceError, Fault, Ledger, NewWallet, Wallets, WalletsRecord, WalletsView,
};
use watchkeeper_chain::{Block, ChainEvent, Detail, Hash};

use super::wallets::{apply, followed, funded, pay};
use super::{Payment, Tree};

fn fault<L: Ledger>(view: &WalletsView<L>, name: &str) -> Option<Fault> {
    match view.balance(name) {
        Ok(_) => None,
        Err(BalanceError::Faulty { fault, .. }) => Some(fault),
        Err(other) => panic!("{other}"),
    }
}

/// A late wallet reads the block that was not read, as it does blocks below the kept ones; wallets that were there stay
/// unknown until that block is connected again and read.
///
/// ```text
/// g - 1 - 2(a pays b 20; not read) - 3
///       \
///         4
/// ```
#[tokio::test]
async fn a_block_that_was_not_read_makes_wallets_unknown_until_it_is_read() {
    let mut tree = Tree::<Payment>::new();
    let early = funded("early", 'z', 7);
    let high = NewWallet { from: 3, ..funded("high", 'h', 9) };
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50), early, high]);
    let one = tree.grow(0, Vec::new());
    let two = tree.grow(one, vec![pay(11, 'a', 0, 'b', 20)]);
    let three = tree.grow(two, Vec::new());
    let four = tree.grow(one, Vec::new());
    let read = Arc::clone(&tree.blocks[two]);
    tree.blocks[two] = Arc::new(Block::unread(read.header));
    wallets.apply(&tree.lead_to(three).unwrap());
    wallets.settle();
    let unread = Some(Fault::Unread { block: read.header.hash, height: 2 });
    let all = |view: &WalletsView<Account<Payment>>| ["a", "early", "high"].map(|name| fault(view, name));
    assert_eq!(all(&wallets.view()), [unread.clone(), unread.clone(), None]);

    // A late wallet waits for the block.
    let requests = wallets.requests();
    requests.add(NewWallet { from: 2, ..funded("b", 'b', 1) }).unwrap();
    wallets.settle();
    assert_eq!(wallets.view().balance("b"), Err(BalanceError::Waiting { name: "b".to_owned() }));
    let mut backfill = requests.wanted().await.unwrap();
    assert_eq!(backfill.wants(), Some(1), "from where the kept blocks begin");
    backfill.push(Block::clone(&tree.blocks[one])).unwrap();
    backfill.push(Block::clone(&read)).unwrap();
    assert_eq!(backfill.wants(), None);
    let (handed, ()) = tokio::join!(requests.submit(backfill), async { wallets.settle() });
    assert!(handed.unwrap().is_none());
    assert_eq!(wallets.view().balance("b").unwrap().total, 21);
    assert_eq!(fault(&wallets.view(), "a"), unread);

    // Off the branch and back: now the block is read.
    let view = apply(&mut wallets, tree.lead_to(four));
    assert_eq!(view.balance("a").unwrap().total, 50);
    tree.blocks[two] = read;
    let view = apply(&mut wallets, tree.lead_to(three));
    assert_eq!(["a", "early", "high", "b"].map(|name| view.balance(name).unwrap().total), [29, 7, 9, 21]);
}

fn restored<L: Ledger>(ledger: L, view: &WalletsView<L>) -> Wallets<L> {
    let record = serde_json::to_string(&view.record().unwrap()).unwrap();
    let record: WalletsRecord<L> = serde_json::from_str(&record).unwrap();
    Wallets::new(ledger).restore(record).unwrap()
}

fn is_waiting<L: Ledger>(view: &WalletsView<L>, name: &str) -> bool {
    view.balance(name) == Err(BalanceError::Waiting { name: name.to_owned() })
}

/// Block 2 was not read. After a restart the wallets that it may have changed are read again; the others are known at
/// once, and keep what they have. Block 2 is kept, or part of the root.
///
/// ```text
/// g - 1(a pays b 5) - 2(a pays b 20; not read) - 3(c pays a 3) - 4(h pays c 1) - 5(h pays c 1)
/// ```
#[tokio::test]
async fn wallets_with_a_block_that_was_not_read_are_read_again_after_a_restart() {
    for keep in [100, 2] {
        let ledger = Account::<Payment>::new(1);
        let high = |name: &str, address, owns| NewWallet { from: 3, ..funded(name, address, owns) };
        let all = vec![funded("a", 'a', 50), high("c", 'c', 30), funded("b", 'b', 0), high("h", 'h', 9)];
        let mut wallets = followed(ledger.clone(), all).keep(keep);
        let mut tree = Tree::new();
        let blocks = [
            vec![pay(11, 'a', 0, 'b', 5)],
            vec![pay(12, 'a', 1, 'b', 20)],
            vec![pay(13, 'c', 0, 'a', 3)],
            vec![pay(14, 'h', 0, 'c', 1)],
            vec![pay(15, 'h', 1, 'c', 1)],
        ];
        let [_, two, _, four, five] = blocks.map(|block| tree.grow(tree.blocks.len() - 1, block));
        let read = tree.blocks.clone();
        tree.blocks[two] = Arc::new(Block::unread(tree.header(two)));
        wallets.apply(&tree.lead_to(four).unwrap());
        wallets.settle();
        let unread = Some(Fault::Unread { block: tree.header(two).hash, height: 2 });
        assert_eq!(["a", "b"].map(|name| fault(&wallets.view(), name)), [unread.clone(), unread]);

        // A second restart, before anything is read, changes nothing.
        let once = restored(ledger.clone(), &wallets.view());
        let mut again = restored(ledger.clone(), &once.view()).keep(keep);
        let check_others = |wallets: &Wallets<Account<Payment>>, owns: [Amount; 2]| {
            let view = wallets.view();
            assert!(["a", "b"].iter().all(|name| is_waiting(&view, name)));
            assert_eq!(["c", "h"].map(|name| view.balance(name).unwrap().total), owns);
            for block in view.blocks() {
                assert_eq!(view.conserved_at(block.hash), Ok(()));
            }
        };
        check_others(&once, [27, 7]);
        check_others(&again, [27, 7]);
        assert!(again.requests().add(funded("a", 'a', 50)).is_err(), "it is followed");
        again.apply(&tree.lead_to(five).unwrap());
        again.settle();
        check_others(&again, [28, 5]);

        let requests = again.requests();
        let mut backfill = requests.wanted().await.unwrap();
        while let Some(height) = backfill.wants() {
            backfill.push(Block::clone(&read[usize::try_from(height).unwrap()])).unwrap();
        }
        let (handed, ()) = tokio::join!(requests.submit(backfill), async { again.settle() });
        assert!(handed.unwrap().is_none());
        for view in [again.view(), restored(ledger.clone(), &again.view()).view()] {
            let totals = ["a", "b", "c", "h"].map(|name| view.balance(name).unwrap().total);
            assert_eq!(totals, [50 - 6 - 21 + 3, 25, 28, 5]);
            for block in view.blocks() {
                assert_eq!(view.conserved_at(block.hash), Ok(()));
            }
        }
    }
}

/// Only wallets from height 3 on are followed when block 2 is read in part. After the restart it is disconnected and
/// connected again: now it is read, and a wallet from height 2 needs no backfill.
///
/// ```text
/// g - 1 - 2(a pays b 20; not read in full) - 3
///       \
///         4
/// ```
#[test]
fn a_block_that_was_not_read_in_full_is_read_when_it_is_back_after_a_restart() {
    for detail in [Detail::Header, Detail::Transactions] {
        let ledger = Account::<Payment>::new(1);
        let mut wallets = followed(ledger.clone(), vec![NewWallet { from: 3, ..funded("h", 'h', 9) }]);
        let mut tree = Tree::new();
        let one = tree.grow(0, Vec::new());
        let two = tree.grow(one, vec![pay(11, 'a', 0, 'b', 20)]);
        let three = tree.grow(two, Vec::new());
        let four = tree.grow(one, Vec::new());
        let read = Arc::clone(&tree.blocks[two]);
        let block = if detail == Detail::Header { Block::unread(read.header) } else { Block::clone(&read) };
        tree.blocks[two] = Arc::new(Block { detail, ..block });
        wallets.apply(&tree.lead_to(three).unwrap());
        wallets.settle();
        let mut again = restored(ledger, &wallets.view());
        apply(&mut again, tree.lead_to(four));
        tree.blocks[two] = read;
        apply(&mut again, tree.lead_to(three));
        again.requests().add(NewWallet { from: 2, ..funded("b", 'b', 1) }).unwrap();
        again.settle();
        let owns = ["b", "h"].map(|name| again.view().balance(name).map(|balance| balance.total));
        assert_eq!(owns, [Ok(21), Ok(9)], "{detail:?}");
    }
}

/// A backfill that is given a block without its transactions.
#[tokio::test]
async fn a_backfill_of_a_block_that_was_not_read_makes_its_wallets_unknown() {
    let mut tree = Tree::<Payment>::new();
    let one = tree.grow(0, Vec::new());
    let two = tree.grow(one, Vec::new());
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50)]);
    wallets.apply(&ChainEvent::Committed { new: vec![Arc::clone(&tree.blocks[two])] });
    wallets.settle();
    let requests = wallets.requests();
    let mut backfill = requests.wanted().await.unwrap();
    backfill.push(Block::unread(tree.header(one))).unwrap();
    let (handed, ()) = tokio::join!(requests.submit(backfill), async { wallets.settle() });
    assert!(handed.unwrap().is_none());
    let block: Hash = tree.header(one).hash;
    assert_eq!(fault(&wallets.view(), "a"), Some(Fault::Unread { block, height: 1 }));
}
