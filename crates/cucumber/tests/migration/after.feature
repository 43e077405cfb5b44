Feature: Failover, observed

  Scenario: Another node takes over
    Given three nodes that follow n1
    And the nodes are observed
    When n2 takes over
    Then the observer "raft" snapshot at "/leader" becomes "n2" within 10 seconds
