Feature: In sync with the public chain

  Scenario: A node falls behind and catches up
    Given 1 node and 3 public nodes that are observed as "chain"
    When all nodes make 2 blocks
    Then node "n1" is in sync with the public chain within 20 seconds
    When the public nodes make 3 blocks
    Then node "n1" is 3 blocks behind the public chain within 20 seconds
    When node "n1" makes 3 blocks
    Then node "n1" is in sync with the public chain within 20 seconds

  Scenario: One public node is not the public chain
    Given 1 node and 3 public nodes that are observed as "chain"
    When all nodes make 2 blocks
    And node "p1" makes 4 blocks
    Then node "n1" is in sync with the public chain within 20 seconds
    When node "p2" makes 1 block
    Then node "n1" is 1 block behind the public chain within 20 seconds
