Feature: Failover

  Scenario: The leader is killed and comes back
    Given a cluster of 3 nodes that is observed as "raft"
    And no term has two leaders
    When the leader is killed
    Then another node leads
    And the observer "raft" snapshot at "/present" becomes "2" within 10 seconds
    When "blue" is written under "colour"
    And it is restarted
    Then the observer "raft" snapshot at "/present" becomes "3" within 10 seconds
    And the observer "raft" snapshot at "/nodes/n1/kv/colour" becomes "blue" within 10 seconds
    And the observer "raft" snapshot at "/nodes/n2/kv/colour" becomes "blue" within 10 seconds
    And the observer "raft" snapshot at "/nodes/n3/kv/colour" becomes "blue" within 10 seconds
    And the observer "raft" has recorded no failure
