Feature: Freshness

  Scenario: The data is fresh, and turns stale when the observer is paused
    Given a cluster of 3 nodes that is observed as "raft"
    Then the observer "raft" is running
    And the observer "raft" is fresh within 5 seconds
    And the observer "raft" stays fresh for 3 seconds
    And the observer "raft" has seen at least 3 events within 5 seconds
    When the observer "raft" is paused
    Then the observer "raft" becomes stale within 10 seconds
    When the observer "raft" is polled now
    Then the observer "raft" is fresh within 5 seconds
    When the observer "raft" is resumed
    Then the observer "raft" reaches state Idle within 5 seconds
    And the observer "raft" stays fresh for 3 seconds
    And the observer "raft" has recorded no failure
