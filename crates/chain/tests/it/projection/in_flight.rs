//! Balances while transactions are in flight that replace each other.

use proptest::prelude::*;
use watchkeeper_chain::Transaction;
use watchkeeper_chain::projection::wallet::{Account, Amount, Balance, OutPoint, Utxo, WalletsView};

use super::property::cases;
use super::wallets::{apply, followed, funded, pay, reward, wallet};
use super::{Coins, Payment, Tree, numbered};

fn accounts() -> WalletsView<Account<Payment>> {
    let mut tree = Tree::new();
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 1_000), funded("b", 'b', 0)]);
    let one = tree.grow(0, Vec::new());
    apply(&mut wallets, tree.lead_to(one))
}

fn pending(view: &WalletsView<Account<Payment>>, name: &str, in_flight: &[Payment]) -> Amount {
    view.balance_with(name, in_flight).unwrap().pending
}

#[test]
fn a_payment_and_its_fee_bump_count_once() {
    let view = accounts();
    let (first, bump) = (pay(11, 'a', 0, 'b', 15), pay(12, 'a', 0, 'b', 19));
    assert_eq!(pending(&view, "b", &[first.clone(), bump.clone()]), 19);
    assert_eq!(pending(&view, "b", &[bump.clone(), first.clone()]), 15, "the last one counts");
    assert_eq!(pending(&view, "b", &[bump.clone(), bump.clone()]), 19, "given twice");
    assert_eq!(pending(&view, "b", &[first.clone(), bump.clone(), first.clone()]), 15);
    let next = pay(13, 'a', 1, 'b', 2);
    assert_eq!(pending(&view, "b", &[first.clone(), next.clone(), bump.clone()]), 21);
    let to_other = pay(14, 'a', 0, 'c', 19);
    assert_eq!(pending(&view, "b", &[first.clone(), next, to_other.clone()]), 2, "it was cancelled");
    let spendable = |in_flight: &[Payment]| view.balance_with("a", in_flight).unwrap().spendable;
    assert_eq!(spendable(&[first, bump, to_other]), 1_000 - 20);
    let unsigned = Payment { from: None, ..pay(15, 'a', 0, 'b', 3) };
    let other = Payment { from: None, ..pay(16, 'a', 0, 'b', 3) };
    assert_eq!(pending(&view, "b", &[unsigned.clone(), other, unsigned]), 6);
}

fn spend(id: u64, of: &[&Coins], outputs: &[(char, Amount)]) -> Coins {
    let inputs = of.iter().map(|of| OutPoint { transaction: of.id, output: 0 }).collect();
    let outputs = outputs.iter().map(|(to, value)| (Some(*to), *value)).collect();
    Coins { id: numbered(id), inputs, outputs }
}

/// r and another coin are of a; x spends r, its bump y spends both, and z spends the other one alone.
#[test]
fn a_coin_that_is_spent_by_several_in_flight_is_spent_by_the_last() {
    let (r, other) = (reward(10, 'a', 50), reward(11, 'a', 40));
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(1).maturity(1), vec![wallet("a", 'a'), wallet("b", 'b')]);
    let one = tree.grow(0, vec![r.clone(), other.clone()]);
    let view = apply(&mut wallets, tree.lead_to(one));
    let pending = |in_flight: &[&Coins]| {
        let in_flight: Vec<Coins> = in_flight.iter().copied().cloned().collect();
        ["a", "b"].map(|name| view.balance_with(name, &in_flight).unwrap().pending)
    };
    let x = spend(12, &[&r], &[('b', 20), ('a', 29)]);
    let y = spend(13, &[&r, &other], &[('b', 25), ('a', 64)]);
    let z = spend(14, &[&other], &[('b', 3), ('a', 36)]);
    assert_eq!(pending(&[&x, &y]), [64, 25]);
    assert_eq!(pending(&[&x, &z]), [65, 23]);
    assert_eq!(pending(&[&x, &y, &z]), [36, 3], "y has replaced x before z replaced y");
    // b spends the coin of x, which is then replaced: that payment is gone with it.
    let of_x = spend(15, &[&x], &[('b', 1), ('a', 18)]);
    let of_of_x = spend(16, &[&of_x], &[('b', 1)]);
    assert_eq!(pending(&[&x, &of_x, &of_of_x]), [47, 1]);
    assert_eq!(pending(&[&of_of_x, &x, &of_x]), [47, 1], "in any order");
    assert_eq!(pending(&[&x, &of_x, &of_of_x, &y]), [64, 25]);
    let spent = view.balance_with("a", std::slice::from_ref(&y)).unwrap();
    assert_eq!(spent, Balance { pending: 64, confirmed: 90, spendable: 0, total: 90, ..Balance::default() });
}

