//! Deposits that mint.

use super::balance_at_4;
use crate::fake::result;
use crate::misbehaving::{Content, Modes};

/// ```text
/// opening: 0 | each block mints: 2 ether, of which 1 is paid; 1 ether; 2 ether, all for a ticket
/// ```
#[tokio::test]
async fn what_is_minted_belongs_to_the_wallet_and_can_be_paid() {
    for (deposit, owns) in [
        (Content::OptimismDeposit, "4.000000"),
        (Content::ArbitrumDeposit, "4.000000"),
        (Content::ArbitrumRetryable, "0.000000"),
    ] {
        let modes = Modes { contents: vec![deposit], balance: result(&"0x0".into()), ..Modes::default() };
        let expected = format!("{owns} ether at block 4");
        assert_eq!(balance_at_4(modes, &[]).await, expected, "{deposit:?}");
    }
}

/// A deposit has no receipt with a price for gas.
#[tokio::test]
async fn a_deposit_needs_no_price_for_gas() {
    let modes = Modes {
        contents: vec![Content::OptimismDeposit],
        balance: result(&"0x0".into()),
        omitted: vec!["effectiveGasPrice", "gasPrice"],
        ..Modes::default()
    };
    assert_eq!(balance_at_4(modes, &[]).await, "4.000000 ether at block 4");
}
