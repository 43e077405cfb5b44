Feature: Wallets

  Scenario: Payments arrive
    Given 2 nodes that are observed as "chain"
    And wallets "a" to "j" with 10000 ether each
    And value is conserved
    When wallet "a" pays wallet "b" 5 ether in transaction "t"
    And all nodes make 1 block
    Then wallet "b" has at least 10005 ether within 20 seconds
    And wallet "a" has at least 9994 ether within 20 seconds
    When wallet "b" pays wallet "c" 7 ether in transaction "u"
    And all nodes make 2 blocks
    Then transaction "u" is included at depth 2 within 20 seconds
    And wallet "c" has at least 10007 ether within 20 seconds
    And all nodes share the same head within 20 seconds