/// a spends r in x, which y replaces; b spends the coin of x, and somebody the coin of that.
#[test]
fn what_spends_a_coin_of_a_replaced_transaction_does_not_count_when_it_is_given_later() {
    let r = reward(10, 'a', 50);
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(1).maturity(1), vec![wallet("a", 'a'), wallet("b", 'b')]);
    let one = tree.grow(0, vec![r.clone()]);
    let view = apply(&mut wallets, tree.lead_to(one));
    let pending = |in_flight: &[&Coins]| {
        let in_flight: Vec<Coins> = in_flight.iter().copied().cloned().collect();
        ["a", "b"].map(|name| view.balance_with(name, &in_flight).unwrap().pending)
    };
    let x = spend(12, &[&r], &[('b', 20), ('a', 29)]);
    let y = spend(13, &[&r], &[('b', 25), ('a', 24)]);
    let of_x = spend(15, &[&x], &[('b', 1), ('a', 18)]);
    let of_of_x = spend(16, &[&of_x], &[('b', 1)]);
    let of_y = spend(17, &[&y], &[('b', 23), ('a', 2)]);
    for given in [
        &[&x, &y, &of_x][..],
        &[&x, &of_x, &y],
        &[&x, &y, &of_x, &of_of_x],
        &[&x, &y, &of_of_x, &of_x],
        &[&of_of_x, &x, &y, &of_x],
        &[&x, &of_of_x, &y, &of_x],
    ] {
        assert_eq!(pending(given), [24, 25], "{given:?}");
    }
    assert_eq!(pending(&[&x, &y, &of_x, &of_y]), [26, 23], "what counts may be spent");
    // x replaces y again: its coin may be spent, and that of y may not.
    assert_eq!(pending(&[&x, &y, &of_x, &x]), [29, 20]);
    assert_eq!(pending(&[&x, &y, &of_x, &x, &of_x, &of_of_x]), [47, 1]);
    assert_eq!(pending(&[&x, &y, &of_y, &x, &of_y]), [29, 20]);
    // One that spends a coin of what it replaces.
    let own = Coins { inputs: [&y.inputs[..], &of_x.inputs].concat(), ..spend(18, &[], &[('b', 7)]) };
    assert_eq!(pending(&[&x, &own]), [0, 0]);
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn in_flight_transactions_count_as_those_that_no_later_one_excludes(
        given in prop::collection::vec((0..4_u64, 0..3_u8), 0..12),
    ) {
        let view = accounts();
        let make = |(nonce, which): &(u64, u8)| {
            pay(100 + nonce * 10 + u64::from(*which), 'a', *nonce, if *which == 0 { 'c' } else { 'b' }, (nonce + 1).into())
        };
        let given: Vec<Payment> = given.iter().map(make).collect();
        let counts = |nth: usize| {
            let excludes = |later: &Payment| {
                later.id == given[nth].id || later.conflicts().iter().any(|key| given[nth].conflicts().contains(key))
            };
            !given[nth + 1..].iter().any(excludes)
        };
        let plain: Vec<Payment> =
            (0..given.len()).filter(|nth| counts(*nth)).map(|nth| given[nth].clone()).collect();
        let to_b: Amount = plain.iter().filter(|payment| payment.to == Some('b')).map(|payment| payment.value).sum();
        let paid: Amount = plain.iter().map(|payment| payment.value + payment.fee).sum();
        prop_assert_eq!(pending(&view, "b", &given), to_b);
        prop_assert_eq!(view.balance_with("a", &given).unwrap().spendable, 1_000 - paid);
    }
}
