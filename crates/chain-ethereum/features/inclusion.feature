Feature: Transactions

  Scenario: A payment is included and thrown out by a reorg
    Given 2 nodes that are observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    And value is conserved
    When all nodes make 2 blocks
    And wallet "a" pays wallet "b" 5 ether in transaction "t"
    And all nodes make 3 blocks
    Then transaction "t" is included at depth 3 within 20 seconds
    When node "n2" leaves its branch 3 blocks deep and makes 1 block more
    Then transaction "t" is reorged out within 20 seconds
    And wallet "a" has at least 10000 ether within 20 seconds

  Scenario: A payment survives a reorg above it
    Given 2 nodes that are observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    And value is conserved
    When wallet "a" pays wallet "b" 5 ether in transaction "t"
    And all nodes make 3 blocks
    Then transaction "t" is included at depth 3 within 20 seconds
    When node "n2" leaves its branch 2 blocks deep and makes 1 block more
    Then transaction "t" is included at depth 4 within 20 seconds
