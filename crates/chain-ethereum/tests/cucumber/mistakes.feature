Feature: Mistakes

  Scenario: No chain
    Then all nodes share the same head within 1 second

  Scenario: Unknown node
    Given 2 nodes that are observed as "chain"
    Then all nodes share the same head within 20 seconds
    And node "n9" is in sync with the public chain within 1 second

  Scenario: Unknown transaction
    Given 1 node that is observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    When wallet "a" pays wallet "b" 5 ether in transaction "t"
    Then transaction "u" is included at depth 3 within 1 second

  Scenario: No transaction
    Given 1 node that is observed as "chain"
    Then transaction "u" is reorged out within 1 second

  Scenario: Unknown wallet
    Given 1 node that is observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    When all nodes make 1 block
    Then wallet "a" has at least 10000 ether within 20 seconds
    And wallet "z" has at least 1 wei within 1 second

  Scenario: Zero time
    Given 1 node that is observed as "chain"
    Then all nodes share the same head within 0 seconds

  Scenario: Zero depth
    Given 1 node that is observed as "chain"
    Then transaction "u" is included at depth 0 within 1 second

  Scenario: Unknown unit
    Given 1 node that is observed as "chain"
    Then wallet "a" has at least 5 pounds within 1 second

  Scenario: Different heads
    Given 2 nodes that are observed as "chain"
    Then all nodes share the same head within 20 seconds
    When node "n2" makes 1 block
    Then all nodes share the same head within 1 second

  Scenario: A node that hangs
    Given 2 nodes that are observed as "chain"
    Then all nodes share the same head within 20 seconds
    When node "n2" hangs
    Then the observer "chain" source "n2" is stale within 20 seconds
    And all nodes share the same head within 3 seconds

  Scenario: No public chain
    Given 1 node that is observed as "chain"
    Then all nodes share the same head within 20 seconds
    And node "n1" is in sync with the public chain within 1 second

  Scenario: Too poor
    Given 1 node that is observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    When all nodes make 1 block
    Then wallet "a" has at least 10000 ether within 20 seconds
    And wallet "a" has at least 10001 ether within 1 second

  Scenario: Behind
    Given 1 node and 3 public nodes that are observed as "chain"
    When all nodes make 2 blocks
    Then node "n1" is in sync with the public chain within 20 seconds
    When the public nodes make 1 block
    Then node "n1" is 1 block behind the public chain within 20 seconds
    And node "n1" is in sync with the public chain within 1 second

  Scenario: Not deep enough
    Given 1 node that is observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    When wallet "a" pays wallet "b" 5 ether in transaction "t"
    And all nodes make 2 blocks
    Then transaction "t" is included at depth 2 within 20 seconds
    And transaction "t" is included at depth 3 within 1 second

  Scenario: Still in
    Given 1 node that is observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    When wallet "a" pays wallet "b" 5 ether in transaction "t"
    And all nodes make 1 block
    Then transaction "t" is included at depth 1 within 20 seconds
    And transaction "t" is reorged out within 1 second
