Feature: A node that is added while the cluster runs

  Scenario: The observer finds it by itself
    Given a cluster of 3 nodes that is observed as "raft"
    Then the observer "raft" has 3 sources within 5 seconds
    When another node is started
    Then the observer "raft" has 4 sources within 5 seconds
    And the observer "raft" source "n4" is fresh within 10 seconds
    And the observer "raft" snapshot at "/nodes/n4/role" becomes "learner" within 10 seconds
    When it joins the voters
    Then the observer "raft" snapshot at "/voters" becomes "["n1", "n2", "n3", "n4"]" within 20 seconds
    And the observer "raft" snapshot at "/present" becomes "4" within 10 seconds
