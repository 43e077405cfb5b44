Feature: A shared head

  Scenario: Two nodes make the same blocks
    Given 2 nodes that are observed as "chain"
    When all nodes make 3 blocks
    Then all nodes share the same head within 20 seconds
    When node "n1" makes 2 blocks
    And node "n2" makes 2 blocks
    Then all nodes share the same head within 20 seconds
    And the observer "chain" has recorded no failure

  Scenario: A node hangs and comes back
    Given 2 nodes that are observed as "chain"
    When all nodes make 1 block
    And node "n2" hangs
    Then the observer "chain" source "n2" is stale within 20 seconds
    When node "n2" goes on
    Then all nodes share the same head within 20 seconds
