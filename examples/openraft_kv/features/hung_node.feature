Feature: A hung node

  Scenario: A node takes connections and answers nothing
    Given a cluster of 3 nodes that is observed as "raft"
    And no term has two leaders
    Then the observer "raft" source "n3" is fresh within 10 seconds
    When node n3 hangs
    Then the observer "raft" source "n3" is stale within 10 seconds
    And the observer "raft" source "n1" is fresh within 5 seconds
    And the observer "raft" source "n2" is fresh within 5 seconds
    And the observer "raft" stays fresh for 2 seconds
    And the observer "raft" source "n3" is failing within 10 seconds
    When node n3 goes on
    Then the observer "raft" source "n3" is fresh within 10 seconds
    And the observer "raft" snapshot at "/present" becomes "3" within 10 seconds
